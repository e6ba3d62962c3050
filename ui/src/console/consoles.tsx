// SPDX-License-Identifier: Apache-2.0
// The consoles of a machine: the one that is looked at, and a choice where there are more.
import { useEffect, useState } from "preact/hooks";
import { t } from "../i18n";
import { refusalOf } from "../views/acts";
import type { Doc } from "../state/collection";
import { lazyConsole, type ConsoleView } from "./lazy";
import { consolesOf, type ConsoleType } from "./types";

export function Consoles({ doc }: { doc: Doc }) {
	const all = consolesOf(doc);
	const [chosen, setChosen] = useState<ConsoleType>();
	const [View, setView] = useState<ConsoleView>();
	const [isLost, setLost] = useState(false);
	const now = chosen && all.includes(chosen) ? chosen : all[0]!;
	useEffect(() => {
		let isOver = false;
		setView(undefined);
		setLost(false);
		void lazyConsole(now).then((v) => {
			if (isOver) return;
			setView(() => v);
			setLost(!v);
		});
		return () => {
			isOver = true;
		};
	}, [now]);
	const refusal = refusalOf({ role: "operator", where: "project" });
	if (refusal !== undefined) return <p class="empty">{refusal}</p>;
	return (
		<>
			{all.length > 1 && (
				<div class="choices" role="group" aria-label={t("tab.console")}>
					{all.map((x) => (
						<button type="button" key={x} aria-pressed={x === now} onClick={() => setChosen(x)}>
							{t(`console.${x}`)}
						</button>
					))}
				</div>
			)}
			{View ? <View name={doc.name} /> : <p class="empty">{t(isLost ? "error.unreachable" : "loading")}</p>}
			{all.length === 1 && <p class="soft">{t("console.only-serial")}</p>}
		</>
	);
}
