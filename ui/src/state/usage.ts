// SPDX-License-Identifier: Apache-2.0
// What machines and the node use, as the node measures it every few seconds: it comes by the socket of events.
import { signal } from "@preact/signals";

export const FIELDS = ["cpu", "memory", "read", "written", "received", "sent", "storage"] as const;
export type Field = (typeof FIELDS)[number];
export type Usage = Record<Field, number>;

export interface UsageNow {
	node?: Usage;
	instances: Record<string, Usage>; // by key: "instance/default/web"
}

export interface History {
	from: number;
	step: number;
	fields: Record<Field, (number | null)[]>;
}

// With the time at which it came; undefined: nothing has come yet.
export const usageNow = signal<(UsageNow & { at: number }) | undefined>(undefined);

// H as it is when U has been measured at AT (ms): the last value, or a new one when its time has come. What follows a gap
// begins after it.
export function historyWith(h: History, u: Usage, at: number): History {
	const count = h.fields.cpu.length, index = Math.floor((at / 1000 - h.from) / h.step), shift = Math.max(0, index - count + 1);
	if (index < 0 || shift > count) return h;
	const fields = {} as History["fields"];
	for (const f of FIELDS) {
		const list = h.fields[f].slice(shift);
		while (list.length < count) list.push(null);
		list[index - shift] = u[f];
		fields[f] = list;
	}
	return { from: h.from + shift * h.step, step: h.step, fields };
}
