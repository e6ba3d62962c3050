/* SPDX-License-Identifier: Apache-2.0 */
/* group.c - which memory accesses of a fragment are checked together. Vcpu thread only.
 *
 * Addresses are followed symbolically: a register holds what some register held at some point, which
 * has a number, plus a constant. Accesses whose addresses differ by a constant are one group, whichever
 * registers they name and whatever lies between, jumps out of the fragment included. What vector accesses
 * of a group want of its alignment is one more check at its beginning: compilers align what they use. */
#include "cpu/bt/translate.h"

enum { GROUP_SPAN = 256, TABLE_SPAN = 2048, FAR = 1 << 28 };

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

/* An access whose index is known to be small: as one to all that it may reach. */
struct table_access {
	bool is_known;
	uint8_t index, scale;   /* registers */
	bool is_write;
	unsigned since;         /* as it was then */
	struct group_key key;
};

struct grouping {
	struct tr *t;
	struct value reg[16];
	uint64_t max[16];       /* the largest that registers can be */
	uint32_t n_ids;
	unsigned first_open;    /* groups before it are closed */
	unsigned since;         /* the first instruction after what closed them */
	uint32_t alone_ids;     /* before those of what registers are where the turn of a loop begins that stands alone */
	struct group_key key[BT_FRAG_MAX];
	struct table_access table[BT_FRAG_MAX];
};

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
		if (regs >> r & 1) {
			g->reg[r] = (struct value){ ++g->n_ids, 0 };
			g->max[r] = TR_ANY;
		}
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

	if (x->op == X86_OP_MOV && is_imm && d->kind == X86_O_REG && d->size == 4) {
		*out = (struct value){ 0, (uint32_t)x->imm };
		return true;
	}
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
static void group_close(struct grouping *g, const struct tr_insn *i)
{
	value_new(g, 0xffff);
	g->first_open = g->t->n_groups;
	g->since = (unsigned)(i - g->t->insn) + 1;
}

