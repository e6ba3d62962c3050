/* SPDX-License-Identifier: Apache-2.0 */
/* group.c - which memory accesses of a fragment are checked together. Vcpu thread only. */
#include "cpu/bt/translate.h"

bool tr_has_high_byte(const struct x86_insn *x)
{
	for (unsigned n = 0; n < x->n_opnds; n++)
		if (x->opnd[n].kind == X86_O_REG && x->opnd[n].high)
			return true;
	return false;
}

/* --- groups ------------------------------------------------------------------------------------ */

enum { GROUP_SPAN = 256 };

struct tr_access {
	uint8_t base;
	bool is_write;
	int32_t disp;
	uint8_t size;
};

/* Can I's access be one of a group? */
static bool group_access(const struct tr *t, const struct tr_insn *i, struct tr_access *a)
{
	const struct x86_insn *x = &i->x;

	switch (i->fx.kind) {
	case BT_COPY:
		if (!i->fx.mem_size || x->base > 15 || x->index != X86_NO_REG || x->seg >= X86_FS || x->adsize != t->word ||
		    tr_has_high_byte(x) || (i->fx.mem_size >= 16 && (x->row->flags & X86_R_ALIGN16)))
			return false;
		*a = (struct tr_access){ x->base, i->fx.mem_is_write, (int32_t)x->disp, i->fx.mem_size };
		return true;
	case BT_PUSH:
		*a = (struct tr_access){ RSP, true, -(int32_t)t->word, (uint8_t)t->word };
		return x->opnd[0].kind != X86_O_MEM;
	case BT_CALL:
		*a = (struct tr_access){ RSP, true, -(int32_t)t->word, (uint8_t)t->word };
		return true;
	case BT_POP:
	case BT_RET:
		*a = (struct tr_access){ RSP, false, 0, (uint8_t)t->word };
		return true;
	case BT_SYSTEM:
		*a = (struct tr_access){ RSP, x->op == X86_OP_PUSHF, x->op == X86_OP_PUSHF ? -8 : 0, 8 };
		return x->op == X86_OP_PUSHF || x->op == X86_OP_POPF;
	default:
		return false;
	}
}

/* Registers that I writes without naming them, or more. */
static uint16_t implicit_writes(const struct tr_insn *i)
{
	switch (i->fx.kind == BT_COPY || i->fx.kind == BT_DIV ? i->x.op : X86_OP_INVALID) {
	case X86_OP_MUL: case X86_OP_IMUL: case X86_OP_DIV: case X86_OP_IDIV: case X86_OP_CBW: case X86_OP_CWD: case X86_OP_LAHF:
	case X86_OP_CMPXCHG: case X86_OP_CMPXCHG8B: case X86_OP_CMPXCHG16B:
		return 1 << RAX | 1 << RDX;
	case X86_OP_PCMPESTRI: case X86_OP_PCMPISTRI:
		return 1 << RCX;
	default:
		return i->fx.kind == BT_LEAVE ? 1 << RBP | 1 << RSP : 0;
	}
}

/* By what I changes BASE; false: not by a constant. */
static bool group_step(const struct tr *t, const struct tr_insn *i, unsigned base, int32_t *by)
{
	const struct x86_insn *x = &i->x;
	bool is_const = x->opnd[0].kind == X86_O_REG && x->opnd[0].size == t->word && x->opnd[1].kind == X86_O_IMM;
	int32_t imm = (int32_t)x->imm;

	*by = 0;
	if (base == RSP && (i->fx.kind == BT_PUSH || x->op == X86_OP_PUSHF))
		*by = -(int32_t)t->word;
	else if (base == RSP && ((i->fx.kind == BT_POP && x->opnd[0].reg != RSP) || x->op == X86_OP_POPF))
		*by = (int32_t)t->word;
	else if (!((i->fx.writes | implicit_writes(i)) >> base & 1))
		*by = 0;
	else if ((x->op == X86_OP_ADD || x->op == X86_OP_SUB) && is_const && imm > -0x10000 && imm < 0x10000)
		*by = x->op == X86_OP_ADD ? imm : -imm;
	else
		return false;
	return true;
}

/* The group that begins with instruction FIRST. False: it would be alone, or R10 and R11, which alone
 * survive a jump out of the fragment, are in use. */
static bool group_make(struct tr *t, unsigned first, struct tr_group *g)
{
	struct tr_access a;
	int32_t at = 0, by;
	unsigned n_members = 0;
	uint16_t used = 0, used_till_last = 0;
	uint8_t member[BT_FRAG_MAX];

	group_access(t, &t->insn[first], &a);
	*g = (struct tr_group){ .first = (uint8_t)first, .base = a.base, .is_write = a.is_write,
				.lo = a.disp, .hi = a.disp + a.size };
	for (unsigned n = first; n < t->n; n++) {
		struct tr_insn *i = &t->insn[n];

		if (i->fx.kind == BT_CALL_OUT)
			break;
		used |= i->fx.reads | i->fx.writes;
		if (group_access(t, i, &a) && a.base == g->base && (g->is_write || !a.is_write)) {
			int64_t from = (int64_t)at + a.disp, to = from + a.size;
			int64_t lo = from < g->lo ? from : g->lo, hi = to > g->hi ? to : g->hi;

			if (hi - lo <= GROUP_SPAN) {
				g->lo = (int32_t)lo;
				g->hi = (int32_t)hi;
				g->last = (uint8_t)n;
				i->off = (int32_t)from;
				member[n_members++] = (uint8_t)n;
				used_till_last = used;
			}
		}
		if (!group_step(t, i, g->base, &by) || at + by > 0x100000 || at + by < -0x100000)
			break;
		at += by;
	}
	if (n_members < 2 || !(~used_till_last & BOUNDARY_MEM))
		return false;
	g->host = ~used_till_last >> R11 & 1 ? R11 : R10;
	for (unsigned n = 0; n < n_members; n++) {
		t->insn[member[n]].group = g;
		t->insn[member[n]].off -= g->lo;
	}
	return true;
}

void tr_make_groups(struct tr *t)
{
	struct tr_access a;

	if (t->page->split >> (t->insn[0].va >> 6 & 63) & 1)
		return;
	for (unsigned n = 0; n < t->n; n++)
		if (group_access(t, &t->insn[n], &a) && group_make(t, n, &t->groups[t->n_groups]))
			n = t->groups[t->n_groups++].last;
}
