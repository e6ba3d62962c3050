// SPDX-License-Identifier: Apache-2.0
// One thing: what it is now, what happened to it, its settings; of a machine its console, too.
import { lazyConsole } from "../console/lazy";
import { lazyCharts } from "./lazy";
import { Why } from "./why";
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api/client";
import type { Kind } from "../api/spec";
import { formatBytes, formatTime, t, tIf } from "../i18n";
import { go, Link, pathOf, segments } from "../router";
import type { Doc } from "../state/collection";
import { collection, project, recent } from "../state/live";
import { State } from "../widgets/badge";
import { tellError } from "../widgets/toast";
import { AuthenticatorOf } from "./authenticator";
import { actionsFor, perform } from "./list";
import { Guest } from "./guest";
import { ImageCards } from "./image";
import { Doctor } from "./network/doctor";
import { Attached } from "./network/networks";
import { Part } from "./part";
import { ProjectUsage } from "./project";
import { Settings } from "./settings";
import { PoolCards, VolumeCards } from "./storage";
import { isEnded, TaskProgress, titleOfTask } from "./tasks";
import { titleOf } from "./words";

// Numbers of bytes.
const SIZES: readonly string[] = ["bytes", "memory", "size", "virtual_size", "disk_size", "disk", "limit_in", "limit_out"];

// Objects and lists of any depth, for people.
function Values({ of }: { of: unknown }) {
	if (Array.isArray(of))
		return of.length ? (
			<ul class="values">
				{of.map((v, i) => (
					<li key={i}>
						<Values of={v} />
					</li>
				))}
			</ul>
		) : (
			<span>—</span>
		);
	if (typeof of === "object" && of !== null && !Object.keys(of).length) return <span>—</span>;
	if (typeof of !== "object" || of === null) return <span dir="auto">{String(of)}</span>;
	return (
		<dl class="values">
			{Object.entries(of).map(([k, v]) => (
				<div class="pair" key={k}>
					<dt>{k.replace(/_/g, " ")}</dt>
					<dd>{typeof v === "number" && SIZES.includes(k) ? formatBytes(v) : <Values of={v} />}</dd>
				</div>
			))}
		</dl>
	);
}

function Overview({ doc }: { doc: Doc }) {
	const { state: _s, reason, since, ...rest } = doc.status ?? {};
	return (
		<div class="cards">
			<article class="card">
				<h2>{t("overview.state")}</h2>
				<p>
					{doc.status ? <State of={doc.deleting ? "deleting" : doc.status.state} /> : t("overview.nothing")} {since && <small>{t("since", { when: formatTime(since) })}</small>}
				</p>
				{reason && <p dir="auto">{reason}</p>}
				<Values of={rest} />
			</article>
			<article class="card">
				<h2>{t("overview.wanted")}</h2>
				<Values of={doc.spec ?? {}} />
			</article>
			<article class="card">
				<h2>{t("overview.about")}</h2>
				<Values of={{ [t("field.created")]: formatTime(doc.created), uid: doc.uid, [t("field.revision")]: doc.revision, [t("field.labels")]: doc.labels ?? {} }} />
			</article>
		</div>
	);
}

// What of some kinds matters more than their documents.
function Above({ kind, doc }: { kind: Kind; doc: Doc }) {
	if (kind.kind === "image") return <ImageCards doc={doc} />;
	if (kind.kind === "pool") return <PoolCards doc={doc} />;
	if (kind.kind === "volume") return <VolumeCards doc={doc} />;
	if (kind.kind === "project") return <ProjectUsage name={doc.name} />;
	if (kind.kind === "user") return <AuthenticatorOf key={doc.uid} user={doc.name} />;
	if (kind.kind === "task" && !isEnded(doc)) return <TaskProgress of={doc} />;
	return null;
}

// A move is asked for where its pool is shown.
const inCards = (kind: Kind, act: string): boolean => kind.kind === "volume" && act === "move";

// What it uses, when it is a machine.
function Use({ doc }: { doc: Doc }) {
	const [Charts, setCharts] = useState<Awaited<ReturnType<typeof lazyCharts>>>();
	useEffect(() => void lazyCharts().then((c) => setCharts(() => c)), []);
	if (!Charts) return <p class="empty">{t("loading")}</p>;
	return (
		<Charts
			path={`/v1${pathOf("instances", doc.name)}/history`}
			of={`instance/${doc.project}/${doc.name}`}
			cpus={Number(doc.spec?.cpus ?? 1)}
			memory={Number(doc.spec?.memory ?? 0)}
		/>
	);
}

