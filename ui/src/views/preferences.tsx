// SPDX-License-Identifier: Apache-2.0
// What belongs to the one who is logged in: how the console looks, the password, what one may; and what node this is.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call, type ApiError, type Call } from "../api/client";
import { formatBytes, formatTime, language, setLanguage, t, tIf, type Language } from "../i18n";
import { Link, pathOf } from "../router";
import { session } from "../session";
import { theme, type Theme } from "../theme";
import { Authenticator } from "./authenticator";
import { CurlOf } from "../widgets/dialog";
import { sentenceOf, tell } from "../widgets/toast";

export function ThemeChoice() {
	return (
		<select aria-label={t("theme")} value={theme.value} onChange={(e) => (theme.value = e.currentTarget.value as Theme)}>
			{(["auto", "light", "dark"] as const).map((x) => (
				<option key={x} value={x}>
					{t(`theme.${x}`)}
				</option>
			))}
		</select>
	);
}

export function LanguageChoice() {
	return (
		<select aria-label={t("language")} value={language.value} onChange={(e) => setLanguage(e.currentTarget.value as Language)}>
			<option value="en">English</option>
			<option value="zh">中文</option>
		</select>
	);
}

function Password({ user }: { user: string }) {
	const old = useSignal(""), next = useSignal(""), complaint = useSignal<{ field: string | undefined; text: string } | undefined>(undefined);
	const change: Call = { method: "POST", path: `/v1${pathOf("users", user)}/password`, body: { old: old.value, password: next.value } };
	const submit = async (e: Event): Promise<void> => {
		e.preventDefault();
		complaint.value = undefined;
		try {
			await call(change);
			old.value = next.value = "";
			tell(t("pref.password-done"));
		} catch (why) {
			complaint.value = { field: (why as ApiError).field, text: sentenceOf(why as ApiError) };
		}
	};
	const field = (name: string, title: string, value: typeof old, auto: string) => (
		<label class={complaint.value?.field === name ? "field wrong" : "field"}>
			<span>{title}</span>
			<input type="password" name={name} autocomplete={auto} aria-invalid={complaint.value?.field === name} required value={value.value} onInput={(e) => (value.value = e.currentTarget.value)} />
		</label>
	);
	return (
		<form onSubmit={(e) => void submit(e)}>
			<input class="hidden" aria-hidden="true" tabIndex={-1} autocomplete="username" value={user} readOnly />
			{field("old", t("pref.old"), old, "current-password")}
			{field("password", t("pref.new"), next, "new-password")}
			{complaint.value && (
				<p class="error" role="alert">
					{complaint.value.text}
				</p>
			)}
			<button class="primary" disabled={!old.value || !next.value}>
				{t("act.password")}
			</button>
			<CurlOf of={{ ...change, body: { old: "…", password: "…" } }} />
		</form>
	);
}

function Node() {
	const node = useSignal<Record<string, unknown> | undefined>(undefined);
	useEffect(() => void call<Record<string, unknown>>({ method: "GET", path: "/v1/node" }).then((n) => (node.value = n), () => undefined), []);
	return (
		<dl class="values">
			{Object.entries(node.value ?? {}).filter(([k, v]) => typeof v !== "object" && !["kind", "revision"].includes(k)).map(([k, v]) => (
				<div class="pair" key={k}>
					<dt>{tIf(`node.${k}`, k.replace(/_/g, " "))}</dt>
					<dd dir="auto">{k === "memory" ? formatBytes(Number(v)) : String(v)}</dd>
				</div>
			))}
		</dl>
	);
}

export function Preferences() {
	const s = session.value;
	const projects = Object.entries(s?.projects ?? {}), expires = (s as { expires?: string } | undefined)?.expires;
	return (
		<section class="view">
			<header class="bar">
				<h1>{t("tab.settings")}</h1>
			</header>
			<div class="cards">
				<article class="card">
					<h2>{t("pref.look")}</h2>
					<div class="field">
						<span aria-hidden="true">{t("theme")}</span>
						<ThemeChoice />
					</div>
					<div class="field">
						<span aria-hidden="true">{t("language")}</span>
						<LanguageChoice />
					</div>
				</article>
				<article class="card">
					<h2>{t("pref.you")}</h2>
					<dl class="values">
						<dt>{t("login.name")}</dt>
						<dd dir="auto">{s?.user}</dd>
						<dt>{t("pref.role")}</dt>
						<dd>{tIf(`choice.${s?.role}`, s?.role ?? "")}</dd>
						{projects.map(([name, role]) => (
							<>
								<dt key={`${name} name`}>
									{t("project")} <bdi>{name}</bdi>
								</dt>
								<dd key={`${name} role`}>{tIf(`choice.${role}`, role)}</dd>
							</>
						))}
						{expires && (
							<>
								<dt>{t("pref.expires")}</dt>
								<dd>{formatTime(expires)}</dd>
							</>
						)}
					</dl>
					<p>
						<Link to="/tokens">{t("pref.tokens")}</Link>
					</p>
				</article>
				{s?.via === "session" && (
					<article class="card">
						<h2>{t("act.password")}</h2>
						<Password user={s.user} />
					</article>
				)}
				{s?.via === "session" && (
					<article class="card">
						<h2>{t("totp.title")}</h2>
						<Authenticator user={s.user} />
					</article>
				)}
				<article class="card">
					<h2>{t("dash.node")}</h2>
					<Node />
				</article>
			</div>
		</section>
	);
}
