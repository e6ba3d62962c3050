// SPDX-License-Identifier: Apache-2.0
// The console in Firefox: log in, make a machine step by step, work on its console, see what it uses.
import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Firefox } from "./firefox.mjs";
import { ADMIN, Daemon, SHOTS } from "./rig.mjs";

const GUEST = process.env.VIV_UI_GUEST;
const daemon = new Daemon(), page = new Firefox();
const shot = (name) => page.shot(join(SHOTS, `firefox-${name}.png`));
const next = () => page.click("form footer button.primary");
const screen = "(document.querySelector('.xterm-accessibility-tree') ?? document.querySelector('.xterm-rows'))?.textContent";

before(async () => {
	assert.ok(GUEST && existsSync(join(GUEST, "shell.gz")), "VIV_UI_GUEST names the folder of a guest");
	mkdirSync(SHOTS, { recursive: true });
	await daemon.start();
	await daemon.make("POST", "/v1/users", { name: ADMIN.user, spec: { role: "admin" } });
	await daemon.make("POST", `/v1/users/${ADMIN.user}/password`, { password: ADMIN.password });
	await page.start();
});
after(async () => {
	await page.end();
	await daemon.end();
});

test("log in", async () => {
	await page.goto(`${daemon.url}/`);
	await page.fill('input[name="name"]', ADMIN.user);
	await page.fill('input[name="password"]', ADMIN.password);
	await page.click("form button.primary");
	await page.find(".link.live");
	await page.find(".chart canvas");
	await shot("1-overview");
});

test("a machine is made step by step", async () => {
	await page.click("nav a", "Instances");
	await page.click("main a", "Create");
	await page.fill('[data-field="name"]', "web");
	await next();
	await page.fill('[data-field="spec.memory"]', "128M");
	await page.value(`(() => { const e = document.querySelector('[data-field="spec.engine"]'); e.value = "bt"; e.dispatchEvent(new Event("change", { bubbles: true })); })()`);
	await next();
	await page.click('fieldset button[aria-label="Remove"]');
	await next();
	await page.fill('[data-field="spec.kernel"]', join(GUEST, "vmlinuz"));
	await page.fill('[data-field="spec.initrd"]', join(GUEST, "shell.gz"));
	await page.fill('[data-field="spec.cmdline"]', "console=ttyS0 quiet cryptomgr.notests");
	await next();
	await page.find("dl.plan", "134217728");
	await next();
	await page.find("header .state.good");
	await shot("2-machine");
});

test("its console shows the boot, and answers", async () => {
	await page.click(".tabs a", "Console");
	await page.waitFor(`${screen}?.includes("shell-is-up")`, "the guest's first word");
	await page.click(".screen");
	await page.type("uname -a\n");
	await page.waitFor(`/Linux .* x86_64/.test(${screen})`, "the answer of uname");
	await shot("3-console");
});

test("its charts are drawn", async () => {
	await page.click(".tabs a", "Use");
	await page.find(".chart canvas");
	await page.waitFor("[...document.querySelectorAll('.chart output')].some((o) => /\\d/.test(o.textContent))", "a figure");
	await shot("4-use");
});

test("no script failed", () => {
	assert.deepEqual(page.complaints.filter((text) => !/WebSocket|favicon/i.test(text)), []);
});
