/* SPDX-License-Identifier: Apache-2.0 */
/* translate.c - from guest instructions to a fragment. Vcpu thread only.
 *
 * Three passes: decode up to the end of the fragment; go backward to find which flags are live
 * after each instruction; go forward and emit. While emitting, the translator knows where each
 * guest register is valid (`in_host`, `in_mem`) and where the flags are (`fl_host`, `fl_slot`).
 *
 * Every instruction has at most one commit point, and before it nothing of the guest has changed:
 * any check may give up by jumping to the cold path, which hands the whole instruction to the
 * interpreter. Cold paths are emitted after the fragment. */
#include "cpu/bt/translate.h"

/* --- decoding -------------------------------------------------------------------------------- */

static bool ends_fragment(const struct tr_insn *i)
{
	if (i->fx.kind >= BT_JMP)
		return true;
	if (i->fx.kind != BT_CALL_OUT)
		return false;
	switch (i->x.op) {
	case X86_OP_LDMXCSR: case X86_OP_FXRSTOR: case X86_OP_XRSTOR: case X86_OP_XRSTORS:
		return true;            /* the key may change */
	default:
		return i->x.row->flags & (X86_R_BRANCH | X86_R_END);
	}
}

static bool is_canonical(uint64_t va)
{
	return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

static uint64_t branch_target(const struct tr_insn *i)
{
	return i->va + i->x.len + (uint64_t)i->x.imm;
}

static void tr_decode(struct tr *t, uint64_t va)
{
	const struct bt_effects call_out = { .kind = BT_CALL_OUT, .fl_reads = X86_FLAGS_ARITH };
	unsigned at = 0, max = t->b->frag_max;

	while (t->n < max && at < t->n_code) {
		struct tr_insn *i = &t->insn[t->n];

		if (x86_decode(&i->x, t->code + at, t->n_code - at, X86_MODE_64) != X86_DECODE_OK)
			break;
		i->group = NULL;
		i->va = va + at;
		i->bytes = t->code + at;
		bt_effects(&i->fx, &i->x, t->key);
		if (t->b->i.missing >> i->x.row->feature & 1)           /* the host would not know it either */
			i->fx = call_out;
		if ((i->fx.kind == BT_JMP || i->fx.kind == BT_CALL || i->fx.kind == BT_JCC) && !is_canonical(branch_target(i)))
			i->fx = call_out;
		t->uses_vec |= i->fx.kind == BT_COPY && (i->x.row->flags & X86_R_SSE);
		t->n++;
		at += i->x.len;
		if (ends_fragment(i))
			break;
	}
	t->end = va + at;
}

/* Flags that are live before instruction I. */
static uint16_t live_before(const struct tr_insn *i)
{
	return (i->live & ~i->fx.fl_kills) | i->fx.fl_reads;
}

static void tr_liveness(struct tr *t)
{
	uint16_t live = X86_FLAGS_ARITH;

	for (unsigned n = t->n; n-- > 0; ) {
		t->insn[n].live = live;
		live = live_before(&t->insn[n]);
	}
}

/* --- registers -------------------------------------------------------------------------------- */

static void tr_need(struct tr *t, uint16_t regs)
{
	for (unsigned r = 0; r < 16; r++)
		if ((regs & ~t->in_host) >> r & 1) {
			emit_load(&t->e, r, BT_GPR(r));
			t->in_host |= (uint16_t)(1u << r);
		}
}

static void tr_wrote(struct tr *t, uint16_t regs)
{
	t->in_host |= regs;
	t->in_mem &= (uint16_t)~regs;
}

/* The guest's register R goes to memory, the host's may be used. */
static void tr_free(struct tr *t, unsigned r)
{
	if (!(t->in_mem >> r & 1)) {
		emit_store(&t->e, r, BT_GPR(r));
		t->in_mem |= (uint16_t)(1u << r);
	}
	t->in_host &= (uint16_t)~(1u << r);
}

/* Operands that instructions have without naming them: in the host between instructions. */
enum { IMPLICIT = 1 << RAX | 1 << RCX | 1 << RDX | 1 << RBX };

/* A host register to use freely, not of AVOID, which grows by it. There are enough for three beside
 * three operands, and all of them can be a base without special encoding. IS_LOW: usable without
 * REX; it may be one of IMPLICIT, which the caller puts back. */
static unsigned tr_scratch(struct tr *t, uint16_t *avoid, bool is_low)
{
	static const uint8_t order[] = { R11, R10, R9, R8, R15, R14, RDI, RSI, RBX, RDX, RCX };
	unsigned from = is_low ? 6 : 0, to = is_low ? 11 : 8, best = EMIT_NONE;

	if (t->group)
		*avoid |= (uint16_t)(1u << t->group->host);

	for (unsigned i = from; i < to; i++) {
		unsigned r = order[i];

		if (*avoid >> r & 1)
			continue;
		if (best == EMIT_NONE || (t->in_host >> best & 1 && !(t->in_host >> r & 1)))
			best = r;
	}
	tr_free(t, best);
	*avoid |= (uint16_t)(1u << best);
	return best;
}

/* To where they are between fragments, given where they are. Flags stay. */
static void emit_boundary(struct emit *e, uint16_t in_host, uint16_t in_mem)
{
	for (unsigned r = 0; r < 16; r++) {
		if ((BOUNDARY_HOST & ~in_host) >> r & 1)
			emit_load(e, r, BT_GPR(r));
		if ((BOUNDARY_MEM & ~in_mem) >> r & 1)
			emit_store(e, r, BT_GPR(r));
	}
}

static void tr_boundary(struct tr *t)
{
	emit_boundary(&t->e, t->in_host, t->in_mem);
	t->in_host |= BOUNDARY_HOST;
	t->in_mem |= BOUNDARY_MEM;
}

/* --- flags ------------------------------------------------------------------------------------ */

/* Into flags_ax; TMP is free. */
static void tr_save_flags(struct tr *t, unsigned tmp)
{
	if (t->fl_slot)
		return;
	emit_mov_rr(&t->e, tmp, RAX);
	emit8(&t->e, 0x9f);                                             /* lahf */
	emit8(&t->e, 0x0f); emit8(&t->e, 0x90); emit8(&t->e, 0xc0);     /* seto al */
	emit_store32(&t->e, RAX, BT_OFF(flags_ax));
	emit_mov_rr(&t->e, RAX, tmp);
	t->fl_slot = true;
}

static void tr_restore_flags(struct tr *t, unsigned tmp)
{
	if (t->fl_host)
		return;
	emit_mov_rr(&t->e, tmp, RAX);
	emit_load32(&t->e, RAX, BT_OFF(flags_ax));
	emit8(&t->e, 0x04); emit8(&t->e, 0x7f);                         /* add al, 127 */
	emit8(&t->e, 0x9e);                                             /* sahf */
	emit_mov_rr(&t->e, RAX, tmp);
	t->fl_host = true;
}

/* The host's flags are about to be lost; TMP is free. */
static void tr_give_flags(struct tr *t, const struct tr_insn *i, unsigned tmp)
{
	if (live_before(i))
		tr_save_flags(t, tmp);
	t->fl_host = false;
}

/* Does I have to find the flags in the host? Because it reads them, or keeps some that live on. */
static bool needs_host_flags(const struct tr_insn *i)
{
	return i->fx.fl_reads || (i->fx.fl_writes && (i->live & ~i->fx.fl_kills));
}

static void tr_restore_for(struct tr *t, const struct tr_insn *i, unsigned tmp)
{
	if (needs_host_flags(i))
		tr_restore_flags(t, tmp);
}

static void tr_flags_after(struct tr *t, const struct tr_insn *i)
{
	if (!i->fx.fl_writes)
		return;
	t->fl_host = true;
	t->fl_slot = false;
}

/* --- leaving ---------------------------------------------------------------------------------- */

static struct bt_site *tr_site(struct tr *t, const struct tr_insn *i)
{
	struct bt_site *s = bt_arena_alloc(t->k, sizeof(*s));

	iop_init(&t->b->i, &s->op, &i->x);
	s->rip = i->va;
	s->next = i->va + i->x.len;
	s->page = t->page->page;
	s->uses_vec = t->uses_vec;
	return s;
}

static struct tr_cold *tr_cold_new(struct tr *t, const struct tr_insn *i)
{
	struct tr_cold *c = &t->cold[t->n_cold++];

	*c = (struct tr_cold){ .insn = i, .in_host = t->in_host, .in_mem = t->in_mem, .site = tr_site(t, i) };
	return c;
}

static void tr_give_up_if(struct tr *t, struct tr_cold *c, unsigned cc)
{
	c->jump[c->n_jumps++] = emit_jcc(&t->e, cc, NULL);
}

/* After the last instruction that C stands for: where its cold path comes back. */
static void tr_resume_here(struct tr *t, struct tr_cold *c)
{
	/* Coming back, registers are the guest's: a group's address would be lost. */
	if (t->group && t->now < t->group->last)
		return;
	c->site->resume = bt_code_off(t->k, t->e.p);
}

static void emit_store32_imm(struct emit *e, uint32_t off, uint32_t v)
{
	emit_gs(e, false, 0xc7, 0, off);
	emit32(e, v);
}

static void tr_emit_cold(struct tr *t)
{
	for (unsigned n = 0; n < t->n_cold; n++) {
		const struct tr_cold *c = &t->cold[n];

		for (unsigned j = 0; j < c->n_jumps; j++)
			emit_patch(c->jump[j], t->e.p);
		emit_boundary(&t->e, c->in_host, c->in_mem);
		emit_store32_imm(&t->e, BT_OFF(site), bt_arena_off(t->k, c->site));
		emit_jmp(&t->e, t->k->rw + t->k->thunk.call_slot);
	}
}

/* A jump to VA whose displacement is at AT. Its exit is emitted later. */
static void tr_link(struct tr *t, const struct tr_insn *i, uint8_t *at, uint64_t va)
{
	struct bt_link *l = bt_arena_alloc(t->k, sizeof(*l));
	uint64_t from = i->va;

	l->va = va;
	l->at = bt_code_off(t->k, at);
	l->has_slot = t->fl_slot;
	l->kind = (va ^ from) & ~0xfffull ? BT_LINK_PAGE : va > from ? BT_LINK_FORWARD : BT_LINK_BACKWARD;
	t->links[t->n_links++] = l;
}

static void tr_emit_exits(struct tr *t)
{
	for (unsigned n = 0; n < t->n_links; n++) {
		struct bt_link *l = t->links[n];

		l->exit = bt_code_off(t->k, t->e.p);
		emit_patch(t->k->rw + l->at, t->e.p);
		emit_store32_imm(&t->e, BT_OFF(exit_link), bt_arena_off(t->k, l));
		emit_jmp(&t->e, t->k->rw + (l->has_slot ? t->k->thunk.exit_slot : t->k->thunk.exit_host));
	}
}

/* --- memory operands ----------------------------------------------------------------------------- */

/* S1 = the linear address of I's memory operand. */
static void tr_address(struct tr *t, const struct tr_insn *i, unsigned s1)
{
	const struct x86_insn *x = &i->x;
	bool is_64 = x->adsize == 8;

	if (x->base == X86_REG_RIP) {
		uint64_t va = i->va + x->len + (uint64_t)x->disp;

		emit_mov_ri(&t->e, s1, is_64 ? va : (uint32_t)va);
	} else {
		emit_lea(&t->e, is_64, s1, x->base == X86_NO_REG ? EMIT_NONE : x->base,
			 x->index == X86_NO_REG ? EMIT_NONE : x->index, x->scale, (int32_t)x->disp);
	}
	if (x->seg == X86_FS || x->seg == X86_GS)
		emit_gs(&t->e, true, 0x03, s1,
			(uint32_t)(offsetof(struct bt_cpu, i.s.seg) + x->seg * sizeof(struct x86_seg) +
				   offsetof(struct x86_seg, base)));
}

/* S1: from a linear to a host address, or give up. S2 is free. */
static void tr_translate(struct tr *t, struct tr_cold *c, unsigned s1, unsigned s2, unsigned size, bool is_write,
			 bool is_aligned)
{
	unsigned priv = t->key & BT_KEY_PRIV;
	uint32_t table = (uint32_t)offsetof(struct bt_cpu, i.inl) +
			 (uint32_t)(sizeof(t->b->i.inl[0]) * priv + sizeof(t->b->i.inl[0][0]) * (is_write ? ICPU_WRITE : ICPU_READ));
	struct emit *e = &t->e;

	/* rorx s2, s1, 8: S2 = (page << 4), an index of entries of 16 bytes */
	emit8(e, 0xc4);
	emit8(e, (s2 & 8 ? 0 : 0x80) | 0x40 | (s1 & 8 ? 0 : 0x20) | 3);
	emit8(e, 0xfb);
	emit8(e, 0xf0);
	emit8(e, 0xc0 | (s2 & 7) << 3 | (s1 & 7));
	emit8(e, 8);
	emit_alu_ri(e, false, EMIT_AND, s2, (ICPU_TLB_SIZE - 1) << 4);
	emit_gs_base(e, true, 0x2b, s1, s2, table + (uint32_t)offsetof(struct itlb_inline, tag));
	if (is_aligned) {
		emit_rex(e, false, 0, 0, s1);
		emit8(e, 0xf7);                         /* test s1d, 15 */
		emit8(e, 0xc0 | (s1 & 7));
		emit32(e, 15);
		tr_give_up_if(t, c, EMIT_NE);
	}
	emit_alu_ri(e, true, EMIT_CMP, s1, 4096 - (int32_t)size);
	tr_give_up_if(t, c, EMIT_A);
	emit_gs_base(e, true, 0x03, s1, s2, table + (uint32_t)offsetof(struct itlb_inline, host));
}
_Static_assert(sizeof(struct itlb_inline) == 16 && ICPU_TLB_SIZE <= 1 << 14, "the index computation");

/* The instruction's own bytes with its memory operand replaced by [BASE + OFF]. */
static void tr_copy_mem(struct tr *t, const struct tr_insn *i, unsigned base, int32_t off)
{
	const uint8_t *p = i->bytes, *end = p + i->x.len;
	struct emit *e = &t->e;
	uint8_t rex = 0, opcode[3];
	unsigned n = 0;

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
	opcode[n++] = *p++;
	if (opcode[0] == 0x0f) {
		opcode[n++] = *p++;
		if (opcode[1] == 0x38 || opcode[1] == 0x3a)
			opcode[n++] = *p++;
	}
	if (rex || base >= 8)
		emit8(e, 0x40 | (rex & 0xc) | base >> 3);
	for (unsigned j = 0; j < n; j++)
		emit8(e, opcode[j]);

	unsigned modrm = *p++, mod = modrm >> 6, rm = modrm & 7;
	unsigned disp = mod == 1 ? 1 : mod == 2 ? 4 : 0;

	if (rm == 4)
		disp = mod == 0 && (*p++ & 7) == 5 ? 4 : mod == 0 ? 0 : (p++, disp);
	else if (mod == 0 && rm == 5)
		disp = 4;
	p += disp;
	emit_modrm_mem(e, modrm >> 3 & 7, base, EMIT_NONE, 0, off);
	while (p < end)
		emit8(e, *p++);
}

/* Registers of I that scratch must not be taken from. A destination that is only written and whose
 * old value lies in memory can serve. */
static uint16_t tr_used(const struct tr *t, const struct tr_insn *i)
{
	return i->fx.reads | (i->fx.writes & t->in_host);
}

/* Before the first instruction of a group: check it all. Giving up means this instruction only, and
 * then another fragment. */
static void tr_enter_group(struct tr *t, const struct tr_insn *i)
{
	const struct tr_group *g = t->group;
	uint16_t avoid = (uint16_t)(i->fx.reads | 1u << g->base);
	uint32_t span = (uint32_t)(g->hi - g->lo);

	tr_need(t, (uint16_t)(1u << g->base));
	tr_free(t, g->host);
	unsigned s2 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	c->site->group = t->frag;
	c->site->base = g->base;
	c->site->lo = g->lo;
	c->site->span = span;
	emit_lea(&t->e, true, g->host, g->base, EMIT_NONE, 0, g->lo);
	tr_translate(t, c, g->host, s2, span, g->is_write, false);
}

/* --- instructions -------------------------------------------------------------------------------- */

static void tr_copy(struct tr *t, const struct tr_insn *i)
{
	const struct bt_effects *fx = &i->fx;
	uint16_t avoid;

	tr_need(t, fx->reads);
	avoid = tr_used(t, i);
	if (!fx->mem_size) {
		if (needs_host_flags(i) && !t->fl_host) {
			avoid |= fx->writes;
			tr_restore_flags(t, tr_scratch(t, &avoid, false));
		}
		memcpy(t->e.p, i->bytes, i->x.len);
		t->e.p += i->x.len;
		tr_wrote(t, fx->writes);
		tr_flags_after(t, i);
		return;
	}
	if (i->group) {
		if (needs_host_flags(i) && !t->fl_host) {
			avoid |= fx->writes;
			tr_restore_flags(t, tr_scratch(t, &avoid, false));
		}
		tr_copy_mem(t, i, i->group->host, i->off);
		tr_wrote(t, fx->writes);
		tr_flags_after(t, i);
		return;
	}
	unsigned s1 = tr_scratch(t, &avoid, tr_has_high_byte(&i->x)), s2 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	tr_address(t, i, s1);
	tr_translate(t, c, s1, s2, fx->mem_size, fx->mem_is_write,
		     fx->mem_size == 16 && (i->x.row->flags & X86_R_ALIGN16));
	tr_restore_for(t, i, s2);
	tr_copy_mem(t, i, s1, 0);
	tr_wrote(t, fx->writes);
	tr_flags_after(t, i);
	tr_need(t, IMPLICIT);
	tr_resume_here(t, c);
}

static void tr_lea_rip(struct tr *t, const struct tr_insn *i)
{
	emit_mov_ri(&t->e, i->x.opnd[0].reg, i->va + i->x.len + (uint64_t)i->x.disp);
	tr_wrote(t, i->fx.writes);
}

/* The end of a PUSH: VAL or the immediate to [HOST + OFF]. */
static void tr_store_pushed(struct tr *t, const struct tr_insn *i, unsigned val, unsigned host, int32_t off)
{
	if (i->x.opnd[0].kind == X86_O_IMM) {
		emit_mem(&t->e, true, 0xc7, 0, host, EMIT_NONE, 0, off);
		emit32(&t->e, (uint32_t)i->x.imm);
	} else {
		emit_mem(&t->e, true, 0x89, val, host, EMIT_NONE, 0, off);
	}
	emit_lea(&t->e, true, RSP, RSP, EMIT_NONE, 0, -8);
	tr_wrote(t, 1 << RSP);
}

static void tr_push(struct tr *t, const struct tr_insn *i)
{
	const struct x86_opnd *o = &i->x.opnd[0];
	uint16_t avoid = i->fx.reads;

	tr_need(t, i->fx.reads);
	if (i->group) {
		tr_store_pushed(t, i, o->reg, i->group->host, i->off);
		return;
	}
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);
	unsigned val = o->kind == X86_O_MEM ? tr_scratch(t, &avoid, false) : o->reg;

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	if (o->kind == X86_O_MEM) {
		tr_address(t, i, s1);
		tr_translate(t, c, s1, s2, 8, false, false);
		emit_mem(&t->e, true, 0x8b, val, s1, EMIT_NONE, 0, 0);
	}
	emit_lea(&t->e, true, s1, RSP, EMIT_NONE, 0, -8);
	tr_translate(t, c, s1, s2, 8, true, false);
	tr_store_pushed(t, i, val, s1, 0);
	tr_resume_here(t, c);
}

