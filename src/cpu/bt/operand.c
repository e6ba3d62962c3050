/* SPDX-License-Identifier: Apache-2.0 */
/* operand.c - memory operands: address, translation to the host's, and the rewritten instruction.
 * Vcpu thread only. */
#include "cpu/bt/translate.h"

static unsigned or_none(unsigned reg) { return reg == X86_NO_REG ? EMIT_NONE : reg; }

/* S1 = the offset of I's memory operand in its segment. */
void tr_offset(struct tr *t, const struct tr_insn *i, unsigned s1)
{
	const struct x86_insn *x = &i->x;
	bool is_64 = x->adsize == 8;

	if (x->opnd[0].kind == X86_O_MOFFS || x->opnd[1].kind == X86_O_MOFFS) {
		emit_mov_ri(&t->e, s1, (uint64_t)x->disp);
	} else if (x->base == X86_REG_RIP) {
		uint64_t va = i->va + x->len + (uint64_t)x->disp;

		emit_mov_ri(&t->e, s1, is_64 ? va : (uint32_t)va);
	} else {
		emit_lea(&t->e, is_64, s1, or_none(x->base), or_none(x->index), x->scale, (int32_t)x->disp);
	}
}

/* S1 = its linear address. */
void tr_address(struct tr *t, const struct tr_insn *i, unsigned s1)
{
	const struct x86_insn *x = &i->x;

	tr_offset(t, i, s1);
	if (x->seg == X86_FS || x->seg == X86_GS)
		emit_gs(&t->e, t->word == 8, 0x03, s1,
			(uint32_t)(offsetof(struct bt_cpu, i.s.seg) + x->seg * sizeof(struct x86_seg) +
				   offsetof(struct x86_seg, base)));
}

/* Another check of C with these registers. Two in one table could push each other out for ever. */
static void note_check(struct tr_cold *c, unsigned s1, unsigned s2, bool is_write)
{
	bool is_known = c->n_checks++ == 0 && ((s1 == R10 && s2 == R11) || (s1 == R11 && s2 == R10));

	if (!c->is_ahead)
		c->site->miss = is_known ? BT_MISS_KNOWN | (s1 == R11 ? BT_MISS_R11 : 0) | (is_write ? BT_MISS_WRITE : 0) : 0;
}

/* S1: from a linear to a host address, or give up. S2 is free. */
void tr_translate(struct tr *t, struct tr_cold *c, unsigned s1, unsigned s2, unsigned size, bool is_write,
			 bool is_aligned)
{
	unsigned priv = t->key & BT_KEY_PRIV;
	uint32_t table = bt_inline_at(priv, is_write ? ICPU_WRITE : ICPU_READ, 0);
	struct emit *e = &t->e;

	note_check(c, s1, s2, is_write);
	/* S2 = (page << 4), an index of entries of 16 bytes */
	emit_rorx(e, s2, s1, 8);
	emit_alu_ri(e, false, EMIT_AND, s2, (ICPU_TLB_SIZE - 1) << 4);
	emit_gs_base(e, true, 0x2b, s1, s2, table + (uint32_t)offsetof(struct itlb_inline, tag));
	if (is_aligned) {
		emit_rex(e, true, 0, 0, s1);            /* test s1, ~(4096 - size): another page, or not aligned */
		emit8(e, 0xf7);
		emit8(e, 0xc0 | (s1 & 7));
		emit32(e, ~(4096 - size));
		tr_give_up_if(t, c, EMIT_NE);
	} else {
		emit_alu_ri(e, true, EMIT_CMP, s1, 4096 - (int32_t)size);
		tr_give_up_if(t, c, EMIT_A);
	}
	emit_gs_base(e, true, 0x03, s1, s2, table + (uint32_t)offsetof(struct itlb_inline, host));
}
_Static_assert(sizeof(struct itlb_inline) == 16 && ICPU_TLB_SIZE <= 1 << 14, "the index computation");

