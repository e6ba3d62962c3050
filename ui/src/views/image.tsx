// SPDX-License-Identifier: Apache-2.0
// An image: how far its making is, and which machines were made of it.
import { computed } from "@preact/signals";
import { formatTime, t } from "../i18n";
import { Link, pathOf } from "../router";
import { collection } from "../state/live";
import type { Doc } from "../state/collection";
import { mayCreate } from "./acts";
import { DiskFacts } from "./disk";
import { Download } from "./storage";
import { ProgressOf, UploadCard } from "./upload";

// Names of machines by the image that their first disk began as.
const users = computed(() => {
	const c = collection("instance"), found = new Map<string, string[]>();
	c.calm.value;
	for (const name of c.names.value) {
		const image = c.get(name)!.peek().spec?.image;
		if (typeof image !== "string") continue;
		const list = found.get(image);
		if (list) list.push(name);
		else found.set(image, [name]);
	}
	return found;
});

export function usersOf(image: string): string[] {
	return users.value.get(image) ?? [];
}

// It is being made: it can be seen to go on, and be given up.
function Making({ doc }: { doc: Doc }) {
	return (
		<article class="card">
			<h2>{t("image.making")}</h2>
			<p dir="auto" role="status">
				{doc.status?.reason}
			</p>
			<ProgressOf doc={doc} />
			<p class="soft">{t("image.cancel", { when: formatTime(doc.status?.since) })}</p>
		</article>
	);
}

export function ImageCards({ doc }: { doc: Doc }) {
	const own = usersOf(doc.name);
	return (
		<div class="cards">
			{doc.status?.state === "making" && !doc.deleting && <Making doc={doc} />}
			{doc.status?.state !== "making" && <UploadCard plural="images" doc={doc} />}
			{doc.status?.state === "ready" && (
				<article class="card">
					<h2>{t("volume.disk")}</h2>
					<DiskFacts plural="images" doc={doc} />
				</article>
			)}
			<article class="card">
				<div class="bar">
					<h2>{t("image.users")}</h2>
					<span class="grow" />
					<Download plural="images" doc={doc} isReady={doc.status?.state === "ready"} />
					{doc.status?.state === "ready" && mayCreate("instances") && (
						<Link to={`/instances/+?image=${encodeURIComponent(doc.name)}`} class="button primary">
							{t("image.use")}
						</Link>
					)}
				</div>
				{own.length ? (
					<ul class="values">
						{own.slice(0, 50).map((n) => (
							<li key={n}>
								<Link to={pathOf("instances", n)}>{n}</Link>
							</li>
						))}
						{own.length > 50 && <li>{t("image.more-users", { n: own.length - 50 })}</li>}
					</ul>
				) : (
					<p class="soft">{t("image.unused")}</p>
				)}
			</article>
		</div>
	);
}
