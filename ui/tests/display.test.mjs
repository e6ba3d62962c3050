// SPDX-License-Identifier: Apache-2.0
// A graphical console: there is no graphics device yet, so the API's description, a machine's display and the server of RFB
// (RFC 6143) behind its socket are made up here; what shows them is the console's own.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { SHOTS, begin, until } from "./rig.mjs";

const WIDTH = 64, HEIGHT = 48, KEY_EVENT = 4;
let daemon, page, end;
const sockets = [], keys = [], loaded = [];

// What a server says, one after the other, and how many bytes of the client are waited for before.
function steps() {
	const init = Buffer.alloc(24 + 4);
	init.writeUInt16BE(WIDTH, 0);
	init.writeUInt16BE(HEIGHT, 2);
	Buffer.from([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0]).copy(init, 4);
	init.writeUInt32BE(4, 20);
	init.write("seen", 24);
	return [[12, Buffer.from([1, 1])], [1, Buffer.from([0, 0, 0, 0])], [1, init]];
}

// The whole screen in one colour, as raw pixels of 32 bits.
function picture() {
	const head = Buffer.from([0, 0, 0, 1, 0, 0, 0, 0, 0, WIDTH, 0, HEIGHT, 0, 0, 0, 0]), pixels = Buffer.alloc(WIDTH * HEIGHT * 4);
	for (let i = 0; i < pixels.length; i += 4) pixels.set([200, 100, 50, 255], i);
	return Buffer.concat([head, pixels]);
}

// The length of the client's message at the beginning of DATA (RFC 6143, 7.5); 0: not all of it is there.
function lengthOf(data) {
	const fixed = { 0: 20, 3: 10, 4: 8, 5: 6 }[data[0]];
	if (fixed) return fixed;
	if (data[0] === 2) return data.length < 4 ? 0 : 4 + 4 * data.readUInt16BE(2);
	if (data[0] === 6) return data.length < 8 ? 0 : 8 + Math.abs(data.readInt32BE(4));
	return data.length;
}

function serve(socket) {
	let got = Buffer.alloc(0), isDrawn = false;
	const rest = steps();
	const message = (m) => {
		if (m[0] === KEY_EVENT) keys.push([m[1], m.readUInt32BE(4)]);
		if (m[0] !== 3 || isDrawn) return;
		isDrawn = true;
		socket.send(picture());
	};
	sockets.push(socket);
	socket.onMessage((m) => {
		got = Buffer.concat([got, Buffer.from(m)]);
		while (rest.length && got.length >= rest[0][0]) {
			const [length, answer] = rest.shift();
			got = got.subarray(length);
			socket.send(answer);
		}
		for (let n; !rest.length && got.length && (n = lengthOf(got)) && got.length >= n; got = got.subarray(n)) message(got.subarray(0, n));
	});
	socket.send(Buffer.from("RFB 003.008\n"));
}

before(async () => {
	({ daemon, page, end } = await begin());
	await daemon.make("POST", "/v1/instances", { name: "seen", spec: { state: "stopped", kernel: "/none", networks: [] } });
	await daemon.make("POST", "/v1/instances", { name: "plain", spec: { state: "stopped", kernel: "/none", networks: [] } });
	page.on("request", (r) => loaded.push(r.url()));
});
after(() => end?.());

const isLoaded = (part) => loaded.some((url) => url.includes(`/assets/${part}-`));

test("a machine without a display has a serial console, says so, and noVNC is not loaded", async () => {
	await page.goto("/instances/plain/console");
	await page.waitForSelector(".screen .xterm");
	await page.waitForSelector("text=This machine has a serial console");
	assert.ok(isLoaded("terminal"));
	assert.ok(!isLoaded("graphical"));
});

test("one that has a display shows it, takes keys, is left by keyboard, and comes back after a break", async () => {
	await page.route("**/v1/openapi.json", async (route) => {
		const answer = await route.fetch(), doc = await answer.json();
		doc.paths["/v1/instances/{name}/display"] = { get: { operationId: "openInstanceDisplay", "x-socket": true, "x-role": "operator", responses: {} } };
		await route.fulfill({ response: answer, json: doc });
	});
	await page.route("**/v1/instances?**", async (route) => {
		const answer = await route.fetch(), doc = await answer.json();
		for (const i of doc.items) if (i.name === "seen") i.status = { ...i.status, display: { protocol: "rfb" } };
		await route.fulfill({ response: answer, json: doc });
	});
	await page.routeWebSocket(/\/v1\/instances\/seen\/display/, serve);
	loaded.length = 0;
	await page.goto("/instances/seen");
	await page.waitForSelector(".tabs >> text=Console");
	// noVNC looks for what a socket can do one level up, where that of the test has nothing of its own.
	await page.evaluate(() => {
		const own = WebSocket.prototype;
		for (let p = Object.getPrototypeOf(own); p && p !== EventTarget.prototype; p = Object.getPrototypeOf(p))
			for (const name of Object.getOwnPropertyNames(p)) if (!Object.hasOwn(own, name)) Object.defineProperty(own, name, Object.getOwnPropertyDescriptor(p, name));
	});
	await page.click(".tabs >> text=Console");
	await page.waitForSelector(".console .state.good");
	assert.ok(isLoaded("graphical"));
	assert.ok(!isLoaded("terminal"));
	const colour = () => page.evaluate(() => [...(document.querySelector(".screen canvas")?.getContext("2d").getImageData(30, 20, 1, 1).data ?? [])].join());
	await until(async () => ["200,100,50,255", "50,100,200,255"].includes(await colour()), () => "nothing is drawn");
	await page.screenshot({ path: join(SHOTS, "display.png") });
	await page.click("text=Type into it");
	await page.keyboard.press("a");
	await until(() => keys.some(([isDown, key]) => isDown === 1 && key === 0x61), () => `no key: ${JSON.stringify(keys)}`);
	await page.keyboard.press("Control+Alt+Period");
	await until(() => page.evaluate(() => document.activeElement?.textContent === "Type into it"), () => "it is not left");
	await sockets[0].close();
	await until(() => sockets.length > 1, () => "it does not come back");
	await page.waitForSelector(".console .state.good");
	await page.click(".choices >> text=Serial");
	await page.waitForSelector(".screen .xterm");
	assert.deepEqual(page.complaints, []);
});
