// SPDX-License-Identifier: Apache-2.0
// The terminal is as large as the rest of the console: it comes when somebody opens one.
export async function lazyConsole() {
	return (await import("./terminal")).Console;
}
