// SPDX-License-Identifier: Apache-2.0
// Forms made from schemas of the API: every field that it knows, with its words, limits and choices; and its complaint
// at the field that it concerns.
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { resolve, type Schema } from "../api/spec";
import { t, tIf, told } from "../i18n";
import { parseSize, printSize } from "./size";

export type Value = unknown;

// Texts that may be longer have many lines.
const LONG = 10_000;

export interface Complaint {
	field: string | undefined;
	text: string;
}

interface FieldProps {
	schema: Schema;
	path: string; // "spec.memory": as the API names it
	name: string;
	value: Value;
	onChange: (v: Value) => void;
	complaint: Complaint | undefined;
	isRequired?: boolean;
	suggest?: (path: string) => string[] | undefined; // names that would fit
	only?: (path: string) => boolean; // those to show
}

export const isSize = (s: Schema): boolean => !!s.oneOf?.some((o) => o.type === "integer") && !!s.oneOf.some((o) => o.type === "string");
// One of a list has its number, a field of it the same name in each.
const labelOf = (path: string, name: string): string => (path.endsWith("]") ? name : tIf(`field.${path.replace(/\[\d+\]/g, "")}`, name.replace(/_/g, " ")));

function Wrapped(p: { of: FieldProps; id: string; children: ComponentChildren }) {
	const own = p.of.complaint?.field === p.of.path ? p.of.complaint.text : undefined;
	return (
		<div class={own ? "field wrong" : "field"}>
			<label for={p.id}>
				{labelOf(p.of.path, p.of.name)}
				{p.of.isRequired && <span aria-hidden="true"> *</span>}
			</label>
			{p.children}
			<small id={`${p.id}-help`}>{told(p.of.schema.description)}</small>
			{own && (
				<p class="error" role="alert" id={`${p.id}-error`}>
					{own}
				</p>
			)}
		</div>
	);
}

function Scalar(p: FieldProps & { schema: Schema }) {
	const id = useId(), s = p.schema;
	const common = { id, "aria-describedby": `${id}-help`, "aria-invalid": p.complaint?.field === p.path, "data-field": p.path };
	const placeholder = s.default === undefined ? "" : isSize(s) ? printSize(Number(s.default)) : String(s.default);
	if (s.enum) {
		const dflt = String(s.default ?? "");
		return (
			<Wrapped of={p} id={id}>
				<select {...common} value={String(p.value ?? dflt)} onChange={(e) => p.onChange(e.currentTarget.value || undefined)}>
					{!s.default && <option value="">{t("form.none")}</option>}
					{s.enum.map((o) => (
						<option key={o} value={o}>
							{tIf(`choice.${o}`, o)}
						</option>
					))}
				</select>
			</Wrapped>
		);
	}
	if (s.type === "boolean")
		return (
			<Wrapped of={p} id={id}>
				<input {...common} type="checkbox" checked={(p.value ?? s.default) === true} onChange={(e) => p.onChange(e.currentTarget.checked)} />
			</Wrapped>
		);
	if (s.type === "integer" || s.type === "number")
		return (
			<Wrapped of={p} id={id}>
				<input
					{...common}
					type="number"
					min={s.minimum}
					max={s.maximum}
					placeholder={placeholder}
					value={p.value === undefined ? "" : String(p.value)}
					onInput={(e) => p.onChange(e.currentTarget.value === "" ? undefined : Number(e.currentTarget.value))}
				/>
			</Wrapped>
		);
	if (isSize(s))
		return (
			<Wrapped of={p} id={id}>
				<input
					{...common}
					placeholder={placeholder}
					value={typeof p.value === "number" ? printSize(p.value) : String(p.value ?? "")}
					onInput={(e) => p.onChange(e.currentTarget.value || undefined)}
					onBlur={(e) => p.onChange(parseSize(e.currentTarget.value) ?? (e.currentTarget.value || undefined))}
				/>
			</Wrapped>
		);
	return (
		<Wrapped of={p} id={id}>
			<Text {...p} schema={s} common={{ ...common, placeholder }} />
		</Wrapped>
	);
}

// What is too long is not cut off unseen: the API says so.
function Text(p: FieldProps & { common: { id: string; placeholder: string } }) {
	const names = p.suggest?.(p.path), listId = `${p.common.id}-names`;
	const rest = {
		value: String(p.value ?? ""),
		dir: "auto",
		autocomplete: "off",
		spellcheck: false,
		onInput: (e: { currentTarget: HTMLInputElement }) => p.onChange(e.currentTarget.value || undefined),
	} as const;
	const long = { ...rest, onInput: (e: { currentTarget: HTMLTextAreaElement }) => p.onChange(e.currentTarget.value || undefined) } as const;
	if (p.schema.writeOnly || /password|secret/.test(p.name)) return <input {...p.common} {...rest} type="password" autocomplete="new-password" />;
	if ((p.schema.maxLength ?? 0) > LONG) return <textarea {...p.common} {...long} rows={6} class="code" />;
	if (!names) return <input {...p.common} {...rest} type="text" />;
	return (
		<>
			<input {...p.common} {...rest} type="text" list={listId} />
			<datalist id={listId}>
				{names.map((n) => (
					<option key={n} value={n} />
				))}
			</datalist>
		</>
	);
}

