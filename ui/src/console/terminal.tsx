// SPDX-License-Identifier: Apache-2.0
// The serial console of a machine. After a break the connection comes back by itself; what is on the screen stays.
import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { socketUrl } from "../api/client";
import { t } from "../i18n";
import { project } from "../state/live";
import { tell, tellError } from "../widgets/toast";
import { LeaveHint, leavesBy } from "./leave";

const SCROLLBACK = 20_000, RETRY_FIRST = 500, RETRY_MOST = 5000;

interface Line {
	close(): void;
	send(data: string): void;
	// Is what was said earlier being shown? Questions in that have been answered, or nobody waits any more.
	isRecalling(): boolean;
}

// The bytes of NAME's console into TERM, again and again until closed. After a break only what was missed comes.
function follow(name: string, term: Terminal, onState: (isUp: boolean) => void): Line {
	const path = `/v1/instances/${encodeURIComponent(name)}/console`;
	let ws: WebSocket | undefined, timer = 0, retry = RETRY_FIRST, isOver = false, line = "", at = 0, earlier = 0, recalls = 0;

	const take = (data: string | ArrayBuffer): void => {
		if (typeof data === "string") {
			const begin = JSON.parse(data) as { line: string; at: number; until: number };
			// Another line, or more was said than is kept: what is on the screen does not go on.
			if (line && (begin.line !== line || begin.at !== at)) term.reset();
			line = begin.line;
			at = begin.at;
			earlier = begin.until;
			return;
		}
		const bytes = new Uint8Array(data), isEarlier = at < earlier;
		at += bytes.length;
		if (isEarlier) recalls++;
		term.write(bytes, () => isEarlier && recalls--);
	};
	const open = (): void => {
		ws = new WebSocket(socketUrl(path, { project: project.value, from: line ? `${line}:${at}` : "" }));
		ws.binaryType = "arraybuffer";
		ws.onopen = () => onState(true);
		ws.onmessage = (m) => {
			retry = RETRY_FIRST;
			take(m.data as string | ArrayBuffer);
		};
		ws.onclose = () => {
			onState(false);
			if (isOver) return;
			timer = window.setTimeout(open, retry);
			retry = Math.min(retry * 2, RETRY_MOST);
		};
	};
	open();
	return {
		close() {
			isOver = true;
			clearTimeout(timer);
			ws?.close();
		},
		send(data) {
			if (ws?.readyState === WebSocket.OPEN) ws.send(new TextEncoder().encode(data));
		},
		isRecalling: () => recalls > 0,
	};
}

// What the guest's shell is told, so that its programs know how large the terminal is: a serial line has no other way.
const sizeCommand = (term: Terminal): string => `stty rows ${term.rows} cols ${term.cols}\n`;

interface Session {
	term: Terminal;
	line: Line;
	search: SearchAddon;
}

function begin(name: string, box: HTMLElement, onState: (isUp: boolean) => void, onLeave: () => void): { session: Session; end: () => void } {
	const term = new Terminal({ scrollback: SCROLLBACK, cursorBlink: true, screenReaderMode: true, fontSize: 14, theme: { background: "#101512" } });
	const fit = new FitAddon(), search = new SearchAddon();
	term.loadAddon(fit);
	term.loadAddon(search);
	term.open(box);
	term.attachCustomKeyEventHandler((e) => {
		if (leavesBy(e)) onLeave();
		return !leavesBy(e);
	});
	fit.fit();
	term.focus();
	const line = follow(name, term, onState);
	const typed = term.onData((d) => line.isRecalling() || line.send(d));
	const seen = new ResizeObserver(() => fit.fit());
	seen.observe(box);
	return {
		session: { term, line, search },
		end() {
			seen.disconnect();
			typed.dispose();
			line.close();
			term.dispose();
		},
	};
}

// What is selected, or all that is there.
async function copy({ term }: Session): Promise<void> {
	const had = term.getSelection();
	if (!had) term.selectAll();
	const text = term.getSelection();
	if (!had) term.clearSelection();
	await navigator.clipboard.writeText(text);
	tell(t("console.copied"));
}

async function paste({ term }: Session): Promise<void> {
	term.paste(await navigator.clipboard.readText());
	term.focus();
}

export function Console({ name }: { name: string }) {
	const box = useRef<HTMLDivElement>(null), field = useRef<HTMLInputElement>(null), session = useRef<Session | undefined>(undefined);
	const isUp = useSignal(false);
	useEffect(() => {
		const begun = begin(name, box.current!, (up) => (isUp.value = up), () => field.current?.focus());
		session.current = begun.session;
		return begun.end;
	}, [name]);
	// The browser may refuse the clipboard.
	const by = (what: (s: Session) => Promise<void>) => () => void (session.current && what(session.current).catch(tellError));
	const fitGuest = async ({ line, term }: Session): Promise<void> => {
		line.send(sizeCommand(term));
		term.focus();
	};
	const find = (e: KeyboardEvent & { currentTarget: HTMLInputElement }): void => {
		const { search } = session.current ?? {}, text = e.currentTarget.value;
		if (e.key === "Enter") e.shiftKey ? search?.findNext(text) : search?.findPrevious(text);
	};
	return (
		<div class="console">
			<div class="bar">
				<span class={isUp.value ? "state good" : "state idle"} role="status">
					<i aria-hidden="true" />
					{isUp.value ? t("console.up") : t("console.down")}
				</span>
				<span class="grow" />
				<input type="search" ref={field} placeholder={t("console.search")} aria-label={t("console.search")} onKeyDown={find} />
				<button type="button" onClick={by(copy)}>
					{t("copy")}
				</button>
				<button type="button" onClick={by(paste)}>
					{t("console.paste")}
				</button>
				<button type="button" title={t("console.fit-text")} onClick={by(fitGuest)}>
					{t("console.fit")}
				</button>
			</div>
			<div class="screen" ref={box} />
			<LeaveHint />
		</div>
	);
}
