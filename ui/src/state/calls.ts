// SPDX-License-Identifier: Apache-2.0
// What this page has asked the API to change, as calls that can be made again from a shell. Secrets are not kept.
import { signal } from "@preact/signals";
import { asCurl, onChange, type Call } from "../api/client";

export interface Made {
	id: number;
	at: number; // ms
	title: string; // "PATCH /v1/instances/web"
	curl: string;
	status: number; // 0: there was no answer
}

const MOST = 100;
let last = 0;

export const made = signal<readonly Made[]>([]);

function note(c: Call, status: number): void {
	made.value = [{ id: ++last, at: Date.now(), title: `${c.method} ${c.path}`, curl: asCurl(c), status }, ...made.value].slice(0, MOST);
}

export function forgetCalls(): void {
	made.value = [];
}

onChange(note);
