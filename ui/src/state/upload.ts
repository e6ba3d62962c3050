// SPDX-License-Identifier: Apache-2.0
// Files that this browser sends to the node, in parts: they can be paused, and go on where the node has them, also after a
// connection that was lost, a daemon that was restarted or, with the same file chosen again, a page that was closed.
import { signal, type Signal } from "@preact/signals";
import { call, csrfToken, tellSent, type ApiError } from "../api/client";
import { pathOf } from "../router";
import type { Doc } from "./collection";

export type Phase = "sending" | "paused" | "waiting" | "failed" | "sent";

export interface Upload {
	phase: Phase;
	sent: number;
	size: number;
	why: string; // of "failed"
	rate: number; // bytes per second, of the last part
}

// What the node tells of content that is still missing.
export interface Missing {
	received: number;
	size: number;
	expires?: string;
}

interface Answer {
	status: number;
	offset: number | undefined; // from where to go on
	code: string;
	message: string;
}

const PART = 8 * 2 ** 20, RETRY_MS = 2000, BUSY_MOST = 45;
const STATUS_SENT = 200, STATUS_OFFSET = 409, STATUS_LATER: readonly number[] = [0, 429, 502, 503, 504];

export const missingOf = (d: Doc): Missing | undefined => d.status?.upload as Missing | undefined;

class Sender {
	readonly now: Signal<Upload>;
	private request: XMLHttpRequest | undefined;
	private isWanted = false;
	private tries = 0;

	constructor(
		private readonly path: string,
		private readonly project: string,
		private readonly file: File,
	) {
		this.now = signal<Upload>({ phase: "paused", sent: 0, size: file.size, why: "", rate: 0 });
	}

	private say(change: Partial<Upload>): void {
		this.now.value = { ...this.now.peek(), ...change };
	}

	pause(): void {
		this.isWanted = false;
		this.request?.abort();
		this.say({ phase: "paused" });
	}

	async start(): Promise<void> {
		if (this.isWanted) return;
		this.isWanted = true;
		this.tries = 0;
		this.say({ phase: "sending", why: "" });
		try {
			let at = await this.received();
			while (this.isWanted && at < this.file.size) at = await this.step(at);
			if (this.isWanted) {
				tellSent(`${this.path}/content`, this.project, this.file.name, STATUS_SENT);
				this.say({ phase: "sent", sent: this.file.size });
			}
		} catch (e) {
			this.say({ phase: "failed", why: (e as Error).message });
		}
		this.isWanted = false;
	}

	// How much the node has.
	private async received(): Promise<number> {
		const doc = await call<Doc>({ method: "GET", path: this.path, query: { project: this.project } });
		return missingOf(doc)?.received ?? 0;
	}

	// From AT a part; where the next begins.
	private async step(at: number): Promise<number> {
		const part = this.file.slice(at, at + PART), begin = performance.now();
		const answer = await this.send(part, at);
		if (!this.isWanted) return at;
		if (answer.status === 200) {
			this.tries = 0;
			const next = answer.offset ?? at + part.size;
			this.say({ phase: "sending", sent: next, rate: (part.size * 1000) / Math.max(1, performance.now() - begin) });
			return next;
		}
		if (answer.status === STATUS_OFFSET && answer.code === "offset" && answer.offset !== undefined) return answer.offset;
		return this.later(answer, at);
	}

	// What passes is waited for, as a node that is started again; what does not is told.
	private async later(answer: Answer, at: number): Promise<number> {
		const isBusy = answer.status === STATUS_OFFSET && answer.code === "busy";
		if ((!isBusy || ++this.tries > BUSY_MOST) && !STATUS_LATER.includes(answer.status)) throw new Error(answer.message || String(answer.status));
		this.say({ phase: "waiting" });
		await new Promise((r) => window.setTimeout(r, RETRY_MS));
		return this.isWanted ? this.received().catch((e: ApiError) => (e.status === 0 ? at : Promise.reject(e))) : at;
	}

	private send(part: Blob, at: number): Promise<Answer> {
		const rq = new XMLHttpRequest();
		this.request = rq;
		rq.open("PUT", `${this.path}/content?${new URLSearchParams({ project: this.project })}`);
		rq.setRequestHeader("content-type", "application/octet-stream");
		rq.setRequestHeader("content-range", `bytes ${at}-${at + part.size - 1}/${this.file.size}`);
		const csrf = csrfToken();
		if (csrf) rq.setRequestHeader("x-viv-csrf", csrf);
		rq.upload.onprogress = (e) => this.isWanted && this.say({ phase: "sending", sent: at + e.loaded });
		return new Promise((done) => {
			rq.onloadend = () => done(answerOf(rq));
			rq.send(part);
		});
	}
}

function answerOf(rq: XMLHttpRequest): Answer {
	const offset = rq.status ? rq.getResponseHeader("upload-offset") : null;
	let error: Record<string, string> = {};
	try {
		error = (JSON.parse(rq.responseText) as { error?: Record<string, string> }).error ?? {};
	} catch {
		// Not from the API itself, or nothing at all.
	}
	return { status: rq.status, offset: offset === null ? undefined : Number(offset), code: error.code ?? "", message: error.message ?? "" };
}

const senders = signal<ReadonlyMap<string, Sender>>(new Map());

export function uploadOf(uid: string): Upload | undefined {
	return senders.value.get(uid)?.now.value;
}

export function beginUpload(plural: string, doc: Doc, project: string, file: File): void {
	const old = senders.peek().get(doc.uid);
	old?.pause();
	const s = new Sender(`/v1${pathOf(plural, doc.name)}`, project, file);
	senders.value = new Map(senders.peek()).set(doc.uid, s);
	void s.start();
}

export const pauseUpload = (uid: string): void => senders.peek().get(uid)?.pause();
export const resumeUpload = (uid: string): void => void senders.peek().get(uid)?.start();

// A page that is left ends what it sends; the browser asks before.
addEventListener("beforeunload", (e) => {
	if ([...senders.peek().values()].some((s) => ["sending", "waiting"].includes(s.now.peek().phase))) e.preventDefault();
});

// How large the disk in FILE is to a guest: of qcow2 its header tells (big-endian at byte 24), else it is the file's size in sectors.
export async function diskSizeOf(file: File): Promise<number> {
	const SECTOR = 512, head = new DataView(await file.slice(0, 32).arrayBuffer());
	if (head.byteLength === 32 && head.getUint32(0) === 0x514649fb) return Number(head.getBigUint64(24));
	return Math.ceil(file.size / SECTOR) * SECTOR;
}
