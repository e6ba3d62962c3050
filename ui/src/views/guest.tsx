// SPDX-License-Identifier: Apache-2.0
// What the guest agent tells of the system inside, programs that it runs, and files that it brings out and in.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call, type ApiError, type Call } from "../api/client";
import { t } from "../i18n";
import { Link, pathOf } from "../router";
import type { Doc } from "../state/collection";
import { project } from "../state/live";
import { CurlOf } from "../widgets/dialog";
import { sentenceOf, tell } from "../widgets/toast";

interface Told {
	system: { version?: string; host_name?: string; os?: Record<string, string> };
	interfaces?: { name: string; mac?: string; addresses?: string[] }[];
}

interface Output {
	exit?: number;
	signal?: number;
	out?: string;
	err?: string;
	truncated?: boolean;
}

// What the API takes of a file at once, as bytes.
const PIECE = 24 * 1024;
const QUICK = { files: "df -h", users: "who", load: "uptime; free -m", processes: "ps aux" } as const;

const pathTo = (d: Doc, what: string): string => `/v1${pathOf("instances", d.name)}/${what}`;
const scope = (): Record<string, string> => ({ project: project.value });

function bytesOf(base64: string | undefined): Uint8Array {
	return Uint8Array.from(atob(base64 ?? ""), (c) => c.charCodeAt(0));
}

function base64Of(bytes: Uint8Array): string {
	let text = "";
	for (const b of bytes) text += String.fromCharCode(b);
	return btoa(text);
}

const textOf = (base64: string | undefined): string => new TextDecoder().decode(bytesOf(base64));

function Complaint({ text }: { text: string }) {
	return text ? (
		<p class="error" role="alert" dir="auto">
			{text}
		</p>
	) : null;
}

function System({ told }: { told: Told }) {
	const os = told.system.os ?? {};
	const rows: [string, string | undefined][] = [
		[t("guest.os"), os["pretty-name"] ?? os.id],
		[t("guest.kernel"), [os["kernel-release"], os.machine].filter(Boolean).join(", ")],
		[t("guest.host"), told.system.host_name],
		[t("guest.agent"), told.system.version],
	];
	return (
		<article class="card">
			<h2>{t("guest.system")}</h2>
			<dl class="values">
				{rows.filter(([, v]) => v).map(([k, v]) => (
					<div class="pair" key={k}>
						<dt>{k}</dt>
						<dd dir="auto">{v}</dd>
					</div>
				))}
			</dl>
		</article>
	);
}

function Interfaces({ told }: { told: Told }) {
	return (
		<article class="card scroll" tabIndex={0} aria-label={t("guest.addresses")}>
			<h2>{t("guest.addresses")}</h2>
			<table class="plain-table">
				<thead class="hidden">
					<tr>
						<th scope="col">{t("field.name")}</th>
						<th scope="col">{t("net.address")}</th>
						<th scope="col">{t("value.mac")}</th>
					</tr>
				</thead>
				<tbody>
					{told.interfaces?.map((i) => (
						<tr key={i.name}>
							<th scope="row">{i.name}</th>
							<td>
								{i.addresses?.map((a) => <div key={a}>{a}</div>)}
							</td>
							<td>{i.mac}</td>
						</tr>
					))}
				</tbody>
			</table>
		</article>
	);
}

function Run({ doc }: { doc: Doc }) {
	const line = useSignal(""), output = useSignal<Output | undefined>(undefined), error = useSignal(""), isBusy = useSignal(false);
	const callOf = (text: string): Call => ({ method: "POST", path: pathTo(doc, "exec"), query: scope(), body: { program: "/bin/sh", args: ["-c", text] } });
	const run = (text: string): void => {
		line.value = text;
		error.value = "";
		output.value = undefined;
		isBusy.value = true;
		call<Output>(callOf(text))
			.then((o) => (output.value = o), (e: ApiError) => (error.value = sentenceOf(e)))
			.finally(() => (isBusy.value = false));
	};
	const o = output.value;
	return (
		<article class="card">
			<h2>{t("guest.run")}</h2>
			<form class="bar" onSubmit={(e) => (e.preventDefault(), run(line.value))}>
				<input class="grow code" aria-label={t("guest.line")} placeholder={t("guest.line")} value={line.value} spellcheck={false} autocomplete="off" onInput={(e) => (line.value = e.currentTarget.value)} />
				<button class="primary" disabled={isBusy.value || !line.value.trim()}>
					{t("guest.do-run")}
				</button>
			</form>
			<p class="bar">
				{(Object.keys(QUICK) as (keyof typeof QUICK)[]).map((k) => (
					<button type="button" key={k} disabled={isBusy.value} onClick={() => run(QUICK[k])}>
						{t(`guest.quick.${k}`)}
					</button>
				))}
			</p>
			<div role="status">
				{isBusy.value && <p class="soft">{t("guest.running")}</p>}
				{o && (
					<>
						<pre class="output" tabIndex={0}>
							{textOf(o.out)}
							{o.err && <span class="error">{textOf(o.err)}</span>}
						</pre>
						<p class={o.exit === 0 ? "soft" : "error"}>
							{o.signal === undefined ? t("guest.exit", { n: o.exit ?? 0 }) : t("guest.signal", { n: o.signal })} {o.truncated && t("guest.truncated")}
						</p>
					</>
				)}
			</div>
			<Complaint text={error.value} />
			{line.value.trim() && <CurlOf of={callOf(line.value)} />}
		</article>
	);
}

