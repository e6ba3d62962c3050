// SPDX-License-Identifier: Apache-2.0
// Who is attached to what, from the documents of networks and instances: the interfaces of instances, and groups of
// instances that are on the same networks. Pictures and tables are made of it.
import { signal, type ReadonlySignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import type { Collection, Doc } from "../../state/collection";
import { collection } from "../../state/live";

// An interface of an instance.
export interface Port {
	key: string; // "web/0"
	instance: string;
	state: string;
	index: number;
	network: string; // OWN: out through the host by itself; "": a cable that leads nowhere
	address: string;
	address6: string;
	mac: string;
	forwards: string[];
	limitIn: number | undefined;
	limitOut: number | undefined;
}

export interface Net {
	name: string;
	doc: Doc | undefined; // not there: an instance names a network that is missing, or it is OWN
	ports: Port[];
}

export interface Member {
	name: string;
	state: string;
	ports: Port[];
}

// Instances on the same networks, which are numbers of Topology.nets in rising order.
export interface Group {
	nets: number[];
	members: Member[];
}

export interface Topology {
	nets: Net[];
	groups: Group[];
	unplugged: string[]; // instances on no network
}

export const OWN = "*";
const SETTLE_MS = 200;

interface Told {
	interface?: number;
	address?: string;
	address6?: string;
	mac?: string;
}

type Wanted = Record<string, unknown>;

// Which number an interface has on a network; the address follows from it.
interface Lease {
	uid: string;
	interface: number;
	number: number;
}

const leaseKey = (network: string, uid: string, index: number): string => `${network} ${uid} ${index}`;

// The NTH address of SUBNET ("10.1.2.0/24", "fd00:1:2:3::/64"); "": it has none.
export function nthOf(subnet: unknown, n: number): string {
	if (typeof subnet !== "string" || !n) return "";
	const base = subnet.split("/")[0]!;
	if (base.includes(":")) return base.endsWith("::") ? base + n.toString(16) : "";
	const bytes = base.split(".").map(Number);
	const sum = bytes.reduce((s, b) => s * 256 + b, 0) + n;
	return [24, 16, 8, 0].map((k) => Math.floor(sum / 2 ** k) % 256).join(".");
}

// The addresses of all leases of NETWORKS, which networks tell as soon as they are decided.
function addressesOf(networks: Doc[]): Map<string, [string, string]> {
	const found = new Map<string, [string, string]>();
	for (const d of networks)
		for (const l of (d.status?.ports as Lease[] | undefined) ?? [])
			found.set(leaseKey(d.name, l.uid, l.interface), [nthOf(d.spec?.subnet, l.number), nthOf(d.spec?.subnet6, l.number)]);
	return found;
}

const numberOf = (v: unknown): number | undefined => (typeof v === "number" ? v : undefined);

function portOf(d: Doc, wanted: Wanted, index: number, told: Told | undefined, addresses: Map<string, [string, string]>): Port {
	const kind = wanted.kind ?? "user", known = addresses.get(leaseKey(String(wanted.network), d.uid, index));
	return {
		key: `${d.name}/${index}`,
		instance: d.name,
		state: d.status?.state ?? "unknown",
		index,
		network: kind === "network" ? String(wanted.network ?? "") : kind === "user" ? OWN : "",
		address: known?.[0] || (told?.address ?? String(wanted.address ?? "")),
		address6: known?.[1] || (told?.address6 ?? ""),
		mac: told?.mac ?? String(wanted.mac ?? ""),
		forwards: (wanted.forwards as string[] | undefined) ?? [],
		limitIn: numberOf(wanted.limit_in),
		limitOut: numberOf(wanted.limit_out),
	};
}

// The interfaces of an instance.
function portsOf(d: Doc, addresses: Map<string, [string, string]>): Port[] {
	const told = (d.status?.networks as Told[] | undefined) ?? [];
	return ((d.spec?.networks as Wanted[] | undefined) ?? []).map((w, i) => portOf(d, w, i, told.find((x) => x.interface === i), addresses));
}

function all(c: Collection): Doc[] {
	return c.names.peek().map((n) => c.get(n)!.peek());
}

// NETWORKS and INSTANCES as they are now; those on ONLY, when it is given.
export function topologyOf(networks: Doc[], instances: Doc[], only?: string): Topology {
	const nets = new Map<string, Net>(networks.map((d) => [d.name, { name: d.name, doc: d, ports: [] }]));
	const members: Member[] = [], addresses = addressesOf(networks);
	for (const d of instances) {
		const ports = portsOf(d, addresses);
		if (only !== undefined && !ports.some((p) => p.network === only)) continue;
		members.push({ name: d.name, state: d.deleting ? "deleting" : (d.status?.state ?? "unknown"), ports });
		for (const p of ports) {
			if (!p.network) continue;
			if (!nets.has(p.network)) nets.set(p.network, { name: p.network, doc: undefined, ports: [] });
			nets.get(p.network)!.ports.push(p);
		}
	}
	// What is out by itself comes last: it is no network that anybody made.
	const list = [...nets.values()].filter((n) => only === undefined || n.ports.length || n.name === only);
	list.sort((a, b) => Number(a.name === OWN) - Number(b.name === OWN) || (a.name < b.name ? -1 : 1));
	return { nets: list, ...grouped(list, members) };
}

function grouped(nets: Net[], members: Member[]): { groups: Group[]; unplugged: string[] } {
	const place = new Map(nets.map((n, i) => [n.name, i]));
	const groups = new Map<string, Group>(), unplugged: string[] = [];
	for (const m of members) {
		const on = [...new Set(m.ports.filter((p) => p.network).map((p) => place.get(p.network)!))].sort((a, b) => a - b);
		const key = on.join(" ");
		if (!on.length) unplugged.push(m.name);
		else if (groups.has(key)) groups.get(key)!.members.push(m);
		else groups.set(key, { nets: on, members: [m] });
	}
	return { groups: [...groups.values()], unplugged };
}

// The same, kept up to date: drawn anew when something of it has changed, and not for each of many changes.
export function useTopology(only?: string): ReadonlySignal<Topology> {
	const networks = collection("network"), instances = collection("instance");
	const look = (): Topology => topologyOf(all(networks), all(instances), only);
	const state = useMemo(() => {
		const first = look();
		return { now: signal(first), drawn: JSON.stringify(first) };
	}, [only]);
	useEffect(() => {
		let timer = 0;
		const update = (): void => {
			timer = 0;
			const next = look(), text = JSON.stringify(next);
			if (text === state.drawn) return;
			state.drawn = text;
			state.now.value = next;
		};
		const later = (): void => {
			timer ||= window.setTimeout(update, SETTLE_MS);
		};
		const stops = [networks.version.subscribe(later), instances.version.subscribe(later)];
		return () => {
			for (const stop of stops) stop();
			window.clearTimeout(timer);
		};
	}, [state]);
	return state.now;
}
