/* SPDX-License-Identifier: Apache-2.0 */
/* avx_move.c - VEX-encoded moves: whole registers, scalars, halves, single elements, 128-bit lanes,
 * broadcasts. Done in C like their SSE forms; what is not written of a destination becomes zero. */
#include "cpu/interp/vec.h"
#include "util/endian.h"

/* 16 or 32 bytes: VMOVAPS, VMOVDQU and their kin. The row tells whether memory must be aligned. */
static void avx_mov_load(struct icpu *c, const struct iop *op)
{
	uint8_t buf[32];

	avx_check(c);
	avx_read_src(c, op, 1, buf);
	if (op->x.vl == 32)
		ymm_set(c, op->x.opnd[0].reg, buf);
	else
		ymm_set_low(c, op->x.opnd[0].reg, buf);
}

static void avx_mov_store(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *dst = &op->x.opnd[0];
	uint8_t buf[32];

	avx_check(c);
	ymm_get(c, op->x.opnd[1].reg, buf);
	if (dst->kind == X86_O_MEM)
		vec_write(c, vec_ea(c, op, dst->size, ICPU_WRITE), buf, dst->size);
	else if (op->x.vl == 32)
		ymm_set(c, dst->reg, buf);
	else
		ymm_set_low(c, dst->reg, buf);
}

/* VMOVD, VMOVQ, and VMOVSS and VMOVSD with memory: 4 or 8 bytes between vector register, general
 * register and memory. */
static void avx_mov_scalar(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *dst = &op->x.opnd[0], *src = &op->x.opnd[1];
	unsigned size = dst->size < src->size ? dst->size : src->size;
	uint64_t v[2] = { 0, 0 };

	avx_check(c);
	switch (src->kind) {
	case X86_O_XMM: v[0] = get_le64(icpu_xmm(c, src->reg)); break;
	case X86_O_REG: v[0] = c->s.gpr[src->reg]; break;
	default: v[0] = icpu_read(c, icpu_ea(c, op, size, ICPU_READ), size); break;
	}
	if (size == 4)
		v[0] = (uint32_t)v[0];
	if (dst->kind == X86_O_MEM)
		icpu_write(c, icpu_ea(c, op, size, ICPU_WRITE), size, v[0]);
	else if (dst->kind == X86_O_REG)
		c->s.gpr[dst->reg] = v[0];
	else
		ymm_set_low(c, dst->reg, (const uint8_t *)v);
}

/* VMOVSS and VMOVSD of registers: the element of the third operand in the second. */
static void avx_mov_merge(struct icpu *c, const struct iop *op)
{
	uint8_t buf[16];

	avx_check(c);
	memcpy(buf, icpu_xmm(c, op->x.opnd[1].reg), 16);
	memcpy(buf, icpu_xmm(c, op->x.opnd[2].reg), op->x.op == X86_OP_MOVSS ? 4 : 8);
	ymm_set_low(c, op->x.opnd[0].reg, buf);
}

/* VMOVLPS, VMOVHPS, VMOVLPD, VMOVHPD, VMOVHLPS, VMOVLHPS: one half from the third operand, the
 * other from the second. */
static void avx_mov_half(struct icpu *c, const struct iop *op)
{
	bool is_high = op->x.op != X86_OP_MOVLPS && op->x.op != X86_OP_MOVLPD && op->x.op != X86_OP_MOVHLPS;
	const struct x86_opnd *src = &op->x.opnd[2];
	uint8_t buf[16];
	uint64_t v;

	avx_check(c);
	if (src->kind == X86_O_MEM)
		v = icpu_read64(c, icpu_ea(c, op, 8, ICPU_READ));
	else
		v = get_le64(icpu_xmm(c, src->reg) + (op->x.op == X86_OP_MOVHLPS ? 8 : 0));
	memcpy(buf, icpu_xmm(c, op->x.opnd[1].reg), 16);
	put_le64(buf + (is_high ? 8 : 0), v);
	ymm_set_low(c, op->x.opnd[0].reg, buf);
}

static void avx_store_half(struct icpu *c, const struct iop *op)
{
	bool is_high = op->x.op == X86_OP_MOVHPS || op->x.op == X86_OP_MOVHPD;

	avx_check(c);
	icpu_write64(c, icpu_ea(c, op, 8, ICPU_WRITE), get_le64(icpu_xmm(c, op->x.opnd[1].reg) + (is_high ? 8 : 0)));
}