async function bring(doc: Doc, path: string, progress: (n: number) => void): Promise<Blob> {
	const pieces: Uint8Array[] = [];
	for (let at = 0; ; ) {
		const piece = await call<{ data: string; count: number; eof: boolean }>({ method: "GET", path: pathTo(doc, "file"), query: { ...scope(), path, offset: String(at) } });
		pieces.push(bytesOf(piece.data));
		at += piece.count;
		progress(at);
		if (piece.eof || !piece.count) return new Blob(pieces as BlobPart[]);
	}
}

async function put(doc: Doc, path: string, file: File, progress: (n: number) => void): Promise<void> {
	const bytes = new Uint8Array(await file.arrayBuffer());
	for (let at = 0; at === 0 || at < bytes.length; at += PIECE) {
		const data = base64Of(bytes.subarray(at, at + PIECE));
		await call({ method: "POST", path: pathTo(doc, "file"), query: scope(), body: { path, data, append: at > 0 } });
		progress(Math.min(bytes.length, at + PIECE));
	}
}

function save(blob: Blob, name: string): void {
	const a = document.createElement("a");
	a.href = URL.createObjectURL(blob);
	a.download = name;
	a.click();
	window.setTimeout(() => URL.revokeObjectURL(a.href), 1000);
}

function Files({ doc }: { doc: Doc }) {
	const path = useSignal(""), file = useSignal<File | undefined>(undefined), error = useSignal(""), done = useSignal<number | undefined>(undefined);
	const attempt = (work: Promise<unknown>): void => {
		error.value = "";
		done.value = 0;
		void work.then(() => tell(t("guest.copied")), (e: ApiError) => (error.value = sentenceOf(e))).finally(() => (done.value = undefined));
	};
	const told = (n: number): void => void (done.value = n);
	const isBusy = done.value !== undefined, isNamed = path.value.startsWith("/");
	return (
		<article class="card">
			<h2>{t("guest.files")}</h2>
			<label class="field">
				<span>{t("guest.path")}</span>
				<input class="code" placeholder="/etc/hostname" value={path.value} spellcheck={false} autocomplete="off" onInput={(e) => (path.value = e.currentTarget.value)} />
			</label>
			<label class="field">
				<span>{t("guest.file")}</span>
				<input type="file" onChange={(e) => (file.value = e.currentTarget.files?.[0])} />
			</label>
			<div class="bar">
				<button type="button" disabled={isBusy || !isNamed} onClick={() => attempt(bring(doc, path.value, told).then((b) => save(b, path.value.split("/").pop() || "file")))}>
					{t("guest.download")}
				</button>
				<button type="button" disabled={isBusy || !isNamed || !file.value} onClick={() => attempt(put(doc, path.value, file.value!, told))}>
					{t("guest.upload")}
				</button>
				<span role="status">{isBusy && t("guest.bytes", { n: done.value ?? 0 })}</span>
			</div>
			<Complaint text={error.value} />
		</article>
	);
}

// Nobody answers inside: what is to be done.
function Silent({ doc, why, onAgain }: { doc: Doc; why: string; onAgain: () => void }) {
	const isOn = doc.status?.state === "running", hasPort = doc.spec?.agent !== false;
	return (
		<div class="card empty">
			<p>{t(!isOn ? "guest.off" : !hasPort ? "guest.no-port" : "guest.silent")}</p>
			{isOn && hasPort && <pre class="output">apt-get install qemu-guest-agent</pre>}
			{isOn && why && (
				<p class="soft" role="status" dir="auto">
					{why}
				</p>
			)}
			{!hasPort && (
				<Link to={pathOf("instances", doc.name, "settings")} class="button">
					{t("tab.settings")}
				</Link>
			)}
			{isOn && hasPort && (
				<button type="button" onClick={onAgain}>
					{t("net.look-again")}
				</button>
			)}
		</div>
	);
}

export function Guest({ doc }: { doc: Doc }) {
	const told = useSignal<Told | undefined>(undefined), error = useSignal<string | undefined>(undefined);
	const isOn = doc.status?.state === "running";
	const ask = (): void => {
		told.value = error.value = undefined;
		if (!isOn) error.value = "";
		else
			call<Told>({ method: "GET", path: pathTo(doc, "guest"), query: scope() }).then((g) => (told.value = g), (e: ApiError) => (error.value = sentenceOf(e)));
	};
	useEffect(ask, [doc.uid, isOn]);
	if (error.value !== undefined) return <Silent doc={doc} why={error.value} onAgain={ask} />;
	if (!told.value) return <p class="empty">{t("loading")}</p>;
	return (
		<>
			<div class="cards">
				<System told={told.value} />
				<Interfaces told={told.value} />
			</div>
			<Run doc={doc} />
			<Files doc={doc} />
		</>
	);
}
