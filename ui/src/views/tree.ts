// SPDX-License-Identifier: Apache-2.0
// Snapshots of a machine as a tree: each grows from the one that its disks were last made of or brought back to. Times of
// reverts are those of the tasks, which the node keeps for a while; without them one snapshot follows the other.
import type { Doc } from "../state/collection";

export interface Grown {
	doc: Doc | undefined; // undefined: the machine as it is now
	depth: number;
	isTurn: boolean; // it moves to the side here
	from: string | undefined; // the name of that from which it grows
}

interface Step {
	at: string;
	uid: string;
	isRevert: boolean;
}

function stepsOf(snapshots: Doc[], tasks: Doc[], instanceUid: string): Step[] {
	const steps = snapshots.map((s) => ({ at: s.created ?? "", uid: s.uid, isRevert: false }));
	for (const d of tasks) {
		const p = (d as { params?: Record<string, string> }).params ?? {};
		if (d.operation !== "revertSnapshot" || d.status?.state !== "done" || p.instance_uid !== instanceUid || !p.snapshot_uid) continue;
		steps.push({ at: d.created ?? "", uid: p.snapshot_uid, isRevert: true });
	}
	return steps.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : Number(a.isRevert) - Number(b.isRevert)));
}

// SNAPSHOTS in the order in which they are drawn, "now" among them.
export function treeOf(snapshots: Doc[], tasks: Doc[], instanceUid: string): Grown[] {
	const known = new Map(snapshots.map((s) => [s.uid, s]));
	const children = new Map<string | undefined, Doc[]>();
	let now: string | undefined;
	for (const s of stepsOf(snapshots, tasks, instanceUid)) {
		if (!s.isRevert) {
			children.set(now, [...(children.get(now) ?? []), known.get(s.uid)!]);
			now = s.uid;
		} else if (known.has(s.uid)) {
			now = s.uid;
		}
	}
	const rows: Grown[] = [];
	const grow = (uid: string | undefined, depth: number): void => {
		const from = uid === undefined ? undefined : known.get(uid)!.name;
		const list = children.get(uid) ?? [], isFork = list.length + Number(uid === now) > 1;
		if (uid === now) rows.push({ doc: undefined, depth: depth + Number(isFork), isTurn: isFork, from });
		// What grows alone goes on straight: only forks move to the side.
		for (const d of list) {
			rows.push({ doc: d, depth: depth + Number(isFork), isTurn: isFork, from });
			grow(d.uid, depth + Number(isFork));
		}
	};
	grow(undefined, 0);
	return rows;
}
