/* SPDX-License-Identifier: Apache-2.0 */
/* sse_op.c - vector instructions that compute, run by the host itself. What differs between them
 * is only where operands come from and go to: one handler for each such shape. */
#include <emmintrin.h>
#include "cpu/interp/vec.h"
#include "util/endian.h"

/* xmm, xmm [, imm] [, xmm0]; no floating-point exceptions */
static void sse_op_reg(struct icpu *c, const struct iop *op)
{
	sse_check(c, op);
	vec_run_xmm(icpu_xmm(c, op->x.opnd[0].reg), icpu_xmm(c, op->x.opnd[1].reg), icpu_xmm(c, 0),
		    vec_thunk_find(&op->x, false));
}

/* xmm, mem [, imm] [, xmm0]; no floating-point exceptions */
static void sse_op_mem(struct icpu *c, const struct iop *op)
{
	uint8_t src[16];

	sse_check(c, op);
	vec_read_src(c, op, 1, src);
	vec_run_xmm(icpu_xmm(c, op->x.opnd[0].reg), src, icpu_xmm(c, 0), vec_thunk_find(&op->x, false));
}

/* INSERTPS xmm, m32: the immediate's source element number does not count. */
static void sse_insertps_mem(struct icpu *c, const struct iop *op)
{
	struct iop o = *op;

	o.x.imm &= 0x3f;
	sse_op_mem(c, &o);
}

/* xmm, xmm/mem [, imm] with floating-point exceptions */
static void sse_op_fp(struct icpu *c, const struct iop *op)
{
	uint8_t *dst = icpu_xmm(c, op->x.opnd[0].reg);
	struct vec_frame f;

	sse_check(c, op);
	vec_read_src(c, op, 1, f.src);
	memcpy(f.dst, dst, 16);
	memcpy(f.xmm0, icpu_xmm(c, 0), 16);
	sse_run_fp(c, &f, vec_thunk_find(&op->x, false), vec_run);
	memcpy(dst, f.dst, 16);
}

/* COMISx, UCOMISx, PTEST: only flags */
static void sse_op_flags(struct icpu *c, const struct iop *op)
{
	struct vec_frame f;

	sse_check(c, op);
	memcpy(f.dst, icpu_xmm(c, op->x.opnd[0].reg), 16);
	vec_read_src(c, op, 1, f.src);
	sse_run_fp(c, &f, vec_thunk_find(&op->x, false), vec_run);
	c->s.rflags = (c->s.rflags & ~(uint64_t)X86_FLAGS_ARITH) | (f.flags & X86_FLAGS_ARITH);
}

/* r, xmm/mem: CVTxx2SI */
static void sse_op_to_gpr(struct icpu *c, const struct iop *op)
{
	struct vec_frame f;

	sse_check(c, op);
	vec_read_src(c, op, 1, f.src);
	sse_run_fp(c, &f, vec_thunk_find(&op->x, op->x.opnd[0].size == 8), vec_run);
	c->s.gpr[op->x.opnd[0].reg] = f.rcx;    /* a 32-bit result came zero-extended */
}

/* xmm, r/mem: CVTSI2SS, CVTSI2SD */
static void sse_op_from_gpr(struct icpu *c, const struct iop *op)
{
	uint8_t *dst = icpu_xmm(c, op->x.opnd[0].reg);
	struct vec_frame f;

	sse_check(c, op);
	f.rdx = icpu_get(c, op, 1);
	memcpy(f.dst, dst, 16);
	sse_run_fp(c, &f, vec_thunk_find(&op->x, op->x.opnd[1].size == 8), vec_run);
	memcpy(dst, f.dst, 16);
}

/* xmm, mm/mem: CVTPI2PS, CVTPI2PD. Reading memory, they leave x87 state alone: so the SDM of
 * CVTPI2PD, so measured of both. */
static void sse_op_from_mmx(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *src = &op->x.opnd[1];
	uint8_t *dst = icpu_xmm(c, op->x.opnd[0].reg);
	struct vec_frame f;

	icpu_fpu_check(c, op);
	if (src->kind == X86_O_MMX) {
		f.mm_src = mmx_get(c, src->reg);
		mmx_enter(c);           /* even if the conversion faults */
	} else {
		f.mm_src = icpu_read64(c, icpu_ea(c, op, 8, ICPU_READ));
	}
	memcpy(f.dst, dst, 16);
	sse_run_fp(c, &f, vec_thunk_find(&op->x, false), vec_run_mixed);
	memcpy(dst, f.dst, 16);
}

/* mm, xmm/mem: CVT[T]PS2PI, CVT[T]PD2PI */
static void sse_op_to_mmx(struct icpu *c, const struct iop *op)
{
	struct vec_frame f;

	icpu_fpu_check(c, op);
	vec_read_src(c, op, 1, f.src);
	mmx_enter(c);                   /* even if the conversion faults */
	sse_run_fp(c, &f, vec_thunk_find(&op->x, false), vec_run_mixed);
	mmx_set(c, op->x.opnd[0].reg, f.mm_dst);
}

static void sse_movmsk(struct icpu *c, const struct iop *op)
{
	const uint8_t *src = icpu_xmm(c, op->x.opnd[1].reg);
	__m128i v = _mm_loadu_si128((const __m128i *)src);
	int mask;

	sse_check(c, op);
	switch (op->x.op) {
	case X86_OP_MOVMSKPS: mask = _mm_movemask_ps(_mm_castsi128_ps(v)); break;
	case X86_OP_MOVMSKPD: mask = _mm_movemask_pd(_mm_castsi128_pd(v)); break;
	default: mask = _mm_movemask_epi8(v); break;
	}
	c->s.gpr[op->x.opnd[0].reg] = (uint32_t)mask;
}

