/* SPDX-License-Identifier: Apache-2.0 */
/* sys_flags.c - EFLAGS as a register (SDM vol. 2; privilege rules in vol. 2 tables 4-16, 4-22).
 * CR4.VME and CR4.PVI are not announced: VIF and VIP never stand in for IF. */
#include "cpu/interp/sys_priv.h"

enum { SHADOW_STI = 1 };

void icpu_set_flags(struct icpu *c, uint64_t v, uint64_t mask)
{
	uint64_t old = c->s.rflags;

	c->s.rflags = (old & ~mask) | (v & mask & 0x3f7fd5) | X86_FLAGS_FIXED;
	uint64_t up = ~old & c->s.rflags;

	/* IF lets in what has come already; what comes later makes itself heard. */
	if ((up & (X86_TF | X86_RF)) || ((up & X86_IF) && c->intr_maybe))
		sys_recheck(c);
}

/* PUSHF, POPF, CLI, STI in virtual-8086 mode need IOPL 3. */
static void flags_check_vm86(struct icpu *c)
{
	if (c->is_vm86 && sys_iopl(c) < 3)
		icpu_gp0(c);
}

static void flags_check_iopl(struct icpu *c)
{
	if ((c->s.cr0 & X86_CR0_PE) && c->cpl > sys_iopl(c))
		icpu_gp0(c);
}

void sys_op_pushf(struct icpu *c, const struct iop *op)
{
	flags_check_vm86(c);
	icpu_push(c, op->x.opsize, c->s.rflags & ~(uint64_t)(X86_VM | X86_RF));
}

void sys_op_popf(struct icpu *c, const struct iop *op)
{
	uint64_t mask = X86_FLAGS_ARITH | X86_TF | X86_DF | X86_NT | X86_AC | X86_ID;

	flags_check_vm86(c);
	if (c->cpl == 0)
		mask |= X86_IOPL;
	if (c->cpl <= sys_iopl(c))
		mask |= X86_IF;
	if (op->x.opsize == 2)
		mask &= 0xffff;
	uint64_t v = icpu_pop(c, op->x.opsize);
	icpu_set_flags(c, v & ~(uint64_t)X86_RF, mask | X86_RF);
}

void sys_op_cli(struct icpu *c, const struct iop *op)
{
	flags_check_iopl(c);
	c->s.rflags &= ~(uint64_t)X86_IF;
}

void sys_op_sti(struct icpu *c, const struct iop *op)
{
	flags_check_iopl(c);
	if (c->s.rflags & X86_IF)
		return;
	c->s.int_shadow = SHADOW_STI;
	c->s.rflags |= X86_IF;
	sys_recheck(c);
}

void sys_op_clc(struct icpu *c, const struct iop *op) { c->s.rflags &= ~(uint64_t)X86_CF; }
void sys_op_stc(struct icpu *c, const struct iop *op) { c->s.rflags |= X86_CF; }
void sys_op_cmc(struct icpu *c, const struct iop *op) { c->s.rflags ^= X86_CF; }
void sys_op_cld(struct icpu *c, const struct iop *op) { c->s.rflags &= ~(uint64_t)X86_DF; }
void sys_op_std(struct icpu *c, const struct iop *op) { c->s.rflags |= X86_DF; }

#define AH_FLAGS (X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF)

void sys_op_lahf(struct icpu *c, const struct iop *op)
{
	icpu_reg_set(c, X86_RAX, 1, true, (c->s.rflags & AH_FLAGS) | X86_FLAGS_FIXED);
}

void sys_op_sahf(struct icpu *c, const struct iop *op)
{
	uint64_t ah = icpu_reg_get(c, X86_RAX, 1, true);

	c->s.rflags = (c->s.rflags & ~(uint64_t)AH_FLAGS) | (ah & AH_FLAGS);
}

static void flags_set_ac(struct icpu *c, uint64_t ac)
{
	if (c->cpl || !sys_has(c, X86_W_7_EBX, 20))
		icpu_raise(c, X86_EXC_UD);
	icpu_set_flags(c, ac, X86_AC);
}

void sys_op_clac(struct icpu *c, const struct iop *op) { flags_set_ac(c, 0); }
void sys_op_stac(struct icpu *c, const struct iop *op) { flags_set_ac(c, X86_AC); }