function Events({ kind, doc }: { kind: Kind; doc: Doc }) {
	const key = `${kind.kind}/${doc.project}/${doc.name}`;
	const own = recent.value.filter((c) => c.key === key);
	if (!own.length) return <p class="empty">{t("events.none")}</p>;
	return (
		<ol class="events">
			{own.map((c) => (
				<li key={`${c.revision} ${c.type}`}>
					<time>{formatTime(new Date(c.at).toISOString())}</time> {tIf(`change.${c.type}`, c.type)} {c.document?.status?.state && <State of={c.document.status.state} />}{" "}
					<span dir="auto">{c.document?.status?.reason}</span>
				</li>
			))}
		</ol>
	);
}

// Not in the list, or the list is not there yet: ask for it by name, so that its absence is said in the API's words. What has got
// another name meanwhile is followed.
function useDoc(kind: Kind, name: string): Doc | undefined {
	const c = collection(kind.kind);
	const names = c.names.value;
	const known = c.get(name)?.value;
	const last = useRef<Doc | undefined>(undefined);
	if (known) last.current = known;
	useEffect(() => {
		if (known || !c.isLoaded.value) return;
		const was = last.current?.name === name ? last.current : undefined;
		const now = was && names.find((n) => c.get(n)!.peek().uid === was.uid);
		if (now) {
			go(pathOf(...segments.peek().map((s, i) => (i === 1 ? now : s))), true);
			return;
		}
		call<Doc>({ method: "GET", path: `/v1/${kind.plural}/${encodeURIComponent(name)}`, query: { project: project.value } })
			.then((d) => c.change(name, d))
			.catch((e: unknown) => {
				tellError(e);
				go(pathOf(kind.plural), true);
			});
	}, [name, c.isLoaded.value, !known]);
	return known;
}

// Of some kinds more can be told than of others.
const TABS: Partial<Record<string, string[]>> = { instance: ["console", "use", "guest", "why"], network: ["attached", "doctor"] };

export function DetailView({ kind, name, tab }: { kind: Kind; name: string; tab: string }) {
	const doc = useDoc(kind, name);
	const [Console, setConsole] = useState<Awaited<ReturnType<typeof lazyConsole>>>();
	const isMachine = kind.kind === "instance";
	useEffect(() => {
		if (tab === "console" && !Console) void lazyConsole().then((c) => setConsole(() => c));
	}, [tab]);
	if (!doc) return <p class="empty">{t("loading")}</p>;
	const tabs = ["overview", ...(TABS[kind.kind] ?? []), ...kind.parts.map((p) => p.plural), ...(kind.canChange ? ["settings"] : []), "events"];
	const part = kind.parts.find((p) => p.plural === tab);
	return (
		<section class="view detail">
			<header class="bar">
				<h1>
					<Link to={pathOf(kind.plural)}>{titleOf(kind.plural)}</Link> / <bdi>{kind.kind === "task" ? titleOfTask(doc) : doc.name}</bdi>
				</h1>
				<State of={doc.deleting ? "deleting" : doc.status?.state} />
				<span class="grow" />
				<div role="toolbar" aria-label={t("actions")} class="bar">
					{actionsFor(kind).filter((a) => !inCards(kind, a.name)).map((a) => (
						<button type="button" key={a.name} class={a.isDangerous ? "danger" : ""} onClick={() => perform(a, [doc])}>
							{a.title}
						</button>
					))}
				</div>
			</header>
			<nav class="tabs" aria-label={doc.name}>
				{tabs.map((x) => (
					<Link key={x} to={pathOf(kind.plural, name, ...(x === "overview" ? [] : [x]))} aria-current={x === tab ? "page" : undefined}>
						{tIf(`tab.${x}`, titleOf(x))}
					</Link>
				))}
			</nav>
			{tab === "overview" && <Above kind={kind} doc={doc} />}
			{tab === "overview" && <Overview doc={doc} />}
			{tab === "guest" && isMachine && <Guest key={doc.uid} doc={doc} />}
			{part && <Part key={doc.uid} kind={part} of={doc} />}
			{tab === "settings" && <Settings key={doc.uid} kind={kind} doc={doc} />}
			{tab === "events" && <Events kind={kind} doc={doc} />}
			{tab === "use" && isMachine && <Use key={doc.uid} doc={doc} />}
			{tab === "attached" && kind.kind === "network" && <Attached key={doc.uid} doc={doc} />}
			{tab === "doctor" && kind.kind === "network" && <Doctor key={doc.uid} doc={doc} />}
			{tab === "why" && isMachine && <Why key={doc.uid} doc={doc} />}
			{tab === "console" && (Console ? <Console key={doc.uid} name={name} /> : <p class="empty">{t("loading")}</p>)}
		</section>
	);
}
