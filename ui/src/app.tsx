// SPDX-License-Identifier: Apache-2.0
// The frame: where one can go, what is shown, and whether it is live.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { isWaiting } from "./api/client";
import { findKind, hasPath, kinds, loadSpec } from "./api/spec";
import { language, t } from "./i18n";
import { Link, pathOf, segments } from "./router";
import { isExpired, logOut, session, state, takeUp } from "./session";
import { linkState, notForUs, project, startLive, stopLive } from "./state/live";
import { AuditView } from "./views/audit";
import { CreateView } from "./views/create";
import { Dashboard } from "./views/dashboard";
import { DetailView } from "./views/detail";
import { BulkResults } from "./views/bulk";
import { ListView } from "./views/list";
import { LanguageChoice, Preferences, ThemeChoice } from "./views/preferences";
import { Login, LoginAgain } from "./views/login";
import { NetworksView } from "./views/network/networks";
import { titleOf } from "./views/words";
import { Calls } from "./widgets/calls";
import { Questions } from "./widgets/dialog";
import { Toasts } from "./widgets/toast";

function Page() {
	const [plural, name, tab] = segments.value;
	if (!plural) return <Dashboard />;
	if (plural === "audit" && hasPath("/v1/audit", "get")) return <AuditView />;
	if (plural === "settings") return <Preferences />;
	const kind = findKind(plural);
	if (!kind) return kinds.value.length ? <h1 class="empty">{t("not-found")}</h1> : <p class="empty">{t("loading")}</p>;
	if (!name && plural === "networks") return <NetworksView kind={kind} />;
	if (!name) return <ListView key={plural} kind={kind} />;
	if (name === "+" && kind.canCreate) return <CreateView key={plural} kind={kind} />;
	return <DetailView key={`${plural}/${name}`} kind={kind} name={name} tab={tab ?? "overview"} />;
}

function Navigation({ onGo }: { onGo: () => void }) {
	const here = segments.value[0];
	return (
		<nav id="navigation" class="navigation" aria-label={t("menu")} onClick={onGo}>
			<Link to="/" aria-current={here ? undefined : "page"}>
				{t("home")}
			</Link>
			{kinds.value.filter((k) => !notForUs.value.has(k.kind)).map((k) => (
				<Link key={k.plural} to={pathOf(k.plural)} aria-current={here === k.plural ? "page" : undefined}>
					{titleOf(k.plural)}
				</Link>
			))}
			<Link to="/settings" aria-current={here === "settings" ? "page" : undefined}>
				{t("tab.settings")}
			</Link>
			{hasPath("/v1/audit", "get") && session.value?.role === "admin" && (
				<Link to="/audit" aria-current={here === "audit" ? "page" : undefined}>
					{t("audit")}
				</Link>
			)}
		</nav>
	);
}

function Projects() {
	const names = Object.keys(session.value?.projects ?? {});
	if (names.length < 2) return null;
	return (
		<label>
			<span class="hidden">{t("project")}</span>
			<select value={project.value} onChange={(e) => (project.value = e.currentTarget.value)}>
				{names.map((n) => (
					<option key={n}>{n}</option>
				))}
			</select>
		</label>
	);
}

// Where one is stands in the window's title; and who went on by keyboard from something that is no more is at the content.
function useArrival(): void {
	const path = segments.value.join("/"), isFirst = useRef(true);
	useEffect(() => {
		const [plural, ...rest] = segments.peek();
		const place = plural ? [...rest.slice(0, 1), plural === "settings" ? t("tab.settings") : plural === "audit" ? t("audit") : titleOf(plural)] : [t("home")];
		document.title = [...place, "Vivarium"].join(" - ");
		if (!isFirst.current && document.activeElement === document.body) document.getElementById("content")?.focus({ preventScroll: true });
		isFirst.current = false;
	}, [path, language.value]);
}

function Frame() {
	const isOpen = useSignal(false);
	useArrival();
	useEffect(() => {
		void loadSpec().then(startLive);
		return stopLive;
	}, []);
	return (
		<div class={isOpen.value ? "frame open" : "frame"}>
			<a class="skip" href="#content">
				{t("skip")}
			</a>
			<header class="top bar">
				<button type="button" class="icon menu" aria-label={t("menu")} aria-controls="navigation" aria-expanded={isOpen.value} onClick={() => (isOpen.value = !isOpen.value)}>
					☰
				</button>
				<Link to="/" class="brand">
					<img src="/icon.svg" alt="" width="24" height="24" /> Vivarium
				</Link>
				<span class={`link ${linkState.value}`} role="status">
					{t(`link.${linkState.value}`)}
				</span>
				<span class="grow" />
				<Projects />
				<Calls />
				<span class="wide-only bar">
					<ThemeChoice />
					<LanguageChoice />
				</span>
				<span class="user" dir="auto">
					{session.value?.user}
				</span>
				{session.value?.via === "session" && (
					<button type="button" onClick={() => void logOut()}>
						{t("logout")}
					</button>
				)}
			</header>
			<Navigation onGo={() => (isOpen.value = false)} />
			<main id="content" tabIndex={-1}>
				<Page />
			</main>
		</div>
	);
}

// The node is slow to answer: that it is waited for can be seen.
function Waiting() {
	return <div class="waiting">{isWaiting.value && <progress aria-label={t("waiting")} />}</div>;
}

export function App() {
	useEffect(() => void takeUp(), []);
	return (
		<>
			{state.value === "in" ? <Frame key={session.value?.user} /> : state.value === "out" ? <Login /> : <p class="empty">{t("link.connecting")}</p>}
			<Questions />
			<BulkResults />
			{isExpired.value && <LoginAgain />}
			<Waiting />
			<Toasts />
		</>
	);
}
