/* SPDX-License-Identifier: Apache-2.0 */
/* x87.c - x87 instructions that compute, load, store or compare (SDM vol. 1 chapter 8).
 *
 * The guest's registers are loaded by FXRSTOR, the instruction itself runs on them, FXSAVE takes
 * them back. An unmasked exception only sets the error summary there; the guest hears of it by
 * #MF at its next waiting instruction (icpu_fpu_check()).
 *
 * Instruction and data pointers are kept here, as FXSAVE of some hosts omits them. Selectors
 * are deprecated and read as zero. */
#include "cpu/interp/vec.h"

enum { X87_AREA = X86_FX_XMM };         /* control words and registers in an FXSAVE image */

static void x87_set_pointers(struct icpu *c, const struct iop *op, bool has_mem)
{
	uint64_t ip = c->s.rip;

	fx_set16(c, X86_FX_FOP, (op->x.row->opcode & 7) << 8 | op->x.modrm);
	memcpy(c->s.xsave + X86_FX_FIP, &ip, sizeof(ip));
	if (has_mem) {
		uint64_t dp = icpu_ea_offset(c, op);

		memcpy(c->s.xsave + X86_FX_FDP, &dp, sizeof(dp));
	}
}

/* Run OP's thunk on a copy of the guest's state in FX; *FLAGS in and out. */
static void x87_exec(struct icpu *c, const struct iop *op, uint8_t fx[512], void *mem, uint64_t *flags)
{
	const uint32_t mxcsr = MXCSR_INIT;

	memcpy(fx, c->s.xsave, X87_AREA);
	memset(fx + X87_AREA, 0, 512 - X87_AREA);
	memcpy(fx + X86_FX_MXCSR, &mxcsr, sizeof(mxcsr));
	memset(fx + X86_FX_MXCSR_MASK, 0, 4);
	*flags = (c->s.rflags & X86_FLAGS_ARITH) | X86_FLAGS_FIXED;
	x87_run(fx, x87_thunk_find(&op->x), mem, flags);
}

static void x87_commit(struct icpu *c, const uint8_t fx[512])
{
	memcpy(c->s.xsave, fx, X86_FX_FTW + 1);
	memcpy(c->s.xsave + X86_FX_ST, fx + X86_FX_ST, X86_FX_XMM - X86_FX_ST);
}

/* Register operands only; FCMOVcc reads and FCOMI writes the arithmetic flags. */
static void x87_reg(struct icpu *c, const struct iop *op)
{
	uint8_t fx[512] __attribute__((aligned(16)));
	uint64_t flags;

	icpu_fpu_check(c, op);
	x87_exec(c, op, fx, NULL, &flags);
	x87_commit(c, fx);
	x87_set_pointers(c, op, false);
	c->s.rflags = (c->s.rflags & ~(uint64_t)X86_FLAGS_ARITH) | (flags & X86_FLAGS_ARITH);
}

static const struct x86_opnd *x87_mem_opnd(const struct iop *op)
{
	for (unsigned i = 0; i < op->x.n_opnds; i++)
		if (op->x.opnd[i].kind == X86_O_MEM)
			return &op->x.opnd[i];
	return NULL;
}

static void x87_load(struct icpu *c, const struct iop *op)
{
	uint8_t fx[512] __attribute__((aligned(16)));
	uint8_t buf[16];
	uint64_t flags;
	unsigned size = x87_mem_opnd(op)->size;

	icpu_fpu_check(c, op);
	icpu_read_slow(c, icpu_ea(c, op, size, ICPU_READ), buf, size, false);
	x87_exec(c, op, fx, buf, &flags);
	x87_commit(c, fx);
	x87_set_pointers(c, op, true);
}

static void x87_store(struct icpu *c, const struct iop *op)
{
	uint8_t fx[512] __attribute__((aligned(16)));
	uint8_t buf[16];
	uint64_t flags;
	uint16_t fcw, fsw;
	unsigned size = x87_mem_opnd(op)->size;

	icpu_fpu_check(c, op);
	x87_exec(c, op, fx, buf, &flags);
	/* All flags set so far are masked ones or it had been #MF: what is unmasked is new. Such an
	 * invalid operation, overflow or underflow leaves memory alone (SDM vol. 1 8.5). */
	memcpy(&fcw, fx + X86_FX_FCW, 2);
	memcpy(&fsw, fx + X86_FX_FSW, 2);
	if (!(fsw & ~fcw & (FSW_IE | FSW_OE | FSW_UE))) {
		uint64_t la = icpu_ea(c, op, size, ICPU_WRITE);

		icpu_probe(c, la, size, ICPU_WRITE);
		icpu_write_slow(c, la, buf, size, false);
	}
	x87_commit(c, fx);
	x87_set_pointers(c, op, true);
}

iop_fn x87_bind(const struct x86_insn *x)
{
	if (x->op < X86_OP_FADD || x->op > X86_OP_FFREEP)
		return NULL;
	if (x->modrm >= 0xc0)
		return x87_reg;
	switch (x->op) {
	case X86_OP_FST: case X86_OP_FSTP: case X86_OP_FIST: case X86_OP_FISTP: case X86_OP_FISTTP:
	case X86_OP_FBSTP:
		return x87_store;
	default:
		return x87_load;
	}
}
