// SPDX-License-Identifier: Apache-2.0
// Profiles: made, chosen when a machine is made, told on its page with what comes from them, changed, and refused to go while they are used.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SHOTS, begin, until } from "./rig.mjs";

let site, page, daemon;
const shot = (name) => page.screenshot({ path: join(SHOTS, `profile-${name}.png`), fullPage: true });

before(async () => {
	site = await begin();
	({ page, daemon } = site);
});
after(() => site?.end());

test("one is made from its form, with labels for its machines", async () => {
	await page.goto("/profiles");
	await page.waitForSelector(".empty >> text=No profiles yet");
	await page.click("main >> text=Create");
	await page.fill('[data-field="name"]', "small");
	await page.fill('[data-field="description"]', "for tests");
	await page.fill('[data-field="spec.memory"]', "96M");
	await page.fill('[data-field="spec.limits.cpu"]', "0.5");
	await page.click('[data-group="spec.labels"] >> text=Add');
	await page.fill('[data-group="spec.labels"] input[aria-label="Name"], [data-group="spec.labels"] .item input >> nth=0', "env");
	await page.fill('[data-group="spec.labels"] .item input >> nth=1', "test");
	await page.click("form footer button.primary");
	await page.waitForSelector("dl.plan");
	await page.click("form footer button.primary");
	await until(async () => (await daemon.ask("GET", "/v1/profiles/small")).status === 200, () => "it is not made");
	const made = (await daemon.ask("GET", "/v1/profiles/small")).doc;
	assert.deepEqual(made.spec, { memory: 96 << 20, limits: { cpu: "0.5" }, labels: { env: "test" } });
	assert.equal(made.description, "for tests");
	await page.waitForSelector("text=No machine uses it");
});

test("a machine that is made with it has its values, and its page tells where they come from", async () => {
	await page.goto("/instances/+");
	await page.fill('[data-field="name"]', "web");
	await page.click('[data-group="spec.profiles"] >> text=Add');
	assert.ok((await page.locator('[data-group="spec.profiles"] datalist option').count()) > 0);
	await page.fill('[data-field="spec.profiles[0]"]', "small");
	for (let i = 0; i < 3; i++) await page.click("form footer button.primary");
	await page.fill('[data-field="spec.kernel"]', "/boot/none");
	await page.selectOption('[data-field="spec.state"]', "stopped");
	await page.click("form footer button.primary");
	await page.waitForSelector("dl.plan");
	await page.click("form footer button.primary");
	await until(async () => (await daemon.ask("GET", "/v1/instances/web")).status === 200, () => "it is not made");
	const made = (await daemon.ask("GET", "/v1/instances/web")).doc;
	assert.deepEqual([made.spec.memory, made.labels, made.own], [96 << 20, { env: "test" }, {}]);
	await page.goto("/instances/web");
	const card = page.locator(".card", { hasText: "Profiles" }).locator("table", { hasText: "From" });
	await card.waitFor();
	assert.match(await card.innerText(), /Memory\s+96 MiB\s+small/);
	assert.match(await card.innerText(), /env\s+test\s+small/);
	await shot("machine");
});

test("its page leads to its machines, and a change changes them", async () => {
	await page.goto("/profiles/small");
	await page.waitForSelector("main a >> text=web");
	await page.click("nav.tabs >> text=Settings");
	await page.fill('[data-field="spec.memory"]', "112M");
	await page.click("form.settings button.primary");
	await until(async () => (await daemon.ask("GET", "/v1/instances/web")).doc.spec.memory === 112 << 20, () => "the machine does not follow");
	await shot("settings");
});

test("what a machine changes and takes back is not its own afterwards", async () => {
	await page.goto("/instances/web/settings");
	await page.fill('[data-field="spec.memory"]', "128M");
	await page.click("form.settings button.primary");
	await until(async () => (await daemon.ask("GET", "/v1/instances/web")).doc.own.memory === 128 << 20, () => "it is not its own");
	await page.click(".toast >> text=Undo");
	await until(async () => (await daemon.ask("GET", "/v1/instances/web")).doc.spec.memory === 112 << 20, () => "it is not taken back");
	assert.deepEqual((await daemon.ask("GET", "/v1/instances/web")).doc.own, {});
});

test("it gets another name, and its machines and its page go along", async () => {
	await page.goto("/profiles/small");
	await page.click('header [role="toolbar"] >> text=Rename');
	await page.fill('dialog [data-field="name"]', "tiny");
	await page.click("dialog button.primary");
	await page.waitForURL("**/profiles/tiny");
	await page.waitForSelector("main a >> text=web");
	assert.deepEqual((await daemon.ask("GET", "/v1/instances/web")).doc.spec.profiles, ["tiny"]);
	await daemon.make("POST", "/v1/profiles/tiny/rename", { name: "small" });
	await page.waitForURL("**/profiles/small");
});

test("one that is used stays, with the reason", async () => {
	await page.goto("/profiles/small");
	await page.click("main header >> text=Delete");
	await page.waitForSelector("dialog >> text=is used by the instance 'web'");
	await shot("used");
});
