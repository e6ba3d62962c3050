// SPDX-License-Identifier: Apache-2.0
// A table of thousands of rows of which only those in sight exist. Each row draws itself from a signal of its own.
import { useComputed, useSignal, type ReadonlySignal } from "@preact/signals";
import type { ComponentChildren, VNode } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { t } from "../i18n";

export interface Column<T> {
	id: string;
	title: string;
	width: string; // of a CSS grid
	show: (row: T) => ComponentChildren;
	sortBy?: (row: T) => string | number;
	isSecondary?: boolean; // not on narrow screens
}

interface Props<T> {
	label: string;
	columns: Column<T>[];
	names: ReadonlySignal<string[]>; // those to show, in order
	topic?: string; // what they were chosen by: with another one the table is seen from its top
	rowOf: (name: string) => ReadonlySignal<T> | undefined;
	sort: { id: string; isDown: boolean };
	onSort: (id: string) => void;
	// Without them there is nothing to select.
	selected?: ReadonlySignal<ReadonlySet<string>>;
	onSelect?: (names: string[], isOn: boolean) => void;
}

export const ROW_HEIGHT = 44;
const MARGIN_ROWS = 8;

function Row<T>(p: { name: string; index: number; of: Props<T> }) {
	const row = p.of.rowOf(p.name);
	if (!row) return null;
	const isOn = p.of.selected?.value.has(p.name);
	return (
		<div role="row" aria-rowindex={p.index + 2} aria-selected={isOn} class="row" style={{ transform: `translateY(${p.index * ROW_HEIGHT}px)` }}>
			{p.of.selected && (
				<div role="cell" class="check">
					<input
						type="checkbox"
						aria-label={t("table.select", { name: p.name })}
						checked={isOn}
						onChange={(e) => p.of.onSelect?.([p.name], e.currentTarget.checked)}
					/>
				</div>
			)}
			{p.of.columns.map((c) => (
				<div role="cell" key={c.id} class={c.isSecondary ? "secondary" : ""} dir="auto">
					{c.show(row.value)}
				</div>
			))}
		</div>
	);
}

function Head<T>({ of }: { of: Props<T> }) {
	const names = of.names.value;
	const isAll = names.length > 0 && names.every((n) => of.selected?.value.has(n));
	return (
		<div role="row" aria-rowindex={1} class="row head">
			{of.selected && (
				<div role="columnheader" class="check">
					<input type="checkbox" aria-label={t("table.all")} checked={isAll} onChange={(e) => of.onSelect?.(names, e.currentTarget.checked)} />
				</div>
			)}
			{of.columns.map((c) => (
				<div
					role="columnheader"
					key={c.id}
					class={c.isSecondary ? "secondary" : ""}
					aria-sort={of.sort.id === c.id ? (of.sort.isDown ? "descending" : "ascending") : "none"}
				>
					{c.sortBy ? (
						<button type="button" class="plain" onClick={() => of.onSort(c.id)}>
							{c.title} {of.sort.id === c.id ? (of.sort.isDown ? "▾" : "▴") : ""}
						</button>
					) : (
						c.title
					)}
				</div>
			))}
		</div>
	);
}

export function Table<T>(p: Props<T>) {
	const box = useRef<HTMLDivElement>(null);
	const top = useSignal(0);
	const height = useSignal(600);
	useEffect(() => {
		const e = box.current!;
		const seen = new ResizeObserver(() => (height.value = e.clientHeight));
		const style = document.documentElement.style;
		style.setProperty("--row", `${ROW_HEIGHT}px`);
		seen.observe(e);
		return () => seen.disconnect();
	}, []);
	useEffect(() => void (box.current!.scrollTop = 0), [p.topic, p.sort.id, p.sort.isDown]);
	// Changes only when a row comes into sight or goes, not with every pixel.
	const first = useComputed(() => Math.max(0, Math.floor(top.value / ROW_HEIGHT) - MARGIN_ROWS));
	const count = useComputed(() => Math.ceil(height.value / ROW_HEIGHT) + 2 * MARGIN_ROWS);
	const names = p.names.value;
	const shown = names.slice(first.value, first.value + count.value);
	// A row that stays where it is, is the same node: nothing of it is looked at again while one scrolls.
	const before = useRef({ of: p, rows: new Map<string, VNode>() });
	const rows = new Map<string, VNode>();
	shown.forEach((n, i) => {
		const index = first.value + i, key = `${index} ${n}`;
		rows.set(key, (before.current.of === p && before.current.rows.get(key)) || <Row key={n} name={n} index={index} of={p} />);
	});
	before.current = { of: p, rows };
	const check = p.selected ? "40px " : "";
	const grid = check + p.columns.map((c) => c.width).join(" ");
	const narrow = check + p.columns.filter((c) => !c.isSecondary).map((c) => c.width).join(" ");
	return (
		<div
			class="table"
			role="table"
			aria-label={p.label}
			aria-rowcount={names.length + 1}
			tabIndex={0}
			ref={box}
			style={{ "--grid": grid, "--narrow": narrow }}
			onScroll={(e) => (top.value = e.currentTarget.scrollTop)}
		>
			<Head of={p} />
			<div class="rows" role="rowgroup" style={{ height: `${names.length * ROW_HEIGHT}px` }}>
				{[...rows.values()]}
			</div>
		</div>
	);
}
