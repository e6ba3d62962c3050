/* SPDX-License-Identifier: Apache-2.0 */
/* Shifts and rotates: ROL ROR RCL RCR SHL SHR SAR, SHLD SHRD. Intel SDM vol. 2. A masked count of
 * 0 leaves destination and flags as they are, except that a 32-bit register is still extended. */
#include "cpu/interp/alu.h"
#include "cpu/interp/mem.h"

#define SHIFT_FORMS(name, bits)                                                                 \
	static void name##bits##_ri(struct icpu *c, const struct iop *op)                       \
	{                                                                                       \
		const struct x86_opnd *o = op->x.opnd;                                          \
		ireg_set##bits(c, &o[0], alu_##name##bits(&c->s.rflags, ireg_get##bits(c, &o[0]), \
							  (uint8_t)op->x.imm));                 \
	}                                                                                       \
	static void name##bits##_rr(struct icpu *c, const struct iop *op)                       \
	{                                                                                       \
		const struct x86_opnd *o = op->x.opnd;                                          \
		ireg_set##bits(c, &o[0], alu_##name##bits(&c->s.rflags, ireg_get##bits(c, &o[0]), \
							  (uint8_t)c->s.gpr[X86_RCX]));         \
	}
#define EACH_SIZE(name) SHIFT_FORMS(name, 8) SHIFT_FORMS(name, 16) SHIFT_FORMS(name, 32) SHIFT_FORMS(name, 64)

EACH_SIZE(rol)
EACH_SIZE(ror)
EACH_SIZE(rcl)
EACH_SIZE(rcr)
EACH_SIZE(shl)
EACH_SIZE(shr)
EACH_SIZE(sar)

/* OF after a rotation by a constant above 1 is undefined. Processors compute it as they do for a count in CL, but some
 * leave it when the operand is a register. Translated code is the host's own, so this is the host's choice, too. */
static bool rotate_keeps_of(const struct x86_insn *x)
{
	uint8_t byte = 0x7f, of;
	uint32_t zero = 0;

	if ((x->op != X86_OP_ROL && x->op != X86_OP_ROR) || iform_of(x) != IFORM_RI ||
	    (x->imm & (x->opnd[0].size == 8 ? 63 : 31)) <= 1)
		return false;
	__asm__("addb $1, %[byte]\n\troll $2, %[zero]\n\tseto %[of]"
		: [byte] "+q"(byte), [zero] "+r"(zero), [of] "=q"(of) : : "cc");
	return of;
}

#define ROTATE_KEEPING_OF(name, bits)                                   \
	static void name##bits##_rk(struct icpu *c, const struct iop *op) \
	{                                                               \
		uint64_t of = c->s.rflags & X86_OF;                     \
		name##bits##_ri(c, op);                                 \
		c->s.rflags = (c->s.rflags & ~(uint64_t)X86_OF) | of;   \
	}
ROTATE_KEEPING_OF(rol, 8)
ROTATE_KEEPING_OF(rol, 16)
ROTATE_KEEPING_OF(rol, 32)
ROTATE_KEEPING_OF(rol, 64)
ROTATE_KEEPING_OF(ror, 8)
ROTATE_KEEPING_OF(ror, 16)
ROTATE_KEEPING_OF(ror, 32)
ROTATE_KEEPING_OF(ror, 64)

/* By operation and log2 of the size, registers only. */
static const iop_fn rotate_keeping_of[][4] = {
	{ rol8_rk, rol16_rk, rol32_rk, rol64_rk }, { ror8_rk, ror16_rk, ror32_rk, ror64_rk },
};
_Static_assert(X86_OP_ROR == X86_OP_ROL + 1, "order of ops.def");

#define ROW(name, bits) { name##bits##_rr, name##bits##_ri }
#define ROWS(name) { ROW(name, 8), ROW(name, 16), ROW(name, 32), ROW(name, 64) }

/* By operation (in the order of ops.def), log2 of the size, IFORM_RR or IFORM_RI. */
static const iop_fn shift_handlers[][4][2] = {
	ROWS(rol), ROWS(ror), ROWS(rcl), ROWS(rcr), ROWS(shl), ROWS(shr), ROWS(sar),
};
static const alu_fn shift_any[] = { alu_rol, alu_ror, alu_rcl, alu_rcr, alu_shl, alu_shr, alu_sar };
_Static_assert(X86_OP_SAR - X86_OP_ROL + 1 == sizeof(shift_any) / sizeof(shift_any[0]), "order of ops.def");

static void iop_shift_any(struct icpu *c, const struct iop *op)
{
	uint64_t rf = c->s.rflags, count = icpu_get(c, op, 1);
	struct idst d;
	uint64_t v = idst_read(c, op, &d);

	v = shift_any[op->x.op - X86_OP_ROL](&rf, v, count, op->x.opnd[0].size);
	idst_write(c, op, &d, v);
	c->s.rflags = rf;
}

/* SHLD, SHRD. For 16 bits and counts above 16 the result is undefined: the host's is taken. */
#define DOUBLE_SHIFT(name, sfx, bits)                                                           \
	static uint64_t name##bits(uint64_t *rf, uint64_t a_, uint64_t b_, uint8_t count)       \
	{                                                                                       \
		uint##bits##_t a = (uint##bits##_t)a_, b = (uint##bits##_t)b_;                  \
		uint16_t ax = alu_flags_ax(*rf);                                                \
		__asm__(ALU_SET #name sfx " %%cl, %[b], %[a]\n\t" ALU_GET                       \
			: [a] "+&r"(a), "+&a"(ax) : [b] "r"(b), "c"(count) : "cc");             \
		alu_flags_put(rf, ax);                                                          \
		return a;                                                                       \
	}
DOUBLE_SHIFT(shld, "w", 16)
DOUBLE_SHIFT(shld, "l", 32)
DOUBLE_SHIFT(shld, "q", 64)
DOUBLE_SHIFT(shrd, "w", 16)
DOUBLE_SHIFT(shrd, "l", 32)
DOUBLE_SHIFT(shrd, "q", 64)

static void iop_shift_double(struct icpu *c, const struct iop *op)
{
	static uint64_t (*const fns[2][3])(uint64_t *, uint64_t, uint64_t, uint8_t) = {
		{ shld16, shld32, shld64 }, { shrd16, shrd32, shrd64 },
	};
	uint64_t rf = c->s.rflags, b = icpu_get(c, op, 1);
	uint8_t count = (uint8_t)icpu_get(c, op, 2);
	struct idst d;
	uint64_t v = idst_read(c, op, &d);

	/* 16, 32 or 64 bits: NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage) */
	v = fns[op->x.op == X86_OP_SHRD][isize_log(op->x.opnd[0].size) - 1](&rf, v, b, count);
	idst_write(c, op, &d, v);
	c->s.rflags = rf;
}

iop_fn interp_bind_shift(const struct x86_insn *x)
{
	if (x->op == X86_OP_SHLD || x->op == X86_OP_SHRD)
		return iop_shift_double;
	if (x->op < X86_OP_ROL || x->op > X86_OP_SAR)
		return NULL;

	enum iform form = iform_of(x);

	if (rotate_keeps_of(x))
		return rotate_keeping_of[x->op - X86_OP_ROL][isize_log(x->opnd[0].size)];
	return form == IFORM_RR || form == IFORM_RI ?
		shift_handlers[x->op - X86_OP_ROL][isize_log(x->opnd[0].size)][form] : iop_shift_any;
}
