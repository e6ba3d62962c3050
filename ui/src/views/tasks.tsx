// SPDX-License-Identifier: Apache-2.0
// What a table shows of tasks: what is done to what, how far it is, and a button to end it.
import { call, type Call } from "../api/client";
import { formatNumber, formatTime, t, tIf } from "../i18n";
import { pathOf } from "../router";
import type { Doc } from "../state/collection";
import { project } from "../state/live";
import type { Column } from "../widgets/table";
import { confirmThen } from "../widgets/dialog";
import { tell } from "../widgets/toast";

interface Progress {
	done: number;
	total: number;
}

const ENDED: readonly string[] = ["done", "failed", "cancelled"];
const PERCENT = 100, NAMED = 3;

const progressOf = (d: Doc): Progress | undefined => d.status?.progress as Progress | undefined;
const share = (d: Doc): number => {
	const p = progressOf(d);
	return d.status?.state === "done" ? 1 : p?.total ? p.done / p.total : 0;
};
export const isEnded = (d: Doc): boolean => ENDED.includes(d.status?.state ?? "");
export const titleOfTask = (d: Doc): string => tIf(`task.${String(d.operation)}`, String(d.operation ?? d.name));

// What it is about: "web, before-upgrade".
export function targetOf(d: Doc): string {
	const p = (d.params ?? {}) as Record<string, unknown>;
	const items = (p.items as { name: string }[] | undefined)?.map((i) => i.name);
	if (items) return items.length > NAMED ? `${items.slice(0, NAMED).join(", ")} … (${items.length})` : items.join(", ");
	return ["instance", "snapshot", "image", "volume", "name"].map((k) => p[k]).filter((v) => typeof v === "string").join(", ");
}

export function TaskProgress({ of }: { of: Doc }) {
	if (isEnded(of)) return <span dir="auto">{of.status?.reason ?? ""}</span>;
	const p = progressOf(of), label = t("task.progress", { name: titleOfTask(of) });
	return (
		<span class="bar task-progress">
			{p ? <progress aria-label={label} max={1} value={share(of)} /> : <progress aria-label={label} />}
			{p && `${formatNumber(Math.floor(share(of) * PERCENT))} %`}
		</span>
	);
}

export function cancelTask(d: Doc): void {
	const cancel: Call = { method: "POST", path: `/v1${pathOf("tasks", d.name)}/cancel`, query: { project: project.value } };
	confirmThen({
		title: `${t("act.cancel")}: ${titleOfTask(d)}`,
		text: t("warn.cancel"),
		action: t("act.cancel"),
		calls: [cancel],
		isDangerous: true,
		run: () => call(cancel).then(() => tell(t("done.act", { act: t("act.cancel"), n: 1 }))),
	});
}

export function taskColumns(): Column<Doc>[] {
	const target = (d: Doc): string => targetOf(d);
	return [
		{ id: "target", title: t("task.target"), width: "minmax(6rem, 1.2fr)", isSecondary: true, sortBy: target, show: target },
		{ id: "progress", title: t("task.how-far"), width: "minmax(8rem, 1.5fr)", isSecondary: true, sortBy: share, show: (d) => <TaskProgress of={d} /> },
		{ id: "user", title: t("audit.who"), width: "minmax(5rem, 0.8fr)", isSecondary: true, sortBy: (d) => String(d.user ?? ""), show: (d) => String(d.user ?? "") },
		{
			id: "created",
			title: t("field.created"),
			width: "minmax(14.5rem, 1fr)",
			isSecondary: true,
			sortBy: (d) => d.created ?? "",
			show: (d) => formatTime(d.created),
		},
		{
			id: "cancel",
			title: t("actions"),
			width: "6rem",
			show: (d) =>
				isEnded(d) || d.cancel ? null : (
					<button type="button" class="small" aria-label={`${t("act.cancel")}: ${titleOfTask(d)} ${targetOf(d)}`} onClick={() => cancelTask(d)}>
						{t("act.cancel")}
					</button>
				),
		},
	];
}