/* POP and LEAVE: *reg = [from]; rsp = from + 8. */
static void tr_pop(struct tr *t, const struct tr_insn *i, unsigned reg, unsigned from)
{
	uint16_t avoid = (uint16_t)(1u << reg) & t->in_host;

	if (i->group) {
		emit_lea(&t->e, true, RSP, RSP, EMIT_NONE, 0, 8);
		emit_mem(&t->e, true, 0x8b, reg, i->group->host, EMIT_NONE, 0, i->off);
		tr_wrote(t, (uint16_t)(1u << reg | 1u << RSP));
		return;
	}
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	emit_mov_rr(&t->e, s1, from);
	tr_translate(t, c, s1, s2, 8, false, false);
	emit_lea(&t->e, true, RSP, from, EMIT_NONE, 0, 8);
	emit_mem(&t->e, true, 0x8b, reg, s1, EMIT_NONE, 0, 0);
	tr_wrote(t, (uint16_t)(1u << reg | 1u << RSP));
	tr_resume_here(t, c);
}

static void tr_clear_rflag(struct tr *t, const struct tr_insn *i)
{
	uint16_t avoid = 0;
	uint32_t bit = i->x.op == X86_OP_CLI ? X86_IF : X86_DF;

	if (live_before(i) && !t->fl_slot)
		tr_save_flags(t, tr_scratch(t, &avoid, false));
	t->fl_host = false;
	emit_alu_gs_i(&t->e, EMIT_AND, (uint32_t)offsetof(struct bt_cpu, i.s.rflags), ~bit);
}

