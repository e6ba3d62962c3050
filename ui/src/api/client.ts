// SPDX-License-Identifier: Apache-2.0
// Calls of the API. Every failure is an ApiError with the API's own sentence and the path of the field it concerns.
import { computed, signal } from "@preact/signals";

export type Method = "GET" | "POST" | "PATCH" | "DELETE" | "PUT";

export interface Call {
	method: Method;
	path: string;
	query?: Record<string, string>;
	body?: unknown;
	revision?: number; // what it was based on: sent as If-Match
	file?: string; // what is sent in place of a body
	isLogin?: boolean; // a refusal says nothing of the session
}

export class ApiError extends Error {
	constructor(
		readonly status: number,
		readonly code: string,
		message: string,
		readonly field: string | undefined,
	) {
		super(message);
	}
}

// What was asked for a while ago, and is not answered.
const late = signal(0);
export const isWaiting = computed(() => late.value > 0);
const WAIT_MS = 1000;

async function fetchPatiently(url: string, init: RequestInit): Promise<Response> {
	let isLate = false;
	const timer = window.setTimeout(() => {
		isLate = true;
		late.value++;
	}, WAIT_MS);
	return fetch(url, init).finally(() => {
		window.clearTimeout(timer);
		if (isLate) late.value--;
	});
}

// Called when the API no longer knows who asks.
let whenUnknown: () => void = () => undefined;
export function onUnknownUser(f: () => void): void {
	whenUnknown = f;
}

let csrf: string | undefined;
export function setCsrfToken(token: string | undefined): void {
	csrf = token;
}

export const csrfToken = (): string | undefined => csrf;

// Has the operation a parameter of that name? The API refuses those that it does not have.
let knowsParameter: (method: Method, path: string, name: string) => boolean = () => true;
export function setParameters(f: typeof knowsParameter): void {
	knowsParameter = f;
}

// The project that is looked at is said with every call: what is of the node alone does not know it.
export function urlOf(c: Call): string {
	const known = Object.entries(c.query ?? {}).filter(([name]) => name !== "project" || knowsParameter(c.method, c.path, name));
	const q = new URLSearchParams(known).toString();
	return q ? `${c.path}?${q}` : c.path;
}

function headersOf(c: Call): Record<string, string> {
	const h: Record<string, string> = {};
	if (c.body !== undefined) h["content-type"] = "application/json";
	if (c.revision !== undefined) h["if-match"] = `"${c.revision}"`;
	return h;
}

async function failure(answer: Response): Promise<ApiError> {
	let code = "", message = "", field: string | undefined;
	try {
		const e = ((await answer.json()) as { error?: Record<string, string> }).error ?? {};
		code = e.code ?? "";
		message = e.message ?? "";
		field = e.field || undefined;
	} catch {
		// Not from the API itself: a proxy, or nothing at all.
	}
	return new ApiError(answer.status, code, message || `${answer.status} ${answer.statusText}`, field);
}

// Called with every call that changes something, and the status that it was answered with.
let whenChanged: (c: Call, status: number) => void = () => undefined;
export function onChange(f: (c: Call, status: number) => void): void {
	whenChanged = f;
}

const changes = (c: Call): boolean => c.method !== "GET" && c.query?.["dry-run"] !== "true";

async function send(c: Call): Promise<Response> {
	const headers = headersOf(c);
	if (csrf && c.method !== "GET") headers["x-viv-csrf"] = csrf;
	let answer: Response;
	try {
		answer = await fetchPatiently(urlOf(c), {
			method: c.method,
			headers,
			credentials: "same-origin",
			...(c.body === undefined ? {} : { body: JSON.stringify(c.body) }),
		});
	} catch {
		if (changes(c)) whenChanged(c, 0);
		throw new ApiError(0, "unreachable", "", undefined);
	}
	if (changes(c)) whenChanged(c, answer.status);
	if (answer.ok) return answer;
	const e = await failure(answer);
	if (e.status === 401 && !c.isLogin) whenUnknown();
	throw e;
}

export async function call<T>(c: Call): Promise<T> {
	const answer = await send(c);
	const text = await answer.text();
	return (text ? JSON.parse(text) : undefined) as T;
}

export async function callText(c: Call): Promise<string> {
	return (await send(c)).text();
}

const quote = (s: string): string => `'${s.replace(/'/g, `'\\''`)}'`;

// A file that is sent, part by part, is not sent by call(): it is told here that it was.
export function tellSent(path: string, project: string, file: string, status: number): void {
	whenChanged({ method: "PUT", path, query: { project }, file }, status);
}

// What nobody else shall read, and what is too long to be read.
const SECRETS: ReadonlySet<string> = new Set(["password", "old", "code", "token", "secret"]);
const LONG = 4096;

function shownBody(body: unknown): string {
	return JSON.stringify(body, (key, v: unknown) => (SECRETS.has(key) && typeof v === "string" ? "…" : typeof v === "string" && v.length > LONG ? `${v.slice(0, LONG)}…` : v));
}

// The same call for a shell.
export function asCurl(c: Call): string {
	const words = ["curl"];
	if (c.method !== "GET") words.push("-X", c.method);
	for (const [name, value] of Object.entries(headersOf(c))) words.push("-H", quote(`${name}: ${value}`));
	words.push("-H", '"authorization: Bearer $VIV_TOKEN"');
	if (c.body !== undefined) words.push("--data", quote(shownBody(c.body)));
	if (c.file !== undefined) words.push("-H", quote("content-type: application/octet-stream"), "--data-binary", quote(`@${c.file}`));
	words.push(quote(`${location.origin}${urlOf(c)}`));
	return words.join(" ");
}

export function socketUrl(path: string, query: Record<string, string> = {}): string {
	const q = new URLSearchParams(query).toString();
	return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}${q ? `?${q}` : ""}`;
}
