/* SPDX-License-Identifier: Apache-2.0 */
/* Multiplication, division, sign extension of the accumulator, decimal adjustment. Intel SDM
 * vol. 2. The host multiplies and divides; division is checked first, so that the host never
 * faults. The decimal instructions do not exist in 64-bit mode: they follow the SDM's listings. */
#include "cpu/interp/alu.h"
#include "cpu/interp/mem.h"

/* lo * src -> hi:lo */
#define WIDE_MUL(name, sfx, A, bits)                                                            \
	static void name##_wide##bits(uint64_t *rf, uint64_t *lo, uint64_t *hi, uint64_t src)   \
	{                                                                                       \
		uint16_t ax = alu_flags_ax(*rf);                                                \
		uint64_t l = *lo, h = 0;                                                        \
		__asm__(ALU_SET "movq %[l], %%r8\n\txchgq %%rax, %%r8\n\t" #name sfx " %" A "[s]\n\t" \
			"movq %%rax, %[l]\n\t" ALU_GET                                          \
			: [l] "+&r"(l), "+&d"(h), "+&a"(ax) : [s] "r"(src) : "r8", "cc");       \
		alu_flags_put(rf, ax);                                                          \
		*lo = l;                                                                        \
		*hi = h;                                                                        \
	}
WIDE_MUL(mul, "b", "b", 8)
WIDE_MUL(mul, "w", "w", 16)
WIDE_MUL(mul, "l", "k", 32)
WIDE_MUL(mul, "q", "q", 64)
WIDE_MUL(imul, "b", "b", 8)
WIDE_MUL(imul, "w", "w", 16)
WIDE_MUL(imul, "l", "k", 32)
WIDE_MUL(imul, "q", "q", 64)

#define TWO_MUL(sfx, bits)                                                                      \
	static uint64_t imul##bits(uint64_t *rf, uint64_t a_, uint64_t b_)                      \
	{                                                                                       \
		uint##bits##_t a = (uint##bits##_t)a_, b = (uint##bits##_t)b_;                  \
		uint16_t ax = alu_flags_ax(*rf);                                                \
		__asm__(ALU_SET "imul" sfx " %[b], %[a]\n\t" ALU_GET                            \
			: [a] "+&r"(a), "+&a"(ax) : [b] "r"(b) : "cc");                         \
		alu_flags_put(rf, ax);                                                          \
		return a;                                                                       \
	}
TWO_MUL("w", 16)
TWO_MUL("l", 32)
TWO_MUL("q", 64)

/* IMUL r, r/m and IMUL r, r/m, imm */
static void iop_imul_two(struct icpu *c, const struct iop *op)
{
	static uint64_t (*const fns[])(uint64_t *, uint64_t, uint64_t) = { imul16, imul32, imul64 };
	unsigned last = op->x.n_opnds - 1u;
	uint64_t b = icpu_get(c, op, last), a = icpu_get(c, op, last - 1);

	/* 16, 32 or 64 bits: NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage) */
	icpu_set(c, op, 0, fns[isize_log(op->x.opnd[0].size) - 1](&c->s.rflags, a, b));
}

/* The same for 32 and 64 bits from a register or from plain memory. */
#define TWO_MUL_FORMS(bits)                                                                     \
	static void imul##bits##_rr(struct icpu *c, const struct iop *op)                       \
	{                                                                                       \
		const struct x86_opnd *o = op->x.opnd;                                          \
		ireg_set##bits(c, &o[0], (uint##bits##_t)imul##bits(&c->s.rflags,               \
			       ireg_get##bits(c, &o[0]), ireg_get##bits(c, &o[1])));            \
	}                                                                                       \
	static void imul##bits##_rm(struct icpu *c, const struct iop *op)                       \
	{                                                                                       \
		const struct x86_opnd *o = op->x.opnd;                                          \
		uint##bits##_t b = imem_read##bits(c, op->x.seg, imem_la(c, op));               \
		ireg_set##bits(c, &o[0], (uint##bits##_t)imul##bits(&c->s.rflags,               \
			       ireg_get##bits(c, &o[0]), b));                                   \
	}                                                                                       \
	static void imul##bits##_rri(struct icpu *c, const struct iop *op)                      \
	{                                                                                       \
		const struct x86_opnd *o = op->x.opnd;                                          \
		ireg_set##bits(c, &o[0], (uint##bits##_t)imul##bits(&c->s.rflags,               \
			       ireg_get##bits(c, &o[1]), (uint64_t)op->x.imm));                 \
	}
TWO_MUL_FORMS(32)
TWO_MUL_FORMS(64)

