// SPDX-License-Identifier: Apache-2.0
// Every change that was asked for from this page, the last one first, as curl.
import { useSignal } from "@preact/signals";
import { formatTime, t } from "../i18n";
import { made, type Made } from "../state/calls";
import { Dialog } from "./dialog";

function One({ of }: { of: Made }) {
	return (
		<li>
			<details class="curl">
				<summary>
					<time>{formatTime(new Date(of.at).toISOString())}</time> <code>{of.title}</code>{" "}
					<span class={of.status >= 200 && of.status < 300 ? "soft" : "error"}>{of.status || t("calls.none")}</span>
				</summary>
				<pre tabIndex={0}>{of.curl}</pre>
				<button type="button" onClick={() => void navigator.clipboard?.writeText(of.curl)}>
					{t("copy")}
				</button>
			</details>
		</li>
	);
}

export function Calls() {
	const isOpen = useSignal(false);
	return (
		<>
			<button type="button" title={t("calls.title")} onClick={() => (isOpen.value = true)}>
				curl<span class="hidden">: {t("calls.title")}</span>
			</button>
			{isOpen.value && (
				<Dialog title={t("calls.title")} onClose={() => (isOpen.value = false)} isWide>
					<p>{t(made.value.length ? "calls.text" : "calls.empty")}</p>
					<ol class="events">
						{made.value.map((m) => (
							<One key={m.id} of={m} />
						))}
					</ol>
				</Dialog>
			)}
		</>
	);
}
