/* SPDX-License-Identifier: Apache-2.0 */
/* lockstep.h - the translator under the eyes of the interpreter: an engine for tests that runs both and
 * stops at the first difference. docs/design/lockstep.md has the model. Threads: as cpu.h says; one
 * processor only. */
#ifndef CPU_BT_LOCKSTEP_H
#define CPU_BT_LOCKSTEP_H

#include "cpu/cpu.h"

extern const struct cpu_ops cpu_lockstep;

/* As cpu_run(), but CPU_EXIT_KICK after at most N comparisons, each of some hundred instructions. */
enum cpu_exit_reason lockstep_run_some(struct vcpu *v, unsigned n, struct err *err);

#endif
