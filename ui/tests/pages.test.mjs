// SPDX-License-Identifier: Apache-2.0
// The pages of images, of what is inside a machine, of snapshots, tasks, projects, the audit log and one's own settings.
import { createHmac } from "node:crypto";
import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ADMIN, Daemon, SHOTS, logIn, openBrowser, openPage, until } from "./rig.mjs";

const GUEST = process.env.VIV_UI_GUEST;
const daemon = new Daemon();
let browser, page;

const shot = (name, of = page) => of.screenshot({ path: join(SHOTS, `page-${name}.png`), fullPage: false });
const state = async (path) => (await daemon.ask("GET", path)).doc?.status?.state;
const reaches = (path, wanted) => until(async () => (await state(path)) === wanted, () => `${path} does not become ${wanted}`);

before(async () => {
	assert.ok(GUEST && existsSync(join(GUEST, "shell-agent.gz")), "VIV_UI_GUEST names the folder of guests; qemu-guest-agent is installed");
	await daemon.start();
	await daemon.make("POST", "/v1/users", { name: ADMIN.user, spec: { role: "admin" } });
	await daemon.make("POST", `/v1/users/${ADMIN.user}/password`, { password: ADMIN.password });
	const inside = { memory: "256M", engine: "bt", kernel: join(GUEST, "vmlinuz"), initrd: join(GUEST, "shell-agent.gz"), cmdline: "console=ttyS0 quiet cryptomgr.notests", networks: [] };
	await daemon.make("POST", "/v1/instances", { name: "inside", spec: inside });
	browser = await openBrowser();
	page = await openPage(browser, daemon);
	await logIn(page);
});
after(async () => {
	await browser?.close();
	await daemon.end();
});

test("an image is imported: a path that is none is refused at its field, a real one is made and tells who uses it", async () => {
	await page.goto("/images");
	await page.waitForSelector(".empty >> text=No images yet");
	await page.click("main >> text=Create");
	await page.fill('[data-field="name"]', "seed");
	assert.equal(await page.locator('[data-field="spec.source.path"]').count(), 0);
	await shot("01-image-build");
	await page.click(".choices >> text=Download");
	await page.fill('[data-field="spec.source.download.url"]', "http://mirror.example/disk.qcow2");
	assert.equal(await page.locator('[data-field="spec.source.build"], [data-field="spec.source.path"]').count(), 0);
	await page.click("form footer button.primary");
	await page.waitForSelector('.field.wrong [data-field="spec.source.download.url"]');
	await page.click(".choices >> text=From a catalogue");
	await page.selectOption('[data-choice="catalogue"]', "ubuntu");
	assert.equal(await page.inputValue('[data-field="spec.source.catalogue"]'), "ubuntu");
	assert.equal(await page.inputValue('[data-field="name"]'), "seed");
	await page.waitForSelector("text=Nobody has looked yet");
	await shot("02a-image-catalogue");
	await page.fill('[data-field="spec.source.catalogue"]', "elephant");
	await page.click("form footer button.primary");
	await page.waitForSelector('.field.wrong [data-field="spec.source.catalogue"]');
	await page.click(".choices >> text=Import a disk");
	await page.fill('[data-field="spec.source.path"]', "disk.raw");
	await page.click("form footer button.primary");
	await page.waitForSelector('.field.wrong [data-field="spec.source.path"]');
	await shot("02-image-complaint");
	const raw = join(daemon.folder, "disk.raw");
	writeFileSync(raw, Buffer.alloc(4 << 20, 7));
	await page.fill('[data-field="spec.source.path"]', raw);
	await page.click("form footer button.primary");
	await page.waitForSelector("dl.plan");
	await page.click("form footer button.primary");
	await page.waitForSelector("header .state >> text=ready");
	await daemon.make("POST", "/v1/instances", { name: "grown", spec: { state: "stopped", image: "seed", networks: [] } });
	await page.waitForSelector(".card >> text=grown");
	await shot("03-image");
	await page.click("text=New instance from it");
	await page.waitForSelector('[data-field="spec.image"]');
	assert.equal(await page.inputValue('[data-field="spec.image"]'), "seed");
	await page.goto("/images/seed");
	await page.click('header [role="toolbar"] >> text=Delete');
	await page.waitForSelector('dialog [role="alert"]'); // it is in use
});

test("an image that cannot be made says why, and is taken away", async () => {
	const bad = join(daemon.folder, "bad.qcow2");
	writeFileSync(bad, Buffer.from("QFI\xfb\0\0\0\x03 and nothing more", "latin1"));
	await daemon.make("POST", "/v1/images", { name: "broken", spec: { source: { path: bad } } });
	await page.goto("/images/broken");
	await page.waitForSelector("header .state.bad");
	await page.waitForSelector("main >> text=could not be made");
	await shot("04-image-broken");
	await page.click('header [role="toolbar"] >> text=Delete');
	await page.fill("dialog input", "broken");
	await page.click("dialog button.danger");
	await until(async () => (await daemon.ask("GET", "/v1/images/broken")).status === 404, () => "it does not go");
	await page.goto("/images");
	await page.waitForSelector('[role="row"] >> text=seed');
	await shot("05-images");
});