/* The instruction's own bytes with its memory operand replaced by [BASE + OFF]. */
void tr_copy_mem(struct tr *t, const struct tr_insn *i, unsigned base, int32_t off)
{
	const uint8_t *p = i->bytes, *end = p + i->x.len;
	struct emit *e = &t->e;
	uint8_t rex = 0, opcode[3];
	unsigned n = 0;

	tr_track_access(t);

	for (;; p++) {
		bool is_rex = *p >= 0x40 && *p <= 0x4f;

		if (is_rex)
			rex = *p;
		else if (*p == 0x66 || *p == 0xf2 || *p == 0xf3 || *p == 0xf0)
			emit8(e, *p), rex = 0;
		else if (*p == 0x67 || (*p & 0xe7) == 0x26 || *p == 0x64 || *p == 0x65)
			rex = 0;
		else
			break;
	}
	bool is_vex = i->x.row->map >= X86_MAP_VEX_0F;

	if (is_vex)
		p = tr_vex_prefix(e, p, base, i->index);
	opcode[n++] = *p++;
	if (!is_vex && opcode[0] == 0x0f) {
		opcode[n++] = *p++;
		if (opcode[1] == 0x38 || opcode[1] == 0x3a)
			opcode[n++] = *p++;
	}
	bool is_moffs = i->x.opnd[0].kind == X86_O_MOFFS || i->x.opnd[1].kind == X86_O_MOFFS;

	unsigned index = i->index == X86_NO_REG ? 0 : i->index;

	if (!is_vex && (rex || base >= 8 || index >= 8))
		emit8(e, 0x40 | (rex & (is_moffs ? 8 : 0xc)) | index >> 3 << 1 | base >> 3);
	if (is_moffs) {
		/* A0 to A3 have no other form; 8A, 8B, 88, 89 do the same */
		emit8(e, 0x88 | ((opcode[0] & 2) ^ 2) | (opcode[0] & 1));
		emit_modrm_mem(e, RAX, base, EMIT_NONE, 0, off);
		tr_track_begun(t);
		return;
	}
	for (unsigned j = 0; j < n; j++)
		emit8(e, opcode[j]);

	unsigned modrm = *p++, mod = modrm >> 6, rm = modrm & 7;
	unsigned disp = mod == 1 ? 1 : mod == 2 ? 4 : 0;

	if (rm == 4)
		disp = mod == 0 && (*p++ & 7) == 5 ? 4 : mod == 0 ? 0 : (p++, disp);
	else if (mod == 0 && rm == 5)
		disp = 4;
	p += disp;
	emit_modrm_mem(e, modrm >> 3 & 7, base, i->index, i->scale, off);
	while (p < end)
		emit8(e, *p++);
	tr_track_begun(t);
}

/* Registers of I that scratch must not be taken from. A destination that is only written and whose
 * old value lies in memory can serve. */
uint16_t tr_used(const struct tr *t, const struct tr_insn *i)
{
	return tr_reads(t, i) | (i->fx.writes & t->in_host);
}

uint16_t tr_reads(const struct tr *t, const struct tr_insn *i)
{
	const struct x86_insn *x = &i->x;
	uint16_t address = 0;

	if (i->fx.kind != BT_COPY || !i->group || (i->group->first == t->now && !i->group->is_abs))
		return i->fx.reads;
	address |= x->base < 16 ? (uint16_t)(1u << x->base) : 0;
	address |= x->index < 16 ? (uint16_t)(1u << x->index) : 0;
	address &= i->index < 16 ? (uint16_t)~(1u << i->index) : 0xffff;
	for (unsigned n = 0; n < x->n_opnds; n++)
		if (x->opnd[n].kind == X86_O_REG)
			address &= (uint16_t)~(1u << x->opnd[n].reg);
	return i->fx.reads & (uint16_t)~address;
}

/* S1 = the host's address of PAGE, a linear one, or give up. Loses the flags. */
static void tr_translate_page(struct tr *t, struct tr_cold *c, unsigned s1, uint64_t page, bool is_write)
{
	unsigned priv = t->key & BT_KEY_PRIV, slot = page >> 12 & (ICPU_TLB_SIZE - 1);
	uint32_t at = bt_inline_at(priv, is_write ? ICPU_WRITE : ICPU_READ, slot);

	if ((uint64_t)(int32_t)page == page) {
		emit_gs(&t->e, true, 0x81, EMIT_CMP, at + (uint32_t)offsetof(struct itlb_inline, tag));
		emit32(&t->e, (uint32_t)page);
	} else {
		emit_mov_ri(&t->e, s1, page);
		emit_gs(&t->e, true, 0x3b, s1, at + (uint32_t)offsetof(struct itlb_inline, tag));
	}
	tr_give_up_if(t, c, EMIT_NE);
	emit_load(&t->e, s1, at + (uint32_t)offsetof(struct itlb_inline, host));
}

