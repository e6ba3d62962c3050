// SPDX-License-Identifier: Apache-2.0
// What the console owes to people: each change can be seen as a call, what destroys something is asked about or can be taken
// back, what was typed is there after a look elsewhere, and who may not do something is told so, on every page.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SHOTS, begin, everyList, everyPlace, logIn, openPage, until, visit } from "./rig.mjs";

const GUEST = { user: "guest-user", password: "only for looking" };
let daemon, browser, page, end;

const spec = async (name) => (await daemon.ask("GET", `/v1/instances/${name}`)).doc?.spec;
const shot = (name, of = page) => of.screenshot({ path: join(SHOTS, `manners-${name}.png`) });
const off = { state: "stopped", kernel: "/none", networks: [] };

before(async () => {
	({ daemon, browser, page, end } = await begin());
	await daemon.make("POST", "/v1/volumes", { name: "data", spec: { size: "8M" } });
	await daemon.make("POST", "/v1/instances", { name: "web", labels: { tier: "front" }, spec: { ...off, disks: [{ volume: "data" }] } });
	await daemon.make("POST", "/v1/instances", { name: "other", spec: off });
	await until(async () => (await daemon.ask("GET", "/v1/instances/web")).doc.status?.state === "stopped", () => "no instance");
	await daemon.make("POST", "/v1/users", { name: GUEST.user, spec: {} });
	await daemon.make("POST", `/v1/users/${GUEST.user}/password`, { password: GUEST.password });
	await daemon.make("POST", "/v1/roles", { name: GUEST.user, spec: { role: "viewer" } });
});
after(() => end?.());

test("the labels of machines lead to those that have them", async () => {
	await page.goto("/instances");
	await page.waitForSelector('[role="row"] >> text=other');
	await page.click(".row .label >> text=tier=front");
	await page.waitForSelector('[role="row"] >> text=other', { state: "detached" });
	assert.equal(await page.inputValue('main input[type="search"]'), "tier=front");
});

test("a machine tells its disks and where they live, and where its backups would be", async () => {
	await page.goto("/instances/web");
	await page.waitForSelector('.card:has-text("Disks") >> text=data');
	await page.click(".tabs >> text=Backups");
	await page.waitForSelector("main >> text=does not make any by itself");
	await page.waitForSelector("pre >> text=viv export web web.tar");
	await page.waitForSelector(".card >> text=data");
});

test("what was typed is there after a look elsewhere, and is forgotten when it was given up", async () => {
	await visit(page, "/instances/+");
	await page.fill('[data-field="name"]', "half-typed");
	await visit(page, "/instances/web/settings");
	await page.fill('[data-field="spec.shutdown_seconds"]', "31");
	await visit(page, "/volumes");
	await visit(page, "/instances/web/settings");
	assert.equal(await page.inputValue('[data-field="spec.shutdown_seconds"]'), "31");
	await page.click("form.settings >> text=Undo");
	await visit(page, "/instances/+");
	assert.equal(await page.inputValue('[data-field="name"]'), "half-typed");
	await page.click("form >> text=Cancel");
	await visit(page, "/instances/+");
	assert.equal(await page.inputValue('[data-field="name"]'), "");
});

test("a change is taken back by the button beside its message", async () => {
	await visit(page, "/instances/web/settings");
	const before = (await spec("web")).shutdown_seconds;
	await page.fill('[data-field="spec.shutdown_seconds"]', "33");
	await page.click("form.settings button.primary");
	await until(async () => (await spec("web")).shutdown_seconds === 33, () => "it is not written");
	await page.click(".toast >> text=Undo");
	await until(async () => (await spec("web")).shutdown_seconds === before, () => "it is not taken back");
});

test("what cannot be done now cannot be pressed, and says so; what stops a machine is asked about", async () => {
	await visit(page, "/instances/other");
	const stop = page.locator('header [role="toolbar"] button', { hasText: "Stop" });
	assert.equal(await stop.getAttribute("aria-disabled"), "true");
	await stop.click({ force: true });
	await page.waitForSelector(".toast.error >> text=nothing to do");
	await page.click(".toast.error >> [aria-label=Close]");
	await daemon.make("PATCH", "/v1/instances/other", { spec: { state: "running" } });
	await until(async () => (await stop.getAttribute("aria-disabled")) === "false", () => "it cannot be stopped");
	for (const act of ["Stop", "Restart"]) {
		await page.locator('header [role="toolbar"] button', { hasText: new RegExp(`^${act}$`) }).click();
		await page.waitForSelector("dialog[open] >> text=is lost");
		await page.keyboard.press("Escape");
		await page.waitForSelector("dialog", { state: "detached" });
	}
	assert.equal((await spec("other")).state, "running");
	await stop.click();
	await shot("1-stop");
	await page.click("dialog button.danger");
	await until(async () => (await spec("other")).state === "stopped", () => "it is not stopped");
});

