// SPDX-License-Identifier: Apache-2.0
// What is used of noVNC, which has no types of its own.
declare module "@novnc/novnc" {
	interface Options {
		shared?: boolean;
		credentials?: { username?: string; password?: string; target?: string };
	}
	export default class RFB extends EventTarget {
		constructor(target: HTMLElement, url: string, options?: Options);
		scaleViewport: boolean;
		resizeSession: boolean;
		background: string;
		focus(): void;
		blur(): void;
		disconnect(): void;
		sendCtrlAltDel(): void;
		clipboardPasteFrom(text: string): void;
	}
}
