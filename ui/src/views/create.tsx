// SPDX-License-Identifier: Apache-2.0
// A new thing, in steps: what it is, and then what the API says it would be (dry run) before it is made.
import { useState } from "preact/hooks";
import { ApiError, call, type Call } from "../api/client";
import { resolve, type Kind, type Schema } from "../api/spec";
import { formatBytes, t, told } from "../i18n";
import { go, Link, pathOf, query } from "../router";
import type { Doc } from "../state/collection";
import { useDraft } from "../state/drafts";
import { collection, project } from "../state/live";
import { beginUpload, diskSizeOf } from "../state/upload";
import { CurlOf, showSecret } from "../widgets/dialog";
import { Fields, isSize, type Complaint, type Value } from "../widgets/form";
import { labelOfValue, Values } from "../widgets/values";
import { sentenceOf, tell } from "../widgets/toast";
import { refusalOf } from "./acts";
import { CatalogueChoice } from "./catalogue";
import { fits } from "./fits";
import { FileChoice } from "./upload";
import { nameOf } from "./words";

interface Step {
	id: string;
	has: (path: string) => boolean;
}

const SIZE = ["spec.cpus", "spec.memory", "spec.engine", "spec.cpu", "spec.disk_size", "spec.disks"];
const NETWORK = ["spec.networks", "spec.network", "spec.user_data", "spec.cloud_init"];
const FIRST = ["name", "spec.image", "spec.profiles", "labels"];
const under = (list: string[], path: string): boolean => path === "spec" || list.some((p) => path === p || path.startsWith(`${p}.`) || path.startsWith(`${p}[`));

// Machines have many fields: a page for each question. Other kinds fit on one.
function stepsOf(kind: Kind): Step[] {
	if (kind.kind !== "instance") return [{ id: "all", has: () => true }];
	const taken = [...SIZE, ...NETWORK, ...FIRST];
	return [
		{ id: "first", has: (p) => under(FIRST, p) },
		{ id: "size", has: (p) => under(SIZE, p) },
		{ id: "network", has: (p) => under(NETWORK, p) },
		{ id: "more", has: (p) => p === "spec" || !under(taken, p) },
	];
}

function stepOf(steps: Step[], field: string | undefined): number {
	const i = field ? steps.findIndex((s) => s.has(field) && field !== "spec") : -1;
	return i < 0 ? 0 : i;
}

// Names of other things that a field may have.
export function suggest(path: string): string[] | undefined {
	if (/^spec\.profiles\[\d+\]$/.test(path)) return collection("profile").names.value;
	const kind = /(?:^|\.)(image|instance|volume|network|pool|project)$/.exec(path)?.[1];
	return kind ? collection(kind).names.value : undefined;
}

function without(v: Value): Value {
	if (Array.isArray(v)) return v.map(without);
	if (typeof v !== "object" || v === null) return v;
	return Object.fromEntries(Object.entries(v).filter(([, x]) => x !== undefined).map(([k, x]) => [k, without(x)]));
}

function Plan({ doc, schema }: { doc: Doc; schema: Schema }) {
	const spec = resolve(resolve(schema).properties?.spec);
	return (
		<dl class="plan">
			<dt>{t("field.name")}</dt>
			<dd>{doc.name}</dd>
			{Object.entries(doc.spec ?? {}).map(([k, v]) => {
				const own = resolve(spec.properties?.[k]);
				return (
					<div class="pair" key={k}>
						<dt title={told(own.description)}>{labelOfValue("spec", k)}</dt>
						<dd>{isSize(own) ? `${formatBytes(Number(v))} (${String(v)})` : <Values of={v} path={`spec.${k}`} schema={own} isExact />}</dd>
					</div>
				);
			})}
		</dl>
	);
}

// What is filled in before anything is asked.
function firstOf(kind: Kind): Value {
	const instance = query.value.get("instance");
	if (kind.kind === "image" && instance) return { name: `${instance}-copy`, spec: { source: { instance } } };
	if (kind.kind === "image") return { spec: { source: { build: "debian" } } };
	const pool = query.value.get("pool");
	if (kind.kind === "volume" && pool) return { spec: { pool } };
	const image = query.value.get("image");
	return kind.kind === "instance" && image ? { spec: { image } } : {};
}

type Source = { build?: string; path?: string; upload?: object; download?: object; catalogue?: string; instance?: string };
interface SourceProps {
	kind: Kind;
	value: Value;
	onChange: (v: Value) => void;
	onFile: (f: File | undefined) => void;
}

const sourceOf = (v: Value): Source => (v as { spec?: { source?: Source } }).spec?.source ?? {};

// Can the API take content from a client?
function canUpload(kind: Kind): boolean {
	const spec = resolve(resolve(kind.schema).properties?.spec);
	return !!resolve(spec.properties?.source).properties?.upload;
}

// What it is called already, unless that was only suggested.
const suggested = new Set<string>();
function named(v: Value, suggestion: string): string {
	const own = (v as { name?: string }).name;
	if (own && !suggested.has(own)) return own;
	suggested.add(suggestion);
	return suggestion;
}

