// SPDX-License-Identifier: Apache-2.0
// What shows a console is as large as the rest of the page: it comes when somebody opens one of that type. Undefined: it
// could not be loaded, as the node does not answer.
import type { ComponentType } from "preact";
import type { ConsoleType } from "./types";

export type ConsoleView = ComponentType<{ name: string }>;

const loaders: Record<ConsoleType, () => Promise<ConsoleView>> = {
	serial: () => import("./terminal").then((m) => m.Console),
	graphical: () => import("./graphical").then((m) => m.Graphical),
};

export async function lazyConsole(type: ConsoleType): Promise<ConsoleView | undefined> {
	return loaders[type]().catch(() => undefined);
}