test("snapshots are a tree, in which the machine stands where it was brought back to", async () => {
	const path = "/v1/instances/kept";
	await daemon.make("POST", "/v1/volumes", { name: "data", spec: { size: "8M" } });
	await daemon.make("POST", "/v1/instances", { name: "kept", spec: { state: "stopped", kernel: "/none", networks: [], disks: [{ volume: "data" }] } });
	await reaches(path, "stopped");
	for (const name of ["first", "second"]) {
		await daemon.make("POST", `${path}/snapshots`, { name, spec: { about: `the ${name} of them` } });
		await reaches(`${path}/snapshots/${name}`, "ready");
		await new Promise((r) => setTimeout(r, 1100)); // times are whole seconds
	}
	await page.goto("/instances/kept/snapshots");
	await page.waitForSelector("tr.now >> text=grown from second");
	await page.click("tr:has-text('first') >> text=Revert");
	await page.click("dialog button.danger");
	await page.waitForSelector("tr.now >> text=grown from first");
	await new Promise((r) => setTimeout(r, 1100));
	await daemon.make("POST", `${path}/snapshots`, { name: "third" });
	await page.waitForSelector("tr.now >> text=grown from third");
	await shot("06-tree");
});

test("a machine gets another name, and its page goes along", async () => {
	await page.goto("/instances/kept/snapshots");
	await page.click('header [role="toolbar"] >> text=Rename');
	await page.fill('dialog [data-field="name"]', "named");
	await page.click("dialog button.primary");
	await page.waitForURL("**/instances/named/snapshots");
	await page.waitForSelector("h1 >> text=named");
	await page.waitForSelector("tr.now >> text=grown from third");
	await daemon.make("POST", "/v1/instances/named/rename", { name: "kept" });
	await page.waitForURL("**/instances/kept/snapshots");
});

test("tasks tell what was done to what", async () => {
	await page.goto("/tasks");
	await page.waitForSelector('[role="row"] >> text=Revert to a snapshot');
	await page.waitForSelector('[role="row"] >> text=kept, first');
	await shot("07-tasks");
	await page.click('[role="row"] >> text=Revert to a snapshot');
	await page.waitForSelector("h1 >> text=Revert to a snapshot");
});

test("a machine that is off has nobody to ask inside", async () => {
	await page.goto("/instances/grown/guest");
	await page.waitForSelector("text=does not run");
	await shot("08-guest-off");
});

test("the guest tells its system, runs programs, and gives and takes files", async () => {
	await until(async () => (await daemon.ask("GET", "/v1/instances/inside/guest")).status === 200, () => "no agent answers", 120_000);
	await page.goto("/instances/inside/guest");
	await page.waitForSelector("dl >> text=x86_64");
	await page.click("text=Load and memory");
	await page.waitForSelector("pre.output >> text=Mem:");
	await page.getByLabel("Command line").fill("echo to-out; echo to-err >&2; exit 3");
	await page.click("main button:text-is('Run')");
	await page.waitForSelector("text=Ended with status 3");
	assert.match(await page.locator("pre.output").innerText(), /to-out\s+to-err/);
	await shot("09-guest");
	const file = join(daemon.folder, "sent.bin"), bytes = Buffer.from(Array.from({ length: 60_000 }, (_, i) => (i * 7) & 255));
	writeFileSync(file, bytes);
	await page.getByLabel("Path inside").fill("/run/sent.bin");
	await page.getByLabel("File of this computer").setInputFiles(file);
	await page.click("main >> text=Upload");
	await page.waitForSelector(".toast >> text=copied");
	const [download] = await Promise.all([page.waitForEvent("download"), page.click("main >> text=Download")]);
	assert.ok(readFileSync(await download.path()).equals(bytes));
	await page.getByLabel("Path inside").fill("/no/such/file");
	await page.click("main >> text=Download");
	await page.waitForSelector('main [role="alert"]');
	await shot("10-guest-files");
});

test("settings have every field of a machine, cloud-init in many lines", async () => {
	await page.goto("/instances/grown/settings");
	await page.waitForSelector("form.settings");
	const properties = JSON.parse(readFileSync(new URL("../../docs/api/openapi.json", import.meta.url), "utf8")).components.schemas.InstanceSpec.properties;
	for (const name of Object.keys(properties)) {
		const found = (await page.locator(`[data-field="spec.${name}"]`).count()) + (await page.locator(`[data-group="spec.${name}"]`).count());
		assert.ok(found > 0, `no field for ${name}`);
	}
	await page.fill('textarea[data-field="spec.user_data"]', "#cloud-config\nhostname: grown\n");
	await page.click("form.settings button.primary");
	await until(async () => /hostname: grown/.test((await daemon.ask("GET", "/v1/instances/grown")).doc.spec.user_data ?? ""), () => "it is not written");
	await shot("11-settings");
});

