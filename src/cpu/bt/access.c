/* SPDX-License-Identifier: Apache-2.0 */
/* access.c - what an instruction does to memory, as far as it can be checked together with others. Vcpu
 * thread only. */
#include "cpu/bt/translate.h"

bool tr_has_high_byte(const struct x86_insn *x)
{
	for (unsigned n = 0; n < x->n_opnds; n++)
		if (x->opnd[n].kind == X86_O_REG && x->opnd[n].high)
			return true;
	return false;
}

/* The memory operand of I. Not those of FS, GS and of addresses that are shorter than usual. */
static bool operand_access(const struct tr *t, const struct tr_insn *i, struct tr_access *a, unsigned size, bool is_write)
{
	const struct x86_insn *x = &i->x;
	bool is_rip = x->base == X86_REG_RIP;

	if (x->seg >= X86_FS || x->adsize != t->word || (x->base > 15 && x->base != X86_NO_REG && !is_rip) || x->vsib)
		return false;
	*a = (struct tr_access){ .base = is_rip ? X86_NO_REG : x->base, .index = x->index, .scale = x->scale,
				 .is_write = is_write, .size = (uint8_t)size,
				 .disp = x->disp + (is_rip ? (int64_t)(i->va + x->len) : 0) };
	return true;
}

/* A masked move accesses only what the mask selects, perhaps nothing: looking its page up may fault. */
static bool is_masked(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_MASKMOVPS: case X86_OP_MASKMOVPD: case X86_OP_PMASKMOVD: case X86_OP_PMASKMOVQ:
		return true;
	default:
		return false;
	}
}

bool tr_access_of(const struct tr *t, const struct tr_insn *i, struct tr_access *a)
{
	const struct x86_insn *x = &i->x;
	bool is_mem = x->opnd[0].kind == X86_O_MEM;

	*a = (struct tr_access){ .base = RSP, .index = X86_NO_REG, .size = (uint8_t)t->word };
	switch (i->fx.kind) {
	case BT_COPY: case BT_X87:
		if (!i->fx.mem_size || tr_has_high_byte(x) || x->op == X86_OP_CMPXCHG16B || is_masked(x) ||
		    !operand_access(t, i, a, i->fx.mem_size, i->fx.mem_is_write))
			return false;
		if (i->fx.mem_size >= 16 && x->row->flags & X86_R_ALIGN16)
			a->align = (uint8_t)(i->fx.mem_size - 1);
		return true;
	case BT_JMP_IND:
		return is_mem && operand_access(t, i, a, t->word, false);
	case BT_CALL_IND:
		if (is_mem)
			return operand_access(t, i, a, t->word, false);
		a->disp = -(int64_t)t->word;
		return a->is_write = true;
	case BT_PUSH:
	case BT_CALL:
		a->disp = -(int64_t)t->word;
		a->is_write = true;
		return i->fx.kind == BT_CALL || !is_mem;
	case BT_LEAVE:
		a->base = RBP;
		return true;
	case BT_POP:
	case BT_RET:
		return true;
	case BT_SYSTEM:
		a->is_write = x->op == X86_OP_PUSHF;
		a->disp = a->is_write ? -8 : 0;
		return a->is_write || x->op == X86_OP_POPF;
	default:
		return false;
	}
}