/* I has run. */
static void value_step(struct grouping *g, const struct tr_insn *i)
{
	unsigned d = i->x.opnd[0].reg & 15;
	int64_t word = g->t->word;
	uint64_t max;
	struct value v;

	switch (i->fx.kind) {
	case BT_COPY:
		max = tr_range_of_copy(g->max, &i->x);
		if (value_of_copy(g, &i->x, &v))
			g->reg[d] = v;
		else
			value_new(g, i->fx.writes | implicit_writes(i));
		if (i->x.opnd[0].kind == X86_O_REG && i->fx.writes >> d & 1)
			g->max[d] = max;
		break;
	case BT_LEA_RIP:
		g->max[d] = TR_ANY;
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
			group_close(g, i);
		break;
	case BT_NOTHING: case BT_CLEAR_RFLAG: case BT_X87: case BT_LOAD_CONTROL: case BT_JCC:
		break;
	default:
		group_close(g, i);
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

static void group_join(struct grouping *g, unsigned to, unsigned n, bool is_write)
{
	struct tr_group *group = &g->t->groups[to];

	if (n > group->last)
		group->last = (uint8_t)n;
	group->n++;
	group->is_write |= is_write;
	g->t->insn[n].group = group;
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
	group_join(g, to, n, a->is_write);
	t->insn[n].off = (int32_t)at;
}

/* --- tables ------------------------------------------------------------------------------------ */

/* The register that holds the value ID at the beginning, of the fragment or, with its ALONE_IDS, of that turn; X86_NO_REG:
 * it is another value, or a constant. */
static unsigned first_reg(uint32_t id, uint32_t alone_ids)
{
	return id - alone_ids - 1 < 16 ? id - alone_ids - 1 : X86_NO_REG;
}

/* What a register held at the beginning is in it now. As far as that tells: does what KEY spans lie in two
 * pages, as some of several tables that follow each other do? */
static bool is_crossing_now(const struct grouping *g, const struct group_key *key)
{
	uint64_t lo = (uint64_t)key->lo;
	unsigned base = first_reg(key->base, key->base > 16 ? g->alone_ids : 0);

	if (key->base && base > 15)
		return false;
	if (key->base)
		lo += g->t->b->i.s.gpr[base];
	return (lo & 0xfff) + (uint64_t)(key->hi - key->lo) > 4096;
}

/* The same, as it was when the fragment was made. It is bit N of BITS, which are one of tr.crossing. */
static bool was_crossing(const struct grouping *g, uint64_t *bits, unsigned n, const struct group_key *key)
{
	if (!g->t->track && is_crossing_now(g, key))
		*bits |= 1ull << n;
	return *bits >> n & 1;
}

/* Note what the access A of instruction N may reach. */
static void table_note(struct grouping *g, unsigned n, const struct tr_access *a)
{
	static const struct value none = { 0, 0 };
	struct table_access *to = &g->table[n];
	unsigned base = a->base, index = a->index, scale = a->scale;
	enum bt_kind kind = g->t->insn[n].fx.kind;

	if (a->align || (kind != BT_COPY && kind != BT_JMP_IND))
		return;
	if (index > 15 || g->max[index] > TABLE_SPAN) {
		if (base > 15 || g->max[base] > TABLE_SPAN || (index < 16 && scale))
			return;
		base = a->index, index = a->base, scale = 0;
	}
	uint64_t span = (g->max[index] << scale) + a->size;
	struct value v = base < 16 ? g->reg[base] : none;
	int64_t at = (int64_t)((uint64_t)v.off + (uint64_t)a->disp);

	if (!v.id && g->t->word == 4)
		at = (uint32_t)at;
	bool is_far = v.id ? at > FAR || at < -FAR || a->disp > FAR || a->disp < -FAR : !is_near(g->t, at);

	*to = (struct table_access){ .index = (uint8_t)index, .scale = (uint8_t)scale, .is_write = a->is_write,
				     .since = g->since,
				     .key = { .base = v.id, .lo = at, .hi = at + (int64_t)span } };
	to->is_known = span <= TABLE_SPAN && !is_far && (v.id || !was_crossing(g, &g->t->crossing[0], n, &to->key));
}

/* Does the table of A fit into group N, which is of tables or of one page? */
static bool table_fits(struct grouping *g, unsigned n, const struct table_access *a)
{
	const struct tr_group *to = &g->t->groups[n];
	struct group_key *k = &g->key[n], joint = *k;

	if (!to->n || to->first < a->since || !(to->is_ranged || to->is_abs) || k->base != a->key.base || k->index ||
	    (a->is_write && !to->is_write && !g->t->may_promote))
		return false;
	if (to->is_abs)
		return !((k->lo ^ a->key.lo) & ~0xfffll);
	joint.lo = a->key.lo < k->lo ? a->key.lo : k->lo;
	joint.hi = a->key.hi > k->hi ? a->key.hi : k->hi;
	if (joint.hi - joint.lo > TABLE_SPAN)
		return false;
	*k = joint;
	return true;
}

/* Instruction N, whose access is alone in its group or has none, joins another table access or waits for
 * one. */
static void table_add(struct grouping *g, unsigned n)
{
	const struct table_access *a = &g->table[n];
	struct tr_insn *i = &g->t->insn[n];
	unsigned own = i->group ? (unsigned)(i->group - g->t->groups) : g->t->n_groups, to = 0;

	if (!a->is_known || (i->group && (i->group->n > 1 || i->group->is_abs)))
		return;
	while (to < g->t->n_groups && (g->t->groups[to].first >= n || !table_fits(g, to, a)))
		to++;
	if (to < g->t->n_groups) {
		if (i->group)
			g->t->groups[own].n = 0;
	} else if (own < BT_FRAG_MAX) {
		to = own;
		g->t->n_groups += own == g->t->n_groups;
		g->t->groups[to] = (struct tr_group){ .first = (uint8_t)n, .is_abs = !a->key.base, .is_ranged = true };
		g->key[to] = a->key;
	} else {
		return;
	}
	group_join(g, to, n, a->is_write);
	g->t->groups[to].is_ranged = true;
	i->off = (int32_t)a->key.lo;
	i->index = a->index;
	i->scale = a->scale;
}

void tr_group_access(const struct tr *t, const struct tr_insn *i, struct tr_access *a)
{
	tr_access_of(t, i, a);
	if (i->index == X86_NO_REG)
		return;
	if (a->index != i->index)
		a->base = a->index;
	a->index = X86_NO_REG;
}

/* --- all of them ------------------------------------------------------------------------------- */

/* Of a loop's turns: can TO be checked where they begin? */
static void group_settle_ahead(const struct grouping *g, struct tr_group *to, const struct group_key *k)
{
	unsigned base = first_reg(k->base, 0), index = first_reg(k->index, 0);

	if (!g->t->n_turn || to->first >= g->t->alone || to->n < 2 || (to->is_double && to->is_ranged) || index == RSP ||
	    (k->base && base > 15) || (k->index && index > 15))
		return;
	to->is_ahead = true;
	to->is_double = to->may_double = false;
	to->first = UINT8_MAX;
	to->base = (uint8_t)base;
	to->index = (uint8_t)index;
	to->scale = k->scale;
	to->lo = to->is_abs ? 0 : (int32_t)k->lo;
}

/* Group N is complete: tell what is to be checked. */
static void group_settle(struct grouping *g, struct tr_group *to, const struct group_key *k)
{
	struct tr *t = g->t;
	bool is_crossing = to->is_ranged ? !to->is_abs && was_crossing(g, &t->crossing[1], (unsigned)(to - t->groups), k) : t->may_double;

	to->may_double = !to->is_abs && to->n > 2 && !tr_is_window(t);
	to->is_double = !to->is_abs && (to->is_ranged || to->may_double) && is_crossing && !tr_is_window(t);
	to->page = to->is_abs ? (uint64_t)k->lo & ~0xfffull : 0;
	to->span = (uint16_t)(k->hi - k->lo);
	to->align = to->is_abs ? 0 : k->align;
	to->residue = (uint8_t)(k->residue + k->lo) & to->align;
	group_settle_ahead(g, to, k);
}

/* The access of I, of a group that has been settled. */
static void group_settle_insn(struct grouping *g, struct tr_insn *i)
{
	const struct group_key *k = &g->key[i->group - g->t->groups];

	if (i->group->is_abs) {
		i->off &= 0xfff;
	} else if (i->group->n == 1 && !tr_is_window(g->t)) {
		i->group = NULL;
		i->index = X86_NO_REG;
		i->scale = 0;
	} else {
		i->off -= (int32_t)k->lo;
	}
}

void tr_make_groups(struct tr *t)
{
	uint64_t here = 1ull << (t->insn[0].va >> 6 & 63);
	struct grouping g;              /* not cleared as a whole: it is large, and what is made is mostly small */
	struct tr_access a;

	t->may_group = !(t->page->less[BT_LESS_GROUPS] & here) && !t->is_split;
	t->may_promote = !(t->page->less[BT_LESS_WRITES] & here);
	t->may_double = t->page->less[BT_LESS_PAGES] & here;
	t->may_range = t->may_group && !(t->page->less[BT_LESS_TABLES] & here);
	g.t = t;
	g.n_ids = g.alone_ids = 0;
	g.first_open = g.since = 0;
	value_new(&g, 0xffff);
	for (unsigned n = 0; n < t->n; n++) {
		g.table[n].is_known = false;
		if (n && n == t->alone) {       /* who comes here has not been through what is before */
			g.alone_ids = g.n_ids;
			group_close(&g, &t->insn[n - 1]);
		}
		if (tr_access_of(t, &t->insn[n], &a)) {
			group_add(&g, n, &a);
			if (t->may_range)
				table_note(&g, n, &a);
		}
		value_step(&g, &t->insn[n]);
	}
	for (unsigned n = 0; n < t->n; n++)
		table_add(&g, n);
	for (unsigned n = 0; n < t->n_groups; n++)
		group_settle(&g, &t->groups[n], &g.key[n]);
	for (unsigned n = 0; n < t->n; n++)
		if (t->insn[n].group)
			group_settle_insn(&g, &t->insn[n]);
}
