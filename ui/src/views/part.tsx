// SPDX-License-Identifier: Apache-2.0
// What belongs to one thing, as snapshots do to a machine: made, used and removed beside it.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call, type Call } from "../api/client";
import type { Action, Kind } from "../api/spec";
import { formatTime, t, tIf } from "../i18n";
import type { Doc } from "../state/collection";
import { collection, project } from "../state/live";
import { State } from "../widgets/badge";
import { confirmThen } from "../widgets/dialog";
import { tell, tellError } from "../widgets/toast";
import { Guarded } from "./acts";
import { treeOf, type Grown } from "./tree";
import { nameOf, titleOf } from "./words";

const INDENT_REM = 1.4;

const named = (path: string, names: string[]): string => names.reduce((p, n) => p.replace(/\{[a-z]+\}/, encodeURIComponent(n)), path);

function ask(title: string, c: Call, typed: string | undefined): void {
	confirmThen({
		title,
		text: "",
		action: title,
		calls: [c],
		isDangerous: true,
		...(typed === undefined ? {} : { typed }),
		run: () => call(c).then(() => tell(t("done.act", { act: title, n: 1 }))),
	});
}

// Where ROW stands in the tree.
function Branch({ of }: { of: Grown }) {
	return (
		<>
			<span class="twig" aria-hidden="true" style={{ paddingInlineStart: `${(of.depth - Number(of.isTurn) / 2) * INDENT_REM}rem` }}>
				{of.isTurn ? "└ " : ""}
			</span>
			{of.from !== undefined && <span class="hidden">{t("tree.from", { name: of.from })} </span>}
		</>
	);
}

function NowRow({ of }: { of: Grown }) {
	return (
		<tr class="now">
			<th scope="row">
				<Branch of={of} />
				<span class="state good">
					<i aria-hidden="true" />
					{t("tree.now")}
				</span>
			</th>
			<td colSpan={4} class="soft">
				{of.from !== undefined && t("tree.from", { name: of.from })}
			</td>
		</tr>
	);
}

function Row({ kind, of, row, grown }: { kind: Kind; of: Doc; row: Doc; grown: Grown | undefined }) {
	const scope = { project: project.value };
	const act = (a: Action): void => ask(tIf(`act.${a.name}`, a.name), { method: "POST", path: named(a.path, [of.name, row.name]), query: scope }, undefined);
	return (
		<tr>
			<th scope="row">
				{grown && <Branch of={grown} />}
				{row.name}
			</th>
			<td>
				<State of={row.deleting ? "deleting" : row.status?.state} /> <span dir="auto">{row.status?.reason}</span>
			</td>
			<td>{formatTime(row.created)}</td>
			<td dir="auto">{String(row.spec?.about ?? "")}</td>
			<td>
				<div class="bar">
					{kind.actions.map((a) => (
						<Guarded need={a.need} key={a.name} onClick={() => act(a)}>
							{tIf(`act.${a.name}`, a.name)}
						</Guarded>
					))}
					{kind.canDelete && (
						<Guarded
							need={kind.needs.delete}
							class="danger"
							onClick={() => ask(t("delete"), { method: "DELETE", path: `${named(kind.path, [of.name])}/${encodeURIComponent(row.name)}`, query: scope }, row.name)}
						>
							{t("delete")}
						</Guarded>
					)}
				</div>
			</td>
		</tr>
	);
}

// As a tree when they are snapshots.
function rowsOf(kind: Kind, rows: Doc[], of: Doc): Grown[] {
	if (kind.kind !== "snapshot") return rows.map((doc) => ({ doc, depth: 0, isTurn: false, from: undefined }));
	const tasks = collection("task");
	tasks.version.value;
	return treeOf(rows, tasks.names.value.map((n) => tasks.get(n)!.peek()), of.uid);
}

export function Part({ kind, of }: { kind: Kind; of: Doc }) {
	const rows = useSignal<Doc[] | undefined>(undefined);
	const path = named(kind.path, [of.name]), query = { project: project.value };
	// Changes are pushed; which of them are ours, the list itself knows best.
	const version = collection(kind.kind).version.value;
	useEffect(() => void call<{ items: Doc[] }>({ method: "GET", path, query }).then((a) => (rows.value = a.items), tellError), [version, path]);
	const make = (body: unknown): Call => ({ method: "POST", path, query, body });
	const create = (): void =>
		confirmThen({
			title: t("create.title", { what: nameOf(kind) }),
			text: "",
			action: t("create"),
			schema: kind.schema!,
			callOf: make,
			run: (value) => call(make(value)),
		});
	return (
		<div class="card">
			<div class="bar">
				<h2>{titleOf(kind.plural)}</h2>
				<span class="grow" />
				{kind.canCreate && (
					<Guarded need={kind.needs.create} class="primary" onClick={create}>
						{t("create")}
					</Guarded>
				)}
			</div>
			{rows.value?.length === 0 && <p class="empty">{tIf(`empty.${kind.plural}`, t("empty", { what: titleOf(kind.plural) }))}</p>}
			{!!rows.value?.length && (
				<table class="plain-table parts">
					<tbody>
						{rowsOf(kind, rows.value, of).map((g) => (g.doc ? <Row key={g.doc.uid} kind={kind} of={of} row={g.doc} grown={g} /> : <NowRow key="now" of={g} />))}
					</tbody>
				</table>
			)}
		</div>
	);
}