/* One element, 1 to 16 bytes, in every place of the destination. */
static void avx_broadcast(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opnd[1].size;
	uint8_t src[32], buf[32] = { 0 };

	avx_check(c);
	avx_read_src(c, op, 1, src);
	for (unsigned i = 0; i < op->x.vl; i += size)
		memcpy(buf + i, src, size);
	ymm_set(c, op->x.opnd[0].reg, buf);
}

/* VPINSRx: one element from a general register or memory. */
static void avx_insert(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *src = &op->x.opnd[2];
	unsigned size = op->x.op == X86_OP_PINSRB ? 1 : op->x.op == X86_OP_PINSRW ? 2 : src->size;
	uint8_t buf[16];

	avx_check(c);
	uint64_t v = src->kind == X86_O_MEM ? icpu_read(c, icpu_ea(c, op, size, ICPU_READ), size) :
					      c->s.gpr[src->reg];

	memcpy(buf, icpu_xmm(c, op->x.opnd[1].reg), 16);
	memcpy(buf + size * (op->x.imm & (16 / size - 1)), &v, size);
	ymm_set_low(c, op->x.opnd[0].reg, buf);
}

/* VEXTRACTF128, VEXTRACTI128 */
static void avx_extract_lane(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *dst = &op->x.opnd[0];
	uint8_t buf[32];

	avx_check(c);
	ymm_get(c, op->x.opnd[1].reg, buf);
	const uint8_t *lane = buf + 16 * (op->x.imm & 1);

	if (dst->kind == X86_O_MEM)
		vec_write(c, vec_ea(c, op, 16, ICPU_WRITE), lane, 16);
	else
		ymm_set_low(c, dst->reg, lane);
}

/* VZEROUPPER, VZEROALL: of the registers that the mode can see. */
static void avx_zero(struct icpu *c, const struct iop *op)
{
	unsigned len = c->mode == X86_MODE_64 ? 256 : 128;

	avx_check(c);
	memset(icpu_ymmh(c, 0), 0, len);
	if (op->x.op == X86_OP_ZEROALL)
		memset(icpu_xmm(c, 0), 0, len);
}

iop_fn avx_move_bind(const struct x86_insn *x)
{
	bool is_store = x->opnd[0].kind == X86_O_MEM;

	switch (x->op) {
	case X86_OP_MOVUPS: case X86_OP_MOVAPS: case X86_OP_MOVUPD: case X86_OP_MOVAPD:
	case X86_OP_MOVDQA: case X86_OP_MOVDQU: case X86_OP_LDDQU: case X86_OP_MOVNTPS:
	case X86_OP_MOVNTPD: case X86_OP_MOVNTDQ: case X86_OP_MOVNTDQA:
		return is_store ? avx_mov_store : avx_mov_load;
	case X86_OP_MOVSS: case X86_OP_MOVSD:
		return x->n_opnds == 3 ? avx_mov_merge : avx_mov_scalar;
	case X86_OP_MOVD: case X86_OP_MOVQ:
		return avx_mov_scalar;
	case X86_OP_MOVLPS: case X86_OP_MOVHPS: case X86_OP_MOVLPD: case X86_OP_MOVHPD:
	case X86_OP_MOVHLPS: case X86_OP_MOVLHPS:
		return is_store ? avx_store_half : avx_mov_half;
	case X86_OP_BROADCASTSS: case X86_OP_BROADCASTSD: case X86_OP_BROADCASTF128: case X86_OP_BROADCASTI128:
	case X86_OP_PBROADCASTB: case X86_OP_PBROADCASTW: case X86_OP_PBROADCASTD: case X86_OP_PBROADCASTQ:
		return avx_broadcast;
	case X86_OP_PINSRB: case X86_OP_PINSRW: case X86_OP_PINSRD: case X86_OP_PINSRQ:
		return avx_insert;
	case X86_OP_EXTRACTF128: case X86_OP_EXTRACTI128:
		return avx_extract_lane;
	case X86_OP_ZEROUPPER: case X86_OP_ZEROALL:
		return avx_zero;
	/* These touch no vector destination and are as their SSE forms. */
	case X86_OP_MASKMOVDQU: case X86_OP_LDMXCSR: case X86_OP_STMXCSR:
		return sse_move_bind(x);
	case X86_OP_PEXTRB: case X86_OP_PEXTRW: case X86_OP_PEXTRD: case X86_OP_PEXTRQ: case X86_OP_EXTRACTPS:
		return sse_lane_bind(x);
	default:
		return NULL;
	}
}
