// SPDX-License-Identifier: Apache-2.0
// Where in the console one is: the path of the address, as segments.
import { computed, signal } from "@preact/signals";
import type { ComponentChildren } from "preact";

const address = signal(location.pathname + location.search);
addEventListener("popstate", () => (address.value = location.pathname + location.search));

// An address that somebody wrote may be no good one.
function decoded(part: string): string {
	try {
		return decodeURIComponent(part);
	} catch {
		return part;
	}
}

export const segments = computed(() => address.value.split("?")[0]!.split("/").filter(Boolean).map(decoded));
export const query = computed(() => new URLSearchParams(address.value.split("?")[1] ?? ""));

export function go(path: string, isReplace = false): void {
	if (path === address.value) return;
	history[isReplace ? "replaceState" : "pushState"](null, "", path);
	address.value = path;
	if (!isReplace) window.scrollTo(0, 0);
}

export function pathOf(...parts: string[]): string {
	return `/${parts.map(encodeURIComponent).join("/")}`;
}

interface LinkProps {
	to: string;
	class?: string;
	onGo?: () => void; // before
	"aria-current"?: "page" | undefined;
	children?: ComponentChildren;
}

export function Link({ to, onGo, children, ...rest }: LinkProps) {
	const click = (e: MouseEvent): void => {
		if (e.button || e.metaKey || e.ctrlKey || e.shiftKey) return;
		e.preventDefault();
		onGo?.();
		go(to);
	};
	return (
		<a {...rest} href={to} onClick={click}>
			{children}
		</a>
	);
}
