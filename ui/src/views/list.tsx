// SPDX-License-Identifier: Apache-2.0
// All things of one kind: filter, sort, select, act on many.
import { useComputed, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import type { Kind } from "../api/spec";
import { formatTime, t, tIf } from "../i18n";
import { go, Link, pathOf, query } from "../router";
import type { Collection, Doc } from "../state/collection";
import { collection } from "../state/live";
import { State } from "../widgets/badge";
import { Table, type Column } from "../widgets/table";
import { Acts, actsOf, CreateLink } from "./acts";
import { columnsOf } from "./columns";
import { targetOf, titleOfTask } from "./tasks";
import { titleOf } from "./words";

function matches(d: Doc, words: string[]): boolean {
	const text = `${d.name} ${d.kind === "task" ? `${titleOfTask(d)} ${targetOf(d)} ` : ""}${d.status?.state ?? ""} ${Object.entries(d.labels ?? {}).map((l) => l.join("=")).join(" ")}`.toLowerCase();
	return words.every((w) => text.includes(w));
}

function inOrder(c: Collection, columns: Column<Doc>[], words: string[], sort: { id: string; isDown: boolean }): string[] {
	const by = columns.find((x) => x.id === sort.id)?.sortBy;
	const isPlain = !words.length && (!by || sort.id === "name");
	if (isPlain) return sort.isDown ? [...c.names.value].reverse() : c.names.value;
	c.calm.value; // depends on every document
	const rows = c.names.value.map((n) => c.get(n)!.peek()).filter((d) => matches(d, words)).map((d) => ({ name: d.name, key: by?.(d) ?? "" }));
	if (by) rows.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
	if (sort.isDown) rows.reverse();
	return rows.map((r) => r.name);
}

function nameColumn(kind: Kind): Column<Doc> {
	return {
		id: "name",
		title: t("field.name"),
		width: "minmax(9rem, 2fr)",
		sortBy: (d) => d.name,
		show: (d) => (
			<Link to={pathOf(kind.plural, d.name)} class="name">
				{kind.kind === "task" ? titleOfTask(d) : d.name}
			</Link>
		),
	};
}

const stateColumn: Omit<Column<Doc>, "title"> = {
	id: "state",
	width: "minmax(7rem, 1fr)",
	sortBy: (d) => d.status?.state ?? "",
	show: (d) => <State of={d.deleting ? "deleting" : d.status?.state} />,
};

const createdColumn = (): Column<Doc> => ({
	id: "created",
	title: t("field.created"),
	width: "minmax(14.5rem, 1fr)",
	isSecondary: true,
	sortBy: (d) => d.created ?? "",
	show: (d) => formatTime(d.created),
});

// They are what they are.
const STATELESS: readonly string[] = ["project", "user", "role", "token"];

// BESIDE stands next to the title.
export function ListView({ kind, beside }: { kind: Kind; beside?: ComponentChildren }) {
	const c = collection(kind.kind);
	const filter = useSignal(query.value.get("q") ?? "");
	const isTask = kind.kind === "task";
	const sort = useSignal(isTask ? { id: "created", isDown: true } : { id: "name", isDown: false });
	const selected = useSignal<ReadonlySet<string>>(new Set());
	const columns: Column<Doc>[] = [
		nameColumn(kind),
		...(STATELESS.includes(kind.kind) ? [] : [{ ...stateColumn, title: t("field.state") }]),
		...columnsOf(kind),
		...(isTask ? [] : [createdColumn()]),
	];
	const names = useComputed(() => inOrder(c, columns, filter.value.toLowerCase().split(/\s+/).filter(Boolean), sort.value));
	useEffect(() => {
		const rest = new URLSearchParams(query.peek());
		if (filter.value) rest.set("q", filter.value);
		else rest.delete("q");
		go(pathOf(kind.plural) + (rest.size ? `?${rest}` : ""), true);
	}, [filter.value]);
	// A label that was clicked on filters, too.
	const asked = query.value.get("q") ?? "";
	useEffect(() => void (filter.value = asked), [asked]);
	// What can be done to them follows what they are.
	if (selected.value.size > 0) c.calm.value;
	const chosen = (): Doc[] => [...selected.value].map((n) => c.get(n)?.peek()).filter((d): d is Doc => !!d);
	const select = (list: string[], isOn: boolean): void => {
		const next = new Set(selected.value);
		for (const n of list) isOn ? next.add(n) : next.delete(n);
		selected.value = next;
	};
	return (
		<section class="view list">
			<header class="bar">
				<h1>{titleOf(kind.plural)}</h1>
				{beside}
				<input
					type="search"
					placeholder={t("filter")}
					aria-label={t("filter")}
					value={filter.value}
					onInput={(e) => (filter.value = e.currentTarget.value)}
				/>
				<span class="grow" />
				<CreateLink kind={kind} />
			</header>
			{selected.value.size > 0 && (
				<div class="bar selection" role="toolbar" aria-label={t("selected", { n: selected.value.size })}>
					<span>{t("selected", { n: selected.value.size })}</span>
					<Acts acts={actsOf(kind)} docsOf={chosen} />
				</div>
			)}
			{c.isLoaded.value && c.names.value.length === 0 ? (
				<div class="empty">
					<p>{tIf(`empty.${kind.plural}`, t("empty", { what: titleOf(kind.plural) }))}</p>
					<CreateLink kind={kind} />
				</div>
			) : (
				<Table
					label={titleOf(kind.plural)}
					columns={columns}
					names={names}
					topic={filter.value}
					rowOf={(n) => c.get(n)}
					sort={sort.value}
					onSort={(id) => (sort.value = { id, isDown: sort.value.id === id && !sort.value.isDown })}
					selected={selected}
					onSelect={select}
				/>
			)}
			{filter.value && names.value.length === 0 && <p class="empty">{t("filter.none")}</p>}
		</section>
	);
}