/* DIV faults exactly when the quotient does not fit, which is when the high half is not less than the
 * divisor; that covers 0. */
static void tr_div(struct tr *t, const struct tr_insn *i)
{
	const struct x86_opnd *o = &i->x.opnd[0];
	uint16_t avoid = i->fx.reads;
	bool is_64 = o->size == 8;

	tr_need(t, i->fx.reads);
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	if (o->kind == X86_O_MEM) {
		tr_address(t, i, s1);
		tr_translate(t, c, s1, s2, o->size, false, false);
		emit_mem(&t->e, is_64, 0x3b, RDX, s1, EMIT_NONE, 0, 0);
		tr_give_up_if(t, c, EMIT_AE);
		tr_restore_for(t, i, s2);
		emit_mem(&t->e, is_64, 0xf7, 6, s1, EMIT_NONE, 0, 0);
	} else {
		emit_rr(&t->e, is_64, 0x39, o->reg, RDX);
		tr_give_up_if(t, c, EMIT_AE);
		tr_restore_for(t, i, s2);
		emit_rr(&t->e, is_64, 0xf7, 6, o->reg);
	}
	tr_wrote(t, 1 << RAX | 1 << RDX);
	tr_flags_after(t, i);
	tr_resume_here(t, c);
}

/* IDIV: the quotient fits when the dividend is no longer than one register and the divisor is neither
 * 0 nor -1. Anything else is rare and the interpreter's. */
