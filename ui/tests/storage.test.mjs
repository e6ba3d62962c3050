// SPDX-License-Identifier: Apache-2.0
// Pools and volumes: space and what is wrong with it, what is in a pool, a volume that is made, grows, moves and is downloaded.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SHOTS, begin, logIn, openPage, until } from "./rig.mjs";

let daemon, browser, page, end;
const shot = (name, of = page) => of.screenshot({ path: join(SHOTS, `storage-${name}.png`) });
const volume = async () => (await daemon.ask("GET", "/v1/volumes/data")).doc;

before(async () => {
	({ daemon, browser, page, end } = await begin());
});
after(() => end?.());

test("a pool is made with a plan before, and what is wrong with it stands at its field", async () => {
	await page.goto("/pools/+");
	await page.fill('[data-field="name"]', "fast");
	await page.fill('[data-field="spec.path"]', join(daemon.folder, "not-there"));
	await page.click("form footer button.primary");
	await page.waitForSelector('.field.wrong [data-field="spec.path"]');
	mkdirSync(join(daemon.folder, "fast"), { mode: 0o755 });
	await page.fill('[data-field="spec.path"]', join(daemon.folder, "fast"));
	await page.fill('[data-field="spec.warn_percent"]', "99");
	await page.fill('[data-field="spec.limit_percent"]', "100");
	await page.click("form footer button.primary");
	await page.waitForSelector("dl.plan >> text=99");
	await shot("1-plan");
	await page.click("form footer button.primary");
	await page.waitForSelector("header .state >> text=ready");
	await page.waitForSelector(".fullness >> text=free");
	await shot("2-empty-pool");
});

test("a volume is made in it, and both know each other", async () => {
	await page.click("text=New volume here");
	await page.waitForSelector('[data-field="spec.pool"]');
	assert.equal(await page.inputValue('[data-field="spec.pool"]'), "fast");
	await page.fill('[data-field="name"]', "data");
	await page.fill('[data-field="spec.size"]', "8M");
	await page.click("form footer button.primary");
	await page.waitForSelector("dl.plan >> text=8 MiB");
	await page.click("form footer button.primary");
	await page.waitForSelector("header .state >> text=ready");
	await daemon.make("POST", "/v1/instances", { name: "web", spec: { state: "stopped", kernel: "/none", networks: [], disks: [{ volume: "data" }] } });
	await page.waitForSelector(".card li >> text=web");
	await shot("3-volume");
	await page.click(".card >> text=fast");
	await page.waitForSelector(".card tr >> text=data");
	await shot("4-pool");
	await page.goto("/pools");
	await page.waitForSelector('[role="row"] .fullness');
	await shot("5-pools");
});

test("it grows, and never shrinks", async () => {
	await page.goto("/volumes/data");
	await page.click("main >> text=Grow");
	await page.fill('dialog [data-field="spec.size"]', "4M");
	await page.click("dialog button.primary");
	await page.waitForSelector('dialog [role="alert"]');
	await page.fill('dialog [data-field="spec.size"]', "16M");
	await page.click("dialog button.primary");
	await until(async () => (await volume()).spec.size === 16 << 20, () => "it does not grow");
	await page.waitForSelector("main >> text=16 MiB");
});

test("it moves to another pool", async () => {
	await page.click("main >> text=Move to another pool or format");
	await page.selectOption('dialog [data-field="pool"]', "default");
	await shot("6-move");
	await page.click("dialog button.primary");
	await until(async () => (await volume()).spec.pool === "default", () => "it does not move");
	await page.waitForSelector(".card a >> text=default");
	await page.goto("/tasks");
	await page.waitForSelector('[role="row"] >> text=Move a volume');
});

test("it is downloaded as a file", async () => {
	await page.goto("/volumes/data");
	const [download] = await Promise.all([page.waitForEvent("download"), page.click("main >> text=Download")]);
	assert.equal(readFileSync(await download.path()).subarray(0, 3).toString(), "QFI");
});

test("a pool whose directory goes says so, and is well again when it is back", async () => {
	await page.goto("/pools/fast");
	await page.waitForSelector("header .state >> text=ready");
	renameSync(join(daemon.folder, "fast"), join(daemon.folder, "away"));
	await page.waitForSelector("header .state >> text=gone");
	await page.waitForSelector("main >> text=not mounted");
	await shot("7-gone");
	renameSync(join(daemon.folder, "away"), join(daemon.folder, "fast"));
	await page.waitForSelector("header .state >> text=ready");
});

test("a pool that is nearly full warns", async () => {
	await daemon.make("PATCH", "/v1/pools/fast", { spec: { warn_percent: 1 } });
	await page.waitForSelector("header .state >> text=nearly full");
	await page.waitForSelector(".fullness.busy");
	await shot("8-warning");
	const small = await openPage(browser, daemon, { viewport: { width: 390, height: 780 }, locale: "zh-CN", colorScheme: "dark" });
	await logIn(small);
	for (const path of ["/pools/fast", "/volumes/data", "/pools"]) {
		await small.goto(path);
		await small.waitForSelector("h1");
		await small.waitForTimeout(200);
		assert.ok(await small.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.querySelector("main").scrollWidth <= innerWidth), `${path} is wider than the screen`);
		await shot(`phone${path.replaceAll("/", "-")}`, small);
	}
	assert.deepEqual([...small.complaints, ...page.complaints], []);
});
