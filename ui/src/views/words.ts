// SPDX-License-Identifier: Apache-2.0
import { tIf } from "../i18n";

// One of them.
export function nameOf(k: { kind: string }): string {
	return tIf(`one.${k.kind}`, k.kind);
}

export function titleOf(plural: string): string {
	return tIf(`kind.${plural}`, plural.charAt(0).toUpperCase() + plural.slice(1).replace(/-/g, " "));
}
