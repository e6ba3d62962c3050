// SPDX-License-Identifier: Apache-2.0
// What the node finds when it looks at a network, and at the rules of others that are in its way.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call, type ApiError } from "../../api/client";
import { t } from "../../i18n";
import { pathOf } from "../../router";
import type { Doc } from "../../state/collection";
import { project } from "../../state/live";
import { sentenceOf } from "../../widgets/toast";

interface Finding {
	check: string;
	ok: boolean;
	message: string;
	fix?: string;
}

interface Findings {
	healthy: boolean;
	checks: Finding[];
}

export function Doctor({ doc }: { doc: Doc }) {
	const found = useSignal<Findings | undefined>(undefined), error = useSignal(""), isBusy = useSignal(false);
	const look = (): void => {
		isBusy.value = true;
		call<Findings>({ method: "GET", path: `/v1${pathOf("networks", doc.name)}/doctor`, query: { project: project.value } })
			.then(
				(f) => {
					found.value = f;
					error.value = "";
				},
				(e: ApiError) => (error.value = sentenceOf(e)),
			)
			.finally(() => (isBusy.value = false));
	};
	useEffect(look, [doc.name, doc.revision, doc.status?.state]);
	const f = found.value;
	return (
		<div class="card">
			<div class="bar">
				<h2>{t("tab.doctor")}</h2>
				<span role="status" class={f ? (f.healthy ? "state good" : "state bad") : "state"}>
					{f && <i aria-hidden="true" />}
					{f ? t(f.healthy ? "net.healthy" : "net.ill", { n: f.checks.filter((c) => !c.ok).length }) : isBusy.value ? t("loading") : ""}
				</span>
				<span class="grow" />
				<button type="button" disabled={isBusy.value} onClick={look}>
					{t("net.look-again")}
				</button>
			</div>
			{error.value && (
				<p class="error" role="alert">
					{error.value}
				</p>
			)}
			{f && (
				<ul class="findings">
					{[...f.checks].sort((a, b) => Number(a.ok) - Number(b.ok)).map((c, i) => (
						<li key={i} class={c.ok ? "good" : "bad"}>
							<b>
								<span aria-hidden="true">{c.ok ? "✓" : "✕"}</span> <span class="hidden">{t(c.ok ? "net.ok" : "net.wrong")}: </span>
								{c.check}
							</b>
							<span dir="auto">{c.message}</span>
							{c.fix && <em dir="auto">{c.fix}</em>}
						</li>
					))}
				</ul>
			)}
			{f?.checks.length === 0 && <p class="soft">{t("net.nothing-to-look-at")}</p>}
		</div>
	);
}
