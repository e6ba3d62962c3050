/* SPDX-License-Identifier: Apache-2.0 */
/* range.c - how large the values in registers can be, as far as the instructions before tell: a byte
 * that has been widened, what AND has left over, what a shift has brought down. An access that such a
 * register indexes stays within a table, which can be checked as a whole. Vcpu thread only. */
#include "cpu/bt/translate.h"

static uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* The largest value of operand O as it is read: a register, or what memory of its size can hold. */
static uint64_t range_of_source(const uint64_t *max, const struct x86_opnd *o)
{
	uint64_t all = o->size >= 8 ? TR_ANY : (1ull << 8 * o->size) - 1;

	/* A narrow part can be larger than it was with the rest of the register, but not than all of it. */
	return o->kind == X86_O_REG && !o->high ? min64(max[o->reg], all) : all;
}

/* Of the sum of what is at most A, B and C. */
static uint64_t range_sum(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t small = INT32_MAX;

	return a <= small && b <= small && c <= small && a + b + c <= small ? a + b + c : TR_ANY;
}

static uint64_t range_of_lea(const uint64_t *max, const struct x86_insn *x)
{
	uint64_t base = x->base == X86_NO_REG ? 0 : x->base < 16 ? max[x->base] : TR_ANY;
	uint64_t index = x->index == X86_NO_REG ? 0 : max[x->index];

	return index > INT32_MAX >> 3 ? TR_ANY : range_sum(base, index << x->scale, (uint64_t)x->disp);
}

uint64_t tr_range_of_copy(const uint64_t *max, const struct x86_insn *x)
{
	const struct x86_opnd *d = &x->opnd[0], *s = &x->opnd[1];
	bool is_imm = x->n_opnds > 1 && s->kind == X86_O_IMM;

	if (d->kind != X86_O_REG || d->size < 4)
		return TR_ANY;
	uint64_t all = d->size == 4 ? UINT32_MAX : TR_ANY, was = min64(max[d->reg], all), imm = (uint64_t)x->imm & all;

	switch (x->op) {
	case X86_OP_MOV:
		return is_imm ? imm : s->kind == X86_O_REG || s->kind == X86_O_MEM ? range_of_source(max, s) : TR_ANY;
	case X86_OP_MOVZX:
		return range_of_source(max, s);
	case X86_OP_MOVSXD:
		return s->kind == X86_O_REG && max[s->reg] <= INT32_MAX ? max[s->reg] : TR_ANY;
	case X86_OP_AND:
		return min64(was, is_imm ? imm : range_of_source(max, s));
	case X86_OP_SHR:
		return is_imm ? was >> (imm & (d->size == 8 ? 63 : 31)) : was;
	case X86_OP_SHL:
		return is_imm && imm < 16 && was <= INT32_MAX >> 16 ? was << imm : TR_ANY;
	case X86_OP_ADD:
		return range_sum(was, is_imm ? imm : range_of_source(max, s), 0);
	case X86_OP_LEA:
		return range_of_lea(max, x);
	default:
		return TR_ANY;
	}
}