// Where the content of an image, or of a volume, comes from.
function SourceChoice({ kind, value, onChange, onFile }: SourceProps) {
	const isImage = kind.kind === "image", source = sourceOf(value);
	const isCopy = source.instance !== undefined;
	const way = source.catalogue !== undefined ? "catalogue" : source.upload ? "upload" : source.download ? "download" : isCopy ? "copy" : isImage ? (source.build ? "build" : "import") : "empty";
	const ways = [...(isImage ? ["build", "catalogue", "import", "download", "copy"] : ["empty"]), ...(canUpload(kind) ? ["upload"] : [])];
	const spec = (value as { spec?: object }).spec ?? {};
	const first: Record<string, Source | undefined> = {
		build: { build: "debian" },
		import: {},
		empty: undefined,
		upload: { upload: {} },
		download: { download: {} },
		catalogue: { catalogue: "" },
		copy: { instance: "" },
	};
	const choose = (to: string): void => {
		onFile(undefined);
		onChange({ ...(value as object), spec: { ...spec, source: first[to] } });
	};
	const offer = (catalogue: string, name: string): void => onChange({ ...(value as object), name: named(value, name), spec: { ...spec, source: { catalogue } } });
	const take = async (f: File): Promise<void> => {
		onFile(f);
		onChange({ ...(value as object), spec: { ...spec, source: { upload: { ...source.upload, size: f.size } }, ...(isImage ? {} : { size: await diskSizeOf(f) }) } });
	};
	if (ways.length < 2) return null;
	return (
		<>
			<div class="bar">
				<div class="choices" role="group" aria-label={t("field.spec.source")}>
					{ways.map((w) => (
						<button type="button" key={w} aria-pressed={w === way} onClick={() => choose(w)}>
							{t(`image.${w}` as "image.build")}
						</button>
					))}
				</div>
				<p class="soft">{t(`image.${way}-text` as "image.build-text")}</p>
			</div>
			{way === "catalogue" && <CatalogueChoice value={source.catalogue!} onChoose={offer} />}
			{way === "upload" && <FileChoice onFile={(f) => void take(f)} hint={t("upload.hint")} />}
		</>
	);
}

export function CreateView({ kind }: { kind: Kind }) {
	const steps = stepsOf(kind);
	const [at, setAt] = useState(0);
	const [value, setValue, forget] = useDraft<Value>(`create ${project.value} ${kind.plural}?${query.value}`, () => firstOf(kind));
	const [plan, setPlan] = useState<Doc>();
	const [complaint, setComplaint] = useState<Complaint>();
	const [isBusy, setBusy] = useState(false);
	const [file, setFile] = useState<File>();
	// Another way: what was wrong with the one before is no complaint any more.
	const chooseFile = (f: File | undefined): void => {
		setFile(f);
		setComplaint(undefined);
	};
	const refusal = refusalOf(kind.needs.create);
	const isReview = at === steps.length;
	const fields = resolve(kind.schema).properties ?? {};
	const make: Call = { method: "POST", path: `/v1/${kind.plural}`, query: { project: project.value }, body: { ...(fields.spec ? { spec: {} } : {}), ...(without(value) as object) } };

	const attempt = async (work: () => Promise<void>): Promise<void> => {
		setBusy(true);
		setComplaint(undefined);
		try {
			await work();
		} catch (e) {
			const why = e as ApiError;
			setComplaint({ field: why.field, text: sentenceOf(why) });
			setAt(stepOf(steps, why.field));
		}
		setBusy(false);
	};
	const review = (): Promise<void> =>
		attempt(async () => {
			if (kind.hasDryRun) setPlan(await call<Doc>({ ...make, query: { ...make.query, "dry-run": "true" } }));
			setAt(steps.length);
		});
	const create = (): Promise<void> =>
		attempt(async () => {
			const doc = await call<Doc>(make);
			forget();
			tell(t("done.create", { name: doc.name }));
			showSecret(doc);
			if (file) beginUpload(kind.plural, doc, project.value, file);
			go(pathOf(kind.plural, doc.name));
		});
	const submit = (e: Event): void => {
		e.preventDefault();
		if (isReview) void create();
		else if (at + 1 < steps.length) setAt(at + 1);
		else void review();
	};

	return (
		<section class="view create">
			<header class="bar">
				<h1>{t("create.title", { what: nameOf(kind) })}</h1>
			</header>
			{refusal !== undefined && (
				<p class="error" role="status">
					{refusal}
				</p>
			)}
			{steps.length > 1 && (
				<ol class="steps">
					{[...steps.map((s) => s.id), "review"].map((id, i) => (
						<li key={id} aria-current={i === at ? "step" : undefined}>
							<button type="button" class="plain" disabled={i > at} onClick={() => setAt(i)}>
								{t(`step.${id}` as "step.first")}
							</button>
						</li>
					))}
				</ol>
			)}
			{["image", "volume"].includes(kind.kind) && !isReview && <SourceChoice kind={kind} value={value} onChange={setValue} onFile={chooseFile} />}
			<form onSubmit={submit} noValidate>
				{isReview ? (
					plan && <Plan doc={plan} schema={kind.schema!} />
				) : (
					<Fields key={at} schema={kind.schema!} path="" name="" value={value} onChange={setValue} complaint={complaint} suggest={suggest} only={(p) => steps[at]!.has(p) && fits(kind.kind, value, p)} />
				)}
				{complaint && (
					<p class="error" role="alert">
						{complaint.text}
					</p>
				)}
				{isReview && <CurlOf of={make} />}
				<footer class="bar">
					<Link to={pathOf(kind.plural)} class="button" onGo={forget}>
						{t("cancel")}
					</Link>
					{at > 0 && (
						<button type="button" onClick={() => setAt(at - 1)}>
							{t("back")}
						</button>
					)}
					<span class="grow" />
					<button class="primary" disabled={isBusy}>
						{isReview ? t("create") : at + 1 < steps.length ? t("next") : t("step.review")}
					</button>
				</footer>
			</form>
		</section>
	);
}