test("a project tells what it has of what it may have", async () => {
	await daemon.make("PATCH", "/v1/projects/default", { spec: { quota: { instances: 4, memory: "4G" } } });
	await page.goto("/projects/default");
	await page.waitForSelector(".meter >> text=3 / 4");
	await daemon.make("POST", "/v1/instances", { name: "third", spec: { state: "stopped", kernel: "/none", networks: [] } });
	await page.waitForSelector(".meter >> text=4 / 4");
	await shot("12-project");
	await page.goto("/instances/+");
	await page.fill('[data-field="name"]', "too-many");
	for (let i = 0; i < 4; i++) await page.click("form footer button.primary");
	await page.waitForSelector('form [role="alert"]'); // the quota's sentence; nothing typed is lost
	assert.equal(await page.inputValue('[data-field="name"]'), "too-many");
});

test("the audit log is searched and verified", async () => {
	await page.goto("/audit");
	await page.waitForSelector("td >> text=createInstance");
	await page.getByLabel("Filter what is shown").fill("createimage");
	await page.waitForSelector("td >> text=createInstance", { state: "detached" });
	await page.waitForSelector("td >> text=createImage");
	await page.getByLabel("Filter what is shown").fill("");
	await page.getByLabel("User", { exact: true }).fill("nobody");
	await page.waitForSelector("text=Nothing fits");
	await page.getByLabel("User", { exact: true }).fill("");
	await page.click("text=Verify");
	await page.waitForSelector(".state.good >> text=records");
	await shot("13-audit");
});

test("one's own settings: the look, and the password", async () => {
	await page.goto("/settings");
	await page.fill('input[name="old"]', "wrong one");
	await page.fill('input[name="password"]', "another long one");
	await page.click("main form button.primary");
	await page.waitForSelector('form [role="alert"]');
	await page.fill('input[name="old"]', ADMIN.password);
	await page.fill('input[name="password"]', "another long one");
	await page.click("main form button.primary");
	await page.waitForSelector(".toast >> text=password");
	await shot("14-settings");
});

// What an authenticator shows (RFC 6238), AHEAD steps from now.
function codeOf(secret, ahead = 0) {
	const bits = [...secret].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
	const counter = Buffer.alloc(8);
	counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + ahead));
	const digest = createHmac("sha1", Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)))).update(counter).digest();
	return String((digest.readUInt32BE(digest[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

test("an authenticator is made known, is asked for, and is taken away", async () => {
	const password = "another long one", card = '.card:has(h2:text-is("Authenticator"))';
	await page.goto("/settings");
	await page.fill('input[name="totp-password"]', "wrong one");
	await page.click('button >> text="Set up an authenticator"');
	await page.waitForSelector(`${card} >> [role="alert"]`);
	await page.fill('input[name="totp-password"]', password);
	await page.click('button >> text="Set up an authenticator"');
	await page.waitForSelector('input[name="totp-code"]');
	const secret = await page.textContent(`${card} >> pre >> nth=0`);
	await page.fill('input[name="totp-code"]', codeOf(secret));
	await page.click('button >> text="Confirm"');
	await page.waitForSelector('button >> text="I have written them down"');
	const recovery = (await page.textContent(`${card} >> pre >> nth=0`)).split("\n");
	assert.equal(recovery.length, 10);
	await page.click('button >> text="I have written them down"');
	await page.waitForSelector(`${card} >> text=Recovery codes left: 10`);
	await shot("15-authenticator");
	// Somebody comes in: the code is asked for when the password was right.
	const other = await openPage(browser, daemon, {});
	await other.goto("/");
	await other.fill('input[name="name"]', ADMIN.user);
	await other.fill('input[name="password"]', password);
	await other.click("form button.primary");
	await other.fill('input[name="code"]', codeOf(secret, 1));
	await shot("16-code", other);
	await other.click("form button.primary");
	await other.waitForSelector(".link.live");
	await other.context().close();
	await page.fill('input[name="totp-password"]', password);
	await page.fill('input[name="totp-code"]', recovery[0]);
	await page.click('button >> text="Take the authenticator away"');
	await page.waitForSelector('input[name="totp-password"]');
	await page.waitForSelector('button >> text="Set up an authenticator"');
	// Of others, an administrator sees whether they have one.
	await daemon.make("POST", "/v1/users", { name: "other", spec: {} });
	await page.goto("/users/other");
	await page.waitForSelector(`${card} >> text=The password alone lets in.`);
});

test("on a phone, in Chinese, in the dark", async () => {
	const small = await openPage(browser, daemon, { viewport: { width: 390, height: 780 }, locale: "zh-CN", colorScheme: "dark" });
	await logIn(small, { ...ADMIN, password: "another long one" });
	for (const [name, path] of [["guest", "/instances/inside/guest"], ["tree", "/instances/kept/snapshots"], ["audit", "/audit"], ["tasks", "/tasks"], ["image", "/images/seed"], ["settings", "/settings"], ["project", "/projects/default"], ["new-image", "/images/+"]]) {
		await small.goto(path);
		await small.waitForSelector("h1");
		await small.waitForTimeout(300);
		assert.ok(await small.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.querySelector("main").scrollWidth <= innerWidth), `${name} is wider than the screen`);
		await shot(`phone-${name}`, small);
	}
	assert.deepEqual([...small.complaints, ...page.complaints], []);
});
