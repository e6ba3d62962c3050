/* SPDX-License-Identifier: Apache-2.0 */
/* leave.c - the ways out of a fragment: sites, cold paths, links and their exits. Vcpu thread only. */
#include "cpu/bt/translate.h"

struct bt_site *tr_site(struct tr *t, const struct tr_insn *i)
{
	struct bt_site *s = bt_arena_alloc(t->k, sizeof(*s));

	s->frag = bt_arena_off(t->k, t->frag);
	s->off = (uint16_t)(i->va - t->frag->va);
	s->len = i->x.len;
	if (t->b->is_counting)
		s->behind = (int8_t)((int)t->now - (int)t->counted);
	if (t->uses_vec)
		s->vec = BT_VEC_XMM | (t->is_ymm_noted ? BT_VEC_YMM : 0) | (t->uses_x87 ? BT_VEC_X87 : 0);
	return s;
}

struct tr_cold *tr_cold_new(struct tr *t, const struct tr_insn *i)
{
	struct tr_cold *c = &t->cold[t->n_cold++];

	*c = (struct tr_cold){ .insn = i, .in_host = t->in_host, .in_mem = t->in_mem, .site = tr_site(t, i) };
	c->site->retry = bt_code_off(t->k, t->e.p);
	memcpy(c->held, t->holds, sizeof(c->held));
	c->stored = t->stored;
	return c;
}

struct tr_cold *tr_cold_ahead(struct tr *t)
{
	struct tr_cold *c = &t->cold[t->n_cold++];

	*c = (struct tr_cold){ .in_host = t->in_host, .in_mem = t->in_mem, .is_ahead = true };
	return c;
}

struct tr_cold *tr_cold_elsewhere(struct tr *t, unsigned s1, unsigned s2)
{
	struct tr_cold *c = &t->cold[t->n_cold++];

	*c = (struct tr_cold){ .s1 = (uint8_t)s1, .s2 = (uint8_t)s2, .is_elsewhere = true };
	return c;
}

void tr_give_up_if(struct tr *t, struct tr_cold *c, unsigned cc)
{
	c->jump[c->n_jumps++] = emit_jcc(&t->e, cc, NULL);
}

/* After the last instruction that C stands for: where its cold path comes back. */
void tr_resume_here(struct tr *t, struct tr_cold *c)
{
	c->back = bt_code_off(t->k, t->e.p);
	memcpy(c->holds, t->holds, sizeof(c->holds));
}

/* Coming back to AT, all registers are the guest's: put back the addresses of groups, as HOLDS has them, that
 * instructions from FROM on use. Returns where to go. */
static uint32_t tr_emit_back(struct tr *t, const uint8_t *holds, long from, uint32_t at)
{
	uint8_t *start = t->e.p;

	for (unsigned r = 0; r < N_SCRATCH; r++)
		if (holds[r] && t->groups[holds[r] - 1].last >= from)
			emit_load(&t->e, r, BT_OFF(group) + 8u * (holds[r] - 1u));
	if (t->e.p == start)
		return at;
	emit_jmp(&t->e, t->k->rw + at);
	return bt_code_off(t->k, start);
}

/* C goes to memory what only registers hold and is loaded when it comes back. */
static void tr_emit_keep(struct tr *t, const struct tr_cold *c)
{
	for (unsigned r = 0; r < N_SCRATCH; r++) {
		unsigned g = c->held[r] - 1u;

		if (c->held[r] && !(c->stored >> g & 1) && t->groups[g].last >= c->insn - t->insn)
			emit_store(&t->e, r, BT_OFF(group) + 8u * g);
	}
}

/* The checks ahead of a loop have failed, which changes nothing: the next turn is one that stands alone. Unless that
 * happens all the time. */
static void tr_emit_alone(struct tr *t, const struct tr_cold *c)
{
	tr_emit_boundary(&t->e, c->in_host, c->in_mem);
	emit_alu_gs_i(&t->e, EMIT_SUB, BT_OFF(loop_failures), 1);
	emit_jcc(&t->e, EMIT_NS, t->alone_at);
	emit_mov_ri(&t->e, R11, bt_arena_off(t->k, t->frag));
	emit_jmp(&t->e, t->k->rw + t->k->thunk.exit_head);
}

void tr_emit_cold(struct tr *t)
{
	for (unsigned n = 0; n < t->n_cold; n++) {
		const struct tr_cold *c = &t->cold[n];

		if (!c->n_jumps)
			continue;

		for (unsigned j = 0; j < c->n_jumps; j++)
			emit_patch(c->jump[j], t->e.p);
		if (c->is_elsewhere) {
			tr_window_elsewhere(t, c);
			continue;
		}
		if (c->is_ahead) {
			tr_emit_alone(t, c);
			continue;
		}
		tr_emit_keep(t, c);
		tr_emit_boundary(&t->e, c->in_host, c->in_mem);
		emit_store32_imm(&t->e, BT_OFF(site), bt_arena_off(t->k, c->site));
		emit_jmp(&t->e, t->k->rw + t->k->thunk.cold);
		if (c->back)
			c->site->resume = tr_emit_back(t, c->holds, c->insn - t->insn + 1, c->back);
		if (c->site->miss)
			c->site->retry = tr_emit_back(t, c->held, c->insn - t->insn, c->site->retry);
	}
}

/* A jump to VA whose displacement is at AT. Its exit is emitted later. */
void tr_link(struct tr *t, const struct tr_insn *i, uint8_t *at, uint64_t va)
{
	struct bt_link *l = &t->links[t->n_links++];
	uint64_t from = i->va;

	l->va = va;
	l->at = bt_code_off(t->k, at);
	l->has_slot = t->fl_slot;
	l->has_vec = t->uses_vec;
	l->kind = (va ^ from) & ~0xfffull ? BT_LINK_PAGE : va > from ? BT_LINK_FORWARD : BT_LINK_BACKWARD;
}

void tr_emit_exits(struct tr *t)
{
	for (unsigned n = 0; n < t->n_links; n++) {
		struct bt_link *l = &t->links[n];

		l->exit = bt_code_off(t->k, t->e.p);
		emit_patch(t->k->rw + l->at, t->e.p);
		emit_mov_ri(&t->e, R11, bt_arena_off(t->k, l));
		emit_jmp(&t->e, t->k->rw + (l->has_slot ? t->k->thunk.link_slot : t->k->thunk.link_host));
	}
}
