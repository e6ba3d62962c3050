// SPDX-License-Identifier: Apache-2.0
// A daemon of its own, a browser, and an administrator who is logged in: what every test of the console begins with.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { chromium } from "playwright-core";

export const ROOT = resolve(import.meta.dirname ?? new URL(".", import.meta.url).pathname, "../..");
export const SHOTS = join(ROOT, "build/test-logs/ui");
const BUILD = join(ROOT, "build");
const PATIENCE = 60_000;
export const ADMIN = { user: "root-of-all", password: "correct horse battery" };

export class Daemon {
	constructor() {
		this.folder = mkdtempSync(join(tmpdir(), "viv-ui-"));
		this.said = "";
	}

	// On the address it had, when it had one.
	async start() {
		const listen = this.url ?? "https://127.0.0.1:0";
		const args = ["--data", join(this.folder, "data"), "--run", join(this.folder, "run"), "--listen", listen, "--ui", join(BUILD, "ui")];
		const from = this.said.length;
		this.process = spawn(join(BUILD, "vivd"), args, { stdio: ["ignore", "ignore", "pipe"] });
		this.process.stderr.on("data", (d) => (this.said += d));
		const address = await until(() => /serving (https:\S+)/.exec(this.said.slice(from)), () => `the daemon does not serve: ${this.said}`);
		this.url = address[1];
	}

	token() {
		return until(() => /^\s+([0-9a-z_]{16,})\s*$/m.exec(this.said), () => `no token: ${this.said}`).then((m) => m[1]);
	}

	async stop(signal = "SIGTERM") {
		if (!this.process || this.process.exitCode !== null) return;
		const gone = new Promise((done) => this.process.once("exit", done));
		this.process.kill(signal);
		await gone;
	}

	// Through the Unix socket, as the daemon's own user.
	ask(method, path, body) {
		return new Promise((done, fail) => {
			const text = body === undefined ? undefined : JSON.stringify(body);
			// A connection of its own: one that is kept may end with a daemon that was killed.
			const rq = request({ socketPath: join(this.folder, "run/api.sock"), agent: false, method, path, headers: text ? { "content-type": "application/json" } : {} }, (answer) => {
				let all = "";
				answer.on("data", (d) => (all += d));
				const isDoc = /^application\/json/.test(answer.headers["content-type"] ?? "");
				answer.on("end", () => done({ status: answer.statusCode, text: all, doc: all && isDoc ? JSON.parse(all) : undefined }));
			});
			rq.on("error", fail);
			rq.end(text);
		});
	}

	async make(method, path, body) {
		const answer = await this.ask(method, path, body);
		assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.doc)}`);
		return answer.doc;
	}

	async end() {
		const all = await this.ask("GET", "/v1/instances").catch(() => undefined);
		for (const i of all?.doc?.items ?? []) await this.ask("DELETE", `/v1/instances/${i.name}`);
		await until(async () => !(await this.ask("GET", "/v1/instances").catch(() => undefined))?.doc?.items?.length, () => "machines do not go").catch(() => undefined);
		await this.stop();
		this.drop();
	}

	// Its folder, when it has ended and left no machine.
	drop() {
		rmSync(this.folder, { recursive: true, force: true });
	}
}

// A daemon with its administrator, a browser, and a page where that one is logged in.
export async function begin() {
	const daemon = new Daemon();
	await daemon.start();
	await daemon.make("POST", "/v1/users", { name: ADMIN.user, spec: { role: "admin" } });
	await daemon.make("POST", `/v1/users/${ADMIN.user}/password`, { password: ADMIN.password });
	const browser = await openBrowser(), page = await openPage(browser, daemon);
	await logIn(page);
	return {
		daemon, browser, page,
		end: async () => {
			await browser.close();
			await daemon.end();
		},
	};
}

// What PROBE gives, as soon as it is something.
export async function until(probe, why, patience = PATIENCE) {
	for (const end = Date.now() + patience; ; await new Promise((r) => setTimeout(r, 25))) {
		const found = await probe();
		if (found) return found;
		if (Date.now() > end) assert.fail(why());
	}
}

export async function openBrowser(more = []) {
	mkdirSync(SHOTS, { recursive: true });
	// Root, in a container or on a build machine, has no sandbox for the browser.
	return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", ...more] });
}

// A page that fails the test for every error of a script, every request elsewhere and every breach of the policy.
export async function openPage(browser, daemon, options = {}) {
	const context = await browser.newContext({ ignoreHTTPSErrors: true, baseURL: daemon.url, viewport: { width: 1280, height: 800 }, locale: "en-GB", ...options });
	const page = await context.newPage();
	page.setDefaultTimeout(PATIENCE);
	page.complaints = [];
	page.on("pageerror", (e) => page.complaints.push(`script: ${e.message}`));
	page.on("console", (m) => /Content Security Policy|Refused to/.test(m.text()) && page.complaints.push(m.text()));
	page.on("request", (r) => !r.url().startsWith(daemon.url) && !/^(data|blob|wss):/.test(r.url()) && page.complaints.push(`asks ${r.url()}`));
	return page;
}

export async function logIn(page, who = ADMIN) {
	await page.goto("/");
	await page.fill('input[name="name"]', who.user);
	await page.fill('input[name="password"]', who.password);
	await page.click("form button.primary");
	await page.waitForSelector(".link.live");
}

// Within the console, as a link does it: the page stays, and what was put into it.
export async function visit(of, path) {
	await of.evaluate((to) => {
		history.pushState(null, "", to);
		dispatchEvent(new PopStateEvent("popstate"));
		return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
	}, path);
	await of.waitForSelector("main h1");
}

// The paths of all lists of documents.
export async function everyList(of) {
	await of.goto("/");
	await of.waitForSelector(".navigation a[href='/instances']", { state: "attached" });
	const all = await of.locator(".navigation a").evaluateAll((links) => links.map((a) => a.getAttribute("href")));
	return all.filter((l) => !["/", "/settings", "/audit"].includes(l));
}

// Where everything is: all lists, of each kind the documents that PICK chooses with all their tabs, all forms.
export async function everyPlace(of, daemon, pick = (items) => items.slice(0, 1)) {
	const paths = ["/", "/settings", "/audit", "/networks?view=attached", "/networks?view=list", "/nothing-of-that-name"], documents = [];
	for (const list of await everyList(of)) {
		paths.push(list);
		const items = (await daemon.ask("GET", `/v1${list}`)).doc?.items ?? [];
		documents.push(...pick(items.filter((x) => !x.deleting)).map((x) => `${list}/${x.name}`));
		if (list !== "/tasks") paths.push(`${list}/+`);
	}
	for (const path of documents) {
		await visit(of, path);
		await of.waitForSelector(".tabs a", { state: "attached" });
		paths.push(...(await of.locator(".tabs a").evaluateAll((all) => all.map((a) => a.getAttribute("href")))));
	}
	return paths;
}
