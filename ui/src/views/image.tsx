// SPDX-License-Identifier: Apache-2.0
// An image: how far its making is, and which machines were made of it.
import { formatTime, t } from "../i18n";
import { Link, pathOf } from "../router";
import { collection } from "../state/live";
import type { Doc } from "../state/collection";

// The machines whose first disk began as IMAGE.
export function usersOf(image: string): string[] {
	const c = collection("instance");
	c.version.value;
	return c.names.value.filter((n) => c.get(n)!.peek().spec?.image === image);
}

// It is being made: nobody knows how long it takes, but it can be seen to go on, and be given up.
function Making({ doc }: { doc: Doc }) {
	return (
		<article class="card">
			<h2>{t("image.making")}</h2>
			<p dir="auto" role="status">
				{doc.status?.reason}
			</p>
			<progress aria-label={t("image.making")} />
			<p class="soft">{t("image.cancel", { when: formatTime(doc.status?.since) })}</p>
		</article>
	);
}

export function ImageCards({ doc }: { doc: Doc }) {
	const users = usersOf(doc.name);
	return (
		<div class="cards">
			{doc.status?.state === "making" && !doc.deleting && <Making doc={doc} />}
			<article class="card">
				<div class="bar">
					<h2>{t("image.users")}</h2>
					<span class="grow" />
					{doc.status?.state === "ready" && (
						<Link to={`/instances/+?image=${encodeURIComponent(doc.name)}`} class="button primary">
							{t("image.use")}
						</Link>
					)}
				</div>
				{users.length ? (
					<ul class="values">
						{users.slice(0, 50).map((n) => (
							<li key={n}>
								<Link to={pathOf("instances", n)}>{n}</Link>
							</li>
						))}
						{users.length > 50 && <li>{t("image.more-users", { n: users.length - 50 })}</li>}
					</ul>
				) : (
					<p class="soft">{t("image.unused")}</p>
				)}
			</article>
		</div>
	);
}
