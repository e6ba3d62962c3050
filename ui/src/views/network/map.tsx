// SPDX-License-Identifier: Apache-2.0
// The picture of networks: each is a bar that goes on downwards along the left edge; instances hang on branches of it, and
// a dot stands where a branch meets a network that its instances are on. The same is there as a table (ports.tsx).
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { t, tIf } from "../../i18n";
import { go, pathOf } from "../../router";
import { OWN, useTopology, type Group, type Member, type Net, type Port, type Topology } from "./topology";

const EDGE = 8, LANE = 16, LANES_MAX = 160, GAP = 12, NODE_WIDTH = 216, BAR = 44, BAR_NARROW = 60, NARROW = 640;
const LINE = 17, NODE_TOP = 21, NODE_BOTTOM = 10, FIRST_MOST = 48, COLOURS = 6, LETTER = 7.4, LETTER_SMALL = 6.4;

interface Node {
	member: Member;
	lines: string[]; // beneath its name
	x: number;
}

interface Row {
	group: Group;
	y: number;
	height: number;
	nodes: Node[];
	more: number; // members that are left out; the last row of a group tells
}

interface Layout {
	lanes: number[]; // x of each network
	bars: number[]; // y of each
	ends: number[]; // where each ends
	rows: Row[];
	nodeWidth: number;
	barHeight: number;
	height: number;
}

const forwardText = (f: string): string => f.replace(/^(\w+):(.*):(\d+)$/, "$1 $2 → $3");

