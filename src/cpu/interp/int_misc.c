/* SPDX-License-Identifier: Apache-2.0 */
/* Flag bits that need no privilege (CLC STC CMC CLD STD), NOP and its kin, and the table that puts
 * the integer files together. */
#include "cpu/interp/mem.h"

#include <sched.h>

static void iop_flag(struct icpu *c, const struct iop *op)
{
	switch (op->x.op) {
	case X86_OP_CLC: c->s.rflags &= ~(uint64_t)X86_CF; break;
	case X86_OP_STC: c->s.rflags |= X86_CF; break;
	case X86_OP_CMC: c->s.rflags ^= X86_CF; break;
	case X86_OP_CLD: c->s.rflags &= ~(uint64_t)X86_DF; break;
	default: c->s.rflags |= X86_DF; break;
	}
}

/* NOP r/m, PREFETCH and ENDBR touch nothing. */
static void iop_nop(struct icpu *c, const struct iop *op)
{
	(void)c;
	(void)op;
}

/* A spinning processor may keep the one it waits for from running when the host has fewer processors. */
static void iop_pause(struct icpu *c, const struct iop *op)
{
	(void)op;
	bool is_crowded = atomic_load_explicit(&c->vm->n_awake, memory_order_relaxed) > c->vm->n_host_cpus;

	/* Translated code counts by itself and comes here at each multiple. */
	if (++c->pauses < (is_crowded ? ICPU_PAUSES_PER_YIELD : ICPU_PAUSES_WITH_ROOM))
		return;
	c->pauses = 0;
	sched_yield();
}

iop_fn interp_bind_misc(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_CLC:
	case X86_OP_STC:
	case X86_OP_CMC:
	case X86_OP_CLD:
	case X86_OP_STD: return iop_flag;
	case X86_OP_NOP:
	case X86_OP_PREFETCH:
	case X86_OP_ENDBR: return iop_nop;
	case X86_OP_PAUSE: return iop_pause;
	default: return NULL;
	}
}

iop_fn interp_bind_integer(const struct x86_insn *x)
{
	static iop_fn (*const binds[])(const struct x86_insn *) = {
		interp_bind_alu, interp_bind_mov, interp_bind_branch, interp_bind_shift, interp_bind_bit,
		interp_bind_muldiv, interp_bind_xchg, interp_bind_bmi, interp_bind_misc,
	};

	for (unsigned i = 0; i < sizeof(binds) / sizeof(binds[0]); i++) {
		iop_fn fn = binds[i](x);

		if (fn)
			return fn;
	}
	return NULL;
}
