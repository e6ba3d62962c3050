/* SPDX-License-Identifier: Apache-2.0 */
/* Near control flow: JMP Jcc JCXZ LOOPcc CALL RET. Intel SDM vol. 2. */
#include "cpu/interp/mem.h"

void icpu_branch(struct icpu *c, uint64_t target, unsigned opsize)
{
	if (c->mode == X86_MODE_64) {
		unsigned unused = c->s.cr4 & X86_CR4_LA57 ? 7 : 16;

		if (opsize == 2)
			target &= 0xffff;
		if ((uint64_t)((int64_t)(target << unused) >> unused) != target)
			icpu_gp0(c);
	} else {
		target &= opsize == 2 ? 0xffff : 0xffffffff;
		if (target > c->s.seg[X86_CS].limit)
			icpu_gp0(c);
	}
	c->next_rip = target;
}

/* A target in 64-bit mode that is canonical with 48 bits needs no closer look. */
static inline void branch64(struct icpu *c, uint64_t target)
{
	if (__builtin_expect((uint64_t)((int64_t)(target << 16) >> 16) == target, 1))
		c->next_rip = target;
	else
		icpu_branch(c, target, 8);
}

static void jmp64_rel(struct icpu *c, const struct iop *op)
{
	branch64(c, c->next_rip + (uint64_t)op->x.imm);
}

static void iop_jmp(struct icpu *c, const struct iop *op)
{
	bool is_rel = op->x.opnd[0].kind == X86_O_REL;

	icpu_branch(c, is_rel ? c->next_rip + (uint64_t)op->x.imm : icpu_get(c, op, 0), op->x.opsize);
}

#define JCC(cc)                                                                 \
	static void jcc64_##cc(struct icpu *c, const struct iop *op)            \
	{                                                                       \
		if (icond(c->s.rflags, cc))                                     \
			branch64(c, c->next_rip + (uint64_t)op->x.imm);         \
	}
JCC(0) JCC(1) JCC(2) JCC(3) JCC(4) JCC(5) JCC(6) JCC(7)
JCC(8) JCC(9) JCC(10) JCC(11) JCC(12) JCC(13) JCC(14) JCC(15)
static const iop_fn jcc64[16] = {
	jcc64_0, jcc64_1, jcc64_2, jcc64_3, jcc64_4, jcc64_5, jcc64_6, jcc64_7,
	jcc64_8, jcc64_9, jcc64_10, jcc64_11, jcc64_12, jcc64_13, jcc64_14, jcc64_15,
};

static void branch_rel_if(struct icpu *c, const struct iop *op, bool taken)
{
	if (taken)
		icpu_branch(c, c->next_rip + (uint64_t)op->x.imm, op->x.opsize);
}

static void iop_jcc(struct icpu *c, const struct iop *op)
{
	branch_rel_if(c, op, icond(c->s.rflags, op->x.row->opcode & 15));
}

static void iop_jcxz(struct icpu *c, const struct iop *op)
{
	branch_rel_if(c, op, icpu_reg_get(c, X86_RCX, op->x.adsize, false) == 0);
}

static void iop_loop(struct icpu *c, const struct iop *op)
{
	uint64_t n = icpu_reg_get(c, X86_RCX, op->x.adsize, false) - 1;
	bool is_zf = c->s.rflags & X86_ZF;
	unsigned up = 64 - 8 * op->x.adsize;

	branch_rel_if(c, op, n << up && (op->x.op == X86_OP_LOOP || is_zf == (op->x.op == X86_OP_LOOPE)));
	icpu_reg_set(c, X86_RCX, op->x.adsize, false, n);
}

static void call64_rel(struct icpu *c, const struct iop *op)
{
	uint64_t sp = c->s.gpr[X86_RSP] - 8, from = c->next_rip;

	branch64(c, from + (uint64_t)op->x.imm);
	imem_write64(c, X86_SS, sp, from);
	c->s.gpr[X86_RSP] = sp;
}

static void iop_call(struct icpu *c, const struct iop *op)
{
	bool is_rel = op->x.opnd[0].kind == X86_O_REL;
	uint64_t from = c->next_rip, to = is_rel ? from + (uint64_t)op->x.imm : icpu_get(c, op, 0);

	icpu_branch(c, to, op->x.opsize);
	icpu_push(c, op->x.opsize, from);
}

static void ret64(struct icpu *c, const struct iop *op)
{
	uint64_t sp = c->s.gpr[X86_RSP];

	branch64(c, imem_read64(c, X86_SS, sp));
	c->s.gpr[X86_RSP] = sp + 8;
}

static void iop_ret(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opsize;
	unsigned width = c->mode == X86_MODE_64 ? 8 : c->s.seg[X86_SS].attr & X86_SEG_DB ? 4 : 2;
	uint64_t sp = icpu_reg_get(c, X86_RSP, width, false);

	icpu_branch(c, icpu_read(c, icpu_linear(c, X86_SS, sp, size, ICPU_READ), size), size);
	icpu_reg_set(c, X86_RSP, width, false, sp + size + (op->x.n_opnds ? (uint64_t)op->x.imm : 0));
}

iop_fn interp_bind_branch(const struct x86_insn *x)
{
	bool is_64 = x->opsize == 8, is_rel = x->opnd[0].kind == X86_O_REL;

	switch (x->op) {
	case X86_OP_JMP: return is_64 && is_rel ? jmp64_rel : iop_jmp;
	case X86_OP_JCC: return is_64 ? jcc64[x->row->opcode & 15] : iop_jcc;
	case X86_OP_JCXZ: return iop_jcxz;
	case X86_OP_LOOP:
	case X86_OP_LOOPE:
	case X86_OP_LOOPNE: return iop_loop;
	case X86_OP_CALL: return is_64 && is_rel ? call64_rel : iop_call;
	case X86_OP_RET: return is_64 && !x->n_opnds ? ret64 : iop_ret;
	default: return NULL;
	}
}
