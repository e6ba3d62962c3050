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
