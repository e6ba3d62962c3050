/* SPDX-License-Identifier: Apache-2.0 */
/* Integer arithmetic and logic: ADD OR ADC SBB AND SUB XOR CMP TEST INC DEC NEG NOT, plain and
 * LOCKed. Intel SDM vol. 2. The common operand forms have handlers of their own, made by macros;
 * the rest goes through iop_alu_any() and iop_alu_lock(). */
#include "cpu/interp/alu.h"
#include "cpu/interp/mem.h"

/* --- forms that write their destination ---------------------------------------------------- */

#define ALU_RR(name, bits)                                                                      \
	static void name##bits##_rr(struct icpu *c, const struct iop *op)                       \
	{                                                                                       \
		const struct x86_opnd *o = op->x.opnd;                                          \
		ireg_set##bits(c, &o[0], alu_##name##bits(&c->s.rflags, ireg_get##bits(c, &o[0]), \
							  ireg_get##bits(c, &o[1])));           \
	}
#define ALU_RI(name, bits)                                                                      \
	static void name##bits##_ri(struct icpu *c, const struct iop *op)                       \
	{                                                                                       \
		const struct x86_opnd *o = op->x.opnd;                                          \
		ireg_set##bits(c, &o[0], alu_##name##bits(&c->s.rflags, ireg_get##bits(c, &o[0]), \
							  (uint##bits##_t)op->x.imm));          \
	}
#define ALU_RM(name, bits)                                                                      \
	static void name##bits##_rm(struct icpu *c, const struct iop *op)                       \
	{                                                                                       \
		const struct x86_opnd *o = op->x.opnd;                                          \
		uint##bits##_t b = imem_read##bits(c, op->x.seg, imem_la(c, op));               \
		ireg_set##bits(c, &o[0], alu_##name##bits(&c->s.rflags, ireg_get##bits(c, &o[0]), b)); \
	}
/* Flags are committed after the store, which may fault only in imem_rmw(). */
#define ALU_MX(name, bits, form, source)                                                        \
	static void name##bits##form(struct icpu *c, const struct iop *op)                      \
	{                                                                                       \
		uint64_t la = imem_la(c, op);                                                   \
		uint8_t *p = imem_rmw(c, op->x.seg, la, bits / 8);                              \
		uint##bits##_t v;                                                               \
		if (__builtin_expect(p != NULL, 1)) {                                           \
			memcpy(&v, p, sizeof(v));                                               \
			v = alu_##name##bits(&c->s.rflags, v, source);                          \
			memcpy(p, &v, sizeof(v));                                               \
			icpu_stored(c, p, sizeof(v));                                           \
			return;                                                                 \
		}                                                                               \
		v = (uint##bits##_t)icpu_read(c, la, bits / 8);                                 \
		icpu_write(c, la, bits / 8, alu_##name##bits(&c->s.rflags, v, source));         \
	}
#define ALU_MR(name, bits) ALU_MX(name, bits, _mr, ireg_get##bits(c, &op->x.opnd[1]))
#define ALU_MI(name, bits) ALU_MX(name, bits, _mi, (uint##bits##_t)op->x.imm)
#define ALU_M(name, bits) ALU_MX(name, bits, _m, 0)
#define ALU_R(name, bits)                                                                       \
	static void name##bits##_r(struct icpu *c, const struct iop *op)                        \
	{                                                                                       \
		const struct x86_opnd *o = op->x.opnd;                                          \
		ireg_set##bits(c, &o[0], alu_##name##bits(&c->s.rflags, ireg_get##bits(c, &o[0]), 0)); \
	}

/* --- forms that only compare ----------------------------------------------------------------- */

#define CMP_X(name, bits, form, left, right)                                    \
	static void name##bits##form(struct icpu *c, const struct iop *op)      \
	{                                                                       \
		uint##bits##_t a = left, b = right;                             \
		alu_##name##bits(&c->s.rflags, a, b);                           \
	}
#define CMP_REG(bits, n) ireg_get##bits(c, &op->x.opnd[n])
#define CMP_MEM(bits) imem_read##bits(c, op->x.seg, imem_la(c, op))
#define CMP_IMM(bits) (uint##bits##_t)op->x.imm
#define CMP_FORMS(name, bits)                                                   \
	CMP_X(name, bits, _rr, CMP_REG(bits, 0), CMP_REG(bits, 1))              \
	CMP_X(name, bits, _ri, CMP_REG(bits, 0), CMP_IMM(bits))                 \
	CMP_X(name, bits, _rm, CMP_REG(bits, 0), CMP_MEM(bits))                 \
	CMP_X(name, bits, _mr, CMP_MEM(bits), CMP_REG(bits, 1))                 \
	CMP_X(name, bits, _mi, CMP_MEM(bits), CMP_IMM(bits))

#define ALU_FORMS(name, bits) \
	ALU_RR(name, bits) ALU_RI(name, bits) ALU_RM(name, bits) ALU_MR(name, bits) ALU_MI(name, bits)
#define UNARY_FORMS(name, bits) ALU_R(name, bits) ALU_M(name, bits)
#define EACH_SIZE(forms, name) forms(name, 8) forms(name, 16) forms(name, 32) forms(name, 64)

EACH_SIZE(ALU_FORMS, add)
EACH_SIZE(ALU_FORMS, or)
EACH_SIZE(ALU_FORMS, adc)
EACH_SIZE(ALU_FORMS, sbb)
EACH_SIZE(ALU_FORMS, and)
EACH_SIZE(ALU_FORMS, sub)
EACH_SIZE(ALU_FORMS, xor)
EACH_SIZE(CMP_FORMS, cmp)
EACH_SIZE(CMP_FORMS, test)
EACH_SIZE(UNARY_FORMS, inc)
EACH_SIZE(UNARY_FORMS, dec)
EACH_SIZE(UNARY_FORMS, neg)
EACH_SIZE(UNARY_FORMS, not)

#define ROW2(name, bits) \
	{ name##bits##_rr, name##bits##_ri, name##bits##_rm, name##bits##_mr, name##bits##_mi, NULL, NULL }
#define ROW1(name, bits) { NULL, NULL, NULL, NULL, NULL, name##bits##_m, name##bits##_r }
#define ROWS(row, name) { row(name, 8), row(name, 16), row(name, 32), row(name, 64) }

/* By operation, log2 of the size, form. The order is that of ops.def. */
static const iop_fn alu_handlers[][4][IFORM_N] = {
	ROWS(ROW2, add), ROWS(ROW2, or), ROWS(ROW2, adc), ROWS(ROW2, sbb), ROWS(ROW2, and),
	ROWS(ROW2, sub), ROWS(ROW2, xor), ROWS(ROW2, cmp), ROWS(ROW2, test),
	ROWS(ROW1, inc), ROWS(ROW1, dec), ROWS(ROW1, neg), ROWS(ROW1, not),
};
static const alu_fn alu_any[] = {
	alu_add, alu_or, alu_adc, alu_sbb, alu_and, alu_sub, alu_xor, alu_cmp, alu_test,
	alu_inc, alu_dec, alu_neg, alu_not,
};
_Static_assert(X86_OP_NOT - X86_OP_ADD + 1 == sizeof(alu_any) / sizeof(alu_any[0]), "order of ops.def");
_Static_assert(sizeof(alu_handlers) / sizeof(alu_handlers[0]) == sizeof(alu_any) / sizeof(alu_any[0]), "tables");

/* Any form, any address size. */
static void iop_alu_any(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opnd[0].size;
	uint64_t rf = c->s.rflags, b = 0;
	alu_fn fn = alu_any[op->x.op - X86_OP_ADD];
	struct idst d;

	if (op->x.op == X86_OP_CMP || op->x.op == X86_OP_TEST) {
		uint64_t a = icpu_get(c, op, 0);

		fn(&c->s.rflags, a, icpu_get(c, op, 1), size);
		return;
	}
	if (op->x.n_opnds > 1)
		b = icpu_get(c, op, 1);
	uint64_t v = fn(&rf, idst_read(c, op, &d), b, size);

	idst_write(c, op, &d, v);
	c->s.rflags = rf;
}

struct alu_lock {
	alu_fn fn;
	unsigned size;
	uint64_t b, flags_in, flags_out;
};

static uint64_t alu_lock_step(uint64_t old, void *arg)
{
	struct alu_lock *l = arg;

	l->flags_out = l->flags_in;
	return l->fn(&l->flags_out, old, l->b, l->size);
}

static void iop_alu_lock(struct icpu *c, const struct iop *op)
{
	struct alu_lock l = {
		.fn = alu_any[op->x.op - X86_OP_ADD],
		.size = op->x.opnd[0].size,
		.flags_in = c->s.rflags,
	};

	if (op->x.n_opnds > 1)
		l.b = icpu_get(c, op, 1);
	iatomic_update(c, icpu_ea(c, op, l.size, ICPU_WRITE), l.size, alu_lock_step, &l);
	c->s.rflags = l.flags_out;
}

iop_fn interp_bind_alu(const struct x86_insn *x)
{
	if (x->op < X86_OP_ADD || x->op > X86_OP_NOT)
		return NULL;
	if (x->prefixes & X86_P_LOCK)
		return iop_alu_lock;

	enum iform form = iform_of(x);
	iop_fn fn = form == IFORM_OTHER ? NULL : alu_handlers[x->op - X86_OP_ADD][isize_log(x->opnd[0].size)][form];

	return fn ? fn : iop_alu_any;
}
