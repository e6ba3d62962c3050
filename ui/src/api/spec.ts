// SPDX-License-Identifier: Apache-2.0
// What the API says of itself: which kinds of documents there are, their fields, and what can be done with them.
// Lists, pages and forms are made from it, so a kind that the API gains is in the console at once.
import { computed, signal } from "@preact/signals";
import { call, setParameters, type Method } from "./client";

export interface Schema {
	$ref?: string;
	type?: string;
	description?: string;
	default?: unknown;
	enum?: string[];
	format?: string;
	pattern?: string;
	minimum?: number;
	maximum?: number;
	maxLength?: number;
	readOnly?: boolean;
	writeOnly?: boolean;
	required?: string[];
	properties?: Record<string, Schema>;
	additionalProperties?: Schema | boolean;
	items?: Schema;
	oneOf?: Schema[];
}

interface Operation {
	operationId: string;
	summary?: string;
	"x-role"?: string;
	"x-socket"?: boolean;
	parameters?: { name: string; in: string }[];
	requestBody?: { content: { "application/json": { schema: Schema } } };
	responses: Record<string, unknown>;
}

interface OpenApi {
	paths: Record<string, Partial<Record<string, Operation>>>;
	components: { schemas: Record<string, Schema> };
}

// What somebody must be to do it: on the node, in the project that is looked at, or in the one that it is done to.
export interface Need {
	role: string;
	where: "node" | "project" | "any";
}

export interface Action {
	name: string;
	method: Method;
	path: string; // with {name}, or whatever it is called there
	summary: string;
	body: Schema | undefined;
	need: Need;
}

export interface Kind {
	plural: string; // as in /v1/PLURAL
	kind: string; // as in documents and keys of events
	schema: Schema | undefined; // of what is made; undefined: it cannot be made
	canCreate: boolean;
	canChange: boolean;
	canDelete: boolean;
	hasDryRun: boolean;
	actions: Action[]; // on one of them
	parts: Kind[]; // what one of them has: the snapshots of a machine
	needs: { create: Need; change: Need; delete: Need };
	path: string; // "/v1/instances", of a part "/v1/instances/{instance}/snapshots"
}

const api = signal<OpenApi | undefined>(undefined);

const askSpec = (): Promise<OpenApi> => call<OpenApi>({ method: "GET", path: "/v1/openapi.json" });

// Anybody may read it: it is asked for while it is found out who is there.
const asked: Promise<OpenApi | undefined> = askSpec().catch(() => undefined);

export async function loadSpec(): Promise<void> {
	if (api.value) return;
	const early = await asked;
	api.value = early ?? (await askSpec());
}

export function resolve(s: Schema | undefined): Schema {
	const name = s?.$ref?.split("/").pop();
	const target = name ? api.value?.components.schemas[name] : undefined;
	return target ? { ...target, ...s } : (s ?? {});
}

// Not for a button: what they answer is for programs.
const forPrograms: ReadonlySet<string> = new Set(["exec"]);

const bodyOf = (o: Operation | undefined): Schema | undefined => o?.requestBody?.content["application/json"].schema;

function needOf(o: Operation | undefined): Need {
	const isOf = (where: string): boolean => !!o?.parameters?.some((p) => p.name === "project" && p.in === where);
	return { role: o?.["x-role"] ?? "anyone", where: isOf("path") ? "any" : isOf("query") ? "project" : "node" };
}

const escaped = (path: string): string => path.replace(/[{}]/g, "\\$&");

function actionsOf(doc: OpenApi, all: string): Action[] {
	const found: Action[] = [];
	const shape = new RegExp(`^${escaped(all)}/\\{[a-z]+\\}/([a-z-]+)$`);
	for (const [path, verbs] of Object.entries(doc.paths)) {
		const name = shape.exec(path)?.[1];
		const op = verbs.post;
		if (name && op && !verbs.get && !forPrograms.has(name)) found.push({ name, method: "POST", path, summary: op.summary ?? name, body: bodyOf(op), need: needOf(op) });
	}
	return found;
}

// The operations on one of those at ALL, whatever its name is called in the path.
function pathOfOne(doc: OpenApi, all: string): string | undefined {
	const shape = new RegExp(`^${escaped(all)}/\\{[a-z]+\\}$`);
	return Object.keys(doc.paths).find((p) => shape.test(p) && doc.paths[p]?.get);
}

function partsOf(doc: OpenApi, all: string): Kind[] {
	const shape = new RegExp(`^${escaped(all)}/\\{[a-z]+\\}/[a-z-]+$`);
	return Object.keys(doc.paths).filter((p) => shape.test(p) && doc.paths[p]?.get && pathOfOne(doc, p)).map((p) => kindOf(doc, p));
}

function kindOf(doc: OpenApi, path: string): Kind {
	const plural = path.split("/").pop()!;
	const all = doc.paths[path] ?? {}, one = doc.paths[pathOfOne(doc, path) ?? ""] ?? {};
	const schema = bodyOf(all.post);
	return {
		plural,
		kind: (schema?.$ref?.split("/").pop() ?? plural.replace(/s$/, "")).toLowerCase(),
		schema,
		canCreate: !!all.post,
		canChange: !!one.patch,
		canDelete: !!one.delete,
		hasDryRun: !!all.post?.parameters?.some((p) => p.name === "dry-run"),
		actions: actionsOf(doc, path),
		parts: partsOf(doc, path),
		needs: { create: needOf(all.post), change: needOf(one.patch), delete: needOf(one.delete) },
		path,
	};
}

export const kinds = computed<Kind[]>(() => {
	const doc = api.value;
	if (!doc) return [];
	return Object.keys(doc.paths)
		.filter((p) => /^\/v1\/[a-z-]+$/.test(p) && !!doc.paths[p]?.get && !!pathOfOne(doc, p))
		.map((p) => kindOf(doc, p))
		// What nobody can make, change or delete is no document: catalogues are what others publish.
		.filter((k) => k.canCreate || k.canChange || k.canDelete);
});

export function findKind(plural: string): Kind | undefined {
	return kinds.value.find((k) => k.plural === plural);
}

// Paths with parts in braces come after those without: /v1/things/{name} is not meant by /v1/things/all when both are there.
const shapes = computed<[RegExp, string][]>(() =>
	Object.keys(api.value?.paths ?? {})
		.sort((a, b) => a.split("{").length - b.split("{").length)
		.map((p) => [new RegExp(`^${p.replace(/[.]/g, "\\.").replace(/\{[a-z]+\}/g, "[^/]+")}$`), p]),
);

setParameters((method, path, name) => {
	const found = shapes.value.find(([shape]) => shape.test(path))?.[1];
	const operation = found ? api.value?.paths[found]?.[method.toLowerCase()] : undefined;
	return !operation || !!operation.parameters?.some((p) => p.name === name && p.in === "query");
});

export function hasPath(path: string, method: string): boolean {
	return !!api.value?.paths[path]?.[method];
}
