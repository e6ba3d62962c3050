// SPDX-License-Identifier: Apache-2.0
// Who is attached to what, as a table: each interface of each instance.
import { signal, useComputed, useSignal } from "@preact/signals";
import { formatBytes, t } from "../../i18n";
import { Link, pathOf } from "../../router";
import { State } from "../../widgets/badge";
import { Table, type Column } from "../../widgets/table";
import { OWN, useTopology, type Port } from "./topology";

const rate = (n: number | undefined): string => (n === undefined ? "" : `${formatBytes(n)}/s`);

function text(id: string, title: string, of: (p: Port) => string, width = "minmax(8rem, 1fr)"): Column<Port> {
	return { id, title, width, isSecondary: true, sortBy: of, show: of };
}

function columns(): Column<Port>[] {
	return [
		{
			id: "instance",
			title: t("net.instance"),
			width: "minmax(7rem, 1.2fr)",
			sortBy: (p) => p.key,
			show: (p) => (
				<Link to={pathOf("instances", p.instance)} class="name">
					{p.index ? `${p.instance} (${p.index + 1})` : p.instance}
				</Link>
			),
		},
		{
			id: "network",
			title: t("net.network"),
			width: "minmax(8rem, 1fr)",
			sortBy: (p) => p.network,
			show: (p) => (p.network === OWN ? t("net.own") : p.network ? <Link to={pathOf("networks", p.network)}>{p.network}</Link> : t("net.nowhere")),
		},
		{ ...text("address", t("net.address"), (p) => p.address || p.address6), isSecondary: false },
		{ id: "state", title: t("field.state"), width: "minmax(7rem, 1fr)", isSecondary: true, sortBy: (p) => p.state, show: (p) => <State of={p.state} /> },
		text("forwards", t("net.forwards"), (p) => p.forwards.join(", "), "minmax(9rem, 1.2fr)"),
		text("mac", t("value.mac"), (p) => p.mac, "minmax(11rem, 1fr)"),
		text("limits", t("net.limits"), (p) => [rate(p.limitIn), rate(p.limitOut)].filter(Boolean).join(" / ")),
	];
}

export function PortsTable({ only }: { only?: string }) {
	const top = useTopology(only), sort = useSignal({ id: "instance", isDown: false });
	const list = columns();
	const ports = useComputed(() => new Map(top.value.nets.flatMap((n) => n.ports.filter((p) => only === undefined || p.network === only)).map((p) => [p.key, p])));
	const names = useComputed(() => {
		const by = list.find((c) => c.id === sort.value.id)!.sortBy!;
		const keys = [...ports.value.values()].sort((a, b) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : a.key < b.key ? -1 : 1)).map((p) => p.key);
		return sort.value.isDown ? keys.reverse() : keys;
	});
	if (!ports.value.size) return <p class="empty">{t("net.none-attached")}</p>;
	return (
		<Table
			label={t("net.attached")}
			columns={list}
			names={names}
			rowOf={(key) => signal(ports.value.get(key)!)}
			sort={sort.value}
			onSort={(id) => (sort.value = { id, isDown: sort.value.id === id && !sort.value.isDown })}
		/>
	);
}
