// SPDX-License-Identifier: Apache-2.0
// Objects and lists of any depth, for people: their names from the catalogue, sizes, times and choices in their words.
import { resolve, type Schema } from "../api/spec";
import { formatBytes, formatTime, t, tIf, told } from "../i18n";
import { isSize } from "./form";

interface Props {
	of: unknown;
	path?: string; // as fields are called: "spec.networks"
	schema?: Schema | undefined;
	isExact?: boolean; // sizes with their bytes
}

// Numbers of bytes that no schema tells of.
const SIZES: readonly string[] = ["bytes", "memory", "size", "virtual_size", "disk_size", "disk", "limit_in", "limit_out", "used", "free", "received", "allocated", "exclusive"];
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/;

const isObject = (v: unknown): v is object => typeof v === "object" && v !== null;

export function labelOfValue(path: string, name: string): string {
	const own = path ? `${path}.${name}` : name;
	return tIf(`field.${own}`, tIf(`value.${name}`, name.replace(/_/g, " ")));
}

function sizeText(n: number, isExact: boolean | undefined): string {
	return isExact ? `${formatBytes(n)} (${n})` : formatBytes(n);
}

function Plain({ of, schema }: Props) {
	if (typeof of === "boolean") return <span>{t(of ? "yes" : "no")}</span>;
	if (typeof of === "string" && TIME.test(of)) return <time dateTime={of}>{formatTime(of)}</time>;
	if (typeof of === "string" && schema?.enum?.includes(of)) return <span>{tIf(`choice.${of}`, of)}</span>;
	return <span dir="auto">{String(of)}</span>;
}

function Pair({ name, of, path = "", schema, isExact }: Props & { name: string }) {
	const own = resolve(schema?.properties?.[name]);
	const isBytes = typeof of === "number" && (schema?.properties ? isSize(own) : SIZES.includes(name));
	const isOfUser = path === "labels" || path === "spec.labels";
	return (
		<div class="pair">
			<dt title={told(own.description)} dir={isOfUser ? "auto" : undefined}>
				{isOfUser ? name : labelOfValue(path, name)}
			</dt>
			<dd>{isBytes ? sizeText(of, isExact) : <Values of={of} path={path ? `${path}.${name}` : name} schema={own} {...(isExact ? { isExact } : {})} />}</dd>
		</div>
	);
}

export function Values(p: Props) {
	const { of, path = "", schema } = p;
	if (!isObject(of)) return <Plain of={of} schema={schema} />;
	if (!Object.keys(of).length) return <span>—</span>;
	if (Array.isArray(of))
		return (
			<ul class="values">
				{of.map((v, i) => (
					<li key={i}>
						<Values {...p} of={v} path={path} schema={schema ? resolve(schema.items) : undefined} />
					</li>
				))}
			</ul>
		);
	return (
		<dl class="values">
			{Object.entries(of).map(([k, v]) => (
				<Pair {...p} key={k} name={k} of={v} path={path} schema={schema} />
			))}
		</dl>
	);
}