/* Shift by an immediate: the form with a count register does the same. 0F 71..73 /2, /4, /6 are
 * D1..D3, E1..E2, F1..F3. */
static void sse_shift_imm(struct icpu *c, const struct iop *op)
{
	static const uint8_t high[8] = { [2] = 0xd0, [4] = 0xe0, [6] = 0xf0 };
	uint64_t count[2] = { (uint8_t)op->x.imm, 0 };
	unsigned opcode = high[op->x.modrm >> 3 & 7] | (op->x.row->opcode & 3);

	sse_check(c, op);
	vec_run_xmm(icpu_xmm(c, op->x.opnd[0].reg), count, count, vec_thunk_at(1, 1, opcode));
}

/* PSLLDQ, PSRLDQ: whole bytes */
static void sse_shift_bytes(struct icpu *c, const struct iop *op)
{
	uint8_t *dst = icpu_xmm(c, op->x.opnd[0].reg);
	unsigned n = (uint8_t)op->x.imm < 16 ? (uint8_t)op->x.imm : 16;
	uint8_t buf[48] = { 0 };

	sse_check(c, op);
	memcpy(buf + 16, dst, 16);
	memcpy(dst, op->x.op == X86_OP_PSLLDQ ? buf + 16 - n : buf + 16 + n, 16);
}

/* A length in a 64-bit register has the effect of its value clipped to +-16. */
uint64_t pcmpstr_len(const struct iop *op, uint64_t reg)
{
	if (!(op->x.prefixes & X86_P_REXW))
		return reg;
	return (int64_t)reg > 16 ? 16 : (int64_t)reg < -16 ? (uint32_t)-16 : (uint32_t)reg;
}

/* PCMPxSTRx xmm, xmm/mem, imm: index to ECX or mask to XMM0, and flags */
static void sse_pcmpstr(struct icpu *c, const struct iop *op)
{
	struct vec_frame f = { .mxcsr = MXCSR_INIT };

	sse_check(c, op);
	memcpy(f.dst, icpu_xmm(c, op->x.opnd[0].reg), 16);
	vec_read_src(c, op, 1, f.src);
	f.rax = pcmpstr_len(op, c->s.gpr[X86_RAX]);
	f.rdx = pcmpstr_len(op, c->s.gpr[X86_RDX]);
	vec_run(&f, vec_thunk_find(&op->x, false));
	if (op->x.op == X86_OP_PCMPESTRI || op->x.op == X86_OP_PCMPISTRI)
		c->s.gpr[X86_RCX] = (uint32_t)f.rcx;
	else
		memcpy(icpu_xmm(c, 0), f.xmm0, 16);
	c->s.rflags = (c->s.rflags & ~(uint64_t)X86_FLAGS_ARITH) | (f.flags & X86_FLAGS_ARITH);
}

/* Handlers of operations that do not have the common shape. */
static iop_fn sse_op_bind_special(const struct x86_insn *x)
{
	bool has_mem = x->opnd[1].kind == X86_O_MEM;

	switch (x->op) {
	case X86_OP_COMISS: case X86_OP_COMISD: case X86_OP_UCOMISS: case X86_OP_UCOMISD:
	case X86_OP_PTEST:
		return sse_op_flags;
	case X86_OP_CVTSS2SI: case X86_OP_CVTSD2SI: case X86_OP_CVTTSS2SI: case X86_OP_CVTTSD2SI:
		return sse_op_to_gpr;
	case X86_OP_CVTSI2SS: case X86_OP_CVTSI2SD:
		return sse_op_from_gpr;
	case X86_OP_CVTPI2PS: case X86_OP_CVTPI2PD:
		return sse_op_from_mmx;
	case X86_OP_CVTPS2PI: case X86_OP_CVTPD2PI: case X86_OP_CVTTPS2PI: case X86_OP_CVTTPD2PI:
		return sse_op_to_mmx;
	case X86_OP_MOVMSKPS: case X86_OP_MOVMSKPD: case X86_OP_PMOVMSKB:
		return sse_movmsk;
	case X86_OP_PSLLDQ: case X86_OP_PSRLDQ:
		return sse_shift_bytes;
	case X86_OP_INSERTPS:
		return has_mem ? sse_insertps_mem : sse_op_reg;
	case X86_OP_PCMPESTRM: case X86_OP_PCMPESTRI: case X86_OP_PCMPISTRM: case X86_OP_PCMPISTRI:
		return sse_pcmpstr;
	default:
		return NULL;
	}
}

iop_fn sse_op_bind(const struct x86_insn *x)
{
	iop_fn fn = sse_op_bind_special(x);

	if (fn)
		return fn;
	if (x->op < X86_OP_MOVDDUP || x->op > X86_OP_SHA256MSG2 || x->opnd[0].kind != X86_O_XMM)
		return NULL;
	if (sse_is_fp(x->op))
		return sse_op_fp;
	if (x->opnd[1].kind == X86_O_IMM)
		return sse_shift_imm;
	return x->opnd[1].kind == X86_O_MEM ? sse_op_mem : sse_op_reg;
}
