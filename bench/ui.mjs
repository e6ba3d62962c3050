#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// ui.mjs - the web console with thousands of machines that change: `bench/ui.mjs [INSTANCES [CHANGES_PER_SECOND]]`.
//
// A daemon of its own gets INSTANCES documents (5000), none of which runs; then CHANGES_PER_SECOND (200) of them are
// changed while a real browser scrolls through the table. Told are the first paint with content on a cold cache, the
// longest and the 99th percentile of the times between two frames, the processor time of each, and the memory of the
// page after a collection. Ends with status 1 when a promise of docs/promises.md is broken. `make ui` first.
import assert from "node:assert/strict";
import { ADMIN, Daemon, logIn, openBrowser, openPage } from "../ui/tests/rig.mjs";

const N = Number(process.argv[2] ?? 5000), RATE = Number(process.argv[3] ?? 200), SECONDS = 10, AT_ONCE = 16;
const PAINT_MAX_MS = 1000, FRAME_MAX_MS = 50, MEMORY_MAX = 200 * 2 ** 20;

async function fill(daemon) {
	let next = 0;
	const one = async () => {
		for (let i = next++; i < N; i = next++)
			await daemon.make("POST", "/v1/instances", { name: `m-${String(i).padStart(5, "0")}`, labels: { n: "0" }, spec: { state: "stopped", kernel: "/none", networks: [] } });
	};
	await Promise.all(Array.from({ length: AT_ONCE }, one));
}

function change(daemon) {
	let count = 0, busy = 0;
	const timer = setInterval(() => {
		for (let k = 0; k < RATE / 50 && busy < 4 * AT_ONCE; k++) {
			busy++;
			const name = `m-${String(Math.floor(Math.random() * N)).padStart(5, "0")}`;
			daemon.make("PATCH", `/v1/instances/${name}`, { labels: { n: String(++count) } }).then(() => busy--, () => busy--);
		}
	}, 20);
	return () => (clearInterval(timer), count);
}

// In the page: scrolls for MS milliseconds, and returns the times between frames.
function scroll(ms) {
	const table = document.querySelector(".table"), frames = [], begin = performance.now();
	return new Promise((done) => {
		let last = begin;
		const frame = (now) => {
			frames.push(now - last);
			last = now;
			table.scrollTop = ((now - begin) * 3) % (table.scrollHeight - table.clientHeight);
			if (now - begin < ms) requestAnimationFrame(frame);
			else done(frames.slice(1));
		};
		requestAnimationFrame(frame);
	});
}

// Of the page's main thread, which a busy host does not change as it changes times between frames: what it has used
// since, in seconds.
async function processorTime(page) {
	const cdp = await page.context().newCDPSession(page);
	await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
	const read = async () => {
		const all = Object.fromEntries((await cdp.send("Performance.getMetrics")).metrics.map((m) => [m.name, m.value]));
		return { all: all.TaskDuration, scripts: all.ScriptDuration };
	};
	const before = await read();
	return async () => {
		const now = await read();
		return { all: now.all - before.all, scripts: now.scripts - before.scripts };
	};
}

const daemon = new Daemon(), broken = [];
let browser;
function told(what, value, unit, max) {
	console.log(`${what.padEnd(52)} ${value.toFixed(1).padStart(9)} ${unit}${max === undefined ? "" : value <= max ? `   kept: <= ${max}` : `   BROKEN: <= ${max}`}`);
	if (max !== undefined && value > max) broken.push(what);
}

try {
	await daemon.start();
	let begin = Date.now();
	await fill(daemon);
	console.log(`${N} documents made in ${((Date.now() - begin) / 1000).toFixed(1)} s`);
	await daemon.make("POST", "/v1/users", { name: ADMIN.user, spec: { role: "admin" } });
	await daemon.make("POST", `/v1/users/${ADMIN.user}/password`, { password: ADMIN.password });
	browser = await openBrowser(["--enable-precise-memory-info", "--js-flags=--expose-gc"]);
	const first = await openPage(browser, daemon);
	await logIn(first);
	const cookies = await first.context().cookies();
	await first.context().close();
	// Cold: nothing is in a cache. The session is there, so that the page goes straight to the table.
	const page = await openPage(browser, daemon);
	await page.context().addCookies(cookies);
	await page.goto("/instances");
	await page.waitForSelector('[role="row"] >> text=m-00000');
	told("first row of the table on the screen", await page.evaluate(() => performance.now()), "ms", PAINT_MAX_MS);
	told("first paint with content", await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0), "ms", PAINT_MAX_MS);
	const quiet = (await page.evaluate(scroll, 3000)).sort((a, b) => a - b);
	told("frames while nothing changes: longest", quiet.at(-1), "ms");
	const stop = change(daemon);
	begin = Date.now();
	const used = await processorTime(page);
	const frames = (await page.evaluate(scroll, SECONDS * 1000)).sort((a, b) => a - b);
	for (const [what, seconds] of Object.entries(await used())) told(`processor time per frame: ${what}`, (seconds * 1000) / frames.length, "ms");
	told("changes", (stop() * 1000) / (Date.now() - begin), "per second");
	told("frames while scrolling: 99th percentile", frames[Math.floor(frames.length * 0.99)], "ms", FRAME_MAX_MS);
	told("frames while scrolling: longest", frames.at(-1), "ms", FRAME_MAX_MS);
	told("memory of the page", (await page.evaluate(() => (gc(), performance.memory.usedJSHeapSize))) / 2 ** 20, "MiB", MEMORY_MAX / 2 ** 20);
	assert.deepEqual(page.complaints, []);
} finally {
	await browser?.close();
	await daemon.stop();
	await daemon.drop();
}
process.exit(broken.length ? 1 : 0);
