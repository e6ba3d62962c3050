/* SPDX-License-Identifier: Apache-2.0 */
/* group.c - which memory accesses of a fragment are checked together. Vcpu thread only.
 *
 * Addresses are followed symbolically: a register holds what some register held at some point, which
 * has a number, plus a constant. Accesses whose addresses differ by a constant are one group, whichever
 * registers they name and whatever lies between, jumps out of the fragment included. What vector accesses
 * of a group want of its alignment is one more check at its beginning: compilers align what they use. */
#include "cpu/bt/translate.h"

enum { GROUP_SPAN = 256, FAR = 1 << 28 };

struct value {
	uint32_t id;            /* 0: a constant */
	int64_t off;
};

/* What tells groups from each other. */
struct group_key {
	uint32_t base, index;
	uint8_t scale;
	uint8_t align, residue; /* ALIGN bits of what LO and HI are relative to must be RESIDUE */
	int64_t lo, hi;
};

struct grouping {
	struct tr *t;
	struct value reg[16];
	uint32_t n_ids;
	unsigned first_open;    /* groups before it are closed */
	struct group_key key[BT_FRAG_MAX];
};

bool tr_has_high_byte(const struct x86_insn *x)
{
	for (unsigned n = 0; n < x->n_opnds; n++)
		if (x->opnd[n].kind == X86_O_REG && x->opnd[n].high)
			return true;
	return false;
}

/* --- accesses ---------------------------------------------------------------------------------- */

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

/* --- values ------------------------------------------------------------------------------------ */

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
		return 0;
	}
}

static void value_new(struct grouping *g, uint16_t regs)
{
	for (unsigned r = 0; r < 16; r++)
		if (regs >> r & 1)
			g->reg[r] = (struct value){ ++g->n_ids, 0 };
}

static struct value value_plus(struct value v, int64_t by)
{
	return (struct value){ v.id, (int64_t)((uint64_t)v.off + (uint64_t)by) };
}

/* What a copied instruction leaves in the register that it writes, if that is known. */
static bool value_of_copy(const struct grouping *g, const struct x86_insn *x, struct value *out)
{
	const struct x86_opnd *d = &x->opnd[0], *s = &x->opnd[1];
	bool is_imm = x->n_opnds > 1 && s->kind == X86_O_IMM;

	if (d->kind != X86_O_REG || d->size != g->t->word)
		return false;
	switch (x->op) {
	case X86_OP_MOV:
		*out = is_imm ? (struct value){ 0, x->imm } : g->reg[s->reg & 15];
		return is_imm || (s->kind == X86_O_REG && !s->high);
	case X86_OP_ADD:
	case X86_OP_SUB:
		*out = value_plus(g->reg[d->reg], x->op == X86_OP_ADD ? x->imm : -x->imm);
		return is_imm;
	case X86_OP_INC:
	case X86_OP_DEC:
		*out = value_plus(g->reg[d->reg], x->op == X86_OP_INC ? 1 : -1);
		return true;
	case X86_OP_LEA:
		if (x->base > 15 || x->index != X86_NO_REG || x->adsize != g->t->word)
			return false;
		*out = value_plus(g->reg[x->base], x->disp);
		return true;
	default:
		return false;
	}
}

/* Anything may have happened, to the tables of pages too. */
static void group_close(struct grouping *g)
{
	value_new(g, 0xffff);
	g->first_open = g->t->n_groups;
}

/* I has run. */
static void value_step(struct grouping *g, const struct tr_insn *i)
{
	unsigned d = i->x.opnd[0].reg & 15;
	int64_t word = g->t->word;
	struct value v;

	switch (i->fx.kind) {
	case BT_COPY:
		if (value_of_copy(g, &i->x, &v))
			g->reg[d] = v;
		else
			value_new(g, i->fx.writes | implicit_writes(i));
		break;
	case BT_LEA_RIP:
		g->reg[d] = (struct value){ 0, i->x.disp + (i->x.base == X86_REG_RIP ? (int64_t)(i->va + i->x.len) : 0) };
		break;
	case BT_PUSH:
		g->reg[RSP] = value_plus(g->reg[RSP], -word);
		break;
	case BT_POP:
		g->reg[RSP] = value_plus(g->reg[RSP], word);       /* unless it is popped itself */
		value_new(g, (uint16_t)(1u << d));
		break;
	case BT_LEAVE:
		g->reg[RSP] = value_plus(g->reg[RBP], word);
		value_new(g, 1 << RBP);
		break;
	case BT_DIV:
		value_new(g, 1 << RAX | 1 << RDX);
		break;
	case BT_SYSTEM:
		if (i->x.op == X86_OP_PUSHF)
			g->reg[RSP] = value_plus(g->reg[RSP], -8);
		else
			group_close(g);
		break;
	case BT_NOTHING: case BT_CLEAR_RFLAG: case BT_X87: case BT_LOAD_CONTROL: case BT_JCC:
		break;
	default:
		group_close(g);
		break;
	}
}

