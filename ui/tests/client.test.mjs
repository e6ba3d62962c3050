// SPDX-License-Identifier: Apache-2.0
// A client that is generated from the API's own description, as anybody may: openapi-typescript makes types of what the daemon serves, the compiler
// holds client.ts to them, and that goes through a round trip.
import assert from "node:assert/strict";
import { execFile, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Daemon, ROOT } from "./rig.mjs";

const BIN = join(ROOT, "ui/node_modules/.bin");
let daemon, folder;

function run(program, ...args) {
	const done = spawnSync(join(BIN, program), args, { cwd: folder, encoding: "utf8" });
	assert.equal(done.status, 0, `${program} ${args.join(" ")}: ${done.stdout}${done.stderr}`);
}

before(async () => {
	folder = mkdtempSync(join(tmpdir(), "viv-client-"));
	daemon = new Daemon();
	await daemon.start();
});
after(async () => {
	await daemon.end();
	rmSync(folder, { recursive: true, force: true });
});

test("a generated client goes through a round trip", async () => {
	const { doc } = await daemon.ask("GET", "/v1/openapi.json");
	assert.deepEqual(doc, JSON.parse(readFileSync(join(ROOT, "docs/api/openapi.json"), "utf8")));
	writeFileSync(join(folder, "openapi.json"), JSON.stringify(doc));
	// What has a default need not be sent.
	run("openapi-typescript", "openapi.json", "-o", "schema.d.ts", "--default-non-nullable=false");
	copyFileSync(join(ROOT, "ui/tests/client.ts"), join(folder, "client.ts"));
	// Node's own types are not among the console's packages: what the client needs of them.
	writeFileSync(join(folder, "node.d.ts"), `declare module "node:http" { export function request(o: object, f: (a: { statusCode?: number; on(e: "data", f: (d: string) => void): void;
		on(e: "end", f: () => void): void }) => void): { on(e: "error", f: (e: unknown) => void): void; end(t?: string): void } }
		declare const process: { argv: string[]; exit(n: number): never };`);
	mkdirSync(join(folder, "out"));
	writeFileSync(join(folder, "package.json"), JSON.stringify({ type: "module" }));
	run("tsc", "--strict", "--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler", "--lib", "es2022,dom", "--outDir", "out",
		"client.ts", "node.d.ts");
	const words = [join(folder, "out/client.js"), join(daemon.folder, "run/api.sock")];
	const done = await new Promise((resolve) => execFile(process.execPath, words, { timeout: 60_000 }, (e, out, err) => resolve({ e, out, err })));
	assert.equal(done.e, null, done.err);
	assert.match(done.out, /round trip done/);
});
