// SPDX-License-Identifier: Apache-2.0
// What was typed into a form that has not been sent: who looks elsewhere and comes back finds it again. It is kept while
// the page is, for the one who is logged in; a page that is closed asks before.
import { useState } from "preact/hooks";

const drafts = new Map<string, unknown>();

// As useState() of a form called KEY. WRITE(undefined) forgets it: it was sent, or given up.
export function useDraft<T>(key: string, first: () => T): [T, (v: T) => void, () => void] {
	const [value, setValue] = useState<T>(() => (drafts.has(key) ? (drafts.get(key) as T) : first()));
	const write = (v: T): void => {
		drafts.set(key, v);
		setValue(v);
	};
	return [value, write, () => void drafts.delete(key)];
}

export function forgetDrafts(): void {
	drafts.clear();
}

addEventListener("beforeunload", (e) => {
	if (drafts.size) e.preventDefault();
});