static void tr_idiv(struct tr *t, const struct tr_insn *i)
{
	const struct x86_opnd *o = &i->x.opnd[0];
	uint16_t avoid = i->fx.reads;
	bool is_64 = o->size == 8;

	tr_need(t, i->fx.reads);
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	if (o->kind == X86_O_MEM) {
		tr_address(t, i, s1);
		tr_translate(t, c, s1, s2, o->size, false, false);
		emit_mem(&t->e, is_64, 0x8b, s2, s1, EMIT_NONE, 0, 0);
	} else {
		emit_rr(&t->e, is_64, 0x89, o->reg, s2);
	}
	emit_lea(&t->e, is_64, s1, s2, EMIT_NONE, 0, 1);
	emit_alu_ri(&t->e, is_64, EMIT_CMP, s1, 1);
	tr_give_up_if(t, c, EMIT_BE);
	emit_rr(&t->e, is_64, 0x89, RAX, s1);
	emit_rr(&t->e, is_64, 0xc1, 7, s1);             /* sar s1, 63 or 31 */
	emit8(&t->e, is_64 ? 63 : 31);
	emit_rr(&t->e, is_64, 0x39, RDX, s1);
	tr_give_up_if(t, c, EMIT_NE);
	tr_restore_for(t, i, s1);
	emit_rr(&t->e, is_64, 0xf7, 7, s2);
	tr_wrote(t, 1 << RAX | 1 << RDX);
	tr_flags_after(t, i);
	tr_resume_here(t, c);
}

