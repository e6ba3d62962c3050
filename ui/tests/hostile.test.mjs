// SPDX-License-Identifier: Apache-2.0
// What goes wrong is shown decently, nothing that was typed is lost, and nothing that others wrote is executed: the node gone or
// slow, a session that ends, a task that fails, names of any length, texts from right to left, script in every field.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ADMIN, SHOTS, begin, everyList, everyPlace, logIn, openPage, until, visit } from "./rig.mjs";

const EVIL = `"><img src=x onerror="window.caught=1"><script>window.caught=1</script>{{7*7}}javascript:window.caught=1`;
const PLACE = encodeURIComponent(EVIL.replace(/[./]/g, "")); // with a dot it would be a file
const LONG = "x".repeat(10_000);
const RTL = "‮gnp.exe עברית עִבְרִית العربية";
let daemon, browser, page, end;

const shot = (name) => page.screenshot({ path: join(SHOTS, `hostile-${name}.png`) });
const field = (name) => `[data-field="${name}"]`;
const isNarrow = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.querySelector("main").scrollWidth <= document.querySelector("main").clientWidth);
const isSafe = async () => assert.equal(await page.evaluate(() => window.caught), undefined);
const isWritten = (seconds) => until(async () => (await daemon.ask("GET", "/v1/instances/web")).doc.spec.shutdown_seconds === seconds, () => "it is not written");

before(async () => {
	({ daemon, browser, page, end } = await begin());
	await daemon.make("POST", "/v1/instances", { name: "web", spec: { state: "stopped", kernel: "/none", networks: [] } });
});
after(() => end?.());

test("the node goes while somebody types: what was typed is still there when it is back, and is written", async () => {
	await page.goto("/instances/web/settings");
	await page.fill(field("spec.shutdown_seconds"), "21");
	await daemon.stop("SIGKILL");
	await page.waitForSelector(".link.broken");
	await page.click("form.settings button.primary");
	await page.waitForSelector('form.settings [role="alert"] >> text=does not answer');
	await shot("1-gone");
	assert.equal(await page.inputValue(field("spec.shutdown_seconds")), "21");
	await daemon.start();
	await page.waitForSelector(".link.live");
	await page.click("form.settings button.primary");
	await isWritten(21);
});

test("the network is slow: that it is waited for is seen, and nothing is sent twice", async () => {
	let count = 0, go;
	const held = new Promise((r) => (go = r));
	await page.route("**/v1/instances/web?**", async (route) => {
		count++;
		await held;
		await route.continue();
	});
	await page.fill(field("spec.shutdown_seconds"), "22");
	await page.click("form.settings button.primary");
	await page.waitForSelector(".waiting progress");
	assert.ok(await page.locator("form.settings button.primary").isDisabled());
	await shot("2-slow");
	go();
	await isWritten(22);
	await page.waitForSelector(".waiting progress", { state: "detached" });
	assert.equal(count, 1);
	await page.unroute("**/v1/instances/web?**");
});

test("the session ends: the page asks for the password above what was typed, and goes on", async () => {
	await page.fill(field("spec.shutdown_seconds"), "23");
	await page.context().clearCookies();
	await page.click("form.settings button.primary");
	await page.waitForSelector('dialog input[name="password"]');
	assert.equal(await page.inputValue('dialog input[name="name"]'), ADMIN.user);
	await shot("3-expired");
	await page.fill('dialog input[name="password"]', "not this one");
	await page.click("dialog button.primary");
	await page.waitForSelector('dialog [role="alert"]');
	await page.fill('dialog input[name="password"]', ADMIN.password);
	await page.click("dialog button.primary");
	await page.waitForSelector("dialog", { state: "detached" });
	assert.equal(await page.inputValue(field("spec.shutdown_seconds")), "23");
	await page.click("form.settings button.primary");
	await isWritten(23);
});

test("the session ends while nobody does anything: that is noticed when the connection is made anew", async () => {
	await page.context().clearCookies();
	await daemon.stop("SIGKILL");
	await page.waitForSelector(".link.broken");
	await daemon.start();
	await page.fill('dialog input[name="password"]', ADMIN.password);
	await page.click("dialog button.primary");
	await page.waitForSelector("dialog", { state: "detached" });
	await page.waitForSelector(".link.live");
});

