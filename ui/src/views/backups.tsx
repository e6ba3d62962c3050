// SPDX-License-Identifier: Apache-2.0
// Where backups of a machine have their place. The platform makes none by itself; what can be made of what it has is here.
import type { ComponentChildren } from "preact";
import { formatTime, t, type MessageKey } from "../i18n";
import { Link, pathOf } from "../router";
import type { Doc } from "../state/collection";
import { collection } from "../state/live";
import { State } from "../widgets/badge";
import { disksOf } from "./machine";
import { Download } from "./storage";

function Way({ title, text, children }: { title: MessageKey; text?: MessageKey; children: ComponentChildren }) {
	return (
		<article class="card">
			<h2>{t(title)}</h2>
			{text && <p>{t(text)}</p>}
			{children}
		</article>
	);
}

// Images that are copies of NAME's disk.
function copiesOf(name: string): Doc[] {
	const c = collection("image");
	c.calm.value;
	return c.names.value.map((n) => c.get(n)?.value).filter((d): d is Doc => (d?.spec?.source as { instance?: string } | undefined)?.instance === name);
}

function Rows({ plural, docs }: { plural: string; docs: Doc[] }) {
	if (!docs.length) return null;
	return (
		<table class="plain-table">
			<tbody>
				{docs.map((d) => (
					<tr key={d.uid}>
						<th scope="row">
							<Link to={pathOf(plural, d.name)}>{d.name}</Link>
							{plural === "images" && <div class="soft">{formatTime(d.created)}</div>}
						</th>
						<td>
							<State of={d.status?.state} />
						</td>
						<td>
							<Download plural={plural} doc={d} isReady={d.status?.state === "ready"} />
						</td>
					</tr>
				))}
			</tbody>
		</table>
	);
}

export function Backups({ doc }: { doc: Doc }) {
	const volumes = disksOf(doc).map((d) => collection("volume").get(d.volume)?.value).filter((d): d is Doc => !!d);
	const hasDisk = typeof doc.spec?.image === "string";
	return (
		<>
			<p>{t("backup.text")}</p>
			<div class="cards">
				<Way title="backup.snapshots" text="backup.snapshots-text">
					<Link to={pathOf("instances", doc.name, "snapshots")} class="button">
						{t("kind.snapshots")}
					</Link>
				</Way>
				<Way title="backup.disk" text={hasDisk ? "backup.disk-text" : "backup.disk-none"}>
					<Rows plural="images" docs={copiesOf(doc.name)} />
					{hasDisk && (
						<Link to={`/images/+?instance=${encodeURIComponent(doc.name)}`} class="button">
							{t("backup.copy")}
						</Link>
					)}
				</Way>
				<Way title="backup.volumes" {...(volumes.length ? {} : { text: "backup.volumes-none" })}>
					<Rows plural="volumes" docs={volumes} />
				</Way>
				<Way title="backup.whole" text="backup.whole-text">
					<pre class="output" tabIndex={0}>{`viv stop ${doc.name}\nviv export ${doc.name} ${doc.name}.tar`}</pre>
				</Way>
			</div>
		</>
	);
}
