// SPDX-License-Identifier: Apache-2.0
// What a table shows of each kind beside name and state.
import type { Kind } from "../api/spec";
import { formatBytes, formatNumber, t, tIf } from "../i18n";
import { Link, pathOf } from "../router";
import type { Doc } from "../state/collection";
import { usageNow } from "../state/usage";
import type { Column } from "../widgets/table";
import { usersOf } from "./image";
import { Fullness } from "./storage";
import { taskColumns } from "./tasks";

const field = (d: Doc, name: string): unknown => d.spec?.[name] ?? d.status?.[name];

function text(id: string, title: string, of: (d: Doc) => string): Column<Doc> {
	return { id, title, width: "minmax(6rem, 1fr)", isSecondary: true, sortBy: of, show: of };
}

function bytes(id: string, title: string, names: string[]): Column<Doc> {
	const of = (d: Doc): number => Number(names.map((n) => field(d, n)).find((v) => typeof v === "number") ?? 0);
	return { id, title, width: "minmax(6rem, 1fr)", isSecondary: true, sortBy: of, show: (d) => (of(d) ? formatBytes(of(d)) : "") };
}

// Where an image comes from.
function sourceOf(d: Doc): string {
	const s = d.spec?.source as { build?: string; path?: string } | undefined;
	return s?.build ?? s?.path?.split("/").pop() ?? "";
}

// Each leads to all that have it.
function labelsColumn(plural: string): Column<Doc> {
	const all = (d: Doc): string[] => Object.entries(d.labels ?? {}).map(([k, v]) => (v ? `${k}=${v}` : k));
	return {
		id: "labels",
		title: t("field.labels"),
		width: "minmax(6rem, 1.4fr)",
		isSecondary: true,
		sortBy: (d) => all(d).sort().join(" "),
		show: (d) => all(d).map((l) => (
			<Link key={l} to={`${pathOf(plural)}?q=${encodeURIComponent(l)}`} class="label">
				{l}
			</Link>
		)),
	};
}

// What a machine takes of the processors now. It draws itself alone when that has been measured anew.
function CpuNow({ of }: { of: Doc }) {
	const used = usageNow.value?.instances[`instance/${of.project}/${of.name}`];
	return <span class="number">{used && of.status?.state === "running" ? formatNumber(used.cpu) : ""}</span>;
}

export function columnsOf(kind: Kind): Column<Doc>[] {
	switch (kind.kind) {
		case "instance":
			return [
				text("cpus", t("field.spec.cpus"), (d) => String(d.spec?.cpus ?? "")),
				{ id: "cpu-now", title: t("use.cpu-now"), width: "minmax(5rem, 0.8fr)", isSecondary: true, sortBy: (d) => usageNow.peek()?.instances[`instance/${d.project}/${d.name}`]?.cpu ?? 0, show: (d) => <CpuNow of={d} /> },
				bytes("memory", t("field.spec.memory"), ["memory"]),
				{
					id: "image",
					title: t("field.spec.image"),
					width: "minmax(6rem, 1fr)",
					isSecondary: true,
					sortBy: (d) => String(d.spec?.image ?? ""),
					show: (d) => (d.spec?.image ? <Link to={pathOf("images", String(d.spec.image))}>{String(d.spec.image)}</Link> : ""),
				},
				labelsColumn(kind.plural),
			];
		case "network":
			return [
				text("kind", t("field.spec.kind"), (d) => tIf(`net.kind.${String(d.spec?.kind)}`, String(d.spec?.kind ?? ""))),
				text("subnet", t("field.spec.subnet"), (d) => String(d.spec?.subnet ?? d.spec?.bridge ?? "")),
				text("attached", t("net.attached"), (d) => String((d.status?.ports as unknown[] | undefined)?.length ?? "")),
				labelsColumn(kind.plural),
			];
		case "image":
			return [
				text("source", t("field.spec.source"), sourceOf),
				bytes("size", t("field.size"), ["bytes", "virtual_size", "size"]),
				text("users", t("field.used"), (d) => String(usersOf(d.name).length)),
				labelsColumn(kind.plural),
			];
		case "profile":
			return [
				text("users", t("field.used"), (d) => String(d.status?.instances ?? "")),
				{ ...text("description", t("field.description"), (d) => String(d.description ?? "")), width: "minmax(6rem, 2fr)" },
				labelsColumn(kind.plural),
			];
		case "task":
			return taskColumns();
		case "project":
			return [text("about", t("overview.about"), (d) => String(d.spec?.about ?? ""))];
		case "user":
		case "role":
		case "token":
			return [
				{ ...text("role", t("pref.role"), (d) => tIf(`choice.${String(d.spec?.role)}`, String(d.spec?.role ?? ""))), isSecondary: false },
				text("about", t("overview.about"), (d) => String(d.spec?.about ?? "")),
			];
		case "volume":
			return [
				bytes("size", t("field.size"), ["size", "virtual_size"]),
				{
					id: "pool",
					title: t("field.spec.pool"),
					width: "minmax(6rem, 1fr)",
					isSecondary: true,
					sortBy: (d) => String(d.spec?.pool ?? ""),
					show: (d) => <Link to={pathOf("pools", String(d.spec?.pool ?? "default"))}>{String(d.spec?.pool ?? "default")}</Link>,
				},
				labelsColumn(kind.plural),
			];
		case "pool":
			return [
				{ id: "room", title: t("pool.space"), width: "minmax(12rem, 1.5fr)", isSecondary: true, sortBy: (d) => Number(d.status?.percent ?? 0), show: (d) => <Fullness of={d} isSmall /> },
				{ ...text("path", t("field.path"), (d) => String(d.status?.path ?? "")), width: "minmax(6rem, 2fr)" },
			];
		default:
			return [];
	}
}
