// SPDX-License-Identifier: Apache-2.0
// What a disk is made of: the files from the top down, what they take, and snapshots inside; asked again when its document changes.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api/client";
import { formatBytes, formatTime, t } from "../i18n";
import { pathOf } from "../router";
import type { Doc } from "../state/collection";
import { project } from "../state/live";

interface Disk {
	chain: { file: string; format: string; allocated: number }[];
	snapshots: { instance?: string; name: string; created: string }[];
}

export function DiskFacts({ plural, doc }: { plural: string; doc: Doc }) {
	const disk = useSignal<Disk | undefined>(undefined), isReady = doc.status?.state === "ready";
	useEffect(() => {
		if (!isReady) return;
		call<Disk>({ method: "GET", path: `/v1${pathOf(plural, doc.name)}/disk`, query: { project: project.value } })
			.then((d) => (disk.value = d))
			.catch(() => (disk.value = undefined)); // its pool may have gone: the page says so
	}, [doc.name, doc.revision, isReady]);
	if (!isReady || !disk.value) return null;
	return (
		<table class="plain-table">
			<tbody>
				{disk.value.chain.map((f, i) => (
					<tr key={f.file}>
						<th scope="row">{i ? t("disk.below") : t("disk.own")}</th>
						<td dir="ltr">{`${f.file} (${f.format})`}</td>
						<td class="number">{formatBytes(f.allocated)}</td>
					</tr>
				))}
				{disk.value.snapshots.map((s) => (
					<tr key={`${s.instance ?? ""} ${s.name}`}>
						<th scope="row">{t("disk.snapshot")}</th>
						<td dir="auto">{s.instance ? `${s.instance}: ${s.name}` : s.name}</td>
						<td>{formatTime(s.created)}</td>
					</tr>
				))}
			</tbody>
		</table>
	);
}
