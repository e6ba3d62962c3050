// SPDX-License-Identifier: Apache-2.0
import { effect, signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";
const SAVED = "viv.theme";

export const theme = signal<Theme>((localStorage.getItem(SAVED) as Theme | null) ?? "auto");

effect(() => {
	localStorage.setItem(SAVED, theme.value);
	document.documentElement.dataset.theme = theme.value;
});
