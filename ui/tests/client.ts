// SPDX-License-Identifier: Apache-2.0
// A program that somebody writes against the API: all that it knows of it are the types that openapi-typescript makes of the document that the
// daemon serves. client.test.mjs compiles and runs it; what TypeScript would let pass below @ts-expect-error, or refuse elsewhere, ends that.
import { request } from "node:http";
import type { components, paths } from "./schema";

type Verb = "get" | "put" | "post" | "delete" | "patch";
type Verbs<P extends keyof paths> = { [V in Verb]: paths[P][V] extends { responses: unknown } ? V : never }[Verb];
type Body<O> = O extends { requestBody?: { content: { "application/json": infer B } } } ? B : undefined;
type Query<O> = O extends { parameters: { query?: infer Q } } ? Q : undefined;
type Places<O> = O extends { parameters: { path: infer P } } ? P : undefined;
type Good<R> = { [S in keyof R]: S extends 200 | 201 | 202 ? (R[S] extends { content: { "application/json": infer D } } ? D : unknown) : never }[keyof R];
type Answer<O> = O extends { responses: infer R } ? Good<R> : never;
type Failure = { code: string; message: string; field?: string };
interface Told<O> { body?: Body<O>; query?: Query<O>; path?: Places<O>; ifMatch?: number }

class Refused extends Error {
	constructor(readonly status: number, readonly error: Failure) { super(error.message); }
}

function call<P extends keyof paths, V extends Verbs<P>>(verb: V, path: P, told: Told<paths[P][V]> = {}): Promise<Answer<paths[P][V]>> {
	const places = (told.path ?? {}) as Record<string, string>;
	const query = new URLSearchParams((told.query ?? {}) as Record<string, string>).toString();
	const url = String(path).replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(places[name])) + (query && `?${query}`);
	const text = told.body === undefined ? undefined : JSON.stringify(told.body);
	const headers = { ...(text && { "content-type": "application/json" }), ...(told.ifMatch !== undefined && { "if-match": `"${told.ifMatch}"` }) };
	return new Promise((done, fail) => {
		const rq = request({ socketPath: process.argv[2], agent: false, method: String(verb).toUpperCase(), path: url, headers }, (answer) => {
			let all = "";
			answer.on("data", (d) => (all += d));
			answer.on("end", () => {
				const doc = all ? JSON.parse(all) : undefined;
				if (answer.statusCode! >= 400) fail(new Refused(answer.statusCode!, doc.error));
				else done(doc);
			});
		});
		rq.on("error", fail);
		rq.end(text);
	});
}

function check(holds: unknown, what: string): asserts holds {
	if (!holds) throw new Error(what);
}

async function refusal(what: Promise<unknown>): Promise<Refused> {
	const found = await what.then(() => undefined, (e) => e);
	check(found instanceof Refused, `it was not refused: ${found}`);
	return found;
}

async function main() {
	const spec: components["schemas"]["VolumeSpec"] = { size: "8M" };
	const made = await call("post", "/v1/volumes", { body: { name: "data", spec } });
	check(made.name === "data" && made.spec.size === 8 << 20 && typeof made.revision === "number", "what was made is what was asked for");
	for (;;) {
		const now = await call("get", "/v1/volumes/{name}", { path: { name: "data" } });
		if ((now.status as { state?: string } | undefined)?.state === "ready") break;
		await new Promise((r) => setTimeout(r, 20));
	}
	const list = await call("get", "/v1/volumes", { query: { labels: "", sort: "-spec.size", fields: "name" } });
	check(list.items.length === 1 && list.items[0].name === "data" && list.total === 1, "it is in the list");
	const larger = await call("patch", "/v1/volumes/{name}", { path: { name: "data" }, body: { labels: { of: "client" }, spec: { size: 16 << 20 } } as never });
	check(larger.labels?.of === "client", "it was changed");
	const late = await refusal(call("patch", "/v1/volumes/{name}", { path: { name: "data" }, ifMatch: made.revision, body: { labels: {} } as never }));
	check(late.status === 412 || late.status === 409, `somebody else was faster: ${late.status}`);
	// A dry run says what would be, and what is wrong names its field.
	const machine: components["schemas"]["InstanceSpec"] = { kernel: "/dev/null", state: "stopped", memory: "64M", disks: [{ volume: "data" }], networks: [] };
	const planned = await call("post", "/v1/instances", { query: { "dry-run": "true" }, body: { name: "vm", spec: machine } });
	check(planned.spec?.cpus === 1 && (await call("get", "/v1/instances", {})).items.length === 0, "nothing was made");
	await call("post", "/v1/instances", { body: { name: "vm", spec: machine } });
	const used = await refusal(call("delete", "/v1/volumes/{name}", { path: { name: "data" } }));
	check(used.status === 409 && used.error.code === "busy" && used.error.message.includes("'vm'"), "it is used");
	const renamed = await call("post", "/v1/instances/{name}/rename", { path: { name: "vm" }, body: { name: "shop" } });
	check(renamed !== undefined, "it has another name");
	const wrong = await refusal(call("post", "/v1/volumes", { body: { name: "v", spec: { size: "many" } } }));
	check(wrong.status === 400 && wrong.error.field === "spec.size", `the field is named: ${wrong.error.field}`);
	await call("delete", "/v1/instances/{name}", { path: { name: "shop" } });
	const end = Date.now() + 30_000;
	while ((await call("get", "/v1/instances")).items.length && Date.now() < end) await new Promise((r) => setTimeout(r, 20));
	await call("delete", "/v1/volumes/{name}", { path: { name: "data" } });
	console.log("round trip done");
}

// What is no part of the API does not compile.
export function never() {
	// @ts-expect-error there is no such path
	void call("get", "/v1/nothing");
	// @ts-expect-error nobody deletes all of them
	void call("delete", "/v1/volumes");
	// @ts-expect-error a volume has a size
	void call("post", "/v1/volumes", { body: { name: "v", spec: {} } });
	// @ts-expect-error there are three states
	void call("post", "/v1/instances", { body: { name: "v", spec: { state: "sleeping" } } });
	// @ts-expect-error a list is no document
	void call("get", "/v1/volumes").then((l) => l.spec);
}

main().catch((e) => {
	console.error(e);
	process.exit(1);
});
