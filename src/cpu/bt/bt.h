/* SPDX-License-Identifier: Apache-2.0 */
/* bt.h - the binary translator as an engine: x86-64 to x86-64 for hosts without VT-x or AMD-V.
 * docs/design/bt.md has the model. Threads: as cpu.h says. */
#ifndef CPU_BT_BT_H
#define CPU_BT_BT_H

#include "cpu/cpu.h"

extern const struct cpu_ops cpu_bt;

struct icpu;
struct icpu_event;

/* As interp_step(), but translated: for tests that compare single instructions. */
int bt_step(struct vcpu *v, struct icpu_event *fault);
/* One EXECUTE, such as bt_execute(). */
int bt_step_until(struct vcpu *v, void (*execute)(struct icpu *c), struct icpu_event *fault);
/* Whole fragments, without events, until HLT (0) or an exception (1). */
int bt_run_to_fault(struct vcpu *v, struct icpu_event *fault);

#endif
