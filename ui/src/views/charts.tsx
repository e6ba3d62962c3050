// SPDX-License-Identifier: Apache-2.0
// What a machine or the node has used: the node's history, which goes on as it is measured.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api/client";
import { formatBytes, formatNumber, t } from "../i18n";
import { project } from "../state/live";
import { historyWith, usageNow, type Field, type History } from "../state/usage";
import { Chart } from "../widgets/chart";
import { tellError } from "../widgets/toast";

const SPANS = { hour: 3600, day: 86400, week: 7 * 86400, month: 31 * 86400 };
type Span = keyof typeof SPANS;
const POINTS = 360;
// A chart of nothing is not one of single bytes.
const RATE_LEAST = 1024, STORAGE_LEAST = 1024 ** 2;

const perSecond = (n: number): string => `${formatBytes(n)}/s`;

interface Props {
	path: string; // of the history
	of: string | undefined; // the key of an instance; undefined: the node
	cpus: number;
	memory: number;
}

export function Charts({ path, of, cpus, memory }: Props) {
	const span = useSignal<Span>("hour");
	const history = useSignal<History | undefined>(undefined);
	useEffect(() => {
		let isOver = false;
		history.value = undefined;
		call<History>({ method: "GET", path, query: { ...(of ? { project: project.value } : {}), span: String(SPANS[span.value]), points: String(POINTS) } })
			.then((h) => {
				if (!isOver) history.value = h;
			})
			.catch(tellError);
		return () => {
			isOver = true;
		};
	}, [path, span.value]);
	useEffect(
		() =>
			usageNow.subscribe((now) => {
				const used = of ? now?.instances[of] : now?.node, h = history.peek();
				if (now && used && h) history.value = historyWith(h, used, now.at);
			}),
		[of],
	);
	const h = history.value;
	const line = (field: Field) => ({ name: t(`use.${field}`), values: h!.fields[field] });
	return (
		<section class="charts">
			<label>
				{t("chart.span")}{" "}
				<select value={span.value} onChange={(e) => (span.value = e.currentTarget.value as Span)}>
					{(Object.keys(SPANS) as Span[]).map((s) => (
						<option key={s} value={s}>
							{t(`chart.${s}`)}
						</option>
					))}
				</select>
			</label>
			{!h ? (
				<p class="empty">{t("loading")}</p>
			) : (
				<div class="cards">
					<Chart title={t("use.cpu")} lines={[line("cpu")]} from={h.from} step={h.step} format={formatNumber} most={cpus} />
					<Chart title={t("use.memory")} lines={[line("memory")]} from={h.from} step={h.step} format={formatBytes} most={memory} />
					<Chart title={t("use.disk")} lines={[line("read"), line("written")]} from={h.from} step={h.step} format={perSecond} most={RATE_LEAST} />
					<Chart title={t("use.network")} lines={[line("received"), line("sent")]} from={h.from} step={h.step} format={perSecond} most={RATE_LEAST} />
					<Chart title={t("use.storage")} lines={[line("storage")]} from={h.from} step={h.step} format={formatBytes} most={STORAGE_LEAST} />
				</div>
			)}
		</section>
	);
}
