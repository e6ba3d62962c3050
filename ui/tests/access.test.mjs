// SPDX-License-Identifier: Apache-2.0
// For everybody: every page is looked at by axe (WCAG 2.2 AA), light in English and dark in Chinese; and what can be done with a
// pointer can be done by keyboard alone. The daemon makes a bridge: run it in a network namespace of its own (tests/run does).
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SHOTS, begin, everyPlace, logIn, openPage, until, visit } from "./rig.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
let daemon, browser, page, end;

const state = async (path) => (await daemon.ask("GET", path)).doc?.status?.state;
const reaches = (path, wanted) => until(async () => (await state(path)) === wanted, () => `${path} does not become ${wanted}`);
// What axe finds wrong, in words. In a picture what belongs together are several texts: their link's name begins with the first.
async function faults(of) {
	if (!(await of.evaluate(() => "axe" in window))) await of.evaluate(AXE);
	return of.evaluate(async (tags) => {
		const { violations } = await window.axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
		const isPicture = (v, n) => v.id === "label-content-name-mismatch" && document.querySelector(n.target[0])?.closest("svg");
		return violations.flatMap((v) => v.nodes.filter((n) => !isPicture(v, n)).map((n) => `${v.id}: ${n.html.slice(0, 160)} (${n.any[0]?.message ?? v.help})`));
	}, RULES);
}

before(async () => {
	({ daemon, browser, page, end } = await begin());
	const raw = join(daemon.folder, "disk.raw");
	writeFileSync(raw, Buffer.alloc(1 << 20, 7));
	await daemon.make("POST", "/v1/images", { name: "seed", spec: { source: { path: raw } } });
	await daemon.make("POST", "/v1/networks", { name: "front", spec: { subnet: "10.77.0.0/24" } });
	await daemon.make("POST", "/v1/volumes", { name: "data", spec: { size: "8M" } });
	await reaches("/v1/images/seed", "ready");
	await reaches("/v1/volumes/data", "ready");
	await daemon.make("POST", "/v1/profiles", { name: "small", description: "for tests", spec: { memory: "96M", limits: { cpu: "0.5" }, labels: { env: "test" } } });
	await daemon.make("POST", "/v1/instances", { name: "kept", labels: { tier: "front" }, spec: { state: "stopped", kernel: "/none", profiles: ["small"], networks: [{ kind: "network", network: "front", forwards: ["tcp:8080:80"] }], disks: [{ volume: "data" }] } });
	await daemon.make("POST", "/v1/instances", { name: "web", spec: { state: "stopped", image: "seed", networks: [] } });
	await reaches("/v1/instances/kept", "stopped");
	await daemon.make("POST", "/v1/instances/kept/snapshots", { name: "first", spec: { about: "before" } });
	await reaches("/v1/instances/kept/snapshots/first", "ready");
	await daemon.make("POST", "/v1/instances/kept/snapshots/first/revert");
	await daemon.make("POST", "/v1/bulk", { action: "label", names: ["web", "nobody"], set_labels: { seen: "1" } });
	await daemon.make("POST", "/v1/users", { name: "somebody", spec: {} });
	await daemon.make("POST", "/v1/roles", { name: "somebody", spec: { role: "viewer" } });
	await daemon.make("PATCH", "/v1/projects/default", { spec: { quota: { instances: 4, memory: "4G" } } });
});
after(() => end?.());

// In a Chinese page, what the console itself says in other words: labels, help, headings, buttons, choices. Names and sentences of the
// API are of no language of ours.
function untranslated() {
	if (!document.documentElement.lang.startsWith("zh")) return [];
	const all = "dt, label, legend, small, option, h2, th[scope=col], .row.head button, button, .tabs a, .empty p, p.soft, .error";
	const isPlain = (text) => !/[A-Za-z]{2}/.test(text) || /[\u4e00-\u9fff]/.test(text) || ["English", "curl", "Ctrl+Alt+Del", "UUID"].includes(text);
	const own = (e) => [...e.childNodes].filter((n) => n.nodeType === Node.TEXT_NODE).map((n) => n.data).join("").trim();
	const isOurs = (e) => !e.closest("[dir=auto], datalist, pre, dialog .error, .findings") && e.checkVisibility();
	return [...document.querySelectorAll(all)].filter(isOurs).map(own).filter((text) => !isPlain(text));
}

async function lookAtAll(of, shotPrefix) {
	const wrong = new Map(), see = async (where) => {
		for (const fault of await faults(of)) wrong.set(fault, [...(wrong.get(fault) ?? []), where]);
		for (const text of await of.evaluate(untranslated)) wrong.set(`not in Chinese: ${text}`, [...(wrong.get(`not in Chinese: ${text}`) ?? []), where]);
		if (!(await of.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.querySelector("main").scrollWidth <= innerWidth)))
			wrong.set("wider than the screen", [...(wrong.get("wider than the screen") ?? []), where]);
		await of.screenshot({ path: join(SHOTS, `${shotPrefix}${where.replace(/[^a-z+]+/g, "-")}.png`), fullPage: true });
	};
	for (const path of await everyPlace(of, daemon)) {
		await visit(of, path);
		await of.waitForFunction(() => !document.querySelector(".view .empty")?.textContent?.match(/…$/));
		await see(path);
	}
	await visit(of, "/volumes/data");
	await of.locator('header [role="toolbar"] .danger').click();
	await of.waitForSelector("dialog[open]");
	await see("dialog");
	await of.keyboard.press("Escape");
	return [...wrong].map(([fault, where]) => `${fault} at ${where.slice(0, 4).join(", ")}`);
}