static iop_fn muldiv_bind_two(const struct x86_insn *x)
{
	bool is_64 = x->opnd[0].size == 8;
	enum iform form = iform_of(x);

	if (x->opnd[0].size < 4)
		return iop_imul_two;
	if (x->n_opnds == 3)
		return form != IFORM_RR ? iop_imul_two : is_64 ? imul64_rri : imul32_rri;
	if (form == IFORM_RR)
		return is_64 ? imul64_rr : imul32_rr;
	return form != IFORM_RM ? iop_imul_two : is_64 ? imul64_rm : imul32_rm;
}

/* The decoder may list the implied accumulator; the explicit operand is the first one. */
static void iop_mul_wide(struct icpu *c, const struct iop *op)
{
	static void (*const fns[2][4])(uint64_t *, uint64_t *, uint64_t *, uint64_t) = {
		{ mul_wide8, mul_wide16, mul_wide32, mul_wide64 },
		{ imul_wide8, imul_wide16, imul_wide32, imul_wide64 },
	};
	unsigned size = op->x.opnd[0].size;
	uint64_t src = icpu_get(c, op, 0), lo = icpu_reg_get(c, X86_RAX, size, false), hi;

	fns[op->x.op == X86_OP_IMUL][isize_log(size)](&c->s.rflags, &lo, &hi, src);
	if (size == 1) {
		icpu_reg_set(c, X86_RAX, 2, false, lo);
		return;
	}
	icpu_reg_set(c, X86_RAX, size, false, lo);
	icpu_reg_set(c, X86_RDX, size, false, hi);
}

/* Divide hi:lo by SRC on the host, for its flags; the quotient is known to fit. */
#define WIDE_DIV(name, sfx, A, bits)                                                            \
	static void name##_wide##bits(uint64_t *rf, uint64_t *lo, uint64_t *hi, uint64_t src)   \
	{                                                                                       \
		uint16_t ax = alu_flags_ax(*rf);                                                \
		uint64_t l = *lo, h = *hi;                                                      \
		__asm__(ALU_SET "movq %[l], %%r8\n\txchgq %%rax, %%r8\n\t" #name sfx " %" A "[s]\n\t" \
			"movq %%rax, %[l]\n\t" ALU_GET                                          \
			: [l] "+&r"(l), "+&d"(h), "+&a"(ax) : [s] "r"(src) : "r8", "cc");       \
		alu_flags_put(rf, ax);                                                          \
		*lo = l;                                                                        \
		*hi = h;                                                                        \
	}
WIDE_DIV(div, "b", "b", 8)
WIDE_DIV(div, "w", "w", 16)
WIDE_DIV(div, "l", "k", 32)
WIDE_DIV(div, "q", "q", 64)
WIDE_DIV(idiv, "b", "b", 8)
WIDE_DIV(idiv, "w", "w", 16)
WIDE_DIV(idiv, "l", "k", 32)
WIDE_DIV(idiv, "q", "q", 64)

static bool div_fits(uint64_t hi, uint64_t src)
{
	return src != 0 && hi < src;
}

static bool idiv_fits(unsigned bits, uint64_t hi, uint64_t lo, uint64_t src)
{
	unsigned up = 64 - bits;
	__int128 top = (int64_t)(hi << up) >> up;
	__int128 n = (__int128)((unsigned __int128)top << bits | lo);
	__int128 d = (int64_t)(src << up) >> up;

	/* The one quotient that does not fit 128 bits does not fit 64 either. */
	if (d == 0 || (d == -1 && bits == 64 && hi == 1ull << 63))
		return false;
	__int128 q = n / d, limit = (__int128)1 << (bits - 1);

	return q >= -limit && q < limit;
}

static void iop_div(struct icpu *c, const struct iop *op)
{
	static void (*const fns[2][4])(uint64_t *, uint64_t *, uint64_t *, uint64_t) = {
		{ div_wide8, div_wide16, div_wide32, div_wide64 },
		{ idiv_wide8, idiv_wide16, idiv_wide32, idiv_wide64 },
	};
	bool is_signed = op->x.op == X86_OP_IDIV;
	unsigned size = op->x.opnd[0].size, bits = 8 * size;
	uint64_t src = icpu_get(c, op, 0), lo = icpu_reg_get(c, X86_RAX, size, false);
	uint64_t hi = size == 1 ? icpu_reg_get(c, X86_RAX, 1, true) : icpu_reg_get(c, X86_RDX, size, false);

	if (!(is_signed ? idiv_fits(bits, hi, lo, src) : div_fits(hi, src)))
		icpu_raise(c, X86_EXC_DE);
	if (size == 1)
		lo |= hi << 8;          /* AX is the dividend */
	fns[is_signed][isize_log(size)](&c->s.rflags, &lo, &hi, src);
	if (size == 1) {
		icpu_reg_set(c, X86_RAX, 2, false, lo);
		return;
	}
	icpu_reg_set(c, X86_RAX, size, false, lo);
	icpu_reg_set(c, X86_RDX, size, false, hi);
}

