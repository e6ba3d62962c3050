// SPDX-License-Identifier: Apache-2.0
// Networks: the picture, the table, the plan and the doctor. The daemon makes bridges and rules: run it in a network
// namespace of its own (tests/run does).
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ADMIN, Daemon, SHOTS, logIn, openBrowser, openPage, until } from "./rig.mjs";

const daemon = new Daemon();
let browser, page;

const shot = (name, of = page) => of.screenshot({ path: join(SHOTS, `net-${name}.png`) });
const plugged = (...names) => names.map((network) => ({ kind: "network", network }));
const off = (networks) => ({ state: "stopped", kernel: "/none", networks });
const make = (name, networks) => daemon.make("POST", "/v1/instances", { name, spec: off(networks) });
const node = (name) => page.locator(`.map a[aria-label^="${name},"]`);

before(async () => {
	await daemon.start();
	await daemon.make("POST", "/v1/users", { name: ADMIN.user, spec: { role: "admin" } });
	await daemon.make("POST", `/v1/users/${ADMIN.user}/password`, { password: ADMIN.password });
	browser = await openBrowser();
	page = await openPage(browser, daemon);
	await logIn(page);
});
after(async () => {
	await browser?.close();
	await daemon.end();
});

test("without networks the page says what to do first", async () => {
	await page.goto("/networks");
	await page.waitForSelector(".empty >> text=No networks yet");
	await shot("1-empty");
});

test("a network is made with a plan before, and what makes no sense beside its kind is not asked", async () => {
	await page.click("main >> text=Create");
	await page.fill('[data-field="name"]', "front");
	await page.waitForSelector('[data-field="spec.subnet"]');
	assert.equal(await page.locator('[data-field="spec.bridge"]').count(), 0);
	await page.selectOption('[data-field="spec.kind"]', "bridge");
	await page.waitForSelector('[data-field="spec.bridge"]');
	assert.equal(await page.locator('[data-field="spec.subnet"]').count(), 0);
	await page.selectOption('[data-field="spec.kind"]', "nat");
	await page.fill('[data-field="spec.subnet"]', "10.300.0.0/24");
	await page.click("form footer button.primary");
	await page.waitForSelector('.field.wrong [data-field="spec.subnet"]');
	await shot("2-complaint");
	await page.fill('[data-field="spec.subnet"]', "10.77.0.0/24");
	await page.click("form footer button.primary");
	await page.waitForSelector("dl.plan >> text=10.77.0.0/24");
	// By keyboard: on a busy host the page may still be moving under a pointer.
	await page.waitForSelector("form footer button.primary:enabled");
	await page.locator("form footer button.primary").press("Enter");
	await page.waitForSelector("h1 >> text=front");
	await page.waitForSelector("header .state.good");
});

test("the picture shows who is on what, as it changes", async () => {
	await page.goto("/networks");
	await page.waitForSelector('.map a[aria-label^="front,"]');
	await make("web", [{ kind: "network", network: "front", forwards: ["tcp:8080:80"] }]);
	await node("web").waitFor();
	await until(async () => /front, 10\.77\.0\.\d+.*tcp 8080 → 80/.test(await node("web").getAttribute("aria-label")), () => "no address");
	await daemon.make("POST", "/v1/networks", { name: "inner", spec: { kind: "host-only", subnet: "10.78.0.0/24" } });
	await make("both", plugged("front", "inner"));
	await make("lost", plugged("front"));
	await make("alone", [{ kind: "user", forwards: ["tcp:2222:22"] }]);
	await node("both").waitFor();
	await until(async () => /front, 10\.77.*inner, 10\.78/.test(await node("both").getAttribute("aria-label")), () => "no addresses");
	await node("alone").waitFor();
	await shot("3-map");
	await daemon.make("PATCH", "/v1/instances/lost", { spec: { networks: [{ kind: "none" }] } });
	await node("lost").waitFor({ state: "detached" });
	await page.waitForSelector(".map >> text=On no network: 1");
});

test("a node leads to its instance, by keyboard too", async () => {
	await node("web").focus();
	await page.keyboard.press("Enter");
	await page.waitForSelector("h1 >> text=web");
	await page.goBack();
});

test("the same as a table", async () => {
	await page.click(".choices >> text=Attached");
	await page.waitForSelector('[role="row"] >> text=10.78.0.');
	assert.equal(await page.locator('.rows [role="row"]').count(), 4);
	await shot("4-table");
	await page.click(".choices >> text=List");
	await page.waitForSelector('[role="row"] >> text=10.77.0.0/24');
	await shot("5-list");
});

test("a network tells what is on it, and the doctor what is wrong", async () => {
	await page.goto("/networks/front/attached");
	await node("web").waitFor();
	await page.waitForSelector('[role="row"] >> text=web');
	await shot("6-attached");
	await page.click(".tabs >> text=Doctor");
	await page.waitForSelector(".findings li.bad >> nth=0"); // the namespace has no way out
	await page.waitForSelector(".findings li.good >> nth=0");
	await shot("7-doctor");
	await page.click("text=Look again");
	await page.waitForSelector(".findings li");
});

test("settings show their plan, and deleting says before why it cannot be", async () => {
	await page.click(".tabs >> text=Settings");
	await page.fill('[data-field="spec.limit_in"]', "2M");
	await page.click("text=Show the plan");
	await page.waitForSelector(".plan-of >> text=2M");
	await shot("8-plan");
	assert.equal((await daemon.ask("GET", "/v1/networks/front")).doc.spec.limit_in, undefined);
	await page.click("form.settings button.primary");
	await until(async () => (await daemon.ask("GET", "/v1/networks/front")).doc.spec.limit_in === 2 * 2 ** 20, () => "it is not written");
	await page.click('header [role="toolbar"] >> text=Delete');
	await page.waitForSelector('dialog [role="alert"]');
	await shot("9-in-use");
	await page.keyboard.press("Escape");
	await daemon.make("DELETE", "/v1/instances/both");
	await page.goto("/networks/inner");
	await until(async () => (await daemon.ask("GET", "/v1/instances/both")).status === 404, () => "it does not go");
	await page.click('header [role="toolbar"] >> text=Delete');
	await page.fill("dialog input", "inner");
	await page.click("dialog button.danger");
	await until(async () => (await daemon.ask("GET", "/v1/networks/inner")).status === 404, () => "it does not go");
});

test("two hundred instances, a phone, Chinese, the dark", async () => {
	for (let i = 0; i < 200; i++) await make(`n-${String(i).padStart(3, "0")}`, plugged("front"));
	await page.goto("/networks");
	await page.waitForSelector(".map >> text=Show");
	await shot("10-many");
	await page.click(".map >> text=Show");
	await until(async () => (await page.locator(".map .node").count()) === 202, () => "not all are shown");
	const small = await openPage(browser, daemon, { viewport: { width: 390, height: 780 }, locale: "zh-CN", colorScheme: "dark" });
	await logIn(small);
	await small.goto("/networks");
	await small.waitForSelector(".map .node");
	assert.ok(await small.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is wider than the screen");
	await shot("11-phone", small);
	await small.goto("/networks?view=attached");
	await small.waitForSelector('[role="row"] >> text=n-000');
	await shot("12-phone-table", small);
	assert.deepEqual([...small.complaints, ...page.complaints], []);
});
