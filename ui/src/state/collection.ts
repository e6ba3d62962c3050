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
	private frame = 0;
	private rest = 0;

	get(name: string): Signal<Doc> | undefined {
		return this.docs.get(name);
	}

	// What the API listed, in place of all that was known.
	replace(list: Doc[]): void {
		this.waiting.clear();
		const seen = new Set(list.map((d) => d.name));
		batch(() => {
			for (const name of [...this.docs.keys()]) if (!seen.has(name)) this.docs.delete(name);
			for (const d of list) this.put(d);
			this.names.value = [...this.docs.keys()].sort();
			this.version.value++;
			this.calm.value++;
			this.isLoaded.value = true;
		});
	}

	// DOC null: it has gone.
	change(name: string, doc: Doc | null): void {
		this.waiting.set(name, doc);
		if (!this.frame) this.frame = window.setTimeout(() => this.apply(), 50);
	}

	private put(d: Doc): boolean {
		const s = this.docs.get(d.name);
		if (s) s.value = d;
		else this.docs.set(d.name, signal(d));
		return !s;
	}

	private apply(): void {
		this.frame = 0;
		const changes = [...this.waiting];
		this.waiting.clear();
		batch(() => {
			let isOther = false;
			for (const [name, doc] of changes) isOther = (doc ? this.put(doc) : this.docs.delete(name)) || isOther;
			if (isOther) this.names.value = [...this.docs.keys()].sort();
			this.version.value++;
		});
		this.rest ||= window.setTimeout(() => {
			this.rest = 0;
			this.calm.value++;
		}, CALM_MS);
	}
}
