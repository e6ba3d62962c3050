// SPDX-License-Identifier: Apache-2.0
import { tIf } from "../i18n";

const GOOD = ["running", "ready", "done", "active", "online"], BAD = ["failed", "error", "broken", "crashed", "gone", "full"], IDLE = ["stopped", "paused", "off"];

// The state of a thing: in words first, a colour beside them.
export function State({ of }: { of: string | undefined }) {
	// Users, roles and the like are what they are.
	if (of === undefined) return null;
	const state = of;
	const tone = GOOD.includes(state) ? "good" : BAD.includes(state) ? "bad" : IDLE.includes(state) ? "idle" : "busy";
	return (
		<span class={`state ${tone}`}>
			<i aria-hidden="true" />
			{tIf(`state.${state}`, state)}
		</span>
	);
}
