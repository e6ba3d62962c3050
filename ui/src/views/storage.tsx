// SPDX-License-Identifier: Apache-2.0
// Where disks live: the space of a pool and what is in it; a volume with its pool, its user, and what can be done with it.
import { call, type Call } from "../api/client";
import { findKind, kinds, resolve, type Kind, type Need, type Schema } from "../api/spec";
import { formatBytes, t, type MessageKey } from "../i18n";
import { Link, pathOf } from "../router";
import type { Doc } from "../state/collection";
import { collection, project } from "../state/live";
import { State } from "../widgets/badge";
import { confirmThen } from "../widgets/dialog";
import type { Value } from "../widgets/form";
import { printSize } from "../widgets/size";
import { tell } from "../widgets/toast";
import { Guarded, mayCreate } from "./acts";
import { DiskFacts } from "./disk";
import { UploadCard } from "./upload";
import { cancelTask, isEnded, TaskProgress } from "./tasks";

const PERCENT = 100, ROWS_MOST = 100;

const number = (v: unknown): number => (typeof v === "number" ? v : 0);

function docsOf(kind: string): Doc[] {
	const c = collection(kind);
	c.calm.value;
	return c.names.value.map((n) => c.get(n)?.value).filter((d): d is Doc => !!d);
}

const poolOf = (d: Doc): string => String(d.spec?.pool ?? "default");

// How full a pool is: the word for it, from which on it is told, and from which on nothing new is put there.
function fullness(pool: Doc): { percent: number; warn: number; limit: number; tone: string } {
	const size = number(pool.status?.size), used = size - number(pool.status?.free);
	const percent = typeof pool.status?.percent === "number" ? pool.status.percent : size ? Math.round((used * PERCENT) / size) : 0;
	const warn = number(pool.spec?.warn_percent) || PERCENT, limit = number(pool.spec?.limit_percent) || PERCENT;
	return { percent, warn, limit, tone: percent >= limit ? "bad" : percent >= warn ? "busy" : "good" };
}

// A bar with both thresholds; all of it is said in words, too.
export function Fullness({ of, isSmall }: { of: Doc; isSmall?: boolean }) {
	if (!number(of.status?.size)) return null;
	const f = fullness(of);
	return (
		<span class={`fullness ${f.tone}${isSmall ? " small" : ""}`}>
			<span class="bar-of-it" aria-hidden="true">
				<i style={{ width: `${Math.min(f.percent, PERCENT)}%` }} />
				<b style={{ insetInlineStart: `${f.warn}%` }} />
				<b style={{ insetInlineStart: `${f.limit}%` }} />
			</span>
			<span>{t(isSmall ? "pool.percent" : "pool.room", { percent: f.percent, free: formatBytes(number(of.status?.free)), size: formatBytes(number(of.status?.size)) })}</span>
		</span>
	);
}

function Content({ title, plural, docs }: { title: MessageKey; plural: string; docs: Doc[] }) {
	return (
		<article class="card">
			<h2>
				{t(title)} ({docs.length})
			</h2>
			{!docs.length && <p class="soft">{t("pool.nothing")}</p>}
			{docs.length > 0 && (
				<table class="plain-table">
					<tbody>
						{docs.slice(0, ROWS_MOST).map((d) => (
							<tr key={d.uid}>
								<th scope="row">
									<Link to={pathOf(plural, d.name)}>{d.name}</Link>
								</th>
								<td>
									<State of={d.deleting ? "deleting" : d.status?.state} />
								</td>
								<td class="number">{number(d.spec?.size ?? d.spec?.disk_size) ? formatBytes(number(d.spec?.size ?? d.spec?.disk_size)) : ""}</td>
							</tr>
						))}
					</tbody>
				</table>
			)}
			{docs.length > ROWS_MOST && <p class="soft">{t("image.more-users", { n: docs.length - ROWS_MOST })}</p>}
		</article>
	);
}

export function PoolCards({ doc }: { doc: Doc }) {
	const isGone = doc.status?.state === "gone", f = fullness(doc);
	const volumes = docsOf("volume").filter((d) => poolOf(d) === doc.name), roots = docsOf("instance").filter((d) => d.spec?.image && poolOf(d) === doc.name);
	const promised = volumes.reduce((n, d) => n + number(d.spec?.size), 0);
	return (
		<div class="cards">
			<article class="card">
				<div class="bar">
					<h2>{t("pool.space")}</h2>
					<span class="grow" />
					{!isGone && mayCreate("volumes") && (
						<Link to={`/volumes/+?pool=${encodeURIComponent(doc.name)}`} class="button primary">
							{t("pool.new-volume")}
						</Link>
					)}
				</div>
				{isGone ? (
					<p class="error" role="status">
						{t("pool.gone")}
					</p>
				) : (
					<Fullness of={doc} />
				)}
				<p class="soft">{t("pool.thresholds", { warn: f.warn, limit: f.limit })}</p>
				<p class="soft">{t("pool.promised", { size: formatBytes(promised) })}</p>
			</article>
			<Content title="kind.volumes" plural="volumes" docs={volumes} />
			<Content title="pool.roots" plural="instances" docs={roots} />
		</div>
	);
}

// --- volumes ----------------------------------------------------

// The instances whose disks it is one of.
function usersOf(volume: string): Doc[] {
	return docsOf("instance").filter((d) => (d.spec?.disks as { volume?: string }[] | undefined)?.some((x) => x.volume === volume));
}

