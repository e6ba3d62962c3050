/* SPDX-License-Identifier: Apache-2.0 */
/* branch.c - jumps, calls and returns. Vcpu thread only. */
#include "cpu/bt/translate.h"

void tr_jcc(struct tr *t, const struct tr_insn *i)
{
	if (!t->fl_host) {
		uint16_t avoid = 0;

		tr_restore_flags(t, tr_scratch(t, &avoid, false));
	}
	tr_boundary(t);
	if (t->is_loop && (t->now + 1) % t->n_turn == 0)
		tr_turn(t, i);
	else
		tr_link(t, i, emit_jcc(&t->e, i->x.row->opcode & 15, NULL), tr_branch_target(i));
}

void tr_indirect(struct tr *t, unsigned key, bool is_return)
{
	struct emit *e = &t->e;

	bt_indirect_need(t->b, key);
	if (!is_return)
		emit_rorx(e, R11, R10, 4);
	emit8(e, 0x45);                                 /* movzx r11d, r10w or r11w */
	emit8(e, 0x0f);
	emit8(e, 0xb7);
	emit8(e, 0xc0 | (R11 & 7) << 3 | ((is_return ? R10 : R11) & 7));
	emit8(e, 0x65);                                 /* jmp gs:[r11 * 8 + table] */
	emit8(e, 0x42);
	emit8(e, 0xff);
	emit8(e, 0x24);
	emit8(e, 3 << 6 | (R11 & 7) << 3 | 5);
	emit32(e, BT_OFF(ind) + (uint32_t)sizeof(t->b->ind[0]) * key);
}
_Static_assert(BT_IND_BITS == 16, "the index computation");

void tr_crossing(struct tr *t, const struct tr_insn *i)
{
	tr_call_out(t, i);
	emit_load(&t->e, R10, (uint32_t)offsetof(struct bt_cpu, i.s.rip));
	tr_indirect(t, t->key, false);
}

/* Store the return address at [S1 + OFF], a host address; RSP follows. */
static void tr_push_return(struct tr *t, const struct tr_insn *i, unsigned s1, int32_t off, unsigned s2)
{
	uint64_t ret = tr_next(t, i);

	if (t->word == 4 || (uint64_t)(int32_t)ret == ret) {
		tr_track_access(t);
		emit_mem(&t->e, t->word == 8, 0xc7, 0, s1, EMIT_NONE, 0, off);
		emit32(&t->e, (uint32_t)ret);
	} else {
		emit_mov_ri(&t->e, s2, ret);
		tr_track_access(t);
		emit_mem(&t->e, true, 0x89, s2, s1, EMIT_NONE, 0, off);
	}
	tr_move_sp(t, RSP, -(int32_t)t->word);
}

void tr_call(struct tr *t, const struct tr_insn *i)
{
	tr_boundary(t);
	t->in_host = BOUNDARY_HOST;
	if (i->group) {
		uint16_t avoid = BOUNDARY_HOST;
		unsigned host = tr_group_host(t, i, &avoid);

		tr_push_return(t, i, host, i->off, host ^ R10 ^ R11);
		tr_link(t, i, emit_jmp(&t->e, NULL), tr_branch_target(i));
		return;
	}
	tr_give_flags(t, i, R11);
	struct tr_cold *c = tr_cold_new(t, i);

	emit_lea(&t->e, t->word == 8, R10, RSP, EMIT_NONE, 0, -(int32_t)t->word);
	tr_translate(t, c, R10, R11, t->word, true, false);
	tr_push_return(t, i, R10, 0, R11);
	tr_link(t, i, emit_jmp(&t->e, NULL), tr_branch_target(i));
}

/* What an indirect jump leaves for the case that its target is not canonical: the fault belongs to it. */
static void tr_note_site(struct tr *t, const struct bt_site *s)
{
	emit_store32_imm(&t->e, BT_OFF(site), bt_arena_off(t->k, s));
}

void tr_ret(struct tr *t, const struct tr_insn *i)
{
	struct bt_site *s;

	tr_boundary(t);
	t->in_host = BOUNDARY_HOST;
	if (i->group) {
		uint16_t avoid = BOUNDARY_HOST;
		unsigned host = tr_group_host(t, i, &avoid);

		tr_save_flags(t, host ^ R10 ^ R11);
		s = tr_site(t, i);
		tr_track_access(t);
		emit_mem(&t->e, t->word == 8, 0x8b, R10, host, EMIT_NONE, 0, i->off);
	} else {
		tr_give_flags(t, i, R11);
		struct tr_cold *c = tr_cold_new(t, i);

		s = c->site;
		emit_mov_rr(&t->e, R10, RSP);
		tr_translate(t, c, R10, R11, t->word, false, false);
		emit_mem(&t->e, t->word == 8, 0x8b, R10, R10, EMIT_NONE, 0, 0);
	}
	tr_move_sp(t, RSP, t->sp_owed + (int32_t)t->word + (i->x.n_opnds ? (int32_t)i->x.imm : 0));
	t->sp_owed = 0;
	s->is_return = true;
	tr_note_site(t, s);
	tr_indirect(t, t->key, true);
}

/* JMP and CALL through a register or memory. The target waits in RDI's place while the stack is
 * checked: three scratch registers are needed. */
void tr_jump_indirect(struct tr *t, const struct tr_insn *i)
{
	const struct x86_opnd *o = &i->x.opnd[0];
	bool is_call = i->fx.kind == BT_CALL_IND;
	uint16_t avoid = i->fx.reads;

	tr_need(t, i->fx.reads);
	unsigned host = i->group ? tr_group_host(t, i, &avoid) : EMIT_NONE;
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);
	unsigned to = o->kind == X86_O_MEM ? tr_scratch(t, &avoid, false) : o->reg;

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	if (o->kind == X86_O_MEM && i->group) {
		tr_track_access(t);
		emit_mem(&t->e, t->word == 8, 0x8b, to, host, i->index, i->scale, i->off);
	} else if (o->kind == X86_O_MEM) {
		tr_address(t, i, s1);
		tr_translate(t, c, s1, s2, t->word, false, false);
		emit_mem(&t->e, t->word == 8, 0x8b, to, s1, EMIT_NONE, 0, 0);
	}
	if (is_call && i->group && o->kind != X86_O_MEM) {
		tr_push_return(t, i, host, i->off, s2);
	} else if (is_call) {
		emit_lea(&t->e, t->word == 8, s1, RSP, EMIT_NONE, 0, -(int32_t)t->word);
		tr_translate(t, c, s1, s2, t->word, true, false);
		tr_push_return(t, i, s1, 0, s2);
	}
	if (is_call) {
		if (o->kind != X86_O_MEM && to == RSP)  /* the value before the push */
			emit_lea(&t->e, t->word == 8, s1, RSP, EMIT_NONE, 0, (int32_t)t->word), to = s1;
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
	tr_indirect(t, t->key, false);
}
