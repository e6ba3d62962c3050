// SPDX-License-Identifier: Apache-2.0
// Dialogs on the browser's own <dialog>: it keeps the focus inside and gives it back.
import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { ApiError, asCurl, type Call } from "../api/client";
import type { Schema } from "../api/spec";
import { t } from "../i18n";
import { Fields, type Complaint, type Value } from "./form";
import { sentenceOf } from "./toast";

// Without ONCLOSE it stays until what it asks for is done.
export function Dialog(props: { title: string; onClose?: () => void; children: ComponentChildren; isWide?: boolean }) {
	const ref = useRef<HTMLDialogElement>(null), id = useId();
	useEffect(() => {
		const d = ref.current!, before = document.activeElement;
		if (!d.open) d.showModal();
		d.querySelector<HTMLElement>("input:not([readonly]), select, textarea")?.focus();
		return () => {
			d.close();
			// What it was opened with may have been drawn anew; else the browser has done it.
			if (before instanceof HTMLElement && before.isConnected) before.focus();
		};
	}, []);
	return (
		<dialog ref={ref} class={props.isWide ? "wide" : ""} aria-labelledby={id} onCancel={(e) => (e.preventDefault(), props.onClose?.())}>
			<header>
				<h2 id={id}>{props.title}</h2>
				{props.onClose && (
					<button type="button" class="icon" aria-label={t("close")} onClick={props.onClose}>
						×
					</button>
				)}
			</header>
			{props.children}
		</dialog>
	);
}

// The call that is about to be made, for those who would rather script it.
export function CurlOf({ of }: { of: Call }) {
	return (
		<details class="curl">
			<summary>{t("curl.show")}</summary>
			<pre tabIndex={0}>{asCurl(of)}</pre>
			<button type="button" onClick={() => void navigator.clipboard?.writeText(asCurl(of))}>
				{t("copy")}
			</button>
		</details>
	);
}

interface Question {
	title: string;
	text: string;
	action: string; // on the button
	typed?: string; // what must be typed before
	calls?: Call[];
	callOf?: (value: Value) => Call; // when it depends on the fields
	isDangerous?: boolean;
	// Fields to fill in; what they say is run()'s argument.
	schema?: Schema;
	first?: Value; // what they say before
	suggest?: (path: string) => string[] | undefined;
	run: (value: Value) => Promise<unknown>;
	// Asked when the dialog opens: would it be done? What speaks against it is said at once.
	check?: () => Promise<unknown>;
}

const question = signal<Question | undefined>(undefined);

// Ask, and do it when it is confirmed; what goes wrong is said in the dialog.
export function confirmThen(q: Question): void {
	question.value = q;
}

function Ask({ q }: { q: Question }) {
	const [typed, setTyped] = useState("");
	const [value, setValue] = useState<Value>(q.first ?? {});
	const [complaint, setComplaint] = useState<Complaint>();
	const [isBusy, setBusy] = useState(false);
	const close = (): void => void (question.value = undefined);
	useEffect(() => {
		const complain = (why: unknown): void => setComplaint({ field: undefined, text: sentenceOf(why as ApiError) });
		void q.check?.().catch(complain);
	}, []);
	const submit = async (e: Event): Promise<void> => {
		e.preventDefault();
		setBusy(true);
		try {
			await q.run(value);
			close();
		} catch (why) {
			setComplaint({ field: (why as ApiError).field, text: sentenceOf(why as ApiError) });
			setBusy(false);
		}
	};
	return (
		<Dialog title={q.title} onClose={close}>
			<form onSubmit={(e) => void submit(e)}>
				{q.text && <p dir="auto">{q.text}</p>}
				{q.typed !== undefined && (
					<label class="field">
						<span>{t("confirm.type", { name: q.typed })}</span>
						<input value={typed} onInput={(e) => setTyped(e.currentTarget.value)} autocomplete="off" spellcheck={false} />
					</label>
				)}
				{q.schema && <Fields schema={q.schema} path="" name="" value={value} onChange={setValue} complaint={complaint} {...(q.suggest ? { suggest: q.suggest } : {})} />}
				{complaint && (
					<p class="error" role="alert">
						{complaint.text}
					</p>
				)}
				{q.callOf && <CurlOf of={q.callOf(value)} />}
				{q.calls?.map((c) => <CurlOf key={asCurl(c)} of={c} />)}
				<footer>
					<button type="button" onClick={close}>
						{t("cancel")}
					</button>
					<button class={q.isDangerous ? "danger" : "primary"} disabled={isBusy || (q.typed !== undefined && typed !== q.typed)}>
						{q.action}
					</button>
				</footer>
			</form>
		</Dialog>
	);
}

// What only this answer has.
const secret = signal("");

export function showSecret(doc: Record<string, unknown>): void {
	if (typeof doc["token"] === "string") secret.value = doc["token"];
}

function Secret() {
	const close = (): void => void (secret.value = "");
	return (
		<Dialog title={t("secret.title")} onClose={close}>
			<p>{t("secret.text")}</p>
			<pre tabIndex={0}>{secret.value}</pre>
			<footer>
				<button type="button" onClick={() => void navigator.clipboard?.writeText(secret.value)}>
					{t("copy")}
				</button>
				<button type="button" class="primary" onClick={close}>
					{t("close")}
				</button>
			</footer>
		</Dialog>
	);
}

export function Questions() {
	if (secret.value) return <Secret />;
	return question.value ? <Ask key={question.value.title} q={question.value} /> : null;
}