static void tr_call_out(struct tr *t, const struct tr_insn *i)
{
	struct bt_site *s = tr_site(t, i);

	tr_boundary(t);
	emit_store32_imm(&t->e, BT_OFF(site), bt_arena_off(t->k, s));
	emit_jmp(&t->e, t->k->rw + (t->fl_slot ? t->k->thunk.call_slot : t->k->thunk.call_host));
	t->in_host = t->in_mem = 0xffff;
	t->fl_host = t->fl_slot = true;
	if (!ends_fragment(i))
		s->resume = bt_code_off(t->k, t->e.p);
}

/* --- control transfer -------------------------------------------------------------------------------- */

static void tr_jcc(struct tr *t, const struct tr_insn *i)
{
	if (!t->fl_host) {
		uint16_t avoid = 0;

		tr_restore_flags(t, tr_scratch(t, &avoid, false));
	}
	tr_boundary(t);
	tr_link(t, i, emit_jcc(&t->e, i->x.row->opcode & 15, NULL), branch_target(i));
}

/* To the fragment at R10 through the table; flags are in the slot. */
static void tr_indirect(struct tr *t)
{
	struct emit *e = &t->e;

	emit_rr(e, false, 0x89, R10, R11);              /* mov r11d, r10d */
	emit_alu_ri(e, false, EMIT_AND, R11, (1 << BT_IND_BITS) - 1);
	emit8(e, 0x65);                                 /* jmp gs:[r11 * 8 + table] */
	emit8(e, 0x42);
	emit8(e, 0xff);
	emit8(e, 0x24);
	emit8(e, 3 << 6 | (R11 & 7) << 3 | 5);
	emit32(e, BT_OFF(ind) + (uint32_t)sizeof(t->b->ind[0]) * t->key);
}

