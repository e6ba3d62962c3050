// SPDX-License-Identifier: Apache-2.0
// Sizes as people write them: "512M", "20G", "1.5 GiB"; units are powers of 1024, as everywhere in the API.
const UNITS = "KMGTP";

// Undefined: it is none.
export function parseSize(text: string): number | undefined {
	const m = /^\s*(\d+(?:\.\d+)?)\s*(?:([kmgtp])(?:i?b)?|b)?\s*$/i.exec(text);
	if (!m) return undefined;
	const power = m[2] ? UNITS.indexOf(m[2].toUpperCase()) + 1 : 0;
	const n = Number(m[1]) * 1024 ** power;
	return Number.isSafeInteger(n) ? n : Math.round(n);
}

// The shortest exact way to write N.
export function printSize(n: number): string {
	let power = 0;
	while (n >= 1024 && n % 1024 === 0 && power < UNITS.length) {
		n /= 1024;
		power++;
	}
	return power ? `${n}${UNITS[power - 1]}` : String(n);
}
