// SPDX-License-Identifier: Apache-2.0
// Documents of one kind as they are now. Each has a signal of its own, so that a change of one draws one row anew; what
// comes faster than the screen is drawn is put together until the next frame.
import { batch, signal, type Signal } from "@preact/signals";

export interface Doc {
	kind: string;
	name: string;
	project: string;
	uid: string;
	revision: number;
	created?: string;
	deleting?: boolean;
	labels?: Record<string, string>;
	spec?: Record<string, unknown>;
	status?: { state?: string; reason?: string; since?: string; [k: string]: unknown };
	[k: string]: unknown;
}

const CALM_MS = 300;

export class Collection {
	readonly names = signal<string[]>([]);
	readonly isLoaded = signal(false);
	// Grows with every change of any document: for what depends on all of them, as sorting by a field does.
	readonly version = signal(0);
	// The same for what takes long, as sorting thousands does: a few times a second at most.
	readonly calm = signal(0);
	private readonly docs = new Map<string, Signal<Doc>>();
	private readonly waiting = new Map<string, Doc | null>();
	// While it is listed: what was listed.
	private seen: Set<string> | undefined;
	// What has gone since, with the revision at which it did: an answer that was on its way may still have it.
	private readonly gone = new Map<string, number>();
	private frame = 0;
	private rest = 0;

	get(name: string): Signal<Doc> | undefined {
		return this.docs.get(name);
	}

	// It is about to be listed anew, page by page; what is known stays in sight meanwhile.
	begin(): void {
		this.seen = new Set();
		this.gone.clear();
	}

	// A page of what the API listed. An event may have brought something newer.
	add(page: Doc[]): void {
		batch(() => {
			let isOther = false;
			for (const d of page) {
				this.seen?.add(d.name);
				const isOld = d.revision < (this.docs.get(d.name)?.peek().revision ?? 0) || d.revision <= (this.gone.get(d.name) ?? -1);
				if (!isOld) isOther = this.put(d) || isOther;
			}
			this.changed(isOther);
			this.calm.value++;
		});
	}

	// All has been listed: what was not among it is no more, unless an event has just brought it.
	end(): void {
		const seen = this.seen ?? new Set();
		this.seen = undefined;
		batch(() => {
			let isOther = false;
			for (const name of [...this.docs.keys()]) if (!seen.has(name)) isOther = this.docs.delete(name) || isOther;
			this.changed(isOther);
			this.calm.value++;
			this.isLoaded.value = true;
		});
	}

	// Of another project, or another user: nothing of it is to be seen.
	clear(): void {
		this.waiting.clear();
		this.docs.clear();
		batch(() => {
			this.isLoaded.value = false;
			this.changed(true);
			this.calm.value++;
		});
	}

	// DOC null: it has gone, at REVISION.
	change(name: string, doc: Doc | null, revision = 0): void {
		if (!doc) this.gone.set(name, revision);
		if (doc) this.seen?.add(name);
		this.waiting.set(name, doc);
		if (!this.frame) this.frame = window.setTimeout(() => this.apply(), 50);
	}

	// An answer about one of which nothing was known. An event that has come meanwhile is as new or newer, which no revision tells of a status.
	learn(name: string, doc: Doc): void {
		const isGone = doc.revision <= (this.gone.get(name) ?? -1);
		if (!isGone && !this.docs.has(name) && !this.waiting.has(name)) this.change(name, doc);
	}

	private put(d: Doc): boolean {
		const s = this.docs.get(d.name);
		if (s) s.value = d;
		else this.docs.set(d.name, signal(d));
		return !s;
	}

	private changed(isOther: boolean): void {
		if (isOther) this.names.value = [...this.docs.keys()].sort();
		this.version.value++;
	}

	private apply(): void {
		this.frame = 0;
		const changes = [...this.waiting];
		this.waiting.clear();
		batch(() => {
			let isOther = false;
			for (const [name, doc] of changes) isOther = (doc ? this.put(doc) : this.docs.delete(name)) || isOther;
			this.changed(isOther);
		});
		this.rest ||= window.setTimeout(() => {
			this.rest = 0;
			this.calm.value++;
		}, CALM_MS);
	}
}