/* Store the return address at [S1 + OFF], a host address; RSP follows. */
static void tr_push_return(struct tr *t, const struct tr_insn *i, unsigned s1, int32_t off, unsigned s2)
{
	uint64_t ret = i->va + i->x.len;

	if ((uint64_t)(int32_t)ret == ret) {
		emit_mem(&t->e, true, 0xc7, 0, s1, EMIT_NONE, 0, off);
		emit32(&t->e, (uint32_t)ret);
	} else {
		emit_mov_ri(&t->e, s2, ret);
		emit_mem(&t->e, true, 0x89, s2, s1, EMIT_NONE, 0, off);
	}
	emit_lea(&t->e, true, RSP, RSP, EMIT_NONE, 0, -8);
}

static void tr_call(struct tr *t, const struct tr_insn *i)
{
	tr_boundary(t);
	if (i->group) {
		tr_push_return(t, i, i->group->host, i->off, i->group->host ^ R10 ^ R11);
		tr_link(t, i, emit_jmp(&t->e, NULL), branch_target(i));
		return;
	}
	t->in_host = BOUNDARY_HOST;
	tr_give_flags(t, i, R11);
	struct tr_cold *c = tr_cold_new(t, i);

	emit_lea(&t->e, true, R10, RSP, EMIT_NONE, 0, -8);
	tr_translate(t, c, R10, R11, 8, true, false);
	tr_push_return(t, i, R10, 0, R11);
	tr_link(t, i, emit_jmp(&t->e, NULL), branch_target(i));
}

/* What an indirect jump leaves for the case that its target is not canonical: the fault belongs to it. */
static void tr_note_site(struct tr *t, const struct bt_site *s)
{
	emit_store32_imm(&t->e, BT_OFF(site), bt_arena_off(t->k, s));
}

