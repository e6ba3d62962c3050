// SPDX-License-Identifier: Apache-2.0
// Values over time as lines. What the lines show is told in text as well: the last values and the highest, or those under
// the pointer, which is in all charts at the same time.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { formatMark, formatTime, t } from "../i18n";

export interface Line {
	name: string;
	values: (number | null)[];
}

interface Props {
	title: string;
	lines: Line[];
	from: number; // Unix time of the first value
	step: number; // seconds
	format: (n: number) => string;
	most?: number | undefined; // what the top of the chart stands for, at least
}

const HEIGHT = 150, AXIS = 70;

const known = (values: (number | null)[]): number[] => values.filter((v): v is number => v !== null);
const lastOf = (l: Line): number | undefined => known(l.values).at(-1);

function dataOf({ from, step, lines }: Props): uPlot.AlignedData {
	return [lines[0]!.values.map((_, i) => from + i * step), ...lines.map((l) => l.values)];
}

function optionsOf(p: Props, width: number, setAt: (i: number | undefined) => void): uPlot.Options {
	const style = getComputedStyle(document.documentElement);
	const colour = (name: string): string => style.getPropertyValue(name).trim() || "currentColor";
	const axis: uPlot.Axis = { stroke: colour("--chart-text"), grid: { stroke: colour("--chart-line"), width: 1 }, ticks: { show: false } };
	return {
		width,
		height: HEIGHT,
		legend: { show: false },
		cursor: { sync: { key: "use" }, drag: { setScale: false }, y: false },
		scales: { y: { range: (_u, _min, max) => [0, Math.max(p.most ?? 0, max || 0) || 1] } },
		axes: [{ ...axis, space: 70, values: (_u, all, _i, _space, step) => all.map((s) => formatMark(s, step)) }, { ...axis, size: AXIS, values: (_u, all) => all.map(p.format) }],
		series: [{}, ...p.lines.map((l, i) => ({ label: l.name, stroke: colour(`--chart-${i}`), width: 1.5, points: { show: false } }))],
		hooks: { setCursor: [(u) => setAt(u.cursor.idx ?? undefined)] },
	};
}

export function Chart(p: Props) {
	const [at, setAt] = useState<number | undefined>(undefined);
	const place = useRef<HTMLDivElement>(null), plot = useRef<uPlot | null>(null);
	useEffect(() => {
		const box = place.current!;
		const u = (plot.current = new uPlot(optionsOf(p, box.clientWidth, setAt), dataOf(p), box));
		const seen = new ResizeObserver(() => u.setSize({ width: box.clientWidth, height: HEIGHT }));
		seen.observe(box);
		return () => {
			seen.disconnect();
			u.destroy();
		};
	}, [p.format, p.most, p.lines.length]);
	useEffect(() => plot.current?.setData(dataOf(p)), [p.from, p.step, ...p.lines.map((l) => l.values)]);
	const highest = Math.max(0, ...p.lines.flatMap((l) => known(l.values)));
	const told = (l: Line): string => {
		const v = at === undefined ? lastOf(l) : l.values[at];
		return v == null ? "—" : p.format(v);
	};
	const summary = p.lines.map((l) => `${l.name} ${lastOf(l) === undefined ? "—" : p.format(lastOf(l)!)}`).join(", ");
	return (
		<figure class="chart card">
			<figcaption>
				<b>{p.title}</b>
				{p.lines.map((l, i) => (
					<span key={l.name} class={`legend line-${i}`}>
						{p.lines.length > 1 && `${l.name} `}
						<output>{told(l)}</output>
					</span>
				))}
				<small>{at === undefined ? t("chart.highest", { value: p.format(highest) }) : formatTime(new Date((p.from + at * p.step) * 1000).toISOString())}</small>
			</figcaption>
			<div ref={place} role="img" aria-label={`${p.title}: ${summary}`} />
		</figure>
	);
}