/* --- groups ------------------------------------------------------------------------------------ */

/* Can what KEY wants of the alignment be had in a group of K? */
static bool is_aligned_alike(const struct group_key *k, const struct group_key *key)
{
	return !((k->residue ^ key->residue) & k->align & key->align);
}

/* Does an access at KEY fit into group N? If so that may have grown. */
static bool group_takes(struct grouping *g, unsigned n, const struct group_key *key, bool is_write)
{
	struct tr_group *to = &g->t->groups[n];
	struct group_key *k = &g->key[n];

	if (k->base != key->base || k->index != key->index || k->scale != key->scale)
		return false;
	if (is_write && !to->is_write && !g->t->may_promote)
		return false;
	if (to->is_abs)
		return !((k->lo ^ key->lo) & ~0xfffll);
	int64_t lo = key->lo < k->lo ? key->lo : k->lo, hi = key->hi > k->hi ? key->hi : k->hi;

	if (hi - lo > GROUP_SPAN || !is_aligned_alike(k, key))
		return false;
	k->lo = lo;
	k->hi = hi;
	k->residue |= key->residue;
	k->align |= key->align;
	return true;
}

/* Can bt_site.lo tell AT? */
static bool is_near(const struct tr *t, int64_t at)
{
	int64_t by = (int64_t)((uint64_t)at - t->page->va);

	return by < INT32_MAX - 4096 && by > INT32_MIN + 4096;
}

/* The access A of instruction N joins a group or begins one. */
static void group_add(struct grouping *g, unsigned n, const struct tr_access *a)
{
	static const struct value none = { 0, 0 };
	struct value base = a->base < 16 ? g->reg[a->base] : none, index = a->index < 16 ? g->reg[a->index] : none;
	struct tr *t = g->t;
	int64_t at = (int64_t)((uint64_t)base.off + ((uint64_t)index.off << a->scale) + (uint64_t)a->disp);
	bool is_abs = !base.id && !index.id;

	if (is_abs && t->word == 4)
		at = (uint32_t)at;
	struct group_key key = { .base = base.id, .index = index.id, .scale = index.id ? a->scale : 0, .align = a->align,
				 .residue = (uint8_t)-at & a->align, .lo = at, .hi = at + a->size };
	unsigned to = g->first_open;

	bool is_far = at > FAR || at < -FAR || a->disp > FAR || a->disp < -FAR;

	if (is_abs ? (key.lo ^ (key.hi - 1)) & ~0xfffll || key.residue || !is_near(t, at) : is_far || !t->may_group)
		return;
	while (to < t->n_groups && !group_takes(g, to, &key, a->is_write))
		to++;
	if (to == t->n_groups) {
		t->groups[t->n_groups++] = (struct tr_group){ .first = (uint8_t)n, .is_abs = is_abs };
		g->key[to] = key;
	}
	t->groups[to].last = (uint8_t)n;
	t->groups[to].n++;
	t->groups[to].is_write |= a->is_write;
	t->insn[n].group = &t->groups[to];
	t->insn[n].off = (int32_t)(is_abs ? at & 0xfff : at);
}

void tr_make_groups(struct tr *t)
{
	uint64_t here = 1ull << (t->insn[0].va >> 6 & 63);
	struct grouping g = { .t = t };
	struct tr_access a;

	t->may_group = !(t->page->split & here);
	t->may_promote = !(t->page->shy & here);
	value_new(&g, 0xffff);
	for (unsigned n = 0; n < t->n; n++) {
		if (tr_access_of(t, &t->insn[n], &a))
			group_add(&g, n, &a);
		value_step(&g, &t->insn[n]);
	}
	for (unsigned n = 0; n < t->n; n++) {
		struct tr_insn *i = &t->insn[n];
		struct tr_group *to = i->group ? &t->groups[i->group - t->groups] : NULL;
		const struct group_key *k = to ? &g.key[to - t->groups] : NULL;

		if (!to)
			continue;
		if (to->is_abs) {
			to->page = (uint64_t)k->lo & ~0xfffull;
		} else if (to->n == 1) {
			i->group = NULL;
		} else {
			i->off -= (int32_t)k->lo;
			to->span = (uint16_t)(k->hi - k->lo);
			to->align = k->align;
			to->residue = (uint8_t)(k->residue + k->lo) & k->align;
		}
	}
}
