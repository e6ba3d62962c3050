/* SPDX-License-Identifier: Apache-2.0 */
/* Data movement: MOV MOVZX MOVSX MOVSXD CMOVcc LEA PUSH POP PUSHA POPA ENTER LEAVE XLAT MOVBE BSWAP
 * LAHF SAHF MOVNTI. Intel SDM vol. 2. Forms with segment, control and debug registers are the
 * system files'. */
#include "cpu/interp/mem.h"
#include "util/checked.h"

#define MOV_FORMS(bits)                                                                         \
	static void mov##bits##_rr(struct icpu *c, const struct iop *op)                        \
	{                                                                                       \
		ireg_set##bits(c, &op->x.opnd[0], ireg_get##bits(c, &op->x.opnd[1]));           \
	}                                                                                       \
	static void mov##bits##_ri(struct icpu *c, const struct iop *op)                        \
	{                                                                                       \
		ireg_set##bits(c, &op->x.opnd[0], (uint##bits##_t)op->x.imm);                   \
	}                                                                                       \
	static void mov##bits##_rm(struct icpu *c, const struct iop *op)                        \
	{                                                                                       \
		ireg_set##bits(c, &op->x.opnd[0], imem_read##bits(c, op->x.seg, imem_la(c, op))); \
	}                                                                                       \
	static void mov##bits##_mr(struct icpu *c, const struct iop *op)                        \
	{                                                                                       \
		imem_write##bits(c, op->x.seg, imem_la(c, op), ireg_get##bits(c, &op->x.opnd[1])); \
	}                                                                                       \
	static void mov##bits##_mi(struct icpu *c, const struct iop *op)                        \
	{                                                                                       \
		imem_write##bits(c, op->x.seg, imem_la(c, op), (uint##bits##_t)op->x.imm);      \
	}
MOV_FORMS(8)
MOV_FORMS(16)
MOV_FORMS(32)
MOV_FORMS(64)

#define MOV_ROW(bits) { mov##bits##_rr, mov##bits##_ri, mov##bits##_rm, mov##bits##_mr, mov##bits##_mi }
static const iop_fn mov_handlers[4][5] = { MOV_ROW(8), MOV_ROW(16), MOV_ROW(32), MOV_ROW(64) };

static void iop_mov_any(struct icpu *c, const struct iop *op)
{
	icpu_set(c, op, 0, icpu_get(c, op, 1));
}