/* CBW CWDE CDQE */
static void iop_cbw(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opsize, up = 64 - 4 * size;

	icpu_reg_set(c, X86_RAX, size, false, (uint64_t)((int64_t)(c->s.gpr[X86_RAX] << up) >> up));
}

/* CWD CDQ CQO */
static void iop_cwd(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opsize;

	icpu_reg_set(c, X86_RDX, size, false, c->s.gpr[X86_RAX] >> (8 * size - 1) & 1 ? ~0ull : 0);
}

/* --- decimal --------------------------------------------------------------------------- */

static uint64_t szp_flags(uint8_t v)
{
	return (v ? 0 : X86_ZF) | (v & 0x80 ? X86_SF : 0) | (__builtin_parity(v) ? 0 : X86_PF);
}

static void set_arith(struct icpu *c, uint64_t mask, uint64_t v)
{
	c->s.rflags = (c->s.rflags & ~mask) | (v & mask);
}

static void iop_daa_das(struct icpu *c, const struct iop *op)
{
	uint8_t old = (uint8_t)c->s.gpr[X86_RAX], al = old;
	bool is_das = op->x.op == X86_OP_DAS, old_cf = c->s.rflags & X86_CF;
	uint64_t fl = 0;

	if ((al & 0xf) > 9 || (c->s.rflags & X86_AF)) {
		if (is_das)
			fl |= old_cf || al < 6 ? X86_CF : 0;
		al = (uint8_t)(is_das ? al - 6 : al + 6);
		fl |= X86_AF;
	}
	if (old > 0x99 || old_cf) {
		al = (uint8_t)(is_das ? al - 0x60 : al + 0x60);
		fl |= X86_CF;
	}
	icpu_reg_set(c, X86_RAX, 1, false, al);
	set_arith(c, X86_FLAGS_ARITH, fl | szp_flags(al));
}

static void iop_aaa_aas(struct icpu *c, const struct iop *op)
{
	uint16_t ax = (uint16_t)c->s.gpr[X86_RAX];
	uint64_t fl = 0;

	if ((ax & 0xf) > 9 || (c->s.rflags & X86_AF)) {
		ax = (uint16_t)(op->x.op == X86_OP_AAA ? ax + 0x106 : ax - 0x106);
		fl = X86_AF | X86_CF;
	}
	ax &= 0xff0f;
	icpu_reg_set(c, X86_RAX, 2, false, ax);
	set_arith(c, X86_FLAGS_ARITH, fl | szp_flags((uint8_t)ax));
}

static void iop_aam(struct icpu *c, const struct iop *op)
{
	uint8_t base = (uint8_t)op->x.imm, al = (uint8_t)c->s.gpr[X86_RAX];

	if (!base)
		icpu_raise(c, X86_EXC_DE);
	icpu_reg_set(c, X86_RAX, 2, false, (uint64_t)(al / base) << 8 | al % base);
	set_arith(c, X86_FLAGS_ARITH, szp_flags(al % base));
}

static void iop_aad(struct icpu *c, const struct iop *op)
{
	uint16_t ax = (uint16_t)c->s.gpr[X86_RAX];
	uint8_t al = (uint8_t)((ax & 0xff) + (ax >> 8) * (uint8_t)op->x.imm);

	icpu_reg_set(c, X86_RAX, 2, false, al);
	set_arith(c, X86_FLAGS_ARITH, szp_flags(al));
}

iop_fn interp_bind_muldiv(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_IMUL: return x->n_opnds > 1 ? muldiv_bind_two(x) : iop_mul_wide;
	case X86_OP_MUL: return iop_mul_wide;
	case X86_OP_DIV:
	case X86_OP_IDIV: return iop_div;
	case X86_OP_CBW: return iop_cbw;
	case X86_OP_CWD: return iop_cwd;
	case X86_OP_DAA:
	case X86_OP_DAS: return iop_daa_das;
	case X86_OP_AAA:
	case X86_OP_AAS: return iop_aaa_aas;
	case X86_OP_AAM: return iop_aam;
	case X86_OP_AAD: return iop_aad;
	default: return NULL;
	}
}
