// SPDX-License-Identifier: Apache-2.0
// Why a machine is as it is, in the node's sentences; asked again when its document changes.
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { call } from "../api/client";
import { t, tIf } from "../i18n";
import { pathOf } from "../router";
import type { Doc } from "../state/collection";
import { project } from "../state/live";
import { tellError } from "../widgets/toast";

interface Fact {
	about: string;
	text: string;
}

export function Why({ doc }: { doc: Doc }) {
	const facts = useSignal<Fact[] | undefined>(undefined);
	useEffect(() => {
		call<{ facts: Fact[] }>({ method: "GET", path: `/v1${pathOf("instances", doc.name)}/why`, query: { project: project.value } })
			.then((a) => (facts.value = a.facts))
			.catch(tellError);
	}, [doc.name, doc.revision, doc.status?.state, doc.status?.since]);
	if (!facts.value) return <p class="empty">{t("loading")}</p>;
	return (
		<dl class="values facts">
			{facts.value.map((f, i) => (
				<>
					<dt key={`${i} about`}>{tIf(`why.${f.about}`, f.about)}</dt>
					<dd key={`${i} text`} dir="auto">
						{f.text}
					</dd>
				</>
			))}
		</dl>
	);
}