function List(p: FieldProps) {
	const item = resolve(p.schema.items);
	const list = (p.value ?? p.schema.default ?? []) as Value[];
	const put = (i: number, v: Value): void => p.onChange(list.map((x, k) => (k === i ? v : x)));
	return (
		<fieldset class="list" data-group={p.path}>
			<legend>{labelOf(p.path, p.name)}</legend>
			<small>{told(p.schema.description)}</small>
			{list.map((v, i) => (
				<div class="item" key={i}>
					<Field {...p} schema={p.schema.items ?? { type: "string" }} path={`${p.path}[${i}]`} name={String(i + 1)} value={v} onChange={(x) => put(i, x)} />
					<button type="button" class="icon" aria-label={t("form.remove")} onClick={() => p.onChange(list.filter((_, k) => k !== i))}>
						×
					</button>
				</div>
			))}
			<button type="button" onClick={() => p.onChange([...list, item.properties ? {} : ""])}>
				{t("form.add")}
			</button>
		</fieldset>
	);
}

function Labels(p: FieldProps) {
	const pairs = Object.entries((p.value ?? {}) as Record<string, string>);
	const write = (next: [string, string][]): void => p.onChange(Object.fromEntries(next));
	return (
		<fieldset class="list" data-group={p.path}>
			<legend>{labelOf(p.path, p.name)}</legend>
			<small>{told(p.schema.description)}</small>
			{pairs.map(([k, v], i) => (
				<div class="item" key={i}>
					<input aria-label={t("form.key")} value={k} onInput={(e) => write(pairs.map((x, n) => (n === i ? [e.currentTarget.value, v] : x)))} />
					<input aria-label={t("form.value")} value={v} onInput={(e) => write(pairs.map((x, n) => (n === i ? [k, e.currentTarget.value] : x)))} />
					<button type="button" class="icon" aria-label={t("form.remove")} onClick={() => write(pairs.filter((_, n) => n !== i))}>
						×
					</button>
				</div>
			))}
			<button type="button" onClick={() => write([...pairs, ["", ""]])}>
				{t("form.add")}
			</button>
		</fieldset>
	);
}

export function Field(p: FieldProps) {
	const s = resolve(p.schema);
	if (s.type === "object" && s.properties) return <Fields {...p} schema={s} isNested />;
	if (s.type === "object") return <Labels {...p} schema={s} />;
	if (s.type === "array") return <List {...p} schema={s} />;
	return <Scalar {...p} schema={s} />;
}

// All fields of an object that may be written.
export function Fields(p: FieldProps & { isNested?: boolean }) {
	const s = resolve(p.schema), value = (p.value ?? {}) as Record<string, Value>;
	const set = (name: string, v: Value): void => p.onChange({ ...value, [name]: v });
	const rows = Object.entries(s.properties ?? {}).filter(([, f]) => !resolve(f).readOnly);
	// Few people need labels; what a document shall be comes first.
	rows.sort(([a], [b]) => Number(a === "labels") - Number(b === "labels"));
	const body = rows.map(([name, f]) => {
		const path = p.path ? `${p.path}.${name}` : name;
		if (p.only && !p.only(path)) return null;
		return (
			<Field
				key={name}
				schema={f}
				path={path}
				name={name}
				value={value[name]}
				onChange={(v) => set(name, v)}
				complaint={p.complaint}
				isRequired={!!s.required?.includes(name)}
				{...(p.suggest ? { suggest: p.suggest } : {})}
				{...(p.only ? { only: p.only } : {})}
			/>
		);
	});
	// What a document shall be is its main part, not a box within it.
	if (!p.isNested || p.path === "spec") return <>{body}</>;
	return (
		<fieldset data-group={p.path}>
			<legend>{labelOf(p.path, p.name)}</legend>
			{body}
		</fieldset>
	);
}

// The merge patch (RFC 7396) that makes NEXT of BASE; undefined: nothing to change.
export function mergePatch(base: Value, next: Value): Value {
	if (!isObject(base) || !isObject(next)) return JSON.stringify(base) === JSON.stringify(next) ? undefined : (next ?? null);
	const patch: Record<string, Value> = {};
	for (const key of new Set([...Object.keys(base), ...Object.keys(next)])) {
		const d = mergePatch(base[key], next[key]);
		if (d !== undefined) patch[key] = d;
	}
	return Object.keys(patch).length ? patch : undefined;
}

function isObject(v: Value): v is Record<string, Value> {
	return typeof v === "object" && v !== null && !Array.isArray(v);
}
