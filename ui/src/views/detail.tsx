// SPDX-License-Identifier: Apache-2.0
// One thing: what it is now, what happened to it, its settings; of a machine its console, too.
import { Consoles } from "../console/consoles";
import { lazyCharts } from "./lazy";
import { Why } from "./why";
import { useEffect, useRef, useState } from "preact/hooks";
import { call } from "../api/client";
import { resolve, type Kind } from "../api/spec";
import { formatTime, t, tIf } from "../i18n";
import { go, Link, pathOf, segments } from "../router";
import type { Doc } from "../state/collection";
import { collection, project, recent } from "../state/live";
import { State } from "../widgets/badge";
import { tellError } from "../widgets/toast";
import { Values } from "../widgets/values";
import { AuthenticatorOf } from "./authenticator";
import { Acts, actsOf } from "./acts";
import { Guest } from "./guest";
import { Backups } from "./backups";
import { BulkTable, itemsOf } from "./bulk";
import { ImageCards } from "./image";
import { MachineCards } from "./machine";
import { Doctor } from "./network/doctor";
import { Attached } from "./network/networks";
import { Part } from "./part";
import { ProfileCards } from "./profile";
import { ProjectUsage } from "./project";
import { Settings } from "./settings";
import { PoolCards, VolumeCards } from "./storage";
import { isEnded, TaskProgress, titleOfTask } from "./tasks";
import { titleOf } from "./words";

// What cards of its own show better.
const IN_CARDS: Partial<Record<string, string[]>> = { instance: ["disks", "networks"], pool: ["size", "used", "free", "percent"] };

function without(kind: Kind, of: Record<string, unknown>): Record<string, unknown> {
	return Object.fromEntries(Object.entries(of).filter(([k]) => !IN_CARDS[kind.kind]?.includes(k)));
}

function Overview({ kind, doc }: { kind: Kind; doc: Doc }) {
	const { state: _s, reason, since, ...all } = doc.status ?? {}, rest = without(kind, all);
	const items = kind.kind === "task" ? itemsOf(doc) : undefined;
	if (items) delete rest.result;
	const spec = kind.schema ? resolve(resolve(kind.schema).properties?.spec) : undefined;
	return (
		<div class="cards">
			{doc.status && (
				<article class="card">
					<h2>{t("overview.state")}</h2>
					<p>
						<State of={doc.deleting ? "deleting" : doc.status.state} /> {since && <small>{t("since", { when: formatTime(since) })}</small>}
					</p>
					{reason && <p dir="auto">{reason}</p>}
					<Values of={rest} />
				</article>
			)}
			{items && (
				<article class="card">
					<h2>{t("bulk.each")}</h2>
					<BulkTable items={items} />
				</article>
			)}
			{doc.spec && (
				<article class="card">
					<h2>{t("overview.wanted")}</h2>
					<Values of={without(kind, doc.spec)} path="spec" schema={spec} />
				</article>
			)}
			<article class="card">
				<h2>{t("overview.about")}</h2>
				<Values of={{ created: doc.created ?? "", uid: doc.uid, revision: doc.revision, labels: doc.labels ?? {} }} />
			</article>
		</div>
	);
}

// What of some kinds matters more than their documents.
function Above({ kind, doc }: { kind: Kind; doc: Doc }) {
	if (kind.kind === "instance") return <MachineCards doc={doc} />;
	if (kind.kind === "image") return <ImageCards doc={doc} />;
	if (kind.kind === "pool") return <PoolCards doc={doc} />;
	if (kind.kind === "volume") return <VolumeCards doc={doc} />;
	if (kind.kind === "profile") return <ProfileCards doc={doc} />;
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

const AGAIN_MS = 500;

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
		let timer = 0, isOver = false;
		const ask = () => {
			call<Doc>({ method: "GET", path: `/v1/${kind.plural}/${encodeURIComponent(name)}`, query: { project: project.value } })
				.then((d) => {
					c.learn(name, d);
					// It may have gone since it was asked for.
					if (!isOver) timer = window.setTimeout(() => c.get(name) || ask(), AGAIN_MS);
				})
				.catch((e: unknown) => {
					if (isOver) return;
					tellError(e);
					go(pathOf(kind.plural), true);
				});
		};
		ask();
		return () => {
			isOver = true;
			window.clearTimeout(timer);
		};
	}, [name, c.isLoaded.value, !known]);
	return known;
}

// Of some kinds more can be told than of others.
const TABS: Partial<Record<string, string[]>> = { instance: ["console", "use", "guest", "why"], network: ["attached", "doctor"] };

export function DetailView({ kind, name, tab }: { kind: Kind; name: string; tab: string }) {
	const doc = useDoc(kind, name);
	const isMachine = kind.kind === "instance";
	const strip = useRef<HTMLElement>(null);
	// On a narrow screen there are more tabs than can be seen.
	useEffect(() => strip.current?.querySelector('[aria-current="page"]')?.scrollIntoView({ block: "nearest", inline: "nearest" }), [tab, !doc]);
	if (!doc) return <p class="empty">{t("loading")}</p>;
	const tabs = ["overview", ...(TABS[kind.kind] ?? []), ...kind.parts.map((p) => p.plural), ...(isMachine ? ["backups"] : []), ...(kind.canChange ? ["settings"] : []), "events"];
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
					<Acts acts={actsOf(kind).filter((a) => !inCards(kind, a.name))} docsOf={() => [doc]} />
				</div>
			</header>
			<nav class="tabs" aria-label={doc.name} ref={strip}>
				{tabs.map((x) => (
					<Link key={x} to={pathOf(kind.plural, name, ...(x === "overview" ? [] : [x]))} aria-current={x === tab ? "page" : undefined}>
						{tIf(`tab.${x}`, titleOf(x))}
					</Link>
				))}
			</nav>
			{tab === "overview" && <Above kind={kind} doc={doc} />}
			{tab === "overview" && <Overview kind={kind} doc={doc} />}
			{tab === "guest" && isMachine && <Guest key={doc.uid} doc={doc} />}
			{part && <Part key={doc.uid} kind={part} of={doc} />}
			{tab === "backups" && isMachine && <Backups key={doc.uid} doc={doc} />}
			{tab === "settings" && <Settings key={doc.uid} kind={kind} doc={doc} />}
			{tab === "events" && <Events kind={kind} doc={doc} />}
			{tab === "use" && isMachine && <Use key={doc.uid} doc={doc} />}
			{tab === "attached" && kind.kind === "network" && <Attached key={doc.uid} doc={doc} />}
			{tab === "doctor" && kind.kind === "network" && <Doctor key={doc.uid} doc={doc} />}
			{tab === "why" && isMachine && <Why key={doc.uid} doc={doc} />}
			{tab === "console" && isMachine && <Consoles key={doc.uid} doc={doc} />}
		</section>
	);
}
