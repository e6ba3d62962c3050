// SPDX-License-Identifier: Apache-2.0
// Charts and what draws them are loaded when the first is looked at.
export async function lazyCharts() {
	return (await import("./charts")).Charts;
}
