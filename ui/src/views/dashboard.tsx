// SPDX-License-Identifier: Apache-2.0
// How the node is, what needs attention, and what happened last.
import { useSignal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { call } from "../api/client";
import { findKind, kinds } from "../api/spec";
import { formatBytes, formatNumber, formatTime, t, tIf, type MessageKey } from "../i18n";
import { Link, pathOf } from "../router";
import type { Doc } from "../state/collection";
import { certificate, collection, project, recent, type Certificate } from "../state/live";
import { usageNow, type Usage } from "../state/usage";
import { State } from "../widgets/badge";
import { lazyCharts } from "./lazy";
import { Fullness } from "./storage";
import { isEnded, targetOf, TaskProgress, titleOfTask } from "./tasks";
import { nameOf, titleOf } from "./words";

interface Node {
	name: string;
	version: string;
	kernel: string;
	cpus: number;
	memory: number;
	certificate?: Certificate;
	disk?: { state: string; reason: string };
}

function docsOf(kind: string): Doc[] {
	const c = collection(kind);
	c.calm.value;
	return c.names.value.map((n) => c.get(n)!.peek());
}

function Counts() {
	return (
		<ul class="counts">
			{kinds.value.map((k) => (
				<li key={k.plural}>
					<Link to={pathOf(k.plural)}>
						<b>{collection(k.kind).names.value.length}</b> {titleOf(k.plural)}
					</Link>
				</li>
			))}
		</ul>
	);
}

// What the running machines may take of what there is, and what is taken of each pool.
function Capacity({ node }: { node: Node }) {
	const running = docsOf("instance").filter((d) => d.spec?.state !== "stopped");
	const cpus = running.reduce((n, d) => n + Number(d.spec?.cpus ?? 1), 0), memory = running.reduce((n, d) => n + Number(d.spec?.memory ?? 0), 0);
	return (
		<>
			<p class="soft">{t("dash.up", { n: running.length })}</p>
			<label class="meter">
				{t("field.spec.cpus")}: {cpus} / {node.cpus}
				<meter min={0} max={node.cpus} high={node.cpus * 2} value={Math.min(cpus, node.cpus)} />
			</label>
			<label class="meter">
				{t("field.spec.memory")}: {formatBytes(memory)} / {formatBytes(node.memory)}
				<meter min={0} max={node.memory} high={node.memory * 0.9} value={Math.min(memory, node.memory)} />
			</label>
			{docsOf("pool").map((d) => (
				<div key={d.uid}>
					{t("dash.storage")}: <Link to={pathOf("pools", d.name)}>{d.name}</Link> <Fullness of={d} />
				</div>
			))}
		</>
	);
}

const BUSIEST_MOST = 5, TASKS_MOST = 6, ALARMS_MOST = 20;
const ORDERS: Record<string, { title: MessageKey; of: (u: Usage) => number; show: (n: number) => string }> = {
	cpu: { title: "use.cpu", of: (u) => u.cpu, show: (n) => t("use.cpus", { n: formatNumber(n) }) },
	memory: { title: "use.memory", of: (u) => u.memory, show: formatBytes },
	disk: { title: "use.disk", of: (u) => u.read + u.written, show: (n) => `${formatBytes(n)}/s` },
	network: { title: "use.network", of: (u) => u.received + u.sent, show: (n) => `${formatBytes(n)}/s` },
	storage: { title: "use.storage", of: (u) => u.storage, show: formatBytes },
};

// The machines that use most of something.
function Busiest() {
	const prefix = `instance/${project.value}/`, by = useSignal("cpu"), order = ORDERS[by.value]!;
	const all = Object.entries(usageNow.value?.instances ?? {}).filter(([key]) => key.startsWith(prefix));
	if (!all.length) return <p>{t("dash.busiest.none")}</p>;
	return (
		<>
			<select aria-label={t("dash.by")} value={by.value} onChange={(e) => (by.value = e.currentTarget.value)}>
				{Object.entries(ORDERS).map(([id, o]) => (
					<option key={id} value={id}>
						{t(o.title)}
					</option>
				))}
			</select>
			<table class="plain">
				<tbody>
					{all
						.sort(([, a], [, b]) => order.of(b) - order.of(a))
						.slice(0, BUSIEST_MOST)
						.map(([key, u]) => (
							<tr key={key}>
								<th scope="row">
									<Link to={pathOf("instances", key.slice(prefix.length), "use")}>{key.slice(prefix.length)}</Link>
								</th>
								<td class="number">{order.show(order.of(u))}</td>
							</tr>
						))}
				</tbody>
			</table>
		</>
	);
}

function Use({ node }: { node: Node }) {
	const [Charts, setCharts] = useState<Awaited<ReturnType<typeof lazyCharts>>>();
	useEffect(() => void lazyCharts().then((c) => setCharts(() => c)), []);
	return Charts ? <Charts path="/v1/node/history" of={undefined} cpus={node.cpus} memory={node.memory} /> : null;
}

// What somebody should look at, the worst first: what failed or is gone, and what soon will be full.
const ALARMS: readonly string[] = ["failed", "error", "gone", "full", "warning"];

function Problems({ node }: { node: Node | undefined }) {
	const known = certificate.value ?? node?.certificate, worst = (d: Doc): number => ALARMS.indexOf(d.status?.state ?? "");
	const bad = kinds.value.flatMap((k) => docsOf(k.kind).filter((d) => worst(d) >= 0).map((d) => ({ k, d }))).sort((a, b) => worst(a.d) - worst(b.d));
	if (!bad.length && !known?.problem && !node?.disk?.reason) return <p>{t("dash.problems.none")}</p>;
	return (
		<ul class="values">
			{known?.problem && (
				<li key="certificate">
					{t("dash.certificate")}: <span dir="auto">{known.problem}</span>
				</li>
			)}
			{node?.disk?.reason && (
				<li key="disk">
					{t("dash.disk")}: <span dir="auto">{node.disk.reason}</span>
				</li>
			)}
			{bad.slice(0, ALARMS_MOST).map(({ k, d }) => (
				<li key={d.uid}>
					{nameOf(k)} <Link to={pathOf(k.plural, d.name)}>{k.kind === "task" ? titleOfTask(d) : d.name}</Link> <State of={d.status?.state} /> <span dir="auto">{d.status?.reason}</span>
				</li>
			))}
			{bad.length > ALARMS_MOST && <li key="more">{t("image.more-users", { n: bad.length - ALARMS_MOST })}</li>}
		</ul>
	);
}

// What was, or is being, done that takes long; the youngest first.
function LastTasks() {
	const tasks = docsOf("task").sort((a, b) => (a.created! < b.created! ? 1 : -1)).slice(0, TASKS_MOST);
	if (!tasks.length) return <p>{t("dash.tasks.none")}</p>;
	return (
		<table class="plain-table">
			<tbody>
				{tasks.map((d) => (
					<tr key={d.uid}>
						<th scope="row">
							<Link to={pathOf("tasks", d.name)}>{titleOfTask(d)}</Link> <span class="soft">{targetOf(d)}</span>
						</th>
						<td>{isEnded(d) ? <State of={d.status?.state} /> : <TaskProgress of={d} />}</td>
					</tr>
				))}
			</tbody>
		</table>
	);
}

function Last() {
	return (
		<ol class="events">
			{recent.value.slice(0, 15).map((c) => {
				const [kind, , name] = c.key!.split("/");
				const plural = kinds.value.find((k) => k.kind === kind)?.plural;
				return (
					<li key={`${c.revision} ${c.type}`}>
						<time>{formatTime(new Date(c.at).toISOString())}</time>{" "}
						{plural && findKind(plural) ? <Link to={pathOf(plural, name!)}>{name}</Link> : name} {tIf(`change.${c.type}`, c.type)}{" "}
						{c.type === "status" && <State of={c.document?.status?.state} />}
					</li>
				);
			})}
		</ol>
	);
}

export function Dashboard() {
	const node = useSignal<Node | undefined>(undefined);
	useEffect(() => void call<Node>({ method: "GET", path: "/v1/node" }).then((n) => (node.value = n), () => undefined), []);
	const n = node.value;
	return (
		<section class="view">
			<h1>{t("home")}</h1>
			<div class="cards">
				<article class="card">
					<h2>{t("dash.node")}</h2>
					{n && (
						<p>
							<b>{n.name}</b>
							<br />
							Vivarium {n.version}, Linux {n.kernel}
						</p>
					)}
					<Counts />
				</article>
				<article class="card">
					<h2>{t("dash.capacity")}</h2>
					{n && <Capacity node={n} />}
				</article>
				<article class="card">
					<h2>{t("dash.busiest")}</h2>
					<Busiest />
				</article>
				<article class="card">
					<h2>{t("dash.problems")}</h2>
					<Problems node={n} />
				</article>
				<article class="card">
					<h2>{t("dash.tasks")}</h2>
					<LastTasks />
				</article>
				<article class="card">
					<h2>{t("dash.events")}</h2>
					<Last />
				</article>
			</div>
			{n && <Use node={n} />}
		</section>
	);
}
