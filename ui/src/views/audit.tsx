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
}

const SHOWN = "200";

export function AuditView() {
	const entries = useSignal<Entry[] | undefined>(undefined);
	const check = useSignal<Check | undefined>(undefined);
	useEffect(() => {
		call<{ items: Entry[] }>({ method: "GET", path: "/v1/audit", query: { limit: SHOWN } }).then((a) => (entries.value = a.items.sort((x, y) => y.seq - x.seq)), tellError);
	}, []);
	const verify = (): void => void call<Check>({ method: "GET", path: "/v1/audit/verify" }).then((c) => (check.value = c), tellError);
	return (
		<section class="view">
			<header class="bar">
				<h1>{t("audit")}</h1>
				<span class="grow" />
				{check.value && <span class={check.value.is_whole ? "state good" : "state bad"}>{check.value.is_whole ? t("audit.whole", { n: check.value.records }) : t("audit.broken")}</span>}
				<button type="button" onClick={verify}>
					{t("audit.verify")}
				</button>
			</header>
			<div class="card scroll">
				<table class="plain-table">
					<tbody>
						{entries.value?.map((e) => (
							<tr key={e.seq}>
								<td>{formatTime(e.time)}</td>
								<th scope="row" dir="auto">
									{e.user}
								</th>
								<td>{e.address || e.via}</td>
								<td dir="auto">{e.operation ?? `${e.method} ${e.path}`}</td>
								<td dir="auto">{e.target}</td>
								<td class={e.status >= 400 ? "error" : ""}>{e.status}</td>
							</tr>
						))}
					</tbody>
				</table>
			</div>
		</section>
	);
}
