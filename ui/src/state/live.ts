// SPDX-License-Identifier: Apache-2.0
// One WebSocket brings every change. After a break it goes on from the last revision seen; when that is too long ago,
// all is listed anew.
import { effect, signal } from "@preact/signals";
import { call, socketUrl, type ApiError } from "../api/client";
import { kinds, type Kind } from "../api/spec";
import { segments } from "../router";
import { session } from "../session";
import { Collection, type Doc } from "./collection";
import { usageNow, type UsageNow } from "./usage";

// Of the node, as GET /v1/node has it.
export interface Certificate {
	sha256: string;
	ends: string;
	is_own: boolean;
	problem: string;
}

// What has been said of it since this page was opened.
export const certificate = signal<Certificate | undefined>(undefined);

export type LinkState = "connecting" | "live" | "broken";

export interface Change {
	revision: number;
	type: "hello" | "put" | "status" | "delete";
	key?: string;
	document?: Doc | null;
}

export type Heard = Change & { at: number };

const RETRY_FIRST = 250, RETRY_MOST = 8000, CLOSE_TOO_OLD = 4410, RECENT_MOST = 200, RECENT_MS = 50, STATUS_FORBIDDEN = 403;

export const linkState = signal<LinkState>("connecting");
export const project = signal("default");
// Kinds whose documents this user may not see.
export const notForUs = signal<ReadonlySet<string>>(new Set());
// The last changes, newest first.
export const recent = signal<Heard[]>([]);

const collections = new Map<string, Collection>();
let socket: WebSocket | undefined;
let revision = 0;
let retry = RETRY_FIRST;
let isWanted = false;

// Those of KIND ("instance"). The same object each time.
export function collection(kind: string): Collection {
	let c = collections.get(kind);
	if (!c) collections.set(kind, (c = new Collection()));
	return c;
}

interface Page {
	items: Doc[];
	revision: number;
	next?: string;
}

// So many on the first page, which is to be seen at once, and on the others.
const PAGE_FIRST = 100, PAGE_NEXT = 1000;

// All of K, page by page: the revision as of which the first page is right. Undefined: this user may not see them.
async function listKind(k: Kind): Promise<number | undefined> {
	const c = collection(k.kind), of = project.value;
	let revision: number | undefined, after: string | undefined;
	c.begin();
	do {
		const query = { project: of, limit: String(after ? PAGE_NEXT : PAGE_FIRST), ...(after ? { after } : {}) };
		try {
			const page = await call<Page>({ method: "GET", path: `/v1/${k.plural}`, query });
			if (of !== project.value) return undefined;
			c.add(page.items);
			revision ??= page.revision;
			after = page.next;
		} catch (e) {
			if ((e as ApiError).status !== STATUS_FORBIDDEN) throw e;
			return undefined;
		}
	} while (after);
	c.end();
	return revision;
}

// The revision as of which all lists are right: the oldest. What is looked at comes first.
async function listAll(): Promise<number> {
	const of = project.value;
	const all = [...kinds.value].sort((a, b) => Number(b.plural === segments.value[0]) - Number(a.plural === segments.value[0]));
	const revisions = await Promise.all(all.map(listKind));
	if (of !== project.value) return 0; // another listing is under way
	notForUs.value = new Set(all.filter((_, i) => revisions[i] === undefined).map((k) => k.kind));
	return Math.min(...revisions.map((r) => r ?? Infinity), Number.MAX_SAFE_INTEGER) % Number.MAX_SAFE_INTEGER;
}

// Things belong to a project, to the node ("_"), or to a user.
function isShown(where: string | undefined): boolean {
	return where === project.value || where === "_" || where === session.value?.user;
}

function take(c: Change): void {
	revision = Math.max(revision, c.revision);
	if (c.type === "hello" || !c.key) return;
	const [kind, where, ...rest] = c.key.split("/");
	const name = rest.join("/");
	if (!kind || !name || !isShown(where)) return;
	collection(kind).change(name, c.type === "delete" ? null : (c.document ?? null), c.revision);
	remember({ ...c, at: Date.now() });
}

let heard: Heard[] = [];

// Many changes come at once: what shows the last ones is drawn anew once for all of them.
function remember(c: Heard): void {
	heard.push(c);
	if (heard.length > 1) return;
	window.setTimeout(() => {
		recent.value = [...heard.reverse(), ...recent.value].slice(0, RECENT_MOST);
		heard = [];
	}, RECENT_MS);
}

function again(): void {
	if (!isWanted) return;
	linkState.value = "broken";
	window.setTimeout(() => void connect(), retry * (0.75 + Math.random() / 2));
	retry = Math.min(retry * 2, RETRY_MOST);
}

function follow(): void {
	const ws = new WebSocket(socketUrl("/v1/events", { from: String(revision), usage: "1" }));
	socket = ws;
	ws.onopen = () => {
		retry = RETRY_FIRST;
		linkState.value = "live";
	};
	ws.onmessage = (m) => {
		const said = JSON.parse(m.data as string) as Change | { type: "usage"; usage: UsageNow } | { type: "certificate"; certificate: Certificate };
		if (said.type === "certificate") certificate.value = said.certificate;
		else if (said.type === "usage") usageNow.value = { ...said.usage, at: Date.now() };
		else take(said);
	};
	ws.onclose = (e) => {
		if (ws !== socket) return;
		if (e.code === CLOSE_TOO_OLD) revision = 0;
		again();
	};
}

async function connect(): Promise<void> {
	try {
		// The oldest of the lists: what changes meanwhile comes twice, and nothing is missed.
		if (!revision) revision = await listAll();
		// A socket that is refused does not say why: is it still known who asks?
		else await call({ method: "GET", path: "/v1/session" });
		follow();
	} catch {
		again();
	}
}

export function startLive(): void {
	isWanted = true;
	void connect();
}

export function stopLive(): void {
	isWanted = false;
	socket?.close();
	socket = undefined;
	revision = 0;
	recent.value = [];
	for (const c of collections.values()) c.clear(); // who comes next may not see it
}

// The connection has gone with the list: when it is back, all is listed anew.
function tellLost(): void {
	revision = 0;
	socket?.close();
}

// Another project: all of it anew.
let shown = project.value;
effect(() => {
	if (project.value === shown) return;
	shown = project.value;
	recent.value = [];
	for (const c of collections.values()) c.clear();
	if (isWanted) void listAll().catch(tellLost);
});
