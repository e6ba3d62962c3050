// SPDX-License-Identifier: Apache-2.0
// What the console says, in the language of whoever reads it. Keys are those of messages/en.ts; a language that lacks
// one does not compile.
import { computed, effect, signal } from "@preact/signals";
import { en } from "./messages/en";
import { zh } from "./messages/zh";
import { zhApi } from "./messages/zh-api";

export type MessageKey = keyof typeof en;
export type Catalogue = Record<MessageKey, string>;
export type Language = "en" | "zh";

const catalogues: Record<Language, Catalogue> = { en, zh };
const SAVED = "viv.language", DAY_SECONDS = 86_400;

function preferred(): Language {
	const saved = localStorage.getItem(SAVED);
	if (saved === "en" || saved === "zh") return saved;
	return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = signal<Language>(preferred());
const catalogue = computed(() => catalogues[language.value]);

effect(() => {
	document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
});

export function setLanguage(l: Language): void {
	localStorage.setItem(SAVED, l);
	language.value = l;
}

// The message KEY with {name} replaced by what ARGS has for it.
export function t(key: MessageKey, args?: Record<string, string | number>): string {
	const text = catalogue.value[key];
	return args ? text.replace(/\{(\w+)\}/g, (all, name: string) => String(args[name] ?? all)) : text;
}

// The message KEY if there is one of that name, else FALLBACK: for words that the API brings.
export function tIf(key: string, fallback: string): string {
	return (catalogue.value as Record<string, string>)[key] ?? fallback;
}

// What the API's description says, in the reader's language where the catalogue has it.
export function told(text: string | undefined): string {
	return text === undefined ? "" : language.value === "zh" ? (zhApi[text] ?? text) : text;
}

// Making a formatter takes far longer than formatting: each is made once for a language.
const formatters = new Map<string, Intl.NumberFormat | Intl.DateTimeFormat>();

function numberFormat(digits: number): Intl.NumberFormat {
	const key = `${language.value} ${digits}`;
	let f = formatters.get(key) as Intl.NumberFormat | undefined;
	if (!f) formatters.set(key, (f = new Intl.NumberFormat(language.value, { maximumFractionDigits: digits })));
	return f;
}

function timeFormat(): Intl.DateTimeFormat {
	const key = `${language.value} time`;
	let f = formatters.get(key) as Intl.DateTimeFormat | undefined;
	if (!f) formatters.set(key, (f = new Intl.DateTimeFormat(language.value, { dateStyle: "medium", timeStyle: "medium" })));
	return f;
}

export function formatBytes(n: number): string {
	const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
	let i = 0;
	while (Math.abs(n) >= 1024 && i < units.length - 1) {
		n /= 1024;
		i++;
	}
	return `${numberFormat(n < 10 && i > 0 ? 1 : 0).format(n)} ${units[i]}`;
}

export function formatNumber(n: number): string {
	return numberFormat(2).format(n);
}

// For the axis of a chart whose marks are STEP seconds apart.
export function formatMark(unix: number, step: number): string {
	const key = `${language.value} mark ${step >= DAY_SECONDS}`;
	const shape: Intl.DateTimeFormatOptions = step >= DAY_SECONDS ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit" };
	let f = formatters.get(key) as Intl.DateTimeFormat | undefined;
	if (!f) formatters.set(key, (f = new Intl.DateTimeFormat(language.value, shape)));
	return f.format(unix * 1000);
}

export function formatTime(iso: string | undefined): string {
	if (!iso) return "";
	const d = new Date(iso);
	return Number.isNaN(d.getTime()) ? iso : timeFormat().format(d);
}
