// SPDX-License-Identifier: Apache-2.0
// Who did what, from records of which none can be changed unseen.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api/client";
import { formatTime, t } from "../i18n";
import { tellError } from "../widgets/toast";

interface Entry {
	seq: number;
	time: string;
	user: string;
	via: string;
	address?: string;
	operation?: string;
	method?: string;
	path?: string;
	target?: string;
	project?: string;
	status: number;
}

interface Check {
	is_whole: boolean;
	records: number;
	bad?: number;
	why?: string;
}

const PAGE = 200, STATUS_BAD = 400, TYPED_MS = 300;

function textOf(e: Entry): string {
	return `${e.user} ${e.via} ${e.address ?? ""} ${e.operation ?? ""} ${e.target ?? ""} ${e.project ?? ""} ${e.status}`.toLowerCase();
}

function Verdict({ check }: { check: Check }) {
	return (
		<span role="status" class={check.is_whole ? "state good" : "state bad"}>
			<i aria-hidden="true" />
			{check.is_whole ? t("audit.whole", { n: check.records }) : t("audit.broken-at", { n: check.bad ?? 0, why: check.why ?? "" })}
		</span>
	);
}

function Rows({ of }: { of: Entry[] }) {
	return (
		<table class="plain-table">
			<thead>
				<tr>
					{(["when", "who", "from", "what", "target", "project", "answer"] as const).map((c) => (
						<th scope="col" key={c}>
							{t(`audit.${c}`)}
						</th>
					))}
				</tr>
			</thead>
			<tbody>
				{of.map((e) => (
					<tr key={e.seq}>
						<td class="nowrap">{formatTime(e.time)}</td>
						<th scope="row" dir="auto">
							{e.user || t("form.none")}
						</th>
						<td>{e.address || e.via}</td>
						<td dir="auto">{e.operation ?? `${e.method} ${e.path}`}</td>
						<td dir="auto">{e.target}</td>
						<td dir="auto">{e.project}</td>
						<td class={e.status >= STATUS_BAD ? "error" : ""}>{e.status}</td>
					</tr>
				))}
			</tbody>
		</table>
	);
}

export function AuditView() {
	const entries = useSignal<Entry[] | undefined>(undefined), hasMore = useSignal(false);
	const check = useSignal<Check | undefined>(undefined);
	const user = useSignal(""), where = useSignal(""), words = useSignal(""), isBadOnly = useSignal(false);
	// Those before the number BEFORE, or the last.
	const load = (before?: number): void => {
		const query = {
			limit: String(PAGE),
			...(user.value ? { user: user.value } : {}),
			...(where.value ? { "of-project": where.value } : {}),
			...(before === undefined ? {} : { before: String(before) }),
		};
		call<{ items: Entry[] }>({ method: "GET", path: "/v1/audit", query }).then((a) => {
			hasMore.value = a.items.length === PAGE;
			entries.value = [...(before === undefined ? [] : (entries.value ?? [])), ...a.items.sort((x, y) => y.seq - x.seq)];
		}, tellError);
	};
	useEffect(() => {
		const timer = window.setTimeout(load, entries.peek() ? TYPED_MS : 0);
		return () => window.clearTimeout(timer);
	}, [user.value, where.value]);
	const verify = (): void => void call<Check>({ method: "GET", path: "/v1/audit/verify" }).then((c) => (check.value = c), tellError);
	const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
	const shown = entries.value?.filter((e) => (!isBadOnly.value || e.status >= STATUS_BAD) && wanted.every((w) => textOf(e).includes(w)));
	return (
		<section class="view">
			<header class="bar">
				<h1>{t("audit")}</h1>
				<span class="grow" />
				{check.value && <Verdict check={check.value} />}
				<button type="button" onClick={verify}>
					{t("audit.verify")}
				</button>
			</header>
			<div class="bar filters" role="search">
				<input type="search" aria-label={t("audit.filter")} placeholder={t("audit.filter")} value={words.value} onInput={(e) => (words.value = e.currentTarget.value)} />
				<input type="search" aria-label={t("audit.who")} placeholder={t("audit.who")} value={user.value} onInput={(e) => (user.value = e.currentTarget.value.trim())} />
				<input type="search" aria-label={t("audit.project")} placeholder={t("audit.project")} value={where.value} onInput={(e) => (where.value = e.currentTarget.value.trim())} />
				<label class="bar">
					<input type="checkbox" checked={isBadOnly.value} onChange={(e) => (isBadOnly.value = e.currentTarget.checked)} />
					{t("audit.bad-only")}
				</label>
			</div>
			{!shown && <p class="empty">{t("loading")}</p>}
			{shown?.length === 0 && <p class="empty">{t("filter.none")}</p>}
			{!!shown?.length && (
				<div class="card scroll" role="region" aria-label={t("audit")} tabIndex={0}>
					<Rows of={shown} />
				</div>
			)}
			{hasMore.value && (
				<p class="bar">
					<button type="button" onClick={() => load(entries.value?.at(-1)?.seq)}>
						{t("audit.older")}
					</button>
				</p>
			)}
		</section>
	);
}
