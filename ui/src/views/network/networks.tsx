// SPDX-License-Identifier: Apache-2.0
// All networks: as a picture, as a table of what is attached, and as a list to select from.
import type { Kind } from "../../api/spec";
import { t } from "../../i18n";
import { Link, query } from "../../router";
import type { Doc } from "../../state/collection";
import { collection } from "../../state/live";
import { CreateLink } from "../acts";
import { ListView } from "../list";
import { titleOf } from "../words";
import { NetworkMap } from "./map";
import { PortsTable } from "./ports";

const VIEWS = ["map", "attached", "list"] as const;

function Views({ now }: { now: string }) {
	return (
		<nav class="choices" aria-label={t("net.views")}>
			{VIEWS.map((v) => (
				<Link key={v} to={v === "map" ? "/networks" : `/networks?view=${v}`} aria-current={v === now ? "page" : undefined}>
					{t(`net.view.${v}`)}
				</Link>
			))}
		</nav>
	);
}

export function NetworksView({ kind }: { kind: Kind }) {
	const now = query.value.get("view") ?? "map", c = collection("network");
	const isEmpty = c.isLoaded.value && c.names.value.length === 0;
	const create = <CreateLink kind={kind} />;
	if (now === "list") return <ListView kind={kind} beside={<Views now={now} />} />;
	return (
		<section class={now === "attached" ? "view list" : "view"}>
			<header class="bar">
				<h1>{titleOf("networks")}</h1>
				<Views now={now} />
				<span class="grow" />
				{!isEmpty && create}
			</header>
			{isEmpty && now === "map" && (
				<div class="empty card">
					<p>{t("empty.networks")}</p>
					{create}
				</div>
			)}
			{now === "map" ? <NetworkMap /> : <PortsTable />}
		</section>
	);
}

// What is on one of them.
export function Attached({ doc }: { doc: Doc }) {
	return (
		<>
			<NetworkMap key={doc.name} only={doc.name} />
			<div class="beneath">
				<PortsTable only={doc.name} />
			</div>
		</>
	);
}
