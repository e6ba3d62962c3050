// SPDX-License-Identifier: Apache-2.0
// As much of a driver for Firefox as a short test needs: WebDriver BiDi (https://www.w3.org/TR/webdriver-bidi/) over its socket.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";
import { until } from "./rig.mjs";

const ENTER = "\uE007";

export class Firefox {
	async start() {
		this.profile = mkdtempSync(join(tmpdir(), "viv-firefox-"));
		this.said = "";
		this.waiting = new Map();
		this.last = 0;
		const args = ["--headless", "--no-remote", "--remote-debugging-port=0", "--profile", this.profile, "about:blank"];
		this.process = spawn(process.env.FIREFOX ?? "firefox-esr", args, { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, HOME: this.profile, MOZ_REMOTE_ALLOW_SYSTEM_ACCESS: "0" } });
		this.process.stderr.on("data", (d) => (this.said += d));
		this.process.on("error", (e) => (this.said += e.message));
		const [, address] = await until(() => /WebDriver BiDi listening on (ws:\S+)/.exec(this.said), () => `no Firefox: ${this.said}`);
		this.socket = new WebSocket(`${address}/session`);
		this.socket.on("message", (m) => this.take(JSON.parse(m)));
		await new Promise((done, fail) => this.socket.once("open", done).once("error", fail));
		await this.send("session.new", { capabilities: { alwaysMatch: { acceptInsecureCerts: true } } });
		this.complaints = [];
		await this.send("session.subscribe", { events: ["log.entryAdded"] });
		const { contexts } = await this.send("browsingContext.getTree", {});
		this.context = contexts[0].context;
	}

	take(said) {
		if (said.method === "log.entryAdded" && said.params.level === "error") this.complaints.push(said.params.text);
		const own = this.waiting.get(said.id);
		if (!own) return;
		this.waiting.delete(said.id);
		if (said.type === "error") own.fail(new Error(`${said.error}: ${said.message}`));
		else own.done(said.result);
	}

	send(method, params) {
		const id = ++this.last;
		return new Promise((done, fail) => {
			this.waiting.set(id, { done, fail });
			this.socket.send(JSON.stringify({ id, method, params }));
		});
	}

	goto(url) {
		return this.send("browsingContext.navigate", { context: this.context, url, wait: "interactive" });
	}

	// What the expression TEXT is in the page: a string, a number, true or false.
	async value(text) {
		const said = await this.send("script.evaluate", { expression: text, target: { context: this.context }, awaitPromise: true });
		if (said.type !== "success") throw new Error(`${text}: ${said.exceptionDetails?.text}`);
		return said.result.value;
	}

	waitFor(expression, why = expression) {
		return until(() => this.value(`!!(${expression})`).catch(() => false), () => `in Firefox there is not: ${why}`);
	}

	// The element that SELECTOR finds, with TEXT in it when that is given.
	async find(selector, text = "") {
		const found = `[...document.querySelectorAll(${JSON.stringify(selector)})].find((e) => e.textContent.includes(${JSON.stringify(text)}))`;
		await this.waitFor(found, `${selector} ${text}`);
		const said = await this.send("script.evaluate", { expression: found, target: { context: this.context }, awaitPromise: false });
		return said.result.sharedId;
	}

	// The page may still be moving: what is not in sight by the time the pointer goes there was not clicked, and is brought there again.
	async click(selector, text) {
		const scroll = `[...document.querySelectorAll(${JSON.stringify(selector)})].find((e) => e.textContent.includes(${JSON.stringify(text ?? "")}))?.scrollIntoView({ block: "center", behavior: "instant" })`;
		for (let left = 20; ; left--) {
			const element = { type: "element", element: { sharedId: await this.find(selector, text) } };
			await this.value(scroll);
			const actions = [{ type: "pointerMove", x: 0, y: 0, origin: element }, { type: "pointerDown", button: 0 }, { type: "pointerUp", button: 0 }];
			try {
				await this.send("input.performActions", { context: this.context, actions: [{ type: "pointer", id: "mouse", actions }] });
				return;
			} catch (e) {
				if (!left || !e.message.startsWith("move target out of bounds")) throw e;
				await new Promise((done) => setTimeout(done, 50));
			}
		}
	}

	async type(text) {
		const actions = [...text].flatMap((c) => ["keyDown", "keyUp"].map((type) => ({ type, value: c === "\n" ? ENTER : c })));
		await this.send("input.performActions", { context: this.context, actions: [{ type: "key", id: "keys", actions }] });
	}

	async fill(selector, text) {
		await this.click(selector);
		await this.value(`document.querySelector(${JSON.stringify(selector)}).select?.()`);
		await this.type(text);
		await this.waitFor(`document.querySelector(${JSON.stringify(selector)}).value === ${JSON.stringify(text)}`);
	}

	async shot(path) {
		const { data } = await this.send("browsingContext.captureScreenshot", { context: this.context });
		writeFileSync(path, Buffer.from(data, "base64"));
	}

	async end() {
		if (this.process && this.process.exitCode === null) {
			const gone = new Promise((done) => this.process.once("exit", done));
			await this.send("browser.close", {}).catch(() => this.process.kill());
			const timer = setTimeout(() => this.process.kill("SIGKILL"), 10_000);
			await gone;
			clearTimeout(timer);
		}
		this.socket?.close();
		rmSync(this.profile, { recursive: true, force: true });
	}
}
