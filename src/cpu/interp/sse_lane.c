/* SPDX-License-Identifier: Apache-2.0 */
/* sse_lane.c - one element of a vector to or from a general register or memory: PINSRx, PEXTRx,
 * EXTRACTPS. The immediate's low bits number the element. */
#include "cpu/interp/vec.h"
#include "util/endian.h"

static unsigned lane_size(const struct x86_insn *x, unsigned opnd)
{
	switch (x->op) {
	case X86_OP_PINSRB: case X86_OP_PEXTRB: return 1;
	case X86_OP_PINSRW: case X86_OP_PEXTRW: return 2;
	case X86_OP_EXTRACTPS: return 4;
	default: return x->opnd[opnd].size == 8 ? 8 : 4;
	}
}

static void lane_insert(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *dst = &op->x.opnd[0], *src = &op->x.opnd[1];
	unsigned size = lane_size(&op->x, 1);
	uint64_t v;

	icpu_fpu_check(c, op);
	if (src->kind == X86_O_MEM)
		v = icpu_read(c, icpu_ea(c, op, size, ICPU_READ), size);
	else
		v = c->s.gpr[src->reg];
	if (dst->kind == X86_O_MMX) {
		unsigned shift = 16 * (op->x.imm & 3);

		mmx_enter(c);
		mmx_set(c, dst->reg, (mmx_get(c, dst->reg) & ~(0xffffull << shift)) | (v & 0xffff) << shift);
	} else {
		memcpy(icpu_xmm(c, dst->reg) + size * (op->x.imm & (16 / size - 1)), &v, size);
	}
}

static void lane_extract(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *dst = &op->x.opnd[0], *src = &op->x.opnd[1];
	unsigned size = lane_size(&op->x, 0);
	uint64_t v = 0;

	icpu_fpu_check(c, op);
	if (src->kind == X86_O_MMX)
		v = mmx_get(c, src->reg) >> 16 * (op->x.imm & 3) & 0xffff;
	else
		memcpy(&v, icpu_xmm(c, src->reg) + size * (op->x.imm & (16 / size - 1)), size);
	if (src->kind == X86_O_MMX)
		mmx_enter(c);
	if (dst->kind == X86_O_MEM)
		icpu_write(c, icpu_ea(c, op, size, ICPU_WRITE), size, v);
	else
		c->s.gpr[dst->reg] = v;         /* the upper part is cleared in all forms */
}

iop_fn sse_lane_bind(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_PINSRB: case X86_OP_PINSRW: case X86_OP_PINSRD: case X86_OP_PINSRQ:
		return lane_insert;
	case X86_OP_PEXTRB: case X86_OP_PEXTRW: case X86_OP_PEXTRD: case X86_OP_PEXTRQ:
	case X86_OP_EXTRACTPS:
		return lane_extract;
	default:
		return NULL;
	}
}
