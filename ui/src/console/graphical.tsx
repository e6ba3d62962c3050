// SPDX-License-Identifier: Apache-2.0
// The graphical console of a machine, by noVNC (RFC 6143 over a socket of the API). After a break it comes back by itself.
import RFB from "@novnc/novnc";
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { socketUrl } from "../api/client";
import { t } from "../i18n";
import { project } from "../state/live";
import { LeaveHint, leavesBy } from "./leave";
import { displayPath } from "./types";

const RETRY_FIRST = 500, RETRY_MOST = 5000;

// The screen of NAME in BOX, again and again until the function that is returned has been called.
function follow(name: string, box: HTMLElement, onScreen: (rfb: RFB | undefined) => void): () => void {
	let rfb: RFB | undefined, timer = 0, retry = RETRY_FIRST, isOver = false;
	const open = (): void => {
		rfb = new RFB(box, socketUrl(displayPath(name), { project: project.value }), { shared: true });
		rfb.scaleViewport = true;
		rfb.background = "#101512";
		rfb.addEventListener("connect", () => {
			retry = RETRY_FIRST;
			onScreen(rfb);
		});
		rfb.addEventListener("disconnect", () => {
			onScreen(undefined);
			if (isOver) return;
			timer = window.setTimeout(open, retry);
			retry = Math.min(retry * 2, RETRY_MOST);
		});
	};
	open();
	return () => {
		isOver = true;
		clearTimeout(timer);
		rfb?.disconnect();
	};
}

export function Graphical({ name }: { name: string }) {
	const box = useRef<HTMLDivElement>(null), first = useRef<HTMLButtonElement>(null);
	const screen = useSignal<RFB | undefined>(undefined);
	useEffect(() => follow(name, box.current!, (rfb) => (screen.value = rfb)), [name]);
	const leave = (e: KeyboardEvent): void => {
		if (!leavesBy(e)) return;
		e.preventDefault();
		e.stopPropagation();
		screen.peek()?.blur();
		first.current?.focus();
	};
	const isUp = screen.value !== undefined;
	return (
		<div class="console">
			<div class="bar">
				<span class={isUp ? "state good" : "state idle"} role="status">
					<i aria-hidden="true" />
					{t(isUp ? "console.up" : "console.down")}
				</span>
				<span class="grow" />
				<button type="button" ref={first} disabled={!isUp} onClick={() => screen.value?.focus()}>
					{t("console.type")}
				</button>
				<button type="button" disabled={!isUp} onClick={() => screen.value?.sendCtrlAltDel()}>
					Ctrl+Alt+Del
				</button>
			</div>
			<div class="screen" ref={box} onKeyDownCapture={leave} />
			<LeaveHint />
		</div>
	);
}
