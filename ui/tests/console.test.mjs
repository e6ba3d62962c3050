// SPDX-License-Identifier: Apache-2.0
// The console in a real browser, before a real daemon, with real machines.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ADMIN, Daemon, SHOTS, logIn, openBrowser, openPage, until } from "./rig.mjs";

// Kernel and initrd of a guest whose console answers lines as a shell does (tests/e2e makes it).
const GUEST = process.env.VIV_UI_GUEST;
const daemon = new Daemon();
let browser, page;

const shot = (name) => page.screenshot({ path: join(SHOTS, `${name}.png`) });
const machine = (more = {}) => ({ memory: "128M", engine: "bt", kernel: join(GUEST, "vmlinuz"), initrd: join(GUEST, "shell.gz"), cmdline: "console=ttyS0 quiet cryptomgr.notests", networks: [], ...more });
// How often it has booted, which the screen alone does not tell: what the boot before has said may still be on it.
const boots = async (name) => (await daemon.ask("GET", `/v1/instances/${name}/log`)).text.split("shell-is-up").length - 1;
const screen = () => page.locator(".xterm-accessibility-tree, .xterm-rows").first().innerText();

before(async () => {
	assert.ok(GUEST && existsSync(join(GUEST, "shell.gz")), "VIV_UI_GUEST names the folder of a guest");
	await daemon.start();
	browser = await openBrowser();
	page = await openPage(browser, daemon);
});
after(async () => {
	await browser?.close();
	await daemon.end();
});

test("the first administrator is made with the token, and with no other", async () => {
	await page.goto("/");
	await page.waitForSelector('input[name="token"]');
	await shot("01-first-run");
	await page.fill('input[name="token"]', "0".repeat(32));
	await page.fill('input[name="name"]', ADMIN.user);
	await page.fill('input[name="password"]', ADMIN.password);
	await page.click("form button.primary");
	await page.waitForSelector('form [role="alert"]');
	await page.fill('input[name="token"]', await daemon.token());
	await page.click("form button.primary");
	await page.waitForSelector(".link.live");
	await shot("02-empty-dashboard");
});

test("a wrong password is refused with the API's sentence, the right one lets in again", async () => {
	await page.click("header >> text=Log out");
	await page.fill('input[name="name"]', ADMIN.user);
	await page.fill('input[name="password"]', "not this");
	await page.click("form button.primary");
	assert.match(await page.locator('[role="alert"]').innerText(), /\w+/);
	await logIn(page);
});

