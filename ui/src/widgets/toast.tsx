// SPDX-License-Identifier: Apache-2.0
// Short messages at the edge of the screen, read out by screen readers.
import { signal } from "@preact/signals";
import type { ApiError } from "../api/client";
import { t } from "../i18n";

interface Toast {
	id: number;
	text: string;
	isError: boolean;
	undo?: Undo | undefined;
}

// What takes it back.
interface Undo {
	title: string;
	run: () => Promise<void>;
}

const SHOWN_MS = 5000, MOST = 5;
const toasts = signal<Toast[]>([]);
let last = 0;

export function dismiss(id: number): void {
	toasts.value = toasts.value.filter((x) => x.id !== id);
}

function show(text: string, isError: boolean, undo?: Undo): void {
	const id = ++last;
	// Of what can be taken back only the last can be.
	const others = toasts.value.filter((x) => !undo || !x.undo);
	toasts.value = [...others.slice(1 - MOST), { id, text, isError, undo }];
	// Errors, and what can be taken back, stay until they have been read.
	if (!isError && !undo) window.setTimeout(() => dismiss(id), SHOWN_MS);
}

// What to tell people of a failed call: the API's own sentence where there is one.
export function sentenceOf(e: ApiError | Error): string {
	if ("code" in e && e.code === "unreachable") return t("error.unreachable");
	const text = e.message || t("error.unknown");
	return text.charAt(0).toUpperCase() + text.slice(1);
}

export const tell = (text: string, undo?: Undo): void => show(text, false, undo);
export const tellError = (e: unknown): void => show(sentenceOf(e as Error), true);

function UndoButton({ of, undo }: { of: Toast; undo: Undo }) {
	const press = (): void => {
		dismiss(of.id);
		void undo.run().catch(tellError);
	};
	return (
		<button type="button" class="small" onClick={press}>
			{undo.title}
		</button>
	);
}

export function Toasts() {
	return (
		<div class="toasts" role="status" aria-live="polite">
			{toasts.value.map((x) => (
				<div key={x.id} class={x.isError ? "toast error" : "toast"}>
					<span dir="auto">{x.text}</span>
					{x.undo && <UndoButton of={x} undo={x.undo} />}
					<button type="button" class="icon" aria-label={t("close")} onClick={() => dismiss(x.id)}>
						×
					</button>
				</div>
			))}
		</div>
	);
}
