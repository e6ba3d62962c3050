// SPDX-License-Identifier: Apache-2.0
// What can be said of the built console without a browser.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const ROOT = join(new URL(".", import.meta.url).pathname, "../..");
const BUILT = join(ROOT, "build/ui");
const SHELL_MAX = 150 * 1024; // packed, without what is loaded when needed

const json = (path) => JSON.parse(readFileSync(join(ROOT, path), "utf8"));

test("the shell is small enough", () => {
	const index = readFileSync(join(BUILT, "index.html"), "utf8");
	const names = [...index.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map((m) => m[1]);
	assert.ok(names.length >= 2);
	const size = names.reduce((n, name) => n + statSync(join(BUILT, `${name}.gz`)).size, 0);
	assert.ok(size <= SHELL_MAX, `${size} bytes`);
});

test("nothing in it leads elsewhere", () => {
	const index = readFileSync(join(BUILT, "index.html"), "utf8");
	assert.doesNotMatch(index, /(?:src|href)="(?!\/)/);
	assert.doesNotMatch(index, /<script(?![^>]*src=)|<style|\sstyle=|\son\w+=/);
	for (const name of readdirSync(join(BUILT, "assets")).filter((n) => n.endsWith(".css")))
		assert.doesNotMatch(readFileSync(join(BUILT, "assets", name), "utf8"), /url\(["']?https?:|@import/);
});

// The operations of a kind of document: on all, on one, and what is done to one; of what one of them has, the same.
function hasPlace(path, verb, operation, paths, elsewhere) {
	const kind = /^(\/v1\/[a-z-]+(?:\/\{[a-z]+\}\/[a-z-]+)?)(\/\{[a-z]+\})?(\/[a-z-]+)?$/.exec(path);
	const isKind = (all) => paths[all]?.get && Object.keys(paths).some((p) => p.startsWith(`${all}/{`) && p.endsWith("}") && !p.slice(all.length + 1).includes("/") && paths[p].get);
	for (const all of [kind?.[1], kind?.[1]?.replace(/\/\{[a-z]+\}\/[a-z-]+$/, "")].filter(Boolean)) {
		if (!isKind(all)) continue;
		const rest = path.slice(all.length);
		if (rest === "") return ["get", "post"].includes(verb);
		if (/^\/\{[a-z]+\}$/.test(rest)) return ["get", "patch", "delete"].includes(verb);
		if (/^\/\{[a-z]+\}\/[a-z-]+$/.test(rest) && verb === "post") return true;
	}
	return operation.operationId in elsewhere;
}

test("every operation of the API has its place, or a reason why not", () => {
	const { paths } = json("docs/api/openapi.json"), elsewhere = json("ui/tests/elsewhere.json");
	const lost = [], known = new Set();
	for (const [path, verbs] of Object.entries(paths))
		for (const [verb, operation] of Object.entries(verbs)) {
			known.add(operation.operationId);
			if (!hasPlace(path, verb, operation, paths, elsewhere)) lost.push(operation.operationId);
		}
	assert.deepEqual(lost, []);
	assert.deepEqual(Object.keys(elsewhere).filter((name) => !known.has(name)), []);
});

test("the catalogues say the same things, and none is left in another language", () => {
	const keys = (name) => [...readFileSync(join(ROOT, `ui/src/messages/${name}.ts`), "utf8").matchAll(/^\t"?([\w.-]+)"?: "/gm)].map((m) => m[1]);
	assert.deepEqual(keys("zh"), keys("en"));
	const zh = readFileSync(join(ROOT, "ui/src/messages/zh.ts"), "utf8");
	const plain = [...zh.matchAll(/^\t"?([\w.-]+)"?: "([^"]*)"/gm)].filter((m) => !/[一-鿿—]/.test(m[2])).map((m) => m[1]);
	assert.deepEqual(plain, []);
});

// Not in forms that are made from the description: pages of their own ask for these.
const ASKED_ELSEWHERE = ["logIn", "setUp", "runInInstance", "writeInstanceFile", "beginTotp", "confirmTotp", "removeTotp", "warmImage", "doInBulk"];

// Every field that a form may show: its path, as forms call it, and its schema.
function* fieldsOf(api, schema, path = "") {
	const resolved = (s) => (s?.$ref ? { ...api.components.schemas[s.$ref.split("/").pop()], ...s } : (s ?? {}));
	for (const [name, of] of Object.entries(resolved(schema).properties ?? {})) {
		const field = resolved(of), own = path ? `${path}.${name}` : name;
		// What a machine says itself is written by way of 'spec' and 'labels'.
		if (field.readOnly || own === "own") continue;
		yield [own, field];
		yield* fieldsOf(api, field, own);
		yield* fieldsOf(api, field.items, own);
	}
}

test("every field of every form has its name, its help and its choices in both languages, and no help is of a field that is gone", () => {
	const api = json("docs/api/openapi.json"), fields = [];
	for (const operation of Object.values(api.paths).flatMap((verbs) => Object.values(verbs)))
		if (!ASKED_ELSEWHERE.includes(operation.operationId)) fields.push(...fieldsOf(api, operation.requestBody?.content["application/json"]?.schema));
	assert.ok(fields.length > 50, "the description has no fields");
	const said = new Set([...readFileSync(join(ROOT, "ui/src/messages/en.ts"), "utf8").matchAll(/^\t"?([\w.-]+)"?: "/gm)].map((m) => m[1]));
	const help = new Map([...readFileSync(join(ROOT, "ui/src/messages/zh-api.ts"), "utf8").matchAll(/^\t("(?:[^"\\]|\\.)*"|\w+):\s*("(?:[^"\\]|\\.)*"),$/gm)].map((m) => [m[1].startsWith('"') ? JSON.parse(m[1]) : m[1], m[2]]));
	const helps = new Set(fields.map(([, f]) => f.description).filter(Boolean));
	assert.deepEqual([...new Set(fields.filter(([path]) => !said.has(`field.${path}`)).map(([path]) => `field.${path}`))], []);
	assert.deepEqual([...new Set(fields.flatMap(([, f]) => f.enum ?? []).filter((c) => !said.has(`choice.${c}`)))], []);
	assert.deepEqual([...helps].filter((d) => !help.has(d)), [], "say it in ui/src/messages/zh-api.ts");
	assert.deepEqual([...help.keys()].filter((d) => !helps.has(d)), [], "nothing says this any more");
	assert.deepEqual([...help.values()].filter((d) => !/[一-鿿]/.test(d)), []);
});

test("a terminal, charts and noVNC come when they are needed, not with the shell", () => {
	const index = readFileSync(join(BUILT, "index.html"), "utf8"), names = readdirSync(join(BUILT, "assets"));
	for (const part of ["terminal", "charts", "graphical"]) {
		assert.ok(names.some((n) => n.startsWith(`${part}-`) && n.endsWith(".js")), `${part} is not built`);
		assert.doesNotMatch(index, new RegExp(`/assets/${part}-`));
	}
});
