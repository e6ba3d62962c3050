// SPDX-License-Identifier: Apache-2.0
// What is selected in a list is acted on by one request, and what became of each is told.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SHOTS, begin, until } from "./rig.mjs";

let site, page, daemon;
const asked = [];
const shot = (name) => page.screenshot({ path: join(SHOTS, `bulk-${name}.png`), fullPage: true });
const stateOf = async (name) => (await daemon.ask("GET", `/v1/instances/${name}`)).doc.spec?.state;

before(async () => {
	site = await begin();
	({ page, daemon } = site);
	page.on("request", (r) => {
		const url = new URL(r.url());
		if (url.pathname.startsWith("/v1/") && r.method() !== "GET" && !url.searchParams.has("dry-run")) asked.push([r.method(), url.pathname, r.postDataJSON()]);
	});
	for (const name of ["a", "b", "c"])
		await daemon.make("POST", "/v1/instances", { name, spec: { kernel: "/boot/none", state: "stopped", shutdown_seconds: 0, networks: [] } });
	for (const name of ["free", "spare", "used"]) await daemon.make("POST", "/v1/volumes", { name, spec: { size: "1M" } });
	await daemon.make("POST", "/v1/instances", { name: "holder", spec: { kernel: "/boot/none", state: "stopped", networks: [], disks: [{ volume: "used" }] } });
	await until(async () => (await daemon.ask("GET", "/v1/volumes")).doc.items.every((v) => v.status?.state === "ready"), () => "the volumes are not made");
});
after(() => site?.end());

async function select(...names) {
	for (const name of names) await page.getByLabel(`Select ${name}`, { exact: true }).check();
	asked.length = 0;
}

test("many machines are started and stopped by one request", async () => {
	await page.goto("/instances");
	await page.waitForSelector('[role="row"] >> text=holder');
	await select("a", "c");
	await page.click('.selection >> text=Start');
	await page.waitForSelector(".toast >> text=Start: asked of 2");
	assert.deepEqual(asked, [["POST", "/v1/bulk", { kind: "instance", action: "start", names: ["a", "c"] }]]);
	assert.deepEqual([await stateOf("a"), await stateOf("b"), await stateOf("c")], ["running", "stopped", "running"]);
	asked.length = 0;
	await page.click('.selection >> text=Stop');
	await page.click("dialog button.danger");
	await until(async () => (await stateOf("a")) === "stopped" && (await stateOf("c")) === "stopped", () => "they are not stopped");
	assert.deepEqual(asked.map(([, path, body]) => [path, body.action, body.names]), [["/v1/bulk", "stop", ["a", "c"]]]);
});

test("one of them is asked for itself", async () => {
	await page.goto("/instances");
	await select("b");
	await page.click('.selection >> text=Start');
	await until(async () => (await stateOf("b")) === "running", () => "it is not started");
	assert.deepEqual(asked.map(([method, path]) => [method, path]), [["PATCH", "/v1/instances/b"]]);
});

test("what one cannot is said before, and what became of each afterwards", async () => {
	await page.goto("/volumes");
	await page.waitForSelector('[role="row"] >> text=used');
	await select("free", "spare", "used");
	await page.click('.selection >> text=Delete');
	// A dry run tells.
	await page.waitForSelector('dialog [role="alert"] >> text=holder');
	await page.fill("dialog input", "3");
	await page.click("dialog button.danger");
	const results = page.locator("dialog .bulk-results");
	await results.waitFor();
	assert.match(await page.locator("dialog").innerText(), /Done: 2\. Not done: 1\./);
	const rows = Object.fromEntries(await results.locator("tbody tr").evaluateAll((all) => all.map((r) => [r.children[0].innerText, r.children[1].innerText])));
	assert.deepEqual([rows.free, rows.spare], ["Done", "Done"]);
	assert.match(rows.used, /holder/);
	await shot("results");
	assert.deepEqual(asked.map(([method, path]) => [method, path]), [["POST", "/v1/bulk"]]);
	await page.click("dialog footer button.primary");
	await page.waitForSelector('[role="row"] >> text=spare', { state: "detached" });
	await page.waitForSelector('[role="row"] >> text=used');
});

test("the task tells it as well", async () => {
	const tasks = (await daemon.ask("GET", "/v1/tasks")).doc.items.filter((x) => x.status?.result?.failed === 1);
	assert.equal(tasks.length, 1);
	await page.goto(`/tasks/${tasks[0].name}`);
	await page.waitForSelector(".bulk-results >> text=holder");
	assert.equal(await page.locator(".bulk-results tbody tr").count(), 3);
	await shot("task");
	assert.deepEqual(page.complaints, []);
});
