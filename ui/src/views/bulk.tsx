// SPDX-License-Identifier: Apache-2.0
// The same done to many by one request, a task of the daemon's: it goes on when this page is closed. What became of each is told here, and on the
// page of the task.
import { signal } from "@preact/signals";
import { call, type Call } from "../api/client";
import { t } from "../i18n";
import type { Doc } from "../state/collection";
import { project } from "../state/live";
import { Dialog } from "../widgets/dialog";
import { sentenceOf, tell } from "../widgets/toast";
import { isEnded } from "./tasks";

export interface Item {
	name: string;
	ok: boolean;
	error?: { message: string };
}

// What the daemon calls them when they are done to many.
const ACTIONS: Partial<Record<string, string>> = { running: "start", paused: "pause", stopped: "stop", restart: "restart", delete: "delete" };
const KINDS: readonly string[] = ["instance", "volume", "image", "network", "profile"];
const ITEMS_MOST = 1000, POLL_MS = 200;

// The requests by which ACT is done to those called NAMES; undefined: it is asked of each.
export function bulkCalls(kind: string, act: string, names: string[]): Call[] | undefined {
	const action = ACTIONS[act];
	if (!action || !KINDS.includes(kind) || names.length < 2) return undefined;
	const calls: Call[] = [];
	for (let i = 0; i < names.length; i += ITEMS_MOST)
		calls.push({ method: "POST", path: "/v1/bulk", query: { project: project.value }, body: { kind, action, names: names.slice(i, i + ITEMS_MOST) } });
	return calls;
}

const failuresOf = (items: Item[]): Item[] => items.filter((i) => !i.ok);
export const itemsOf = (task: Doc): Item[] | undefined => ((task.status?.result as { items?: (Item | null)[] } | undefined)?.items?.filter((i) => i) as Item[] | undefined);

// Would all of that be done? What speaks against it is said.
export async function checkBulk(calls: Call[]): Promise<void> {
	for (const c of calls) {
		const { items } = await call<{ items: Item[] }>({ ...c, query: { ...c.query, "dry-run": "true" } });
		const bad = failuresOf(items)[0];
		if (bad) throw new Error(bad.error?.message);
	}
}

async function ended(c: Call): Promise<Doc> {
	const task = await call<Doc>(c);
	for (;;) {
		const now = await call<Doc>({ method: "GET", path: `/v1/tasks/${encodeURIComponent(task.name)}`, ...(c.query ? { query: c.query } : {}) });
		if (isEnded(now)) return now;
		await new Promise((r) => window.setTimeout(r, POLL_MS));
	}
}

const shown = signal<{ title: string; items: Item[] } | undefined>(undefined);

// Does it, and tells what became of each when one could not.
export async function runBulk(title: string, calls: Call[]): Promise<void> {
	const items: Item[] = [];
	for (const c of calls) {
		const task = await ended(c);
		items.push(...(itemsOf(task) ?? []));
		if (task.status?.state === "failed") throw new Error(task.status.reason);
	}
	const bad = failuresOf(items).length;
	if (bad) shown.value = { title, items };
	else tell(t("done.act", { act: title, n: items.length }));
}

export function BulkTable({ items }: { items: Item[] }) {
	const bad = failuresOf(items).length;
	return (
		<>
			<p>{t("bulk.sum", { done: items.length - bad, failed: bad })}</p>
			<table class="plain-table bulk-results">
				<thead>
					<tr>
						<th scope="col">{t("field.name")}</th>
						<th scope="col">{t("bulk.result")}</th>
					</tr>
				</thead>
				<tbody>
					{items.map((i) => (
						<tr key={i.name}>
							<th scope="row">
								<bdi>{i.name}</bdi>
							</th>
							<td dir="auto" class={i.ok ? "" : "error"}>
								{i.ok ? t("bulk.ok") : sentenceOf(new Error(i.error?.message ?? ""))}
							</td>
						</tr>
					))}
				</tbody>
			</table>
		</>
	);
}

// Of what has just been done.
export function BulkResults() {
	const of = shown.value, close = (): void => void (shown.value = undefined);
	if (!of) return null;
	return (
		<Dialog title={of.title} onClose={close} isWide>
			<BulkTable items={of.items} />
			<footer>
				<button type="button" class="primary" onClick={close}>
					{t("close")}
				</button>
			</footer>
		</Dialog>
	);
}