static void tr_ret(struct tr *t, const struct tr_insn *i)
{
	struct bt_site *s;

	tr_boundary(t);
	t->in_host = BOUNDARY_HOST;
	if (i->group) {
		tr_save_flags(t, i->group->host ^ R10 ^ R11);
		s = tr_site(t, i);
		emit_mem(&t->e, true, 0x8b, R10, i->group->host, EMIT_NONE, 0, i->off);
	} else {
		tr_give_flags(t, i, R11);
		struct tr_cold *c = tr_cold_new(t, i);

		s = c->site;
		emit_mov_rr(&t->e, R10, RSP);
		tr_translate(t, c, R10, R11, 8, false, false);
		emit_mem(&t->e, true, 0x8b, R10, R10, EMIT_NONE, 0, 0);
	}
	emit_lea(&t->e, true, RSP, RSP, EMIT_NONE, 0, 8 + (i->x.n_opnds ? (int32_t)i->x.imm : 0));
	tr_note_site(t, s);
	tr_indirect(t);
}

/* JMP and CALL through a register or memory. The target waits in RDI's place while the stack is
 * checked: three scratch registers are needed. */
static void tr_jump_indirect(struct tr *t, const struct tr_insn *i)
{
	const struct x86_opnd *o = &i->x.opnd[0];
	bool is_call = i->fx.kind == BT_CALL_IND;
	uint16_t avoid = i->fx.reads;

	tr_need(t, i->fx.reads);
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);
	unsigned to = o->kind == X86_O_MEM ? tr_scratch(t, &avoid, false) : o->reg;

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	if (o->kind == X86_O_MEM) {
		tr_address(t, i, s1);
		tr_translate(t, c, s1, s2, 8, false, false);
		emit_mem(&t->e, true, 0x8b, to, s1, EMIT_NONE, 0, 0);
	}
	if (is_call) {
		emit_lea(&t->e, true, s1, RSP, EMIT_NONE, 0, -8);
		tr_translate(t, c, s1, s2, 8, true, false);
		tr_push_return(t, i, s1, 0, s2);
		if (o->kind != X86_O_MEM && to == RSP)  /* the value before the push */
			emit_lea(&t->e, true, s1, RSP, EMIT_NONE, 0, 8), to = s1;
	}
	/* R10 gets the target and keeps its guest value in memory; what it displaces is loaded after. */
	if (!(t->in_mem >> R10 & 1))
		emit_store(&t->e, R10, BT_GPR(R10)), t->in_mem |= 1 << R10;
	if (!(t->in_mem >> R11 & 1))
		emit_store(&t->e, R11, BT_GPR(R11)), t->in_mem |= 1 << R11;
	if (to != R10)
		emit_mov_rr(&t->e, R10, to);
	tr_boundary(t);
	tr_note_site(t, c->site);
	tr_indirect(t);
}

static void tr_one(struct tr *t, const struct tr_insn *i)
{
	if (i->group && i->group->first == t->now) {
		t->group = i->group;
		tr_enter_group(t, i);
	} else if (t->group && t->now > t->group->last) {
		t->group = NULL;
	}
	switch (i->fx.kind) {
	case BT_COPY: tr_copy(t, i); break;
	case BT_NOTHING: break;
	case BT_LEA_RIP: tr_lea_rip(t, i); break;
	case BT_PUSH: tr_push(t, i); break;
	case BT_POP: tr_pop(t, i, i->x.opnd[0].reg, RSP); break;
	case BT_LEAVE: tr_pop(t, i, RBP, RBP); break;
	case BT_CLEAR_RFLAG: tr_clear_rflag(t, i); break;
	case BT_DIV: i->x.op == X86_OP_DIV ? tr_div(t, i) : tr_idiv(t, i); break;
	case BT_JCC: tr_jcc(t, i); break;
	case BT_JMP: tr_boundary(t); tr_link(t, i, emit_jmp(&t->e, NULL), branch_target(i)); break;
	case BT_CALL: tr_call(t, i); break;
	case BT_RET: tr_ret(t, i); break;
	case BT_JMP_IND: case BT_CALL_IND: tr_jump_indirect(t, i); break;
	default: tr_call_out(t, i); break;
	}
}

/* --- head ----------------------------------------------------------------------------------------- */

