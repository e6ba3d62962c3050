// SPDX-License-Identifier: Apache-2.0
// Charts and what draws them are loaded when the first is looked at. Undefined: they could not be, as the node does not
// answer or the page is being left; the rest of the page is there without them.
export async function lazyCharts() {
	return import("./charts").then(
		(m) => m.Charts,
		() => undefined,
	);
}
