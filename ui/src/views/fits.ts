// SPDX-License-Identifier: Apache-2.0
// Which fields make sense beside what has been chosen in others: a network behind the host has no bridge of it.
import type { Value } from "../widgets/form";

function at(v: Value, path: string): Value {
	return path.split(/[.[\]]+/).filter(Boolean).reduce<Value>((x, k) => (x as Record<string, Value> | undefined | null)?.[k], v);
}

const OF_NETWORK: Record<string, string[]> = {
	"spec.bridge": ["bridge"],
	"spec.subnet": ["nat", "host-only"],
	"spec.subnet6": ["nat", "host-only"],
	"spec.domain": ["nat", "host-only"],
	"spec.limit_in": ["nat", "host-only", "bridge"],
	"spec.limit_out": ["nat", "host-only", "bridge"],
};

const OF_INTERFACE: Record<string, string[]> = {
	network: ["network"],
	address: ["network"],
	forwards: ["network", "user"],
	limit_in: ["network"],
	limit_out: ["network"],
	mac: ["network", "user"],
};

// Of a source that is sent nothing has to be said: its file says it.
function fitsSource(kind: string, value: Value, path: string): boolean {
	if (at(value, "spec.source.catalogue") !== undefined) return ["spec.source", "spec.source.catalogue"].includes(path);
	if (at(value, "spec.source.download")) return path === "spec.source" || path.startsWith("spec.source.download");
	if (at(value, "spec.source.upload")) return ["spec.source", "spec.source.upload", "spec.source.upload.format"].includes(path);
	const isCopy = at(value, "spec.source.instance") !== undefined;
	if (isCopy || path === "spec.source.instance") return isCopy && ["spec.source", "spec.source.instance"].includes(path);
	if (path === "spec.source") return kind === "image";
	return !/^spec\.source\.(upload|download|catalogue)/.test(path) && !!at(value, "spec.source.build") !== (path === "spec.source.path");
}

// Is there any sense in the field at PATH of a KIND whose other fields are VALUE? What is filled in is always shown.
export function fits(kind: string, value: Value, path: string): boolean {
	if (/^spec\.source(\.|$)/.test(path) && (kind === "image" || kind === "volume")) return fitsSource(kind, value, path);
	// What a machine says itself is written where it is shown: the API finds out what is new.
	if (kind === "instance" && /^own(\.|$)/.test(path)) return false;
	const own = at(value, path);
	if (own !== undefined && own !== "" && !(Array.isArray(own) && !own.length)) return true;
	if (kind === "network") return OF_NETWORK[path]?.includes(String(at(value, "spec.kind") ?? "nat")) ?? true;
	if (kind === "instance") {
		const [, list, field] = /^(spec\.networks\[\d+\])\.([a-z_]+)/.exec(path) ?? [];
		return !list || !field || (OF_INTERFACE[field]?.includes(String(at(value, `${list}.kind`) ?? "user")) ?? true);
	}
	return true;
}