test("every change that was made is told as curl, without secrets", async () => {
	const sent = [];
	page.on("request", (r) => !["GET", "HEAD"].includes(r.method()) && !r.url().includes("dry-run") && sent.push(`${r.method()} ${new URL(r.url()).pathname}`));
	await page.goto("/users/+");
	await page.fill('[data-field="name"]', "somebody");
	await page.click("form footer button.primary");
	await page.click("form footer button.primary");
	await page.waitForSelector("h1 >> text=somebody");
	await page.click('header [role="toolbar"] >> text=Set password');
	await page.fill('dialog [data-field="password"]', "a secret of mine");
	await page.click("dialog details.curl summary");
	assert.doesNotMatch(await page.locator("dialog pre").innerText(), /a secret of mine/);
	await page.click("dialog footer button.primary");
	await page.waitForSelector("dialog", { state: "detached" });
	await visit(page, "/instances/other");
	await page.click('header [role="toolbar"] >> text=Start');
	await until(async () => (await spec("other")).state === "running", () => "it does not start");
	await visit(page, "/instances/web/snapshots");
	await page.click("main >> text=Create");
	await page.fill('dialog [data-field="name"]', "first");
	await page.click("dialog button.primary");
	await page.waitForSelector("tr:has-text('first') .state.good");
	await page.click("tr:has-text('first') >> text=Delete");
	await page.fill("dialog input", "first");
	await page.click("dialog button.danger");
	await page.waitForSelector("dialog", { state: "detached" });
	await page.click("header >> text=curl");
	await page.waitForSelector("dialog >> text=Secrets are left out");
	const told = await page.locator("dialog summary code").allInnerTexts();
	assert.ok(sent.length >= 5, `${sent}`);
	assert.deepEqual([...told].sort(), [...sent].sort());
	for (const s of await page.locator("dialog summary").all()) await s.click();
	const calls = await page.locator("dialog pre").allInnerTexts();
	assert.ok(calls.every((c) => c.startsWith("curl -X ")));
	assert.doesNotMatch(calls.join("\n"), /a secret of mine/);
	await shot("2-calls");
	await page.keyboard.press("Escape");
});

test("an answer that comes when its subject has gone brings nothing back, and nobody waits for it", async () => {
	assert.equal((await daemon.ask("POST", "/v1/volumes", { name: "brief", spec: { size: 1 << 20 } })).status, 201);
	await visit(page, "/volumes");
	await page.waitForSelector("main >> text=brief");
	const { doc } = await daemon.ask("GET", "/v1/volumes/brief");
	assert.ok((await daemon.ask("DELETE", "/v1/volumes/brief")).status < 300);
	await page.waitForSelector("main >> text=brief", { state: "detached" });
	await page.route("**/v1/volumes/brief*", (route) => route.fulfill({ json: doc }), { times: 1 });
	await visit(page, "/volumes/brief");
	await page.waitForFunction(() => location.pathname === "/volumes");
	await page.waitForSelector(".toast.error >> text=brief");
	await page.unroute("**/v1/volumes/brief*");
});

test("who may only look finds no button that changes anything, on any page; the API refuses, too, in a form that was sent", async () => {
	const own = await openPage(browser, daemon);
	await logIn(own, GUEST);
	const revisionOf = async () => JSON.stringify(await Promise.all(["instances", "volumes", "networks", "pools", "users", "roles", "projects"].map(async (k) => (await daemon.ask("GET", `/v1/${k}`)).doc.items.map((d) => [d.name, d.spec, d.labels]))));
	const before = await revisionOf(), everything = await everyPlace(own, daemon, (items) => items.slice(0, 2));
	const isOfUser = (path) => /^\/(tokens|tasks|users)/.test(path); // one's own tokens and password
	let seen = 0;
	for (const path of everything.filter((p) => !isOfUser(p) && p !== "/settings")) {
		await visit(own, path);
		if (/\/(\+|settings)$/.test(path)) {
			await own.waitForSelector("main p.error >> text=takes the role");
			continue;
		}
		const open = await own.locator('main header [role="toolbar"] button:not([aria-disabled="true"]), main .primary:not([aria-disabled="true"])').allInnerTexts();
		assert.deepEqual(open.filter((text) => !["Apply"].includes(text)), [], path);
		seen += await own.locator('main header [role="toolbar"] button').count();
	}
	assert.ok(seen > 10, "no buttons were there");
	await visit(own, "/instances/web");
	await own.locator('header [role="toolbar"] button', { hasText: /^Start$/ }).click({ force: true });
	await own.waitForSelector(".toast.error >> text=takes the role “operator”");
	await shot("3-forbidden", own);
	for (const list of (await everyList(own)).filter((l) => !isOfUser(l))) {
		await visit(own, `${list}/+`);
		await own.fill('[data-field="name"]', "forbidden");
		for (let i = 0; i < 4 && !(await own.locator('form [role="alert"]').count()); i++) {
			await own.click("form footer button.primary");
			await own.waitForTimeout(50);
		}
		await own.waitForSelector('form [role="alert"]');
		assert.equal((await daemon.ask("GET", `/v1${list}/forbidden`)).status, 404);
	}
	await visit(own, "/instances/web/console");
	await own.waitForSelector("main >> text=takes the role");
	assert.equal(await revisionOf(), before);
	assert.deepEqual([...own.complaints, ...page.complaints], []);
	await own.context().close();
});
