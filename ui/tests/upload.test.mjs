// SPDX-License-Identifier: Apache-2.0
// Files of this computer become images and volumes: with progress, paused and resumed, after a daemon that was killed, and after a page
// that was closed.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SHOTS, begin, until } from "./rig.mjs";

const MIB = 2 ** 20, PART = 8 * MIB;
let daemon, page, end, file;
const shot = (name) => page.screenshot({ path: join(SHOTS, `upload-${name}.png`) });
const at = async (path) => (await daemon.ask("GET", path)).doc;
const isReady = (path) => until(async () => (await at(path)).status?.state === "ready", () => `${path} does not become ready`);

// Parts behind the first COUNT are held until the function that is returned is called.
async function hold(count) {
	let go, seen = 0;
	const free = new Promise((r) => (go = r));
	await page.route("**/content?**", async (route) => {
		if (++seen > count) await free;
		await route.continue().catch(() => undefined);
	});
	return async () => {
		go();
		await page.unroute("**/content?**");
	};
}

async function choose(list, name, path) {
	await page.goto(`${list}/+`);
	await page.fill('[data-field="name"]', name);
	await page.click(".choices >> text=Send a file");
	await page.setInputFiles('main input[type="file"]', path);
}

async function make() {
	await page.click("form footer button.primary");
	await page.waitForSelector("dl.plan");
	await page.click("form footer button.primary");
}

before(async () => {
	({ daemon, page, end } = await begin());
	file = join(daemon.folder, "disk.raw");
	writeFileSync(file, randomBytes(3 * PART));
});
after(() => end?.());

test("a file becomes an image; it is paused in the middle, and goes on", async () => {
	const release = await hold(1);
	await choose("/images", "sent", file);
	await shot("1-choice");
	await make();
	await until(async () => (await at("/v1/images/sent"))?.status?.upload?.received === PART, () => "the first part is not there");
	await page.waitForSelector(".card >> text=Being sent");
	await page.click("main >> text=Pause");
	await page.waitForSelector(".card >> text=Paused");
	await shot("2-paused");
	await release();
	assert.equal((await at("/v1/images/sent")).status.upload.received, PART);
	await page.click("main >> text=Go on");
	await isReady("/v1/images/sent");
	await page.waitForSelector("header .state >> text=ready");
	await shot("3-ready");
});

test("a volume takes the size of its file, and a daemon that is killed meanwhile ends nothing", async () => {
	const release = await hold(1);
	await choose("/volumes", "sent", file);
	await until(async () => (await page.inputValue('[data-field="spec.size"]')) === "24M", () => "the size is not that of the file");
	await make();
	await until(async () => (await at("/v1/volumes/sent"))?.status?.upload?.received === PART, () => "the first part is not there");
	await daemon.stop("SIGKILL");
	await release();
	await daemon.start();
	await isReady("/v1/volumes/sent");
	await page.waitForSelector("header .state >> text=ready");
});

test("after the page was closed the same file is chosen again, and no other", async () => {
	const release = await hold(1);
	await choose("/images", "again", file);
	await make();
	await until(async () => (await at("/v1/images/again"))?.status?.upload?.received === PART, () => "the first part is not there");
	page.on("dialog", (d) => void d.accept());
	await page.goto("/images/again");
	await release();
	await page.waitForSelector(".card >> text=Choose the same file");
	await shot("4-again");
	const other = join(daemon.folder, "other.raw");
	writeFileSync(other, Buffer.alloc(MIB));
	await page.setInputFiles('main input[type="file"]', other);
	await page.waitForSelector(".toast.error >> text=another file");
	await page.setInputFiles('main input[type="file"]', file);
	await isReady("/v1/images/again");
	assert.deepEqual(page.complaints, []);
});
