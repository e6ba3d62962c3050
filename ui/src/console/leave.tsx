// SPDX-License-Identifier: Apache-2.0
// A console takes every key, Tab too: by this one it is left (WCAG 2.1.2).
import { t } from "../i18n";

const LEAVE_CODE = "Period";

export const leavesBy = (e: KeyboardEvent): boolean => e.type === "keydown" && e.ctrlKey && e.altKey && e.code === LEAVE_CODE;

export function LeaveHint() {
	return <p class="soft">{t("console.leave")}</p>;
}