test("a task that fails says why, in its list, on its page and on the overview", async () => {
	await daemon.make("POST", "/v1/volumes", { name: "data", spec: { size: "8M" } });
	await until(async () => (await daemon.ask("GET", "/v1/volumes/data")).doc.status?.state === "ready", () => "no volume");
	await daemon.make("POST", "/v1/instances", { name: "kept", spec: { state: "stopped", kernel: "/none", networks: [], disks: [{ volume: "data" }] } });
	await until(async () => (await daemon.ask("GET", "/v1/instances/kept")).doc.status?.state === "stopped", () => "no instance");
	await daemon.make("POST", "/v1/instances/kept/snapshots", { name: "first" });
	await until(async () => (await daemon.ask("GET", "/v1/instances/kept/snapshots/first")).doc.status?.state === "ready", () => "no snapshot");
	await daemon.make("POST", "/v1/instances/kept/snapshots/first/revert");
	await until(async () => (await daemon.ask("GET", "/v1/tasks")).doc.items.some((x) => x.status?.state === "done"), () => "no task");
	// A real one first: nobody publishes anything here.
	const refresh = (await daemon.ask("POST", "/v1/catalogues/debian/refresh")).doc;
	await until(async () => (await daemon.ask("GET", `/v1/tasks/${refresh.name}`)).doc.status?.state === "failed", () => "it does not fail");
	await page.goto(`/tasks/${refresh.name}`);
	await page.waitForSelector("header .state.bad");
	const reason = (await daemon.ask("GET", `/v1/tasks/${refresh.name}`)).doc.status.reason;
	assert.ok(reason.length > 10 && (await page.innerText("main")).includes(reason), reason);
	// And one with a text that nobody would trust.
	await page.route("**/v1/tasks?**", async (route) => {
		const answer = await route.fetch(), doc = await answer.json();
		for (const x of doc.items ?? []) x.status = { ...x.status, state: "failed", reason: `the disk is gone ${EVIL}` };
		await route.fulfill({ response: answer, json: doc });
	});
	await page.goto("/tasks");
	await page.waitForSelector('[role="row"] .state.bad');
	await page.waitForSelector('[role="row"] >> text=the disk is gone');
	await shot("4-task-failed");
	await page.click('[role="row"] .name');
	await page.waitForSelector("header .state.bad");
	await page.waitForSelector("main >> text=the disk is gone");
	await page.click("nav >> text=Overview");
	await page.waitForSelector(".card >> text=the disk is gone");
	await isSafe();
	await page.unroute("**/v1/tasks?**");
});

test("names of ten thousand characters, and texts from right to left, stay where they belong", async () => {
	for (const [name, text] of [["long", LONG], ["rtl", RTL]]) {
		await page.goto("/instances/+");
		await page.fill(field("name"), text);
		for (let i = 0; i < 3; i++) await page.click("form footer button.primary");
		await page.fill(field("spec.kernel"), "/none");
		await page.click("form footer button.primary");
		await page.waitForSelector(`.field.wrong ${field("name")}`);
		assert.equal((await page.inputValue(field("name"))).length > 0, true);
		assert.ok(await isNarrow(), `the form is too wide: ${name}`);
		await shot(`5-${name}`);
		await page.goto(`/instances?q=${encodeURIComponent(text)}`);
		await page.waitForSelector("text=Nothing fits");
		assert.ok(await isNarrow(), `the list is too wide: ${name}`);
		await page.goto(`/instances/${encodeURIComponent(text.slice(0, 2000).replaceAll(".", ""))}`);
		await page.waitForSelector(".toast.error");
		assert.ok(await isNarrow(), `the message is too wide: ${name}`);
	}
	await daemon.make("POST", "/v1/projects", { name: "p".repeat(63), spec: { about: RTL } });
	await daemon.make("POST", "/v1/instances", { name: "n".repeat(63), labels: { note: RTL.slice(0, 40) }, spec: { state: "stopped", kernel: `/${"k".repeat(1000)}`, networks: [] } });
	for (const path of ["/", "/instances", `/instances/${"n".repeat(63)}`, `/instances/${"n".repeat(63)}/settings`, "/projects", `/projects/${"p".repeat(63)}`]) {
		await page.goto(path);
		await page.waitForSelector("h1");
		assert.ok(await isNarrow(), `${path} is too wide`);
	}
	await shot("6-long-names");
});

// TEXT in every input of the form that is shown, one after the other.
async function fillAll(text) {
	const inputs = page.locator('main form input:not([type="checkbox"]):not([type="number"]):not([type="file"]), main form textarea');
	for (let i = 0; i < (await inputs.count()); i++) await inputs.nth(i).fill(text, { force: true });
	for (const add of await page.locator("main form fieldset > button, main form fieldset .item fieldset > button").all()) await add.click();
	return inputs.count();
}

