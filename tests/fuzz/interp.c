/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter over any bytes as guest code (x86_guest.h), in every mode and privilege, for a bounded number of
 * blocks. Whatever the guest does, this process lives, and the processor's state stays one that a
 * processor can have. The run loop's file is compiled into this one, so that it can be stopped after
 * a count of blocks instead of by another thread. */
#include "../../src/cpu/interp/run.c"

#define GUEST_ENGINE cpu_interp
#define GUEST_FEATURES x86_features_interp
#include "x86_guest.h"

enum { ROUNDS = 200 };

/* What holds between any two instructions. */
static void check_state(const struct icpu *c)
{
	const struct x86_state *s = &c->s;
	bool is_paged = s->cr0 & X86_CR0_PG, is_lma = s->efer & X86_EFER_LMA;

	FUZZ_CHECK((s->rflags & (X86_FLAGS_FIXED | 1 << 3 | 1 << 5 | 1 << 15)) == X86_FLAGS_FIXED);
	FUZZ_CHECK(!(s->rflags >> 22));
	FUZZ_CHECK(!is_paged || s->cr0 & X86_CR0_PE);
	FUZZ_CHECK(is_lma == (is_paged && s->efer & X86_EFER_LME));
	FUZZ_CHECK(!is_lma || s->cr4 & X86_CR4_PAE);
	FUZZ_CHECK(c->cpl == x86_cpl(s));
	FUZZ_CHECK(c->is_long == is_lma);
	FUZZ_CHECK(c->mode == X86_MODE_64 ? is_lma && s->seg[X86_CS].attr & X86_SEG_L : s->rip <= UINT32_MAX);
	FUZZ_CHECK(!(s->rflags & X86_VM) || (c->cpl == 3 && !is_lma));
	FUZZ_CHECK(!(get_le32(s->xsave + X86_FX_MXCSR) >> 16));
	FUZZ_CHECK(c->zero == 0 && !c->in_delivery);
}

static void run_bounded(struct icpu *c)
{
	volatile unsigned left = ROUNDS;
	enum cpu_exit_reason reason;

	if (sigsetjmp(c->landing, 0))
		run_fault(c);
	while (left && c->s.mp_state == X86_MP_RUNNABLE) {
		left--;
		check_state(c);
		disturb();
		c->rep_budget = 64;
		if (atomic_load(&c->req)) {
			enum run_next next = run_events(c, &reason);

			if (next == RUN_EXIT)
				return;
			if (next == RUN_STEP) {
				run_one(c);
				continue;
			}
		}
		const struct iblock *b = run_find(c);

		run_block(c, b, b->n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	guest_load(data, len);
	run_bounded(g.c);
	return 0;
}
