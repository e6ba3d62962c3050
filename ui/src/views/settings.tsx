// SPDX-License-Identifier: Apache-2.0
// Every field of a thing that may be changed. What somebody else changed meanwhile is never overwritten unseen.
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, call, type Call } from "../api/client";
import { resolve, type Kind, type Schema } from "../api/spec";
import { t, tIf } from "../i18n";
import type { Doc } from "../state/collection";
import { useDraft } from "../state/drafts";
import { project } from "../state/live";
import { refusalOf } from "./acts";
import { suggest } from "./create";
import { fits } from "./fits";
import { CurlOf, Dialog } from "../widgets/dialog";
import { Fields, mergePatch, type Complaint, type Value } from "../widgets/form";
import { printSize } from "../widgets/size";
import { sentenceOf, tell } from "../widgets/toast";

const STATUS_CHANGED = 412;
// What was typed, and the document that it was typed over.
interface Draft {
	base: Doc;
	value: Editable;
}
type Editable = { labels: Record<string, string>; spec: Record<string, Value>; description?: Value };

// Profiles have a text for people beside 'spec', which is what their machines get.
const editableOf = (d: Doc): Editable => ({ labels: d.labels ?? {}, spec: d.spec ?? {}, ...("description" in d ? { description: d.description } : {}) });

// The fields in which PATCH and THEIRS (what changed since) both have something to say, as paths.
function clashes(patch: Value, theirs: Value, path = ""): string[] {
	const both = [patch, theirs].every((v) => typeof v === "object" && v !== null && !Array.isArray(v));
	if (!both) return [path];
	const a = patch as Record<string, Value>, b = theirs as Record<string, Value>;
	return Object.keys(a).filter((k) => k in b).flatMap((k) => clashes(a[k], b[k], path ? `${path}.${k}` : k));
}

function at(v: Value, path: string): string {
	const found = path.split(".").reduce<Value>((x, k) => (x as Record<string, Value> | undefined)?.[k], v);
	return found === undefined ? "—" : JSON.stringify(found);
}

function Merge(p: { fields: string[]; mine: Value; theirs: Value; onMine: () => void; onTheirs: () => void; onClose: () => void }) {
	return (
		<Dialog title={t("merge.title")} onClose={p.onClose} isWide>
			<p>{t("merge.text")}</p>
			<table class="merge">
				<thead>
					<tr>
						<th>{t("merge.field")}</th>
						<th>{t("merge.mine")}</th>
						<th>{t("merge.theirs")}</th>
					</tr>
				</thead>
				<tbody>
					{p.fields.map((f) => (
						<tr key={f}>
							<th scope="row">{tIf(`field.${f}`, f)}</th>
							<td dir="auto">{at(p.mine, f)}</td>
							<td dir="auto">{at(p.theirs, f)}</td>
						</tr>
					))}
				</tbody>
			</table>
			<footer>
				<button type="button" onClick={p.onTheirs}>
					{t("merge.keep-theirs")}
				</button>
				<button type="button" class="primary" onClick={p.onMine}>
					{t("merge.write-mine")}
				</button>
			</footer>
		</Dialog>
	);
}

// The paths at which A and B differ.
function differences(a: Value, b: Value, path = ""): string[] {
	const isDeep = [a, b].every((v) => typeof v === "object" && v !== null && !Array.isArray(v));
	if (!isDeep) return JSON.stringify(a) === JSON.stringify(b) ? [] : [path];
	const x = a as Record<string, Value>, y = b as Record<string, Value>;
	return [...new Set([...Object.keys(x), ...Object.keys(y)])].flatMap((k) => differences(x[k], y[k], path ? `${path}.${k}` : k));
}

// The value at PATH of V; sizes as people write them.
function shown(schema: Schema, v: Value, path: string): string {
	const field = path.split(".").reduce<Schema>((s, k) => resolve(resolve(s).properties?.[k]), schema);
	const found = path.split(".").reduce<Value>((x, k) => (x as Record<string, Value> | undefined)?.[k], v);
	return typeof found === "number" && field.oneOf ? printSize(found) : at(v, path);
}

// The plan: what would be other than now.
function Changes({ before, after, schema }: { before: Editable; after: Editable; schema: Schema }) {
	const paths = differences(before, after), place = useRef<HTMLDivElement>(null);
	useEffect(() => place.current?.scrollIntoView({ block: "nearest" }), []);
	return (
		<div class="card plan-of" role="status" ref={place}>
			<h2>{t("plan.title")}</h2>
			{!paths.length && <p>{t("plan.nothing")}</p>}
			{paths.length > 0 && (
				<table class="merge">
					<thead>
						<tr>
							<th scope="col">{t("merge.field")}</th>
							<th scope="col">{t("plan.now")}</th>
							<th scope="col">{t("plan.then")}</th>
						</tr>
					</thead>
					<tbody>
						{paths.map((p) => (
							<tr key={p}>
								<th scope="row">{tIf(`field.${p}`, p)}</th>
								<td dir="auto">{shown(schema, before, p)}</td>
								<td dir="auto">{shown(schema, after, p)}</td>
							</tr>
						))}
					</tbody>
				</table>
			)}
		</div>
	);
}