for (const [what, text] of [["script", EVIL], ["a text of ten thousand characters", LONG], ["a text from right to left", RTL]])
	test(`${what} in every field of every form is text, is complained about where it is, and stays as it was typed`, async () => {
		for (const list of (await everyList(page)).filter((l) => l !== "/tasks")) {
			await visit(page, `${list}/+`);
			await page.waitForSelector("main form footer");
			for (let step = 0; step < 6; step++) {
				assert.ok((await fillAll(text)) > 0, `nothing to fill in at ${list}`);
				await fillAll(text); // what has been added meanwhile
				const at = await page.locator('.steps [aria-current="step"]').allInnerTexts();
				await page.click("form footer button.primary");
				await page.waitForFunction((was) => document.querySelector('form [role="alert"]') || document.querySelector('.steps [aria-current="step"]')?.innerText !== was, at[0]);
				if (await page.locator('form [role="alert"]').count()) break;
			}
			await page.waitForSelector('form [role="alert"]'); // the API has an opinion of its own
			assert.equal(await page.inputValue(field("name")), text.replaceAll("\n", ""), `it is not what was typed at ${list}`);
			assert.ok(await isNarrow(), `${list}/+ is too wide`);
			await isSafe();
			await page.click("form >> text=Cancel");
			await page.waitForSelector("main form footer", { state: "detached" }); // the next form is another one
		}
	});

// What the API takes of TEXT in each kind of document; what it does not take is left out.
async function store(name, text, label) {
	const take = (path, spec) => daemon.ask("POST", path, { name, labels: { note: label }, spec });
	const all = [
		take("/v1/instances", { state: "stopped", kernel: `/${text.replaceAll("/", "")}`, cmdline: text, user_data: `#cloud-config\n# ${text}`, networks: [] }),
		take("/v1/volumes", { size: "8M" }),
		take("/v1/projects", { about: text }),
		take("/v1/users", { about: text }),
		take("/v1/networks", { kind: "user" }),
		take("/v1/images", { source: { path: `/${text.replaceAll("/", "")}` } }),
	];
	const made = (await Promise.all(all)).filter((a) => a.status < 300).length;
	assert.ok(made >= 4, `only ${made} were taken`);
	await until(async () => (await daemon.ask("GET", `/v1/instances/${name}`)).doc.status?.state, () => "no instance");
	await daemon.ask("POST", `/v1/instances/${name}/snapshots`, { name: "first", spec: { about: text } });
	await daemon.ask("POST", "/v1/roles", { name, labels: { note: label }, spec: { role: "viewer" } });
}

test("what is stored is text on every page, with every tab, and none is wider for it", async () => {
	await store("evil", EVIL, EVIL.slice(0, 60));
	await store("rtl", RTL, RTL.slice(0, 40));
	await store("n".repeat(63), `${"k".repeat(400)}`, "l".repeat(60));
	const ours = ["evil", "rtl", "n".repeat(63)];
	const places = await everyPlace(page, daemon, (items) => items.filter((x) => ours.includes(x.name)));
	assert.ok(places.length > 60, `only ${places.length} places`);
	for (const path of [...places, `/instances?q=${encodeURIComponent(EVIL)}`]) {
		await visit(page, path);
		assert.ok(await isNarrow(), `${path} is too wide`);
		await isSafe();
	}
	for (const path of [`/${PLACE}`, `/instances/${PLACE}`, "/instances/%25E0%25A4"]) {
		await page.goto(path);
		await page.waitForSelector("main h1, main .empty");
	}
	await isSafe();
	await page.context().clearCookies();
	await page.goto("/");
	await page.fill('input[name="name"]', EVIL);
	await page.fill('input[name="password"]', EVIL);
	await page.click("form button.primary");
	await page.waitForSelector('[role="alert"]');
	await isSafe();
	assert.deepEqual(page.complaints, []);
});

test("who logs in after somebody else sees nothing of theirs", async () => {
	await daemon.make("POST", "/v1/users", { name: "other", spec: {} });
	await daemon.make("POST", "/v1/users/other/password", { password: "only for looking" });
	const own = await openPage(browser, daemon);
	await logIn(own);
	await own.goto("/instances");
	await own.waitForSelector('[role="row"] >> text=evil');
	await own.click("header >> text=Log out");
	await own.fill('input[name="name"]', "other");
	await own.fill('input[name="password"]', "only for looking");
	await own.click("form button.primary");
	await own.waitForSelector("header .user >> text=other");
	assert.equal(await own.locator("text=evil").count(), 0);
	await own.context().close();
});
