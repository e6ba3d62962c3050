// SPDX-License-Identifier: Apache-2.0
// What a machine has and what it costs: its disks with where they live, its ports with their addresses, and what it takes of
// the host now.
import type { ComponentChildren } from "preact";
import { formatBytes, formatNumber, t, tIf } from "../i18n";
import { Link, pathOf } from "../router";
import type { Doc } from "../state/collection";
import { collection } from "../state/live";
import { usageNow } from "../state/usage";
import { ProfilesOf } from "./profile";
import { State } from "../widgets/badge";

const PERCENT = 100;

interface Disk {
	volume: string;
	readonly?: boolean;
}

interface Port {
	kind: string;
	network?: string;
	mac?: string;
	forwards?: string[];
}

// What the node tells of a port.
interface Seen {
	interface: number;
	mac?: string;
	address?: string;
	address6?: string;
}

export const disksOf = (doc: Doc): Disk[] => (doc.spec?.disks as Disk[] | undefined) ?? [];

function Card({ title, doc, children }: { title: string; doc?: Doc; children: ComponentChildren }) {
	return (
		<article class="card">
			<div class="bar">
				<h2>{title}</h2>
				<span class="grow" />
				{doc && (
					<Link to={pathOf("instances", doc.name, "settings")} class="button small">
						{t("machine.manage")}
					</Link>
				)}
			</div>
			{children}
		</article>
	);
}

function FirstDisk({ doc }: { doc: Doc }) {
	const image = String(doc.spec?.image), pool = String(doc.spec?.pool ?? "default"), size = doc.spec?.disk_size;
	return (
		<tr>
			<th scope="row">{t("machine.first-disk")}</th>
			<td>
				{t("machine.image-of", { name: image })} <Link to={pathOf("images", image)}>{t("one.image")}</Link>
			</td>
			<td>
				<Link to={pathOf("pools", pool)}>{pool}</Link>
			</td>
			<td class="number">{typeof size === "number" ? formatBytes(size) : ""}</td>
		</tr>
	);
}

// Growing and moving it is done on its own page.
function VolumeRow({ disk }: { disk: Disk }) {
	const volume = collection("volume").get(disk.volume)?.value, pool = String(volume?.spec?.pool ?? "default");
	return (
		<tr>
			<th scope="row">
				<Link to={pathOf("volumes", disk.volume)}>{disk.volume}</Link>
			</th>
			<td>
				<State of={volume?.status?.state ?? "unknown"} /> {disk.readonly && t("field.spec.disks.readonly")}
			</td>
			<td>
				<Link to={pathOf("pools", pool)}>{pool}</Link>
			</td>
			<td class="number">{volume ? formatBytes(Number(volume.spec?.size ?? 0)) : ""}</td>
		</tr>
	);
}

function Disks({ doc }: { doc: Doc }) {
	const more = disksOf(doc), hasFirst = typeof doc.spec?.image === "string";
	return (
		<Card title={t("machine.disks")} doc={doc}>
			{!hasFirst && !more.length && <p class="soft">{t("machine.no-disks")}</p>}
			<table class="plain-table">
				<tbody>
					{hasFirst && <FirstDisk doc={doc} />}
					{more.map((d) => (
						<VolumeRow key={d.volume} disk={d} />
					))}
				</tbody>
			</table>
		</Card>
	);
}

function PortRow({ port, seen }: { port: Port; seen: Seen | undefined }) {
	return (
		<tr>
			<th scope="row">{port.network ? <Link to={pathOf("networks", port.network)}>{port.network}</Link> : tIf(`choice.${port.kind}`, port.kind)}</th>
			<td>
				{[seen?.address, seen?.address6].filter(Boolean).join(", ")} <span class="soft nowrap">{seen?.mac ?? port.mac ?? ""}</span>
			</td>
			<td>
				{(port.forwards ?? []).map((f) => (
					<code key={f} class="label">
						{f}
					</code>
				))}
			</td>
		</tr>
	);
}

function Ports({ doc }: { doc: Doc }) {
	const ports = (doc.spec?.networks as Port[] | undefined) ?? [], seen = (doc.status?.networks as Seen[] | undefined) ?? [];
	return (
		<Card title={t("machine.ports")} doc={doc}>
			{!ports.length && <p class="soft">{t("machine.no-ports")}</p>}
			<table class="plain-table">
				<tbody>
					{ports.map((p, i) => (
						<PortRow key={i} port={p} seen={seen.find((s) => s.interface === i)} />
					))}
				</tbody>
			</table>
		</Card>
	);
}

function Cost({ doc }: { doc: Doc }) {
	const used = usageNow.value?.instances[`instance/${doc.project}/${doc.name}`], node = usageNow.value?.node;
	const share = (own: number, all: number | undefined): string => (all ? t("machine.of-host", { percent: formatNumber(Math.round((own * PERCENT) / all)) }) : "");
	return (
		<Card title={t("machine.now")}>
			{!used && <p class="soft">{t("machine.off")}</p>}
			{used && (
				<dl class="values">
					<div class="pair">
						<dt>{t("use.cpu")}</dt>
						<dd>{t("use.cpus", { n: formatNumber(used.cpu) })}</dd>
					</div>
					<div class="pair">
						<dt>{t("use.memory")}</dt>
						<dd>
							{formatBytes(used.memory)} <span class="soft">{share(used.memory, node?.memory)}</span>
						</dd>
					</div>
					<div class="pair">
						<dt>{t("use.storage")}</dt>
						<dd>{formatBytes(used.storage)}</dd>
					</div>
				</dl>
			)}
			<p>
				<Link to={pathOf("instances", doc.name, "use")}>{t("tab.use")}</Link>
			</p>
		</Card>
	);
}

export function MachineCards({ doc }: { doc: Doc }) {
	return (
		<div class="cards">
			<Cost doc={doc} />
			<Disks doc={doc} />
			<Ports doc={doc} />
			<ProfilesOf doc={doc} />
		</div>
	);
}
