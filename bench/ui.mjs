#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// ui.mjs - the web console with thousands of machines that change: `bench/ui.mjs [INSTANCES [CHANGES_PER_SECOND]]`.
//
// A daemon of its own gets INSTANCES documents (5000), none of which runs; then CHANGES_PER_SECOND (200) of them are
// changed while a real browser scrolls through the table, sorts it and filters it. Told are the first paint with content on
// a cold cache, the times between two frames, the longest task of the page's main thread and the memory of its process.
// Tasks are judged by their processor time, times that pass only where the host is quiet enough for them to say something.
// Ends with status 1 when a promise of docs/promises.md is broken. `make ui` first.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { ADMIN, Daemon, logIn, openBrowser, openPage } from "../ui/tests/rig.mjs";

const N = Number(process.argv[2] ?? 5000), RATE = Number(process.argv[3] ?? 200), SECONDS = 10, AT_ONCE = 16;
const PAINT_MAX_MS = 1000, FRAME_MAX_MS = 50, MEMORY_MAX_MB = 200, CROWDED = 1.3;

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

// What the main thread of PAGE does while WORK is done: each task with the time that it took and the processor time in it, which
// a busy host does not change as it changes times between frames.
async function tasksOf(page, work) {
	const cdp = await page.context().newCDPSession(page), events = [];
	cdp.on("Tracing.dataCollected", (d) => events.push(...d.value));
	await cdp.send("Tracing.start", { transferMode: "ReportEvents", traceConfig: { includedCategories: ["toplevel", "__metadata"] } });
	const result = await work();
	const done = new Promise((r) => cdp.once("Tracing.tracingComplete", r));
	await cdp.send("Tracing.end");
	await done;
	const mains = events.filter((e) => e.name === "thread_name" && e.args.name === "CrRendererMain").map((e) => `${e.pid} ${e.tid}`);
	const isTask = (e) => e.ph === "X" && e.name.endsWith("RunTask") && mains.includes(`${e.pid} ${e.tid}`);
	const tasks = events.filter(isTask).map((e) => ({ ms: e.dur / 1000, cpu: (e.tdur ?? 0) / 1000 }));
	return { result, pid: Number(mains.at(-1).split(" ")[0]), longest: Math.max(...tasks.map((x) => x.cpu)), sum: tasks.reduce((n, x) => n + x.cpu, 0), wall: tasks.reduce((n, x) => n + x.ms, 0) };
}

// Of the process that shows PAGE, all of it: its share of what it has in common with others included.
function memoryOf(pid) {
	return Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))[1]) / 1024;
}

const broken = [];
function told(what, value, unit, max) {
	console.log(`${what.padEnd(60)} ${value.toFixed(1).padStart(9)} ${unit}${max === undefined ? "" : value <= max ? `   kept: <= ${max}` : `   BROKEN: <= ${max}`}`);
	if (max !== undefined && value > max) broken.push(what);
}

// Times that pass are judged when the host gives the page the processor that it wants; processor time always is.
function tellTasks(what, { longest, sum, wall, pid }, max) {
	told(`${what}: processor time of the main thread`, sum, "ms", max);
	told(`${what}: longest task, processor time`, longest, "ms", FRAME_MAX_MS);
	const crowd = wall / sum;
	console.log(`${what}: the page waited for a processor ${crowd > CROWDED ? "often" : "seldom"} (${crowd.toFixed(1)} times its time)`);
	return { isCrowded: crowd > CROWDED, pid };
}

// The processor time of the daemon, in ms.
function processorTime(pid) {
	const f = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
	return (Number(f[11]) + Number(f[12])) * 10;
}

// Nothing is left to do of what was made, or it takes long.
async function settle(daemon) {
	for (let k = 0, before = 0, now; k < 15 && (now = processorTime(daemon.process.pid)) - before > 100; k++, before = now)
		await new Promise((r) => setTimeout(r, 1000));
}

async function load(page, daemon) {
	const before = processorTime(daemon.process.pid);
	const seen = await tasksOf(page, async () => {
		await page.goto("/instances");
		await page.waitForSelector('[role="row"] >> text=m-00000');
		return page.evaluate(() => ({ row: performance.now(), paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0 }));
	});
	const { isCrowded } = tellTasks("first row of the table", seen, PAINT_MAX_MS);
	told("first row of the table: processor time of the daemon", processorTime(daemon.process.pid) - before, "ms");
	told("first row of the table: on the screen after", seen.result.row, "ms", isCrowded ? undefined : PAINT_MAX_MS);
	told("first paint with content", seen.result.paint, "ms", isCrowded ? undefined : PAINT_MAX_MS);
}

async function scrollWhileChanging(page, daemon) {
	const stop = change(daemon), begin = Date.now();
	const seen = await tasksOf(page, () => page.evaluate(scroll, SECONDS * 1000));
	told("changes", (stop() * 1000) / (Date.now() - begin), "per second");
	const frames = seen.result.sort((a, b) => a - b);
	const { isCrowded, pid } = tellTasks("scrolling", seen);
	told("scrolling: processor time of a frame", seen.sum / frames.length, "ms");
	told("scrolling: 99th percentile of the times between frames", frames[Math.floor(frames.length * 0.99)], "ms", isCrowded ? undefined : FRAME_MAX_MS);
	told("scrolling: longest time between frames", frames.at(-1), "ms", isCrowded ? undefined : FRAME_MAX_MS);
	await page.evaluate(() => gc());
	told("memory of the page: its process", memoryOf(pid), "MiB", MEMORY_MAX_MB);
	told("memory of the page: its scripts", (await page.evaluate(() => performance.memory.usedJSHeapSize)) / 2 ** 20, "MiB");
}

// Sorting and filtering look at all of them.
async function sortAndFilter(page) {
	const seen = await tasksOf(page, async () => {
		await page.click(".row.head >> text=State");
		await page.waitForTimeout(1000);
		await page.fill('main input[type="search"]', "m-049");
		await page.waitForSelector('[role="row"] >> text=m-04900');
		await page.fill('main input[type="search"]', "");
		await page.waitForSelector('[role="row"] >> text=m-00000');
	});
	tellTasks("sorting and filtering", seen);
}

if (existsSync("/dev/shm")) process.env.TMPDIR = "/dev/shm"; // the disk is not what is measured
const daemon = new Daemon();
let browser;
try {
	await daemon.start();
	const begin = Date.now();
	await fill(daemon);
	console.log(`${N} documents made in ${((Date.now() - begin) / 1000).toFixed(1)} s`);
	await daemon.make("POST", "/v1/users", { name: ADMIN.user, spec: { role: "admin" } });
	await daemon.make("POST", `/v1/users/${ADMIN.user}/password`, { password: ADMIN.password });
	browser = await openBrowser(["--enable-precise-memory-info", "--js-flags=--expose-gc"]);
	const first = await openPage(browser, daemon);
	await logIn(first);
	const cookies = await first.context().cookies();
	await first.context().close();
	await settle(daemon);
	// Cold: nothing is in a cache. The session is there, so that the page goes straight to the table.
	const page = await openPage(browser, daemon);
	await page.context().addCookies(cookies);
	await load(page, daemon);
	await page.waitForFunction((n) => document.querySelector(".table").getAttribute("aria-rowcount") === String(n + 1), N);
	await scrollWhileChanging(page, daemon);
	await sortAndFilter(page);
	assert.deepEqual(page.complaints, []);
} finally {
	await browser?.close();
	await daemon.stop();
	await daemon.drop();
}
process.exit(broken.length ? 1 : 0);
