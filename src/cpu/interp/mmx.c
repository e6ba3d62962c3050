/* SPDX-License-Identifier: Apache-2.0 */
/* mmx.c - instructions that compute on MMX registers, run by the host itself. */
#include <emmintrin.h>
#include "cpu/interp/vec.h"

static uint64_t mmx_src(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *o = &op->x.opnd[1];

	if (o->kind == X86_O_MMX)
		return mmx_get(c, o->reg);
	return icpu_read(c, icpu_ea(c, op, o->size, ICPU_READ), o->size);
}

static void mmx_run(struct icpu *c, const struct iop *op, uint64_t src, vec_thunk fn)
{
	uint64_t dst = mmx_get(c, op->x.opnd[0].reg);

	vec_run_mmx(&dst, src, fn);
	mmx_enter(c);
	mmx_set(c, op->x.opnd[0].reg, dst);
}

/* mm, mm/mem [, imm] */
static void mmx_op(struct icpu *c, const struct iop *op)
{
	icpu_fpu_check(c, op);
	mmx_run(c, op, mmx_src(c, op), vec_thunk_find(&op->x, false));
}

/* Shift by an immediate: as the form with a count register, see sse_shift_imm(). */
static void mmx_shift_imm(struct icpu *c, const struct iop *op)
{
	static const uint8_t high[8] = { [2] = 0xd0, [4] = 0xe0, [6] = 0xf0 };
	unsigned opcode = high[op->x.modrm >> 3 & 7] | (op->x.row->opcode & 3);

	icpu_fpu_check(c, op);
	mmx_run(c, op, (uint8_t)op->x.imm, vec_thunk_at(1, 0, opcode));
}

static void mmx_pmovmskb(struct icpu *c, const struct iop *op)
{
	icpu_fpu_check(c, op);
	uint64_t v = mmx_get(c, op->x.opnd[1].reg);

	mmx_enter(c);
	c->s.gpr[op->x.opnd[0].reg] = (uint8_t)_mm_movemask_epi8(_mm_cvtsi64_si128((int64_t)v));
}

iop_fn mmx_bind(const struct x86_insn *x)
{
	if (x->op == X86_OP_PMOVMSKB)
		return x->opnd[1].kind == X86_O_MMX ? mmx_pmovmskb : NULL;
	if (x->op < X86_OP_PUNPCKLBW || x->op > X86_OP_PHSUBSW || x->opnd[0].kind != X86_O_MMX)
		return NULL;
	return x->opnd[1].kind == X86_O_IMM ? mmx_shift_imm : mmx_op;
}