test("a machine is made step by step, and the API's complaint stands at its field", async () => {
	await page.click("nav >> text=Instances");
	await page.click("main >> text=Create >> nth=0");
	await page.fill('[data-field="name"]', "Not A Name");
	for (let i = 0; i < 4; i++) await page.click("form footer button.primary");
	await page.waitForSelector('.field.wrong [data-field="name"]');
	await shot("03-complaint");
	await page.fill('[data-field="name"]', "web");
	await page.click("form footer button.primary");
	const spec = machine();
	await page.fill('[data-field="spec.memory"]', spec.memory);
	await page.selectOption('[data-field="spec.engine"]', spec.engine);
	await page.click("form footer button.primary");
	await page.locator("fieldset", { hasText: "Network interfaces" }).getByLabel("Remove").first().click();
	await page.click("form footer button.primary");
	for (const name of ["kernel", "initrd", "cmdline"]) await page.fill(`[data-field="spec.${name}"]`, spec[name]);
	await page.click("form footer button.primary");
	await page.waitForSelector("dl.plan");
	assert.match(await page.locator("dl.plan").innerText(), /134217728/);
	await page.click("details.curl summary");
	assert.match(await page.locator("details.curl pre").innerText(), /^curl -X POST .*\/v1\/instances\?project=default'$/s);
	await shot("04-review");
	await page.click("form footer button.primary");
	await page.waitForSelector("h1 >> text=web");
	await page.waitForSelector("header .state.good");
});

test("its console shows the boot, and answers uname", async () => {
	await page.click(".tabs >> text=Console");
	await until(async () => (await screen()).includes("shell-is-up"), () => "the guest says nothing");
	await page.locator(".screen").click();
	await page.keyboard.type("uname -a\n");
	await until(async () => /Linux .* x86_64/.test(await screen()), () => "no answer");
	await shot("05-console");
});

test("charts move under load, and why the machine is as it is can be read", async () => {
	await page.locator(".screen").click();
	await page.keyboard.type("while :; do :; done &\n");
	await page.click(".tabs >> text=Use");
	const used = async () => Number.parseFloat(await page.locator(".chart output").first().innerText());
	await page.waitForSelector(".chart canvas");
	await until(async () => (await used()) > 0.1, () => "the chart does not move");
	const before = await page.locator(".chart [role=img]").first().getAttribute("aria-label");
	await until(async () => (await page.locator(".chart [role=img]").first().getAttribute("aria-label")) !== before, () => "the chart does not go on");
	await page.selectOption(".charts select", "month");
	await page.waitForSelector(".chart canvas");
	await shot("05b-use");
	await page.click(".tabs >> text=Why");
	await page.waitForSelector("dl.facts >> text=engine 'bt'");
	await shot("05c-why");
	await page.click("nav >> text=Overview");
	await page.waitForSelector("table >> text=web");
	await page.waitForSelector(".chart canvas");
	await shot("05d-dashboard");
	await page.goto("/instances/web/console");
	await until(async () => (await screen()).includes("uname"), () => "the console is empty");
	await page.locator(".screen").click();
	await page.keyboard.type("kill $!; echo no-$((1 + 1))-more\n");
	await until(async () => (await screen()).includes("no-2-more"), () => "no answer");
});

test("the console comes back after the daemon was killed, without a line twice", async () => {
	await daemon.stop("SIGKILL");
	await page.waitForSelector(".link.broken");
	await daemon.start();
	await page.waitForSelector(".link.live");
	await page.waitForSelector(".console .state.good");
	await page.locator(".screen").click();
	await page.keyboard.type("echo again-$((6 * 7))\n");
	await until(async () => (await screen()).includes("again-42"), () => "no answer");
	assert.equal((await screen()).split("again-42").length, 2);
});

test("settings: a change of one's own, one of two people in different fields, and one that needs a decision", async () => {
	await page.click(".tabs >> text=Settings");
	await page.fill('[data-field="spec.shutdown_seconds"]', "5");
	await page.click("form.settings button.primary");
	await page.waitForSelector(".toast >> text=changed");
	await page.fill('[data-field="spec.shutdown_seconds"]', "7");
	await daemon.make("PATCH", "/v1/instances/web", { labels: { tier: "front" } });
	await page.click("form.settings button.primary");
	await until(async () => {
		const { doc } = await daemon.ask("GET", "/v1/instances/web");
		return doc.spec.shutdown_seconds === 7 && doc.labels.tier === "front";
	}, () => "both changes do not stand");
	await page.fill('[data-field="spec.shutdown_seconds"]', "9");
	await daemon.make("PATCH", "/v1/instances/web", { spec: { shutdown_seconds: 11 } });
	await page.click("form.settings button.primary");
	await page.waitForSelector("dialog .merge");
	await shot("06-merge");
	await page.click("dialog >> text=Write mine");
	await until(async () => (await daemon.ask("GET", "/v1/instances/web")).doc.spec.shutdown_seconds === 9, () => "mine was not written");
});

test("stop, start and what happened meanwhile", async () => {
	await page.click('header [role="toolbar"] >> text=Pause');
	await page.waitForSelector("header .state >> text=paused");
	await page.click('header [role="toolbar"] >> text=Start');
	await page.waitForSelector("header .state >> text=running");
	await page.click(".tabs >> text=Events");
	await page.waitForSelector("ol.events li");
	await shot("07-events");
});

test("memory is resized: after a restart the guest has it", async () => {
	await page.click(".tabs >> text=Settings");
	await page.fill('[data-field="spec.memory"]', "256M");
	await page.click("form.settings button.primary");
	await until(async () => (await daemon.ask("GET", "/v1/instances/web")).doc.spec.memory === 256 << 20, () => "it is not written");
	const before = (await daemon.ask("GET", "/v1/instances/web")).doc.status.pid, booted = await boots("web");
	assert.ok(booted > 0);
	await page.click('header [role="toolbar"] >> text=Restart');
	await page.click("dialog button.danger");
	await until(async () => {
		const { status } = (await daemon.ask("GET", "/v1/instances/web")).doc;
		return status.state === "running" && status.pid !== before;
	}, () => "it does not start again");
	await page.click(".tabs >> text=Console");
	await until(async () => (await boots("web")) > booted, () => "the guest says nothing");
	await page.locator(".screen").click();
	await page.keyboard.type("echo memory-$(($(grep MemTotal /proc/meminfo | tr -dc 0-9) / 1024 / 100))\n");
	await until(async () => (await screen()).includes("memory-2"), () => "it has not more memory");
	await shot("07b-resized");
});

test("the console is searched, copied and pasted into, and fits the window", async () => {
	await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
	await page.getByLabel("Search the console").fill("memory-2");
	await page.keyboard.press("Enter");
	await page.click(".console >> text=Copy");
	await page.waitForSelector(".toast >> text=Copied");
	assert.match(await page.evaluate(() => navigator.clipboard.readText()), /memory-2/);
	await page.evaluate(() => navigator.clipboard.writeText("echo pasted-$((3 * 5))\n"));
	await page.click(".console >> text=Paste");
	await until(async () => (await screen()).includes("pasted-15"), () => "nothing was pasted");
	const widthOf = () => page.evaluate(() => document.querySelector(".xterm-screen").clientWidth);
	const wide = await widthOf();
	await page.setViewportSize({ width: 900, height: 700 });
	await until(async () => (await widthOf()) < wide, () => "it does not fit");
	await page.setViewportSize({ width: 1280, height: 800 });
	await page.locator(".screen").click();
	await page.keyboard.press("Control+Alt+Period");
	await until(() => page.evaluate(() => document.activeElement.matches('.console input[type="search"]')), () => "it is not left by keyboard");
});

test("a machine is cloned, and the clone deleted", async () => {
	await page.click('header [role="toolbar"] >> text=Clone');
	await page.fill('dialog [data-field="name"]', "twin");
	await page.click("dialog details.curl summary");
	assert.match(await page.locator("dialog pre").innerText(), /\/v1\/instances\/web\/clone/);
	await page.click("dialog footer button.primary");
	await until(async () => (await daemon.ask("GET", "/v1/instances/twin")).doc?.status?.state === "stopped", () => "no clone");
	await page.goto("/instances/twin");
	await page.waitForSelector("h1 >> text=twin");
	assert.equal((await daemon.ask("GET", "/v1/instances/twin")).doc.spec.memory, 256 << 20);
	await shot("07c-clone");
	await page.goto("/");
	await page.waitForSelector(".card >> text=Clone");
	await page.goto("/instances/twin");
	await page.click('header [role="toolbar"] >> text=Delete');
	await page.fill("dialog input", "twin");
	await page.click("dialog button.danger");
	await until(async () => (await daemon.ask("GET", "/v1/instances/twin")).status === 404, () => "it does not go");
	await page.goto("/instances/web");
});

test("what others write is text: nothing of it is executed", async () => {
	const evil = '<img src=x onerror="window.caught=1"><script>window.caught=1</script>';
	await daemon.make("POST", "/v1/instances", { name: "evil", labels: { note: evil.slice(0, 60) }, spec: machine({ state: "stopped", cmdline: evil }) });
	await daemon.make("POST", "/v1/instances", { name: "rtl", labels: { note: "‮gnp.exe עברית" }, spec: machine({ state: "stopped", cmdline: `x${"y".repeat(1500)}` }) });
	for (const path of ["/instances", "/instances/evil", "/instances/evil/settings", "/instances/rtl", "/instances?q=%3Cimg%20src%3Dx%20onerror%3D%22window.caught%3D1%22%3E", "/%3Cscript%3E"]) {
		await page.goto(path);
		await page.waitForSelector("main");
		await page.waitForTimeout(200);
	}
	assert.equal(await page.evaluate(() => window.caught), undefined);
});

test("filter, select and act on many; deleting wants the name typed", async () => {
	await page.goto("/instances");
	await page.fill('main input[type="search"]', "state-that-is-not");
	await page.waitForSelector("text=Nothing fits");
	await page.fill('main input[type="search"]', "stopped");
	await page.waitForSelector('[role="row"] >> text=evil');
	await page.getByLabel("Select evil").check();
	await page.click('[role="toolbar"] >> text=Delete');
	assert.ok(await page.locator("dialog button.danger").isDisabled());
	await shot("08-delete");
	await page.fill("dialog input", "evil");
	await page.click("dialog button.danger");
	await until(async () => (await daemon.ask("GET", "/v1/instances/evil")).status === 404, () => "it does not go");
	await page.waitForSelector('[role="row"] >> text=evil', { state: "detached" });
});

test("on a phone, in Chinese, in the dark, and by keyboard alone", async () => {
	const small = await openPage(browser, daemon, { viewport: { width: 390, height: 780 }, locale: "zh-CN", colorScheme: "dark" });
	await logIn(small);
	await small.keyboard.press("Tab");
	await small.keyboard.press("Enter");
	await small.goto("/instances");
	await small.waitForSelector("h1 >> text=虚拟机");
	await small.getByLabel("菜单").first().focus();
	await small.keyboard.press("Enter");
	await small.waitForSelector(".frame.open");
	assert.ok(await small.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is wider than the screen");
	await small.screenshot({ path: join(SHOTS, "09-phone.png") });
	assert.deepEqual(small.complaints, []);
	await small.context().close();
});

test("a snapshot is taken, a token is shown once, and the audit log is whole", async () => {
	await page.goto("/tokens/+");
	await page.fill('[data-field="name"]', "robot");
	await page.click("form footer button.primary");
	await page.click("form footer button.primary");
	assert.match(await page.locator("dialog pre").innerText(), /^viv_/);
	await page.click("dialog footer button.primary");
	await daemon.make("POST", "/v1/volumes", { name: "data", spec: { size: "8M" } });
	await daemon.make("POST", "/v1/instances", { name: "kept", spec: machine({ state: "stopped", disks: [{ volume: "data" }] }) });
	await page.goto("/instances/kept/snapshots");
	await page.click("main >> text=Create");
	await page.fill('dialog [data-field="name"]', "before");
	await page.click("dialog button.primary");
	await page.waitForSelector("tr:has-text('before') .state.good");
	await shot("11-snapshots");
	await page.click("tr:has-text('before') >> text=Revert");
	await page.click("dialog button.danger");
	await page.waitForSelector(".toast >> text=Revert");
	await page.goto("/audit");
	await page.waitForSelector("td >> text=createToken");
	await page.click("text=Verify");
	await page.waitForSelector(".state.good >> text=records");
	await shot("12-audit");
});

test("no script failed, nothing was asked of elsewhere, and the policy was kept", () => {
	assert.deepEqual(page.complaints, []);
});
