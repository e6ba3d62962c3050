// SPDX-License-Identifier: Apache-2.0
// All things of one kind: filter, sort, select, act on many.
import { useComputed, useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect } from "preact/hooks";
import { call, type Call } from "../api/client";
import type { Kind, Schema } from "../api/spec";
import { formatTime, t, tIf } from "../i18n";
import { go, Link, pathOf, query } from "../router";
import type { Collection, Doc } from "../state/collection";
import { collection, project } from "../state/live";
import { State } from "../widgets/badge";
import { confirmThen } from "../widgets/dialog";
import type { Value } from "../widgets/form";
import { Table, type Column } from "../widgets/table";
import { tell, tellError } from "../widgets/toast";
import { columnsOf } from "./columns";
import { targetOf, titleOfTask } from "./tasks";
import { titleOf } from "./words";

// So many of those that are to be deleted are asked about before.
const CHECKED_MOST = 10;

interface Act {
	name: string;
	kind: string;
	hasDryRun?: boolean;
	title: string;
	isDangerous?: boolean;
	callFor: (d: Doc, body?: unknown) => Call;
	schema?: Schema; // of what must be said besides
}

const scope = (): Record<string, string> => ({ project: project.value });
const pathTo = (k: Kind, d: Doc): string => `/v1/${k.plural}/${encodeURIComponent(d.name)}`;

// Wanted states are written into the document; buttons on the machine itself are operations.
function actsOf(kind: Kind): Act[] {
	const acts: Act[] = [];
	if (kind.kind === "instance")
		for (const state of ["running", "paused", "stopped"])
			acts.push({
				name: state,
				kind: kind.kind,
				title: t(`act.${state}` as "act.running"),
				callFor: (d) => ({ method: "PATCH", path: pathTo(kind, d), query: scope(), body: { spec: { state } } }),
			});
	for (const a of kind.actions)
		acts.push({
			name: a.name,
			kind: kind.kind,
			title: tIf(`act.${a.name}`, a.name),
			callFor: (d, body) => ({
				method: "POST",
				path: a.path.replace(/\{[a-z]+\}/, encodeURIComponent(d.name)),
				query: scope(),
				...(body === undefined ? {} : { body }),
			}),
			...(a.body ? { schema: a.body } : {}),
		});
	if (kind.canDelete)
		acts.push({
			name: "delete",
			kind: kind.kind,
			hasDryRun: kind.hasDryRun,
			title: t("delete"),
			isDangerous: true,
			callFor: (d) => ({ method: "DELETE", path: pathTo(kind, d), query: scope() }),
		});
	return acts;
}

const WITH_DATA: readonly string[] = ["instance", "image", "volume"];

function deletionText(kind: string, names: string): string {
	return t(kind === "network" ? "delete.network" : WITH_DATA.includes(kind) ? "delete.text" : "delete.other", { names });
}

// Does ACT to all of DOCS after asking where it destroys something.
export function perform(act: Act, docs: Doc[]): void {
	const calls = docs.map((d) => act.callFor(d));
	const run = async (value?: Value): Promise<void> => {
		const calls = docs.map((d) => act.callFor(d, act.schema ? value : undefined));
		const results = await Promise.allSettled(calls.map((c) => call(c)));
		const bad = results.filter((r) => r.status === "rejected");
		if (bad.length === 1 && calls.length === 1) throw (bad[0] as PromiseRejectedResult).reason;
		for (const r of bad) tellError((r as PromiseRejectedResult).reason);
		if (bad.length < calls.length) tell(t("done.act", { act: act.title, n: calls.length - bad.length }));
	};
	if (act.schema) {
		confirmThen({ title: act.title, text: docs.map((d) => d.name).join(", "), action: act.title, schema: act.schema, callOf: (v) => act.callFor(docs[0]!, v), run });
		return;
	}
	if (!act.isDangerous) {
		void run().catch(tellError);
		return;
	}
	const names = docs.map((d) => d.name);
	confirmThen({
		title: t("delete.title", { n: names.length }),
		text: deletionText(act.kind, names.slice(0, 10).join(", ") + (names.length > 10 ? " …" : "")),
		action: act.title,
		typed: names.length === 1 ? names[0]! : String(names.length),
		calls: calls.slice(0, 3),
		isDangerous: true,
		...(act.hasDryRun ? { check: () => Promise.all(calls.slice(0, CHECKED_MOST).map((c) => call({ ...c, query: { ...c.query, "dry-run": "true" } }))) } : {}),
		run: () => run(),
	});
}

export function actionsFor(kind: Kind): Act[] {
	return actsOf(kind);
}

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

// BESIDE stands next to the title.
export function ListView({ kind, beside }: { kind: Kind; beside?: ComponentChildren }) {
	const c = collection(kind.kind);
	const filter = useSignal(query.value.get("q") ?? "");
	const isTask = kind.kind === "task";
	const sort = useSignal(isTask ? { id: "created", isDown: true } : { id: "name", isDown: false });
	const selected = useSignal<ReadonlySet<string>>(new Set());
	const columns: Column<Doc>[] = [
		nameColumn(kind),
		{ ...stateColumn, title: t("field.state") },
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
				{kind.canCreate && (
					<Link to={pathOf(kind.plural, "+")} class="button primary">
						{t("create")}
					</Link>
				)}
			</header>
			{selected.value.size > 0 && (
				<div class="bar selection" role="toolbar" aria-label={t("selected", { n: selected.value.size })}>
					<span>{t("selected", { n: selected.value.size })}</span>
					{actsOf(kind).map((a) => (
						<button type="button" key={a.name} class={a.isDangerous ? "danger" : ""} onClick={() => perform(a, chosen())}>
							{a.title}
						</button>
					))}
				</div>
			)}
			{c.isLoaded.value && c.names.value.length === 0 ? (
				<div class="empty">
					<p>{tIf(`empty.${kind.plural}`, t("empty", { what: titleOf(kind.plural) }))}</p>
					{kind.canCreate && (
						<Link to={pathOf(kind.plural, "+")} class="button primary">
							{t("create")}
						</Link>
					)}
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
