/* SPDX-License-Identifier: Apache-2.0 */
/* core.h - the parts of the interpreter that another engine in software builds on: its processor
 * (`struct icpu`), paging, event delivery, and single instructions. The translator runs guest code
 * by other means and comes here for everything that it does not translate. Vcpu thread only. */
#ifndef CPU_INTERP_CORE_H
#define CPU_INTERP_CORE_H

#include "cpu/interp/interp_priv.h"

/* A machine of the interpreter's whose processors are CPU_SIZE bytes each, beginning with a struct
 * icpu; the rest is zeroed and the caller's. HAS_VIEWS: for translated code (space.h). cpu_interp.vm_free() frees it. */
int icpu_vm_new(struct cpu_vm **out, const struct cpu_config *cfg, size_t cpu_size, bool has_views, struct err *err);

/* cpu_run() with another way to execute: EXECUTE runs instructions from s.rip on, at least one, until
 * it likes to return or has to because `req` is set. It may leave by a fault. */
typedef void (*icpu_execute_fn)(struct icpu *c);
enum cpu_exit_reason icpu_run(struct icpu *c, icpu_execute_fn execute);

/* One EXECUTE without events: 0, or 1 when it left by *FAULT, which is not delivered. */
int icpu_step(struct icpu *c, icpu_execute_fn execute, struct icpu_event *fault);

/* An EXECUTE: one block, interpreted. */
void icpu_run_block(struct icpu *c);
/* One instruction. */
void icpu_run_insn(struct icpu *c);
/* One block, but at most N (not 0) instructions. */
void icpu_run_some(struct icpu *c, uint64_t n);
/* After an instruction with X86_R_END that did not run in a block. */
void icpu_end_of_block(struct icpu *c);

/* Code of PAGE (of the memfd) is going to be read and kept: hear of stores to it from here on. Returns
 * the page's generation; whoever stores later changes it. */
uint32_t icpu_watch_code(struct icpu *c, uint64_t page);

/* Make a decoded instruction ready to run on C. */
void iop_init(const struct icpu *c, struct iop *op, const struct x86_insn *x);

/* --- tlb.c, space.c: struct itlb_inline ------------------------------------------------------- */

/* This thread's GS is the base of the present view from here on, and of each that becomes it on this thread. */
void icpu_view_enter(const struct icpu *c);
/* See to it that there is the struct itlb_inline of the page of LA for ACC, if it may; page faults as that access would.
 * AND_WRITE: for writing too, if that changes nothing in the tables. Nothing if LA is not canonical. */
void icpu_touch(struct icpu *c, uint64_t la, enum icpu_access acc, bool and_write);
/* Is there the struct itlb_inline of the page of LA for ACC? */
bool icpu_inline_has(const struct icpu *c, uint64_t la, enum icpu_access acc);
/* A flag of PAGE (of the memfd; UINT64_MAX: of any) has been raised: drop the entry by which it could
 * be written unseen. If there was one, it may have been: note that it was written. */
void icpu_inline_recheck(struct icpu *c, uint64_t page);
/* No page has translated code any more. */
void icpu_inline_forget_code(struct icpu *c);

#endif
