// SPDX-License-Identifier: Apache-2.0
// Profiles: which machines use one, and, of a machine, which of its values comes from where.
import { resolve, findKind, type Schema } from "../api/spec";
import { formatBytes, t, tIf } from "../i18n";
import { Link, pathOf } from "../router";
import type { Doc } from "../state/collection";
import { collection } from "../state/live";
import { isSize } from "../widgets/form";
import { Values } from "../widgets/values";

const SHOWN = 50;

interface Inherited {
	profiles: { name: string }[];
	fields: Record<string, string>; // "spec.limits.cpu" -> the profile that it comes from
}

const inheritedOf = (doc: Doc): Inherited | undefined => doc.inherited as Inherited | undefined;

function usersOf(profile: string): string[] {
	const c = collection("instance");
	c.calm.value;
	return c.names.value.filter((n) => (c.get(n)!.peek().spec?.profiles as string[] | undefined)?.includes(profile));
}

export function ProfileCards({ doc }: { doc: Doc }) {
	const own = usersOf(doc.name);
	return (
		<div class="cards">
			<article class="card">
				<h2>{t("profile.users")}</h2>
				{typeof doc.description === "string" && <p dir="auto">{doc.description}</p>}
				{own.length ? (
					<ul class="values">
						{own.slice(0, SHOWN).map((n) => (
							<li key={n}>
								<Link to={pathOf("instances", n)}>{n}</Link>
							</li>
						))}
						{own.length > SHOWN && <li>{t("image.more-users", { n: own.length - SHOWN })}</li>}
					</ul>
				) : (
					<p class="soft">{t("profile.unused")}</p>
				)}
			</article>
		</div>
	);
}

const at = (of: unknown, path: string[]): unknown => path.reduce<unknown>((x, k) => (x as Record<string, unknown> | undefined)?.[k], of);

// "labels.a.b" is the label "a.b".
const partsOf = (field: string): string[] => (field.startsWith("labels.") ? ["labels", field.slice("labels.".length)] : field.split("."));

function Origin({ doc, field, from, schema }: { doc: Doc; field: string; from: string; schema: Schema | undefined }) {
	const path = partsOf(field), isLabel = path[0] === "labels";
	const own = isLabel ? undefined : path.reduce<Schema | undefined>((s, k) => resolve(resolve(s).properties?.[k]), schema);
	return (
		<tr>
			<th scope="row" dir={isLabel ? "auto" : undefined}>
				{isLabel ? `${t("field.labels")}: ${path[1]!}` : tIf(`field.${field}`, field)}
			</th>
			<td>{own && isSize(own) ? formatBytes(Number(at(doc, path))) : <Values of={at(doc, path)} path={field} schema={own} />}</td>
			<td>
				<Link to={pathOf("profiles", from)}>{from}</Link>
			</td>
		</tr>
	);
}

// What of a machine comes from which profile; the rest it says itself, or it is so by default.
export function ProfilesOf({ doc }: { doc: Doc }) {
	const inherited = inheritedOf(doc), schema = findKind("instances")?.schema;
	if (!inherited) return null;
	const fields = Object.entries(inherited.fields);
	return (
		<article class="card">
			<h2>{t("kind.profiles")}</h2>
			<p>
				{inherited.profiles.map((p) => (
					<Link key={p.name} to={pathOf("profiles", p.name)} class="label">
						{p.name}
					</Link>
				))}
			</p>
			{!fields.length && <p class="soft">{t("profile.nothing")}</p>}
			{fields.length > 0 && (
				<table class="plain-table">
					<thead>
						<tr>
							<th scope="col">{t("merge.field")}</th>
							<th scope="col">{t("profile.value")}</th>
							<th scope="col">{t("profile.from")}</th>
						</tr>
					</thead>
					<tbody>
						{fields.map(([f, from]) => (
							<Origin key={f} doc={doc} field={f} from={from} schema={schema} />
						))}
					</tbody>
				</table>
			)}
		</article>
	);
}
