/* SPDX-License-Identifier: Apache-2.0 */
/* int_bmi.c - BMI1 and BMI2 with a VEX prefix (Intel SDM vol. 2). What sets flags or cannot be said
 * in C is run by the host. TZCNT has no VEX and is in int_bit.c. */
#include "cpu/interp/alu.h"
#include "cpu/interp/mem.h"

/* A: the operand of modrm.rm, B: that of VEX.vvvv. */
typedef uint64_t (*bmi_fn)(uint64_t *rf, uint64_t a, uint64_t b);

#define BMI_OP(name, bits, insn)                                                        \
	static uint64_t name##bits(uint64_t *rf, uint64_t a, uint64_t b)                \
	{                                                                               \
		uint16_t ax = alu_flags_ax(*rf);                                        \
		uint64_t d;                                                             \
		__asm__(ALU_SET insn "\n\t" ALU_GET                                     \
			: [d] "=&r"(d), "+&a"(ax) : [a] "r"(a), [b] "r"(b) : "cc");     \
		alu_flags_put(rf, ax);                                                  \
		return d;                                                               \
	}
/* Source order in AT&T syntax: the last is Intel's second operand. */
#define BMI_BOTH(name, last, first) \
	BMI_OP(name, 32, #name " %k[" first "], %k[" last "], %k[d]") \
	BMI_OP(name, 64, #name " %q[" first "], %q[" last "], %q[d]")
#define BMI_ONE(name) \
	BMI_OP(name, 32, #name " %k[a], %k[d]") BMI_OP(name, 64, #name " %q[a], %q[d]")
BMI_BOTH(andn, "b", "a")
BMI_BOTH(bextr, "a", "b")
BMI_ONE(blsi)
BMI_ONE(blsmsk)
BMI_ONE(blsr)
BMI_BOTH(bzhi, "a", "b")
BMI_BOTH(pdep, "b", "a")
BMI_BOTH(pext, "b", "a")

static const bmi_fn bmi_fns[][2] = {    /* in the order of ops.def */
	{ andn32, andn64 }, { bextr32, bextr64 }, { blsi32, blsi64 }, { blsmsk32, blsmsk64 },
	{ blsr32, blsr64 }, { bzhi32, bzhi64 }, { pdep32, pdep64 }, { pext32, pext64 },
};
_Static_assert(X86_OP_PEXT - X86_OP_ANDN == 7 && X86_OP_BZHI - X86_OP_ANDN == 5, "order of ops.def");

/* VEX is not there in real and virtual-8086 mode. */
static void bmi_check(struct icpu *c)
{
	if (c->is_real_or_vm86)
		icpu_raise(c, X86_EXC_UD);
}

/* r, r/m and r of VEX.vvvv, in either order; or, of BLSx, r of VEX.vvvv and r/m */
static void iop_bmi(struct icpu *c, const struct iop *op)
{
	unsigned n_b = op->x.row->reg >= 0 ? 0 : op->x.row->pfx == X86_PFX_NONE && op->x.op != X86_OP_ANDN ? 2 : 1;
	bmi_fn fn = bmi_fns[op->x.op - X86_OP_ANDN][op->x.opnd[0].size == 8];

	bmi_check(c);
	uint64_t a = icpu_get(c, op, n_b == 1 ? 2 : 1);

	icpu_set(c, op, 0, fn(&c->s.rflags, a, icpu_get(c, op, n_b)));
}

static void iop_mulx(struct icpu *c, const struct iop *op)
{
	unsigned bits = 8 * op->x.opnd[0].size;

	bmi_check(c);
	unsigned __int128 p = (unsigned __int128)icpu_get(c, op, 2) *
			      icpu_reg_get(c, X86_RDX, op->x.opnd[0].size, false);

	icpu_set(c, op, 1, (uint64_t)p);
	icpu_set(c, op, 0, (uint64_t)(p >> bits));
}

static void iop_rorx(struct icpu *c, const struct iop *op)
{
	unsigned bits = 8 * op->x.opnd[0].size, n = op->x.imm & (bits - 1);

	bmi_check(c);
	uint64_t v = icpu_get(c, op, 1);

	icpu_set(c, op, 0, n ? v >> n | v << (bits - n) : v);
}

/* SARX, SHLX, SHRX */
static void iop_shiftx(struct icpu *c, const struct iop *op)
{
	unsigned bits = 8 * op->x.opnd[0].size;

	bmi_check(c);
	uint64_t v = icpu_get(c, op, 1);
	unsigned n = icpu_get(c, op, 2) & (bits - 1);

	switch (op->x.op) {
	case X86_OP_SHLX: v <<= n; break;
	case X86_OP_SHRX: v >>= n; break;
	default: v = (uint64_t)((bits == 64 ? (int64_t)v : (int32_t)v) >> n); break;
	}
	icpu_set(c, op, 0, v);
}

iop_fn interp_bind_bmi(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_ANDN: case X86_OP_BEXTR: case X86_OP_BLSI: case X86_OP_BLSMSK: case X86_OP_BLSR:
	case X86_OP_BZHI: case X86_OP_PDEP: case X86_OP_PEXT:
		return iop_bmi;
	case X86_OP_MULX: return iop_mulx;
	case X86_OP_RORX: return iop_rorx;
	case X86_OP_SARX: case X86_OP_SHLX: case X86_OP_SHRX:
		return iop_shiftx;
	default:
		return NULL;
	}
}
