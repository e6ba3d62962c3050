// SPDX-License-Identifier: Apache-2.0
// What publishers offer, to make an image of: a list to choose from. What nobody has looked at yet is known by its name alone.
import { useEffect, useState } from "preact/hooks";
import { call } from "../api/client";
import { formatBytes, formatTime, t } from "../i18n";
import { tellError } from "../widgets/toast";

interface Offered {
	reference: string;
	name: string;
	release?: string;
	size?: number;
}
interface Catalogue {
	name: string;
	title: string;
	systems?: string[];
	status: { state: string; fetched?: string; verified?: string };
	images?: Offered[];
}

async function load(): Promise<Catalogue[]> {
	const list = await call<{ items: Catalogue[] }>({ method: "GET", path: "/v1/catalogues" });
	return Promise.all(list.items.filter((c) => c.systems).map((c) => call<Catalogue>({ method: "GET", path: `/v1/catalogues/${encodeURIComponent(c.name)}` })));
}

const labelOf = (i: Offered): string => [i.reference, i.release, i.size ? formatBytes(i.size) : ""].filter(Boolean).join(" · ");

export function CatalogueChoice({ value, onChoose }: { value: string; onChoose: (reference: string, name: string) => void }) {
	const [all, setAll] = useState<Catalogue[]>([]);
	useEffect(() => {
		load().then(setAll, tellError);
	}, []);
	const own = all.find((c) => c.systems!.includes(value.split(":")[0]!));
	const choose = (reference: string): void => {
		const image = all.flatMap((c) => c.images ?? []).find((i) => i.reference === reference);
		onChoose(reference, image?.name ?? reference);
	};
	return (
		<label class="bar catalogue">
			{t("image.offered")}
			<select data-choice="catalogue" value={value} onChange={(e) => choose(e.currentTarget.value)}>
				<option value="" />
				{all.map((c) => (
					<optgroup key={c.name} label={c.title || c.name}>
						{c.systems!.map((s) => (
							<option key={s} value={s}>
								{t("image.newest", { what: s })}
							</option>
						))}
						{c.images!.map((i) => (
							<option key={i.reference} value={i.reference}>
								{labelOf(i)}
							</option>
						))}
					</optgroup>
				))}
			</select>
			{own && <span class="soft">{own.status.fetched ? t("image.looked", { when: formatTime(own.status.fetched) }) : t("image.never-looked")}</span>}
		</label>
	);
}
