// SPDX-License-Identifier: Apache-2.0
// How much a project has of what its quota limits. What is used changes with machines and volumes: their changes are
// pushed, and it is asked for again when they have settled.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api/client";
import { formatBytes, formatNumber, t, tIf } from "../i18n";
import { Link, pathOf } from "../router";
import { collection } from "../state/live";
import { tellError } from "../widgets/toast";

type Amounts = Record<string, { used: number; limit?: number }>;

const SETTLE_MS = 1000, HIGH = 0.8;
const SIZES: readonly string[] = ["memory", "disk"];

export function ProjectUsage({ name }: { name: string }) {
	const amounts = useSignal<Amounts | undefined>(undefined);
	useEffect(() => {
		let timer = 0;
		const ask = (): void => {
			timer = 0;
			call<Amounts>({ method: "GET", path: `/v1${pathOf("projects", name)}/usage` }).then((a) => (amounts.value = a), tellError);
		};
		const later = (): void => {
			timer ||= window.setTimeout(ask, SETTLE_MS);
		};
		ask();
		const stops = ["instance", "volume", "project"].map((k) => collection(k).version.subscribe(later));
		window.clearTimeout(timer);
		timer = 0;
		return () => {
			for (const stop of stops) stop();
			window.clearTimeout(timer);
		};
	}, [name]);
	if (!amounts.value) return <p class="empty">{t("loading")}</p>;
	return (
		<article class="card">
			<div class="bar">
				<h2>{t("quota.title")}</h2>
				<span class="grow" />
				<Link to={pathOf("projects", name, "settings")} class="button">
					{t("quota.change")}
				</Link>
			</div>
			{Object.entries(amounts.value).map(([what, a]) => {
				const say = SIZES.includes(what) ? formatBytes : formatNumber;
				return (
					<label class="meter" key={what}>
						{tIf(`quota.${what}`, what)}: {a.limit === undefined ? t("quota.unlimited", { used: say(a.used) }) : `${say(a.used)} / ${say(a.limit)}`}
						{a.limit !== undefined && <meter min={0} max={Math.max(a.limit, 1)} high={a.limit * HIGH} value={Math.min(a.used, a.limit)} />}
					</label>
				);
			})}
		</article>
	);
}