test("axe finds nothing wrong on any page, light and in English", async () => {
	assert.deepEqual(await lookAtAll(page, "light"), []);
});

test("axe finds nothing wrong on any page, dark and in Chinese", async () => {
	const dark = await openPage(browser, daemon, { locale: "zh-CN", colorScheme: "dark" });
	await dark.goto("/");
	await dark.waitForSelector('input[name="name"]');
	assert.deepEqual(await faults(dark), []);
	await logIn(dark);
	assert.deepEqual(await lookAtAll(dark, "dark"), []);
	await dark.context().close();
});

test("axe finds nothing wrong on any page of a phone, and none is wider than it", async () => {
	const small = await openPage(browser, daemon, { locale: "zh-CN", colorScheme: "dark", viewport: { width: 390, height: 780 } });
	await logIn(small);
	assert.deepEqual(await lookAtAll(small, "phone"), []);
	await small.context().close();
});

// By Tab from where the focus is, to what SELECTOR finds.
async function tabTo(selector) {
	for (let i = 0; i < 80; i++) {
		if (await page.evaluate((s) => !!document.activeElement?.matches(s), selector)) return;
		await page.keyboard.press("Tab");
	}
	assert.fail(`Tab does not lead to ${selector}`);
}
const press = async (selector) => {
	await tabTo(selector);
	await page.keyboard.press("Enter");
};

test("by keyboard alone: a machine is made, found in the table, and deleted", async () => {
	await page.goto("/instances");
	await page.waitForSelector('[role="row"] >> text=web');
	await press("main a.primary");
	await page.waitForSelector('[data-field="name"]');
	await tabTo('[data-field="name"]');
	await page.keyboard.type("by-keys");
	await tabTo('[data-field="spec.image"]');
	await page.keyboard.type("seed");
	for (let i = 0; i < 3; i++) await press("form footer button.primary");
	await page.waitForSelector('[data-field="spec.state"]');
	await tabTo('[data-field="spec.state"]');
	await page.keyboard.type("stopped");
	await press("form footer button.primary");
	await page.waitForSelector("dl.plan");
	await press("form footer button.primary");
	await page.waitForSelector("h1 >> text=by-keys");
	assert.match(await page.title(), /^by-keys - Instances/);
	assert.equal((await daemon.ask("GET", "/v1/instances/by-keys")).doc.spec.state, "stopped");
	await page.goto("/instances");
	await page.waitForSelector('[role="row"] >> text=by-keys');
	await tabTo('input[aria-label="Select by-keys"]');
	await page.keyboard.press("Space");
	await page.waitForSelector('[role="row"][aria-selected="true"] >> text=by-keys');
	await page.keyboard.press("Tab");
	await page.keyboard.press("Enter");
	await page.waitForSelector("h1 >> text=by-keys");
	await press('header [role="toolbar"] .danger');
	await page.waitForSelector("dialog[open]");
	assert.ok(await page.evaluate(() => document.activeElement.matches("dialog input")), "the focus is not in the field");
	for (let i = 0; i < 12; i++) {
		await page.keyboard.press("Tab");
		assert.ok(await page.evaluate(() => document.activeElement === document.body || !!document.activeElement.closest("dialog")), "the focus leaves the dialog");
	}
	await page.keyboard.press("Escape");
	await page.waitForSelector("dialog", { state: "detached" });
	await until(() => page.evaluate(() => document.activeElement.matches('[role="toolbar"] .danger')), () => "the focus does not come back");
	await page.keyboard.press("Enter");
	await page.waitForSelector("dialog[open]");
	await page.keyboard.type("by-keys");
	await page.keyboard.press("Enter");
	await until(async () => (await daemon.ask("GET", "/v1/instances/by-keys")).status === 404, () => "it does not go");
});

test("the skip link leads to the content, and who wants no motion sees none", async () => {
	const calm = await openPage(browser, daemon, { reducedMotion: "reduce" });
	await logIn(calm);
	await calm.goto("/instances");
	await calm.waitForSelector('[role="row"] >> text=web');
	await calm.keyboard.press("Tab");
	assert.ok(await calm.evaluate(() => document.activeElement.matches(".skip")), "the skip link is not the first");
	await calm.keyboard.press("Enter");
	await until(() => calm.evaluate(() => document.activeElement.id === "content"), () => "it does not lead to the content");
	const moving = await calm.evaluate(() => [...document.querySelectorAll("*")].filter((e) => getComputedStyle(e).animationName !== "none" || getComputedStyle(e).transitionDuration !== "0s").length);
	assert.equal(moving, 0);
	await calm.context().close();
});
