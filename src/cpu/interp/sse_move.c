/* SPDX-License-Identifier: Apache-2.0 */
/* sse_move.c - vector moves: whole registers, scalars, halves, MOVD/MOVQ between all register
 * files, masked stores, MXCSR. No host instruction is needed for them. */
#include "cpu/interp/vec.h"
#include "util/endian.h"

/* 16 bytes: MOVAPS, MOVDQU and their kin. The row tells whether memory must be aligned. */
static void sse_mov_reg(struct icpu *c, const struct iop *op)
{
	sse_check(c, op);
	memcpy(icpu_xmm(c, op->x.opnd[0].reg), icpu_xmm(c, op->x.opnd[1].reg), 16);
}

static void sse_mov_load(struct icpu *c, const struct iop *op)
{
	uint8_t buf[16];

	sse_check(c, op);
	vec_read(c, vec_ea(c, op, 16, ICPU_READ), buf, 16);
	memcpy(icpu_xmm(c, op->x.opnd[0].reg), buf, 16);
}

static void sse_mov_store(struct icpu *c, const struct iop *op)
{
	sse_check(c, op);
	vec_write(c, vec_ea(c, op, 16, ICPU_WRITE), icpu_xmm(c, op->x.opnd[1].reg), 16);
}

/* MOVSS, MOVSD: between registers the upper part stays, a load clears it. */
static void sse_mov_scalar(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *dst = &op->x.opnd[0], *src = &op->x.opnd[1];
	unsigned size = op->x.op == X86_OP_MOVSS ? 4 : 8;

	sse_check(c, op);
	if (src->kind == X86_O_MEM) {
		uint64_t v[2] = { icpu_read(c, icpu_ea(c, op, size, ICPU_READ), size), 0 };

		memcpy(icpu_xmm(c, dst->reg), v, 16);
	} else if (dst->kind == X86_O_MEM) {
		uint64_t v = get_le64(icpu_xmm(c, src->reg));

		icpu_write(c, icpu_ea(c, op, size, ICPU_WRITE), size, v);
	} else {
		memmove(icpu_xmm(c, dst->reg), icpu_xmm(c, src->reg), size);
	}
}

/* MOVLPS, MOVHPS, MOVLPD, MOVHPD: one half to or from memory, the other stays. */
static void sse_mov_half(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *dst = &op->x.opnd[0], *src = &op->x.opnd[1];
	unsigned off = op->x.op == X86_OP_MOVHPS || op->x.op == X86_OP_MOVHPD ? 8 : 0;

	sse_check(c, op);
	if (dst->kind == X86_O_MEM)
		icpu_write64(c, icpu_ea(c, op, 8, ICPU_WRITE), get_le64(icpu_xmm(c, src->reg) + off));
	else
		put_le64(icpu_xmm(c, dst->reg) + off, icpu_read64(c, icpu_ea(c, op, 8, ICPU_READ)));
}

static void sse_movhlps(struct icpu *c, const struct iop *op)
{
	sse_check(c, op);
	memmove(icpu_xmm(c, op->x.opnd[0].reg), icpu_xmm(c, op->x.opnd[1].reg) + 8, 8);
}

static void sse_movlhps(struct icpu *c, const struct iop *op)
{
	sse_check(c, op);
	memmove(icpu_xmm(c, op->x.opnd[0].reg) + 8, icpu_xmm(c, op->x.opnd[1].reg), 8);
}

static void sse_load_movq(struct icpu *c, const struct iop *op)
{
	sse_check(c, op);
	uint64_t v[2] = { icpu_read64(c, icpu_ea(c, op, 8, ICPU_READ)), 0 };

	memcpy(icpu_xmm(c, op->x.opnd[0].reg), v, 16);
}

/* MOVD, MOVQ, MOVQ2DQ, MOVDQ2Q, MOVNTQ: 4 or 8 bytes between any two of XMM, MMX, general
 * register and memory; what is wider at the destination becomes zero. */
static void sse_mov_any(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *dst = &op->x.opnd[0], *src = &op->x.opnd[1];
	unsigned size = 8;
	uint64_t v;

	icpu_fpu_check(c, op);
	for (unsigned i = 0; i < 2; i++)
		if (op->x.opnd[i].kind == X86_O_REG || op->x.opnd[i].kind == X86_O_MEM)
			size = op->x.opnd[i].size;
	switch (src->kind) {
	case X86_O_XMM: v = get_le64(icpu_xmm(c, src->reg)); break;
	case X86_O_MMX: v = mmx_get(c, src->reg); break;
	case X86_O_REG: v = c->s.gpr[src->reg]; break;
	default: v = icpu_read(c, icpu_ea(c, op, size, ICPU_READ), size); break;
	}
	if (size == 4)
		v = (uint32_t)v;
	if (dst->kind == X86_O_MEM)
		icpu_write(c, icpu_ea(c, op, size, ICPU_WRITE), size, v);
	if (dst->kind == X86_O_MMX || src->kind == X86_O_MMX)
		mmx_enter(c);
	if (dst->kind == X86_O_XMM) {
		put_le64(icpu_xmm(c, dst->reg), v);
		put_le64(icpu_xmm(c, dst->reg) + 8, 0);
	} else if (dst->kind == X86_O_MMX) {
		mmx_set(c, dst->reg, v);
	} else if (dst->kind == X86_O_REG) {
		c->s.gpr[dst->reg] = v;
	}
}