function cut(text: string, width: number, letter: number): string {
	const most = Math.max(3, Math.floor(width / letter));
	return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

// What a node says of its interfaces.
function linesOf(m: Member): string[] {
	const addresses = m.ports.map((p) => p.address || p.address6).filter(Boolean);
	const forwards = m.ports.flatMap((p) => p.forwards.map(forwardText));
	return [addresses.join(" · ") || (forwards.length ? "" : tIf(`state.${m.state}`, m.state)), ...forwards.slice(0, 2), ...(forwards.length > 2 ? [t("net.forwards.more", { n: forwards.length - 2 })] : [])].filter(Boolean);
}

function layOut(top: Topology, width: number, isAll: boolean): Layout {
	const lane = Math.min(LANE, LANES_MAX / Math.max(1, top.nets.length));
	const lanes = top.nets.map((_, i) => EDGE + i * lane), left = EDGE + top.nets.length * lane + GAP;
	const columns = Math.max(1, Math.floor((width - left - 2 + GAP) / (NODE_WIDTH + GAP)));
	const nodeWidth = (width - left - 2 - GAP * (columns - 1)) / columns, barHeight = width < NARROW ? BAR_NARROW : BAR;
	const bars: number[] = [], ends: number[] = [], rows: Row[] = [];
	let y = 2;
	top.nets.forEach((_, i) => {
		bars[i] = ends[i] = y;
		y += barHeight + GAP;
		// An instance stands beneath the last of its networks, so that the bars of all have begun.
		for (const group of top.groups.filter((g) => g.nets.at(-1) === i)) {
			const shown = isAll ? group.members : group.members.slice(0, FIRST_MOST);
			for (let k = 0; k < shown.length; k += columns) {
				const nodes = shown.slice(k, k + columns).map((member, n) => ({ member, lines: linesOf(member), x: left + n * (nodeWidth + GAP) }));
				const height = NODE_TOP + NODE_BOTTOM + LINE * Math.max(...nodes.map((n) => n.lines.length));
				const isLast = k + columns >= shown.length;
				rows.push({ group, y, height, nodes, more: isLast ? group.members.length - shown.length : 0 });
				for (const n of group.nets) ends[n] = y + height / 2;
				y += height + GAP;
			}
		}
		y += GAP;
	});
	return { lanes, bars, ends, rows, nodeWidth, barHeight, height: Math.max(y - GAP, barHeight) };
}

const isRunning = (state: string): boolean => state === "running";

function wordsOfPort(p: Port, nets: Net[]): string {
	const where = p.network === OWN ? t("net.own") : p.network || t("net.nowhere");
	const known = nets.some((n) => n.name === p.network && (n.doc || n.name === OWN));
	return [known || !p.network ? where : `${where} (${t("net.missing")})`, p.address, p.address6, ...p.forwards.map(forwardText)].filter(Boolean).join(", ");
}

function Place({ to, label, children }: { to: string; label: string; children: ComponentChildren }) {
	return (
		<a
			href={to}
			aria-label={label}
			onClick={(e: MouseEvent) => {
				if (e.button || e.metaKey || e.ctrlKey || e.shiftKey) return;
				e.preventDefault();
				go(to);
			}}
		>
			{children}
		</a>
	);
}

function NodeBox({ node, row, width, nets }: { node: Node; row: Row; width: number; nets: Net[] }) {
	const { member: m } = node, y = row.y, room = width - 38;
	const label = `${m.name}, ${tIf(`state.${m.state}`, m.state)}: ${m.ports.map((p) => wordsOfPort(p, nets)).join("; ")}`;
	return (
		<Place to={pathOf("instances", m.name)} label={label}>
			<rect class="node" x={node.x} y={y} width={width} height={row.height} rx="8" />
			<circle class={isRunning(m.state) ? "lamp on" : m.state === "failed" ? "lamp bad" : "lamp"} cx={node.x + 15} cy={y + 16} r="4.5" />
			<text class="node-name" x={node.x + 27} y={y + 21}>
				{cut(m.name, room, LETTER)}
			</text>
			{node.lines.map((l, i) => (
				<text class="node-line" key={i} x={node.x + 27} y={y + NODE_TOP + LINE * (i + 1)}>
					{cut(l, room, LETTER_SMALL)}
				</text>
			))}
			<title>{label}</title>
		</Place>
	);
}

function Branch({ row, lay, nets }: { row: Row; lay: Layout; nets: Net[] }) {
	const y = row.y + row.height / 2, from = lay.lanes[row.group.nets[0]!]!, to = row.nodes.at(-1)!.x;
	return (
		<g>
			<line class="branch" x1={from} y1={y} x2={to} y2={y} />
			{row.group.nets.map((i) => (
				<circle key={i} class={`joint net-${i % COLOURS}`} cx={lay.lanes[i]} cy={y} r="5" />
			))}
			{row.nodes.map((n) => (
				<NodeBox key={n.member.name} node={n} row={row} width={lay.nodeWidth} nets={nets} />
			))}
		</g>
	);
}

const kindOf = (n: Net): string => (n.name === OWN ? "own" : n.doc ? String(n.doc.spec?.kind ?? "nat") : "missing");

// Where frames of N can go.
function wayOut(n: Net): string {
	return t(`net.way.${kindOf(n)}` as "net.way.nat", { bridge: String(n.doc?.spec?.bridge ?? "") });
}

function Bar({ net, index, lay, width }: { net: Net; index: number; lay: Layout; width: number }) {
	const x = lay.lanes[index]! - 7, y = lay.bars[index]!, isNarrow = lay.barHeight === BAR_NARROW, kind = kindOf(net);
	const state = net.doc?.deleting ? "deleting" : (net.doc?.status?.state ?? "");
	const name = kind === "own" ? t("net.own") : net.name, isBad = kind === "missing" || state === "failed";
	const what = [kind === "own" ? "" : tIf(`net.kind.${kind}`, kind), state === "ready" ? "" : tIf(`state.${state}`, state)].filter(Boolean).join(", ");
	const subnet = [net.doc?.spec?.subnet, net.doc?.spec?.subnet6].filter((s) => s && s !== "none");
	const way = net.doc?.status?.state === "failed" ? String(net.doc.status.reason ?? "") : wayOut(net);
	const label = [name, what, ...subnet, way, t("net.count", { n: net.ports.length })].filter(Boolean).join(", ");
	const inner = width - x - 2, nameWidth = Math.min(name.length * LETTER + 10, inner / 2);
	const body = (
		<>
			<rect class={`bar-of net-${index % COLOURS}${isBad ? " bad" : ""}`} x={x} y={y} width={inner} height={lay.barHeight} rx="8" />
			<text class="net-name" x={x + 16} y={y + (isNarrow ? 24 : 27)}>
				{cut(name, isNarrow ? inner * 0.6 : inner / 2, LETTER)}
			</text>
			<text class="node-line" x={x + 24 + nameWidth} y={y + (isNarrow ? 24 : 27)}>
				{cut(isNarrow ? what : [what, ...subnet].filter(Boolean).join(" · "), isNarrow ? inner - nameWidth - 40 : inner / 2 - nameWidth, LETTER_SMALL)}
			</text>
			{isNarrow ? (
				<text class={isBad ? "node-line bad" : "node-line"} x={x + 16} y={y + 46}>
					{cut([subnet[0], way].filter(Boolean).join(" · "), inner - 30, LETTER_SMALL)}
				</text>
			) : (
				<text class={isBad ? "node-line bad" : "node-line"} x={width - 16} y={y + 27} text-anchor="end">
					{cut(way, inner / 2 - 20, LETTER_SMALL)}
				</text>
			)}
			<title>{label}</title>
		</>
	);
	return net.doc ? (
		<Place to={pathOf("networks", net.name)} label={label}>
			{body}
		</Place>
	) : (
		<g role="img" aria-label={label}>
			{body}
		</g>
	);
}

export function NetworkMap({ only }: { only?: string }) {
	const top = useTopology(only).value;
	const box = useRef<HTMLDivElement>(null), width = useSignal(0), isAll = useSignal(false);
	useEffect(() => {
		const e = box.current!;
		const seen = new ResizeObserver(() => (width.value = Math.floor(e.clientWidth)));
		seen.observe(e);
		return () => seen.disconnect();
	}, []);
	const lay = width.value ? layOut(top, width.value, isAll.value) : undefined;
	const left = lay?.rows.reduce((n, r) => n + r.more, 0) ?? 0;
	return (
		<div class="map" ref={box}>
			{lay && (
				<svg width={width.value} height={lay.height} role="group" aria-label={t("net.map")}>
					{top.nets.map((n, i) => (
						<line key={n.name} class={`lane net-${i % COLOURS}`} x1={lay.lanes[i]} y1={lay.bars[i]! + lay.barHeight} x2={lay.lanes[i]} y2={Math.max(lay.ends[i]!, lay.bars[i]! + lay.barHeight)} />
					))}
					{top.nets.map((n, i) => (
						<Bar key={n.name} net={n} index={i} lay={lay} width={width.value} />
					))}
					{lay.rows.map((r, i) => (
						<Branch key={i} row={r} lay={lay} nets={top.nets} />
					))}
				</svg>
			)}
			{left > 0 && (
				<button type="button" onClick={() => (isAll.value = true)}>
					{t("net.more", { n: left })}
				</button>
			)}
			{top.unplugged.length > 0 && <p class="soft">{t("net.unplugged", { n: top.unplugged.length })}</p>}
		</div>
	);
}
