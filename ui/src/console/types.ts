// SPDX-License-Identifier: Apache-2.0
// Which consoles a machine has. Each has a serial one; a graphical one it has when its document tells of a display, which the
// node's machines do not have yet: there is no graphics device. What shows it is ready for the day on which there is:
// a socket at /v1/instances/NAME/display that speaks RFB (RFC 6143), as the one of the serial console speaks bytes.
import { hasPath } from "../api/spec";
import type { Doc } from "../state/collection";

export type ConsoleType = "serial" | "graphical";

const DISPLAY_PATH = "/v1/instances/{name}/display";

interface Display {
	protocol?: string;
}

export function consolesOf(doc: Doc): ConsoleType[] {
	const display = doc.status?.display as Display | undefined;
	return display?.protocol === "rfb" && hasPath(DISPLAY_PATH, "get") ? ["graphical", "serial"] : ["serial"];
}

export const displayPath = (name: string): string => DISPLAY_PATH.replace("{name}", encodeURIComponent(name));