/* S1 = the host's address for the guest's S1, wherever that is; S2 is free. Flags stay. */
static void window_anywhere(struct emit *e, unsigned s1, unsigned s2)
{
	emit_rorx(e, s2, s1, ICPU_WINDOW_SHIFT);
	emit_rex_always(e, s2, s2);                     /* movzx s2d, s2b */
	emit8(e, 0x0f);
	emit8(e, 0xb6);
	emit8(e, 0xc0 | (s2 & 7) << 3 | (s2 & 7));
	emit_gs_scaled(e, 0x8b, s2, s2, bt_window_at());
	emit_lea(e, true, s1, s1, s2, 0, 0);
}

static uint32_t window_entry(uint64_t la)
{
	return bt_window_at() + 8 * (uint32_t)(la >> ICPU_WINDOW_SHIFT & (ICPU_WINDOW_SLOTS - 1));
}

/* Where BASE points to, as far as one can tell: a register may have another value by the time. Code has the same size
 * whatever is said. */
static uint64_t window_guess(const struct tr *t, unsigned base)
{
	const struct icpu_window *w = &t->b->i.space->window;
	uint64_t la = base < 16 ? t->b->i.s.gpr[base] : 0;

	if ((la < 1ull << 40 || !icpu_window_has(w, la)) && w->n_regions)
		la = t->b->i.s.gpr[RSP];
	return la >> 47 ? 0 : la;
}

/* The same in fewer cycles, and a detour when LA is not in the same region. Loses the flags. */
static void window_near(struct tr *t, uint64_t la, unsigned s1, unsigned s2)
{
	struct emit *e = &t->e;
	struct tr_cold *c = tr_cold_elsewhere(t, s1, s2);

	emit_mov_rr(e, s2, s1);
	emit_shift_ri(e, true, EMIT_SHR, s2, ICPU_WINDOW_SHIFT);
	emit_rex_always(e, 0, s2);                      /* cmp s2d, imm8 */
	emit8(e, 0x83);
	emit8(e, 0xc0 | EMIT_CMP << 3 | (s2 & 7));
	emit8(e, (unsigned)(la >> ICPU_WINDOW_SHIFT));
	tr_give_up_if(t, c, EMIT_NE);
	emit_gs(e, true, 0x03, s1, window_entry(la));
	c->back = bt_code_off(t->k, e->p);
}

void tr_window_elsewhere(struct tr *t, const struct tr_cold *c)
{
	window_anywhere(&t->e, c->s1, c->s2);
	emit_jmp(&t->e, t->k->rw + c->back);
}

/* S1 = the host's address of the group G, at BASE + INDEX << SCALE + LO; S2 is free. */
static void window_enter(struct tr *t, const struct tr_group *g, bool keeps_flags, unsigned base, unsigned index, unsigned scale,
			 int32_t lo, unsigned s1, unsigned s2)
{
	if (g->is_abs) {
		emit_load(&t->e, s1, window_entry(g->page));
		emit_mov_ri(&t->e, s2, g->page);
		emit_lea(&t->e, true, s1, s1, s2, 0, 0);
		return;
	}
	emit_lea(&t->e, true, s1, or_none(base), or_none(index), scale, lo);
	if (keeps_flags) {
		window_anywhere(&t->e, s1, s2);
	} else {
		window_near(t, window_guess(t, base), s1, s2);
		t->fl_host = false;
		tr_track(t);
	}
}

/* S1 is the host address of G; S2 is free. */
static void group_check_alignment(struct tr *t, struct tr_cold *c, const struct tr_group *g, unsigned s1, unsigned s2)
{
	if (g->residue)
		emit_lea(&t->e, false, s2, s1, EMIT_NONE, 0, -g->residue);
	else
		s2 = s1;
	emit8(&t->e, 0x40 | s2 >> 3);                   /* test s2b, align */
	emit8(&t->e, 0xf6);
	emit8(&t->e, 0xc0 | (s2 & 7));
	emit8(&t->e, g->align);
	tr_give_up_if(t, c, EMIT_NE);
}

/* S1 is the host address of G, whose guest address is that of C's site: the last byte has to be as far
 * from it there. S2 and S3 are free. */
static void group_check_end(struct tr *t, struct tr_cold *c, const struct tr_group *g, unsigned s1, unsigned s2, unsigned s3)
{
	const struct bt_site *s = c->site;

	emit_lea(&t->e, t->word == 8, s3, s->base, s->index, s->scale, s->lo + g->span - 1);
	tr_translate(t, c, s3, s2, 1, g->is_write, false);
	emit_alu_rr(&t->e, true, EMIT_SUB, s3, s1);
	emit_alu_ri(&t->e, true, EMIT_CMP, s3, g->span - 1);
	tr_give_up_if(t, c, EMIT_NE);
}