function moveOf(volume: string): Doc | undefined {
	return docsOf("task").find((d) => d.operation === "moveVolume" && (d.params as { volume?: string } | undefined)?.volume === volume && !isEnded(d));
}

function grow(doc: Doc): void {
	const path = `/v1${pathOf("volumes", doc.name)}`;
	const change = (body: Value): Call => ({ method: "PATCH", path, query: { project: project.value }, body, revision: doc.revision });
	const size = kinds.value.find((k) => k.kind === "volume")?.schema;
	confirmThen({
		title: t("volume.grow"),
		text: t("volume.grow-text", { size: formatBytes(number(doc.spec?.size)) }),
		action: t("volume.grow"),
		schema: { type: "object", properties: { spec: { type: "object", properties: { size: sizeField(size) } } } },
		first: { spec: { size: printSize(number(doc.spec?.size)) } },
		callOf: change,
		run: (v) => call(change(v)).then(() => tell(t("done.change", { name: doc.name }))),
	});
}

const sizeField = (schema: Kind["schema"]): Schema => ({ ...resolve(resolve(schema).properties?.spec).properties?.size, description: "" });

const FORMATS = ["qcow2", "raw"];

// To the first of POOLS, or another; its own is among them, for another format.
function move(doc: Doc, pools: string[]): void {
	const query = { project: project.value };
	const moveTo = (body: Value): Call => ({ method: "POST", path: `/v1${pathOf("volumes", doc.name)}/move`, query, body });
	confirmThen({
		title: t("volume.move"),
		text: t("volume.move-text", { pool: poolOf(doc) }),
		action: t("volume.move"),
		schema: { type: "object", properties: { pool: { type: "string", enum: pools, default: pools[0]! }, format: { type: "string", enum: FORMATS } } },
		first: { pool: pools[0], format: String(doc.spec?.format ?? FORMATS[0]) },
		callOf: moveTo,
		run: (v) => call(moveTo(v)).then(() => tell(t("done.act", { act: t("volume.move"), n: 1 }))),
		check: () => call({ ...moveTo(pools.length > 1 ? { pool: pools[0] } : { pool: pools[0], format: FORMATS.find((f) => f !== (doc.spec?.format ?? FORMATS[0])) }), query: { ...query, "dry-run": "true" } }),
	});
}

function Moving({ task }: { task: Doc }) {
	const p = task.params as { from?: string; to?: string };
	return (
		<div role="status">
			<p>{t("volume.moving", { from: p.from ?? "", to: p.to ?? "" })}</p>
			<div class="bar">
				<TaskProgress of={task} />
				<button type="button" class="small" disabled={!!task.cancel} onClick={() => cancelTask(task)}>
					{t("cancel")}
				</button>
			</div>
		</div>
	);
}

export function VolumeCards({ doc }: { doc: Doc }) {
	const users = usersOf(doc.name), task = moveOf(doc.name), pool = collection("pool").get(poolOf(doc))?.value;
	const pools = [...collection("pool").names.value.filter((n) => n !== poolOf(doc)), poolOf(doc)];
	const isReady = doc.status?.state === "ready", kind = findKind("volumes"), anyone: Need = { role: "anyone", where: "node" };
	const needs = { change: kind?.needs.change ?? anyone, move: kind?.actions.find((a) => a.name === "move")?.need ?? anyone };
	return (
		<div class="cards">
			<UploadCard plural="volumes" doc={doc} />
			<article class="card">
				<h2>{t("volume.place")}</h2>
				<p>
					<Link to={pathOf("pools", poolOf(doc))}>{poolOf(doc)}</Link> {pool && <State of={pool.status?.state} />}
				</p>
				{pool && <Fullness of={pool} />}
				{task ? (
					<Moving task={task} />
				) : (
					<Guarded need={needs.move} disabled={!isReady} onClick={() => move(doc, pools)}>
						{t("volume.move")} …
					</Guarded>
				)}
			</article>
			<article class="card">
				<h2>{t("volume.disk")}</h2>
				<p>{t("volume.size", { size: formatBytes(number(doc.spec?.size)), format: String(doc.spec?.format ?? FORMATS[0]) })}</p>
				<DiskFacts plural="volumes" doc={doc} />
				<div class="bar">
					<Guarded need={needs.change} disabled={!!task} onClick={() => grow(doc)}>
						{t("volume.grow")} …
					</Guarded>
					<Download plural="volumes" doc={doc} isReady={isReady && !task} />
				</div>
			</article>
			<article class="card">
				<h2>{t("volume.users")}</h2>
				{!users.length && <p class="soft">{t("volume.unused")}</p>}
				<ul class="values">
					{users.map((d) => (
						<li key={d.uid}>
							<Link to={pathOf("instances", d.name)}>{d.name}</Link> <State of={d.status?.state} /> <Link to={pathOf("instances", d.name, "snapshots")}>{t("volume.snapshot")}</Link>
						</li>
					))}
				</ul>
			</article>
		</div>
	);
}

// The browser does it: it knows how to show how far it is, to pause and to go on.
export function Download({ plural, doc, isReady }: { plural: string; doc: Doc; isReady: boolean }) {
	if (!isReady) return null;
	return (
		<a class="button" href={`/v1${pathOf(plural, doc.name)}/content?${new URLSearchParams({ project: project.value })}`} download={doc.name}>
			{t("volume.download")}
		</a>
	);
}
