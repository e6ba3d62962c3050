// SPDX-License-Identifier: Apache-2.0
// Every field of a thing that may be changed. What somebody else changed meanwhile is never overwritten unseen.
import { useState } from "preact/hooks";
import { ApiError, call, type Call } from "../api/client";
import type { Kind } from "../api/spec";
import { t } from "../i18n";
import type { Doc } from "../state/collection";
import { project } from "../state/live";
import { CurlOf, Dialog } from "../widgets/dialog";
import { Fields, mergePatch, type Complaint, type Value } from "../widgets/form";
import { sentenceOf, tell } from "../widgets/toast";

const STATUS_CHANGED = 412;
type Editable = { labels: Record<string, string>; spec: Record<string, Value> };

const editableOf = (d: Doc): Editable => ({ labels: d.labels ?? {}, spec: d.spec ?? {} });

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
							<th>{f}</th>
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

export function Settings({ kind, doc }: { kind: Kind; doc: Doc }) {
	const [base, setBase] = useState(doc);
	const [value, setValue] = useState<Editable>(editableOf(doc));
	const [complaint, setComplaint] = useState<Complaint>();
	const [other, setOther] = useState<Doc>();
	const patch = mergePatch(editableOf(base), value);
	const path = `/v1/${kind.plural}/${encodeURIComponent(doc.name)}`;
	const change = (on: Doc): Call => ({ method: "PATCH", path, query: { project: project.value }, body: patch, revision: on.revision });

	const restart = (from: Doc): void => {
		setBase(from);
		setValue(editableOf(from));
		setOther(undefined);
		setComplaint(undefined);
	};
	const write = async (on: Doc): Promise<void> => {
		try {
			restart(await call<Doc>(change(on)));
			tell(t("done.change", { name: doc.name }));
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
		}
	};
	return (
		<form class="settings" noValidate onSubmit={(e) => (e.preventDefault(), void write(base))}>
			<Fields
				schema={kind.schema!}
				path=""
				name=""
				value={value}
				onChange={(v) => setValue(v as Editable)}
				complaint={complaint}
				only={(p) => p !== "name"}
			/>
			{complaint && (
				<p class="error" role="alert">
					{complaint.text}
				</p>
			)}
			{patch !== undefined && <CurlOf of={change(base)} />}
			<footer class="bar">
				<button type="button" disabled={patch === undefined} onClick={() => restart(doc)}>
					{t("undo")}
				</button>
				<span class="grow" />
				<button class="primary" disabled={patch === undefined}>
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