/* The first instruction of a group. */
static unsigned group_enter(struct tr *t, const struct tr_insn *i, uint16_t *avoid)
{
	const struct tr_group *g = i->group;
	struct tr_access a;

	tr_group_access(t, i, &a);
	if (!g->is_abs)
		tr_need(t, (uint16_t)((a.base < 16 ? 1u << a.base : 0) | (a.index < 16 ? 1u << a.index : 0)));
	unsigned s1 = tr_scratch(t, avoid, false), s2 = tr_scratch(t, avoid, false);
	unsigned s3 = g->is_double ? tr_scratch(t, avoid, false) : EMIT_NONE;

	if (tr_is_window(t)) {
		window_enter(t, g, tr_live_before(i) && !t->fl_slot, a.base, a.index, a.scale, (int32_t)(a.disp - i->off), s1, s2);
		return s1;
	}
	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	c->site->is_abs = g->is_abs;
	c->site->base = a.base;
	c->site->index = g->is_abs ? X86_NO_REG : a.index;
	c->site->scale = a.scale;
	c->site->is_write = a.is_write;
	c->site->wants_write = g->is_write;
	c->site->is_ranged = g->is_ranged;
	c->site->is_double = g->is_double;
	c->site->may_double = g->may_double;
	c->site->mine_index = i->index;
	c->site->mine_scale = i->scale;
	c->site->is_aligned = a.align && !g->is_abs;
	c->site->mine = (uint16_t)i->off;
	c->site->span = g->is_abs ? 1 : g->span;
	c->site->lo = (int32_t)(g->is_abs ? (int64_t)(g->page - t->page->va) : a.disp - i->off);
	tr_resume_here(t, c);
	if (g->is_abs) {
		tr_translate_page(t, c, s1, g->page, g->is_write);
	} else {
		emit_lea(&t->e, t->word == 8, s1, or_none(a.base), or_none(a.index), a.scale, (int32_t)(a.disp - i->off));
		tr_translate(t, c, s1, s2, g->is_double ? 1 : g->span, g->is_write, false);
	}
	if (g->is_double)
		group_check_end(t, c, g, s1, s2, s3);
	if (g->align) {
		/* Giving up means this instruction, and then another fragment: what must be aligned may never be reached. */
		c = tr_cold_new(t, i);
		c->site->is_misaligned = true;
		group_check_alignment(t, c, g, s1, s2);
	}
	return s1;
}

void tr_group_ahead(struct tr *t, const struct tr_group *g)
{
	uint16_t avoid = (uint16_t)((g->base < 16 ? 1u << g->base : 0) | (g->index < 16 ? 1u << g->index : 0));

	tr_need(t, avoid);
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);

	t->holds[s1] = (uint8_t)(g - t->groups + 1);
	if (tr_is_window(t)) {
		window_enter(t, g, false, g->base, g->index, g->scale, g->lo, s1, s2);
		return;
	}
	struct tr_cold *c = tr_cold_ahead(t);

	if (g->is_abs) {
		tr_translate_page(t, c, s1, g->page, g->is_write);
	} else {
		emit_lea(&t->e, t->word == 8, s1, or_none(g->base), or_none(g->index), g->scale, g->lo);
		tr_translate(t, c, s1, s2, g->span, g->is_write, false);
	}
	if (g->align)
		group_check_alignment(t, c, g, s1, s2);
}

unsigned tr_group_host(struct tr *t, const struct tr_insn *i, uint16_t *avoid)
{
	uint8_t name = (uint8_t)(i->group - t->groups + 1);
	unsigned r = 0;

	while (r < N_SCRATCH && t->holds[r] != name)
		r++;
	if (i->group->first == t->now) {
		r = group_enter(t, i, avoid);
	} else if (r == N_SCRATCH) {
		r = tr_scratch(t, avoid, false);
		emit_load(&t->e, r, BT_OFF(group) + 8u * (name - 1u));
	}
	t->holds[r] = name;
	*avoid |= (uint16_t)(1u << r);
	/* What is about to be overwritten. */
	tr_keep_groups(t, i->fx.writes & (uint16_t)(1u << r), t->now + 1);
	return r;
}