/* A store of a general register that is never refused for FPU reasons. */
static void sse_movnti(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opnd[0].size;

	icpu_write(c, icpu_ea(c, op, size, ICPU_WRITE), size, c->s.gpr[op->x.opnd[1].reg]);
}

/* MASKMOVQ, MASKMOVDQU: bytes of the first operand whose mask byte is negative go to SEG:[rDI].
 * All of them are probed before the first is written. */
static void sse_maskmov(struct icpu *c, const struct iop *op)
{
	bool is_mmx = op->x.op == X86_OP_MASKMOVQ;
	unsigned n = is_mmx ? 8 : 16;
	uint8_t data[16], mask[16];
	uint64_t di = icpu_reg_get(c, X86_RDI, op->x.adsize, false);

	icpu_fpu_check(c, op);
	if (is_mmx) {
		put_le64(data, mmx_get(c, op->x.opnd[0].reg));
		put_le64(mask, mmx_get(c, op->x.opnd[1].reg));
	} else {
		memcpy(data, icpu_xmm(c, op->x.opnd[0].reg), 16);
		memcpy(mask, icpu_xmm(c, op->x.opnd[1].reg), 16);
	}
	uint64_t la = icpu_linear(c, op->x.seg, di, n, ICPU_WRITE);

	for (unsigned i = 0; i < n; i++)
		if (mask[i] & 0x80)
			icpu_probe(c, la + i, 1, ICPU_WRITE);
	for (unsigned i = 0; i < n; i++)
		if (mask[i] & 0x80)
			icpu_write8(c, la + i, data[i]);
	if (is_mmx)
		mmx_enter(c);
}

static void sse_ldmxcsr(struct icpu *c, const struct iop *op)
{
	sse_check(c, op);
	uint32_t v = icpu_read32(c, icpu_ea(c, op, 4, ICPU_READ));

	if (v & ~(uint32_t)MXCSR_VALID)
		icpu_gp0(c);
	icpu_set_mxcsr(c, v);
}

static void sse_stmxcsr(struct icpu *c, const struct iop *op)
{
	sse_check(c, op);
	icpu_write32(c, icpu_ea(c, op, 4, ICPU_WRITE), icpu_mxcsr(c));
}

iop_fn sse_move_bind(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_MOVUPS: case X86_OP_MOVAPS: case X86_OP_MOVUPD: case X86_OP_MOVAPD:
	case X86_OP_MOVDQA: case X86_OP_MOVDQU: case X86_OP_LDDQU: case X86_OP_MOVNTPS:
	case X86_OP_MOVNTPD: case X86_OP_MOVNTDQ: case X86_OP_MOVNTDQA:
		if (x->opnd[0].kind == X86_O_MEM)
			return sse_mov_store;
		return x->opnd[1].kind == X86_O_MEM ? sse_mov_load : sse_mov_reg;
	case X86_OP_MOVSS: case X86_OP_MOVSD:
		return sse_mov_scalar;
	case X86_OP_MOVLPS: case X86_OP_MOVHPS: case X86_OP_MOVLPD: case X86_OP_MOVHPD:
		return sse_mov_half;
	case X86_OP_MOVHLPS: return sse_movhlps;
	case X86_OP_MOVLHPS: return sse_movlhps;
	case X86_OP_MOVQ:
		if (x->opnd[0].kind == X86_O_XMM && x->opnd[1].kind == X86_O_MEM)
			return sse_load_movq;
		return sse_mov_any;
	case X86_OP_MOVD: case X86_OP_MOVQ2DQ: case X86_OP_MOVDQ2Q: case X86_OP_MOVNTQ:
		return sse_mov_any;
	case X86_OP_MOVNTI: return sse_movnti;
	case X86_OP_MASKMOVQ: case X86_OP_MASKMOVDQU:
		return sse_maskmov;
	case X86_OP_LDMXCSR: return sse_ldmxcsr;
	case X86_OP_STMXCSR: return sse_stmxcsr;
	default: return NULL;
	}
}