// With what it says itself, lest what it had of profiles becomes its own.
const wholeOf = (d: Doc): Value => ({ ...editableOf(d), ...(d.own ? { own: d.own } : {}) });

// NOW as it was BEFORE; somebody else may have changed it since, and is not overwritten.
async function takeBack(path: string, before: Doc, now: Doc): Promise<void> {
	const body = mergePatch(wholeOf(now), wholeOf(before));
	await call({ method: "PATCH", path, query: { project: project.value }, body, revision: now.revision });
	tell(t("done.undo", { name: now.name }));
}

export function Settings({ kind, doc }: { kind: Kind; doc: Doc }) {
	const [draft, setDraft, forget] = useDraft<Draft>(`settings ${kind.plural} ${doc.uid}`, () => ({ base: doc, value: editableOf(doc) }));
	const { base, value } = draft;
	const [complaint, setComplaint] = useState<Complaint>();
	const [other, setOther] = useState<Doc>();
	const [plan, setPlan] = useState<Editable>();
	const [isBusy, setBusy] = useState(false);
	const patch = mergePatch(editableOf(base), value);
	const path = `/v1/${kind.plural}/${encodeURIComponent(doc.name)}`;
	const change = (on: Doc): Call => ({ method: "PATCH", path, query: { project: project.value }, body: patch, revision: on.revision });

	const restart = (from: Doc): void => {
		setDraft({ base: from, value: editableOf(from) });
		forget();
		setOther(undefined);
		setPlan(undefined);
		setComplaint(undefined);
	};
	// What the API says that it would be.
	const preview = async (): Promise<void> => {
		try {
			const c = change(base);
			setPlan(editableOf(await call<Doc>({ ...c, query: { ...c.query, "dry-run": "true" } })));
			setComplaint(undefined);
		} catch (e) {
			setPlan(undefined);
			setComplaint({ field: (e as ApiError).field, text: sentenceOf(e as ApiError) });
		}
	};
	const write = async (on: Doc): Promise<void> => {
		setBusy(true);
		try {
			const done = await call<Doc>(change(on));
			restart(done);
			tell(t("done.change", { name: doc.name }), { title: t("undo"), run: () => takeBack(path, on, done) });
		} catch (e) {
			const why = e as ApiError;
			if (why.status !== STATUS_CHANGED) {
				setComplaint({ field: why.field, text: sentenceOf(why) });
				return;
			}
			const now = await call<Doc>({ method: "GET", path, query: { project: project.value } });
			const fields = clashes(patch, mergePatch(editableOf(on), editableOf(now)) ?? {});
			if (fields.length) setOther(now);
			else await write(now); // they changed something else: both stand
		} finally {
			setBusy(false);
		}
	};
	const refusal = refusalOf(kind.needs.change);
	return (
		<form class="settings" noValidate onSubmit={(e) => (e.preventDefault(), void write(base))}>
			{refusal !== undefined && (
				<p class="error" role="status">
					{refusal}
				</p>
			)}
			<Fields
				schema={kind.schema!}
				path=""
				name=""
				value={value}
				onChange={(v) => (setDraft({ base, value: v as Editable }), setPlan(undefined))}
				complaint={complaint}
				suggest={suggest}
				only={(p) => p !== "name" && fits(kind.kind, value, p)}
			/>
			{complaint && (
				<p class="error" role="alert">
					{complaint.text}
				</p>
			)}
			{patch !== undefined && <CurlOf of={change(base)} />}
			{plan !== undefined && <Changes before={editableOf(base)} after={plan} schema={kind.schema!} />}
			<footer class="bar">
				<button type="button" disabled={patch === undefined} onClick={() => restart(doc)}>
					{t("undo")}
				</button>
				<span class="grow" />
				{kind.hasDryRun && (
					<button type="button" disabled={patch === undefined} onClick={() => void preview()}>
						{t("plan.show")}
					</button>
				)}
				<button class="primary" disabled={patch === undefined || isBusy}>
					{t("save")}
				</button>
			</footer>
			{other && (
				<Merge
					fields={clashes(patch, mergePatch(editableOf(base), editableOf(other)) ?? {})}
					mine={value}
					theirs={editableOf(other)}
					onMine={() => void write(other)}
					onTheirs={() => restart(other)}
					onClose={() => setOther(undefined)}
				/>
			)}
		</form>
	);
}
