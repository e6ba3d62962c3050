/* SPDX-License-Identifier: Apache-2.0 */
/* interp.h - the reference interpreter as an engine, and one instruction of it for tests.
 * Threads: as cpu.h says. */
#ifndef CPU_INTERP_INTERP_H
#define CPU_INTERP_INTERP_H

#include "cpu/cpu.h"

extern const struct cpu_ops cpu_interp;

struct icpu_event;

/* Execute exactly the instruction at s.rip (of a REP string instruction: up to its end or a large
 * bounded number of iterations), ignoring interrupts, traps and breakpoints. 0: it has retired;
 * 1: it raised *FAULT, which is not delivered (CR2 is set for #PF), and the state is that before
 * the instruction. */
int interp_step(struct vcpu *v, struct icpu_event *fault);

#endif