static void tr_head(struct tr *t)
{
	struct bt_frag *f = t->frag;
	struct emit *e = &t->e;
	unsigned priv = t->key & BT_KEY_USER ? ICPU_USER : ICPU_SUPER, slot = f->va >> 12 & (ICPU_TLB_SIZE - 1);
	uint32_t tag = (uint32_t)offsetof(struct bt_cpu, i.inl) +
		       (uint32_t)(((priv * ICPU_N_ACCESS + ICPU_EXEC) * ICPU_TLB_SIZE + slot) * sizeof(struct itlb_inline));

	t->in_host = BOUNDARY_HOST;
	t->in_mem = BOUNDARY_MEM;
	f->ientry = bt_code_off(t->k, e->p);
	if ((uint64_t)(int32_t)f->va == f->va) {
		emit_alu_ri(e, true, EMIT_CMP, R10, (int32_t)f->va);
	} else {
		emit_mov_ri(e, R11, f->va);
		emit_rr(e, true, 0x39, R11, R10);
	}
	emit_jcc(e, EMIT_NE, t->k->rw + t->k->thunk.miss);
	uint8_t *skip = f->needs_flags ? emit_jmp(e, NULL) : NULL;

	f->xentry = bt_code_off(t->k, e->p);
	if (skip) {
		t->fl_host = true;
		tr_save_flags(t, R11);
		emit_patch(skip, e->p);
	}
	t->fl_host = false;
	t->fl_slot = f->needs_flags;
	f->lentry = bt_code_off(t->k, e->p);
	emit_alu_gs_i(e, EMIT_CMP, tag, t->page->id);
	t->head_jump[0] = emit_jcc(e, EMIT_NE, NULL);
	f->entry = bt_code_off(t->k, e->p);
	emit_alu_gs_i(e, EMIT_CMP, (uint32_t)offsetof(struct bt_cpu, i.req), 0);
	t->head_jump[1] = emit_jcc(e, EMIT_NE, NULL);
	f->body = bt_code_off(t->k, e->p);
	if (t->uses_vec) {
		emit_gs(e, false, 0x80, EMIT_CMP, BT_OFF(vec_live));
		emit8(e, 0);
		t->vec_jump = emit_jcc(e, EMIT_E, NULL);
		t->vec_back = bt_code_off(t->k, e->p);
	}
}

/* The cold half of the head. */
static void tr_head_cold(struct tr *t)
{
	struct emit *e = &t->e;

	emit_patch(t->head_jump[0], e->p);
	emit_patch(t->head_jump[1], e->p);
	emit_store_imm(e, (uint32_t)offsetof(struct bt_cpu, i.s.rip), t->frag->va, R11);
	emit_jmp(e, t->k->rw + t->k->thunk.exit_slot);
	if (!t->uses_vec)
		return;
	emit_patch(t->vec_jump, e->p);
	emit_rex(e, true, R10, 0, 0);                   /* lea r10, [rip + back] */
	emit8(e, 0x8d);
	emit8(e, (R10 & 7) << 3 | 5);
	emit32(e, 0);
	emit_patch(e->p - 4, t->k->rw + t->vec_back);
	emit_jmp(e, t->k->rw + t->k->thunk.vec_load);
}

/* --- all of it ---------------------------------------------------------------------------------------- */

struct bt_frag *bt_translate(struct bt_cpu *b, struct bt_page *page, uint64_t va)
{
	const uint8_t *bytes = b->i.mem->host + (page->page << GMEM_PAGE_SHIFT);
	struct tr t;

	memset(&t, 0, offsetof(struct tr, code));
	t.b = b;
	t.k = b->cache;
	t.page = page;
	t.key = page->key;
	icpu_watch_code(&b->i, page->page);
	t.n_code = 4096 - (va & 0xfff) < sizeof(t.code) ? 4096 - (va & 0xfff) : sizeof(t.code);
	memcpy(t.code, bytes + (va & 0xfff), t.n_code);
	tr_decode(&t, va);
	if (!t.n)
		return NULL;
	tr_liveness(&t);
	tr_make_groups(&t);
	struct bt_frag *f = bt_arena_alloc(t.k, sizeof(*f) + (t.end - va));

	t.frag = f;
	t.e = t.k->e;
	f->va = va;
	f->page = page;
	f->n_bytes = (uint16_t)(t.end - va);
	f->needs_flags = live_before(&t.insn[0]);
	memcpy(f->bytes, t.code, f->n_bytes);
	tr_head(&t);
	for (t.now = 0; t.now < t.n; t.now++)
		tr_one(&t, &t.insn[t.now]);
	const struct tr_insn *last = &t.insn[t.n - 1];

	if (!ends_fragment(last)) {
		tr_boundary(&t);
		tr_link(&t, last, emit_jmp(&t.e, NULL), t.end);
	}
	tr_emit_cold(&t);
	tr_emit_exits(&t);
	tr_head_cold(&t);
	t.k->e.p = t.e.p;
	return f;
}
