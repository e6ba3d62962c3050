// SPDX-License-Identifier: Apache-2.0
// Who is logged in. The session itself is a cookie that no script can read; with it comes a word that every change must
// bring along, which pages of other origins cannot know.
import { signal } from "@preact/signals";
import { ApiError, call, onUnknownUser, setCsrfToken } from "./api/client";
import type { Need } from "./api/spec";
import { forgetCalls } from "./state/calls";
import { forgetDrafts } from "./state/drafts";

export type State = "unknown" | "out" | "in";

// As the API tells it.
export interface Session {
	user: string;
	via: string;
	role: string;
	projects?: Record<string, string>;
	csrf?: string;
}

const RETRY_MS = 2000;

export const state = signal<State>("unknown");
export const session = signal<Session | undefined>(undefined);
// The API no longer knows who was logged in. The page stays as it is, with all that was typed, and asks for the password.
export const isExpired = signal(false);
// Nobody administers this node yet.
export const needsSetup = signal(false);

const ROLES: readonly string[] = ["anyone", "none", "viewer", "operator", "admin"];

// May who is logged in do it, as far as roles say? The API decides; this is for telling it before.
export function may(need: Need, project: string): boolean {
	const own = session.value, rank = (role: string | undefined): number => ROLES.indexOf(role ?? "none");
	const all = own?.projects ?? {}, there = need.where === "node" ? [] : need.where === "any" ? Object.values(all) : [all[project]];
	const best = Math.max(rank(own?.role), ...there.map(rank));
	// Who sees things of any project is a viewer of the node.
	const isKnown = ROLES.includes(need.role), hasProject = Object.keys(all).length > 0;
	return !isKnown || best >= rank(need.role) || (need.role === "viewer" && hasProject);
}

function begin(s: Session): void {
	session.value = s;
	setCsrfToken(s.csrf);
	isExpired.value = false;
	state.value = "in";
}

export function end(): void {
	isExpired.value = false;
	setCsrfToken(undefined);
	forgetCalls();
	forgetDrafts();
	session.value = undefined;
	state.value = "out";
}

// Of those with an authenticator the API wants a code, too: its complaint is about the field "code".
export async function logIn(user: string, password: string, code: string): Promise<void> {
	await call({ method: "POST", path: "/v1/login", body: { user, password, ...(code ? { code } : {}) }, isLogin: true });
	await takeUp();
}

export async function setUp(token: string, user: string, password: string): Promise<void> {
	await call({ method: "POST", path: "/v1/setup", body: { token, user, password } });
	needsSetup.value = false;
	await takeUp();
}

export async function logOut(): Promise<void> {
	await call({ method: "POST", path: "/v1/logout" }).catch(() => undefined);
	end();
}

async function askSetup(): Promise<void> {
	const answer = await call<{ needed?: boolean }>({ method: "GET", path: "/v1/setup" }).catch(() => undefined);
	needsSetup.value = !!answer?.needed;
}

// Is the cookie of an earlier visit still good?
export async function takeUp(): Promise<void> {
	try {
		begin(await call<Session>({ method: "GET", path: "/v1/session" }));
	} catch (e) {
		if ((e as ApiError).status === 0) {
			window.setTimeout(() => void takeUp(), RETRY_MS);
			return;
		}
		await askSetup();
		end();
	}
}

onUnknownUser(() => {
	if (state.value === "in") isExpired.value = true;
	else end();
});