/* MOVZX, MOVSX, MOVSXD to 32- and 64-bit registers from FROM bits. */
#define EXTEND_FORMS(name, type, from, to)                                                              \
	static void name##from##_##to##_rr(struct icpu *c, const struct iop *op)                        \
	{                                                                                               \
		ireg_set##to(c, &op->x.opnd[0], (uint##to##_t)(type##from##_t)ireg_get##from(c, &op->x.opnd[1])); \
	}                                                                                               \
	static void name##from##_##to##_rm(struct icpu *c, const struct iop *op)                        \
	{                                                                                               \
		ireg_set##to(c, &op->x.opnd[0],                                                         \
			     (uint##to##_t)(type##from##_t)imem_read##from(c, op->x.seg, imem_la(c, op))); \
	}
#define EXTEND_ROW(name, from) \
	{ { name##from##_32_rr, name##from##_32_rm }, { name##from##_64_rr, name##from##_64_rm } }
EXTEND_FORMS(movzx, uint, 8, 32)
EXTEND_FORMS(movzx, uint, 16, 32)
EXTEND_FORMS(movzx, uint, 8, 64)
EXTEND_FORMS(movzx, uint, 16, 64)
EXTEND_FORMS(movsx, int, 8, 32)
EXTEND_FORMS(movsx, int, 16, 32)
EXTEND_FORMS(movsx, int, 32, 32)
EXTEND_FORMS(movsx, int, 8, 64)
EXTEND_FORMS(movsx, int, 16, 64)
EXTEND_FORMS(movsx, int, 32, 64)

static const iop_fn movzx_handlers[2][2][2] = { EXTEND_ROW(movzx, 8), EXTEND_ROW(movzx, 16) };
static const iop_fn movsx_handlers[3][2][2] = { EXTEND_ROW(movsx, 8), EXTEND_ROW(movsx, 16), EXTEND_ROW(movsx, 32) };

static void iop_extend_any(struct icpu *c, const struct iop *op)
{
	unsigned up = 64 - 8 * op->x.opnd[1].size;
	uint64_t v = icpu_get(c, op, 1);

	if (op->x.op != X86_OP_MOVZX)
		v = (uint64_t)((int64_t)(v << up) >> up);
	icpu_set(c, op, 0, v);
}

static iop_fn mov_bind_extend(const struct x86_insn *x)
{
	enum iform form = iform_of(x);
	unsigned to = x->opnd[0].size, from = isize_log(x->opnd[1].size);
	bool is_zx = x->op == X86_OP_MOVZX;

	if ((form != IFORM_RR && form != IFORM_RM) || to < 4 ||
	    from >= (is_zx ? ARRAY_LEN(movzx_handlers) : ARRAY_LEN(movsx_handlers)))
		return iop_extend_any;
	return is_zx ? movzx_handlers[from][to == 8][form == IFORM_RM] : movsx_handlers[from][to == 8][form == IFORM_RM];
}

/* The source is read even when the condition is false (and may fault). */
static void iop_cmov(struct icpu *c, const struct iop *op)
{
	uint64_t v = icpu_get(c, op, 1);

	if (!icond(c->s.rflags, op->x.row->opcode & 15))
		v = icpu_get(c, op, 0);
	icpu_set(c, op, 0, v);
}

static void lea64(struct icpu *c, const struct iop *op)
{
	c->s.gpr[op->x.opnd[0].reg] = icpu_word_at(c, op->base_off) +
		(icpu_word_at(c, op->index_off) << op->scale) + (uint64_t)op->disp;
}

static void iop_lea_any(struct icpu *c, const struct iop *op)
{
	icpu_set(c, op, 0, icpu_ea_offset(c, op));
}

/* --- stack -------------------------------------------------------------------------------- */

static void push64_r(struct icpu *c, const struct iop *op)
{
	uint64_t sp = c->s.gpr[X86_RSP] - 8;

	imem_write64(c, X86_SS, sp, c->s.gpr[op->x.opnd[0].reg]);
	c->s.gpr[X86_RSP] = sp;
}

static void pop64_r(struct icpu *c, const struct iop *op)
{
	uint64_t v = imem_read64(c, X86_SS, c->s.gpr[X86_RSP]);

	c->s.gpr[X86_RSP] += 8;
	c->s.gpr[op->x.opnd[0].reg] = v;
}

static void iop_push_any(struct icpu *c, const struct iop *op)
{
	icpu_push(c, op->x.opsize, icpu_get(c, op, 0));
}

/* POP computes a memory destination with the incremented RSP, and undoes that on a fault. */
static void iop_pop_any(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *o = &op->x.opnd[0];
	uint64_t before = c->s.gpr[X86_RSP], v = icpu_pop(c, op->x.opsize), after = c->s.gpr[X86_RSP];

	if (o->kind == X86_O_REG) {
		icpu_reg_set(c, o->reg, o->size, false, v);
		return;
	}
	uint64_t off = icpu_ea_offset(c, op);

	c->s.gpr[X86_RSP] = before;
	icpu_write(c, icpu_linear(c, op->x.seg, off, o->size, ICPU_WRITE), o->size, v);
	c->s.gpr[X86_RSP] = after;
}

static void iop_pusha(struct icpu *c, const struct iop *op)
{
	uint64_t before = c->s.gpr[X86_RSP];
	unsigned size = op->x.opsize;

	for (unsigned r = 0; r < 8; r++) {
		/* A fault part way restarts the instruction: RSP moves at the end only. */
		uint64_t mask = c->s.seg[X86_SS].attr & X86_SEG_DB ? 0xffffffff : 0xffff;
		uint64_t sp = (before - (r + 1) * size) & mask;

		icpu_write(c, icpu_linear(c, X86_SS, sp, size, ICPU_WRITE), size,
			   r == X86_RSP ? before : c->s.gpr[r]);
	}
	icpu_reg_set(c, X86_RSP, c->s.seg[X86_SS].attr & X86_SEG_DB ? 4 : 2, false, before - 8 * size);
}

static void iop_popa(struct icpu *c, const struct iop *op)
{
	uint64_t before = c->s.gpr[X86_RSP], v[8];
	unsigned size = op->x.opsize, width = c->s.seg[X86_SS].attr & X86_SEG_DB ? 4 : 2;

	for (unsigned i = 0; i < 8; i++) {
		uint64_t sp = (before + i * size) & (width == 4 ? 0xffffffff : 0xffff);

		v[7 - i] = icpu_read(c, icpu_linear(c, X86_SS, sp, size, ICPU_READ), size);
	}
	for (unsigned r = 0; r < 8; r++)
		if (r != X86_RSP)
			icpu_reg_set(c, r, size, false, v[r]);
	icpu_reg_set(c, X86_RSP, width, false, before + 8 * size);
}

static unsigned stack_width(const struct icpu *c)
{
	return c->mode == X86_MODE_64 ? 8 : c->s.seg[X86_SS].attr & X86_SEG_DB ? 4 : 2;
}

static void iop_leave(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opsize, width = stack_width(c);
	uint64_t sp = icpu_reg_get(c, X86_RBP, width, false);
	uint64_t v = icpu_read(c, icpu_linear(c, X86_SS, sp, size, ICPU_READ), size);

	icpu_reg_set(c, X86_RSP, width, false, sp + size);
	icpu_reg_set(c, X86_RBP, size, false, v);
}

static void iop_enter(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opsize, width = stack_width(c), level = op->x.imm2 & 31;
	uint64_t before = c->s.gpr[X86_RSP], bp = c->s.gpr[X86_RBP];
	uint64_t mask = width == 8 ? ~0ull : width == 4 ? 0xffffffff : 0xffff;
	uint64_t sp = (before - size) & mask, frame = sp;

	icpu_write(c, icpu_linear(c, X86_SS, sp, size, ICPU_WRITE), size, bp);
	for (unsigned i = 1; i < level; i++) {
		uint64_t from = (bp - i * size) & mask;
		uint64_t v = icpu_read(c, icpu_linear(c, X86_SS, from, size, ICPU_READ), size);

		sp = (sp - size) & mask;
		icpu_write(c, icpu_linear(c, X86_SS, sp, size, ICPU_WRITE), size, v);
	}
	if (level) {
		sp = (sp - size) & mask;
		icpu_write(c, icpu_linear(c, X86_SS, sp, size, ICPU_WRITE), size, frame);
	}
	sp = (sp - (uint64_t)op->x.imm) & mask;
	icpu_probe(c, icpu_linear(c, X86_SS, sp, size, ICPU_WRITE), size, ICPU_WRITE);
	icpu_reg_set(c, X86_RBP, size, false, frame);
	icpu_reg_set(c, X86_RSP, width, false, sp);
}

/* --- small ones ------------------------------------------------------------------------------ */

static void iop_salc(struct icpu *c, const struct iop *op)
{
	icpu_reg_set(c, X86_RAX, 1, false, c->s.rflags & X86_CF ? 0xff : 0);
}

static void iop_xlat(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.adsize;
	uint64_t off = c->s.gpr[X86_RBX] + (c->s.gpr[X86_RAX] & 0xff);

	off = size == 8 ? off : size == 4 ? (uint32_t)off : (uint16_t)off;
	icpu_reg_set(c, X86_RAX, 1, false, icpu_read8(c, icpu_linear(c, op->x.seg, off, 1, ICPU_READ)));
}

static uint64_t swap_bytes(uint64_t v, unsigned size)
{
	return size == 8 ? __builtin_bswap64(v) : size == 4 ? __builtin_bswap32((uint32_t)v) :
	       __builtin_bswap16((uint16_t)v);
}

/* BSWAP of a 16-bit register is undefined; processors clear it. */
static void iop_bswap(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opnd[0].size;

	icpu_set(c, op, 0, size == 2 ? 0 : swap_bytes(icpu_get(c, op, 0), size));
}

static void iop_movbe(struct icpu *c, const struct iop *op)
{
	icpu_set(c, op, 0, swap_bytes(icpu_get(c, op, 1), op->x.opnd[0].size));
}

static void iop_lahf(struct icpu *c, const struct iop *op)
{
	icpu_reg_set(c, X86_RAX, 1, true, (c->s.rflags & 0xd5) | X86_FLAGS_FIXED);
}

static void iop_sahf(struct icpu *c, const struct iop *op)
{
	c->s.rflags = (c->s.rflags & ~0xd5ull) | (icpu_reg_get(c, X86_RAX, 1, true) & 0xd5);
}

static bool is_plain(const struct x86_opnd *o)
{
	return o->kind == X86_O_REG || o->kind == X86_O_MEM || o->kind == X86_O_IMM || o->kind == X86_O_MOFFS;
}

static iop_fn mov_bind(const struct x86_insn *x)
{
	if (!is_plain(&x->opnd[0]) || !is_plain(&x->opnd[1]))
		return NULL;

	enum iform form = iform_of(x);

	return form >= IFORM_RR && form <= IFORM_MI ? mov_handlers[isize_log(x->opnd[0].size)][form] : iop_mov_any;
}

iop_fn interp_bind_mov(const struct x86_insn *x)
{
	bool is_reg8 = x->opnd[0].kind == X86_O_REG && x->opsize == 8;

	switch (x->op) {
	case X86_OP_MOV:
	case X86_OP_MOVNTI: return mov_bind(x);
	case X86_OP_MOVZX:
	case X86_OP_MOVSX:
	case X86_OP_MOVSXD: return mov_bind_extend(x);
	case X86_OP_CMOVCC: return iop_cmov;
	case X86_OP_LEA: return x->adsize == 8 && x->opnd[0].size == 8 ? lea64 : iop_lea_any;
	case X86_OP_PUSH: return is_reg8 ? push64_r : is_plain(&x->opnd[0]) ? iop_push_any : NULL;
	case X86_OP_POP: return is_reg8 ? pop64_r : is_plain(&x->opnd[0]) ? iop_pop_any : NULL;
	case X86_OP_PUSHA: return iop_pusha;
	case X86_OP_POPA: return iop_popa;
	case X86_OP_ENTER: return iop_enter;
	case X86_OP_LEAVE: return iop_leave;
	case X86_OP_XLAT: return iop_xlat;
	case X86_OP_SALC: return iop_salc;
	case X86_OP_BSWAP: return iop_bswap;
	case X86_OP_MOVBE: return iop_movbe;
	case X86_OP_LAHF: return iop_lahf;
	case X86_OP_SAHF: return iop_sahf;
	default: return NULL;
	}
}
