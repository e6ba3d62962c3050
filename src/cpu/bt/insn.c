/* SPDX-License-Identifier: Apache-2.0 */
/* insn.c - the translation of instructions that do not transfer control. Vcpu thread only. */
#include "cpu/bt/translate.h"

/* Without an operand in memory. INC and DEC of 32-bit code have opcodes that are REX prefixes here. */
static void tr_copy_reg(struct tr *t, const struct tr_insn *i)
{
	const struct x86_row *row = i->x.row;

	if (!row->map && row->opcode >= 0x40 && row->opcode < 0x50) {
		if (i->x.opsize == 2)
			emit8(&t->e, 0x66);
		emit_rr(&t->e, false, 0xff, i->x.op == X86_OP_DEC, i->x.opnd[0].reg);
		tr_track_begun(t);
		return;
	}
	memcpy(t->e.p, i->bytes, i->x.len);
	t->e.p += i->x.len;
	tr_track_begun(t);
}

void tr_copy(struct tr *t, const struct tr_insn *i)
{
	const struct bt_effects *fx = &i->fx;
	uint16_t avoid;

	tr_vex_before(t, i);
	tr_need(t, tr_reads(t, i));
	avoid = tr_used(t, i);
	if (!fx->mem_size) {
		if (tr_needs_host_flags(i) && !t->fl_host) {
			avoid |= fx->writes;
			tr_restore_flags(t, tr_scratch(t, &avoid, false));
		}
		tr_copy_reg(t, i);
		tr_vex_after(t, i);
		tr_wrote(t, fx->writes);
		tr_flags_after(t, i);
		return;
	}
	if (i->group) {
		unsigned host = tr_group_host(t, i, &avoid);

		if (tr_needs_host_flags(i) && !t->fl_host) {
			avoid |= fx->writes;
			tr_restore_flags(t, tr_scratch(t, &avoid, false));
		}
		tr_copy_mem(t, i, host, i->off);
		tr_wrote(t, fx->writes);
		tr_flags_after(t, i);
		return;
	}
	unsigned s1 = tr_scratch(t, &avoid, tr_has_high_byte(&i->x)), s2 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	tr_address(t, i, s1);
	tr_translate(t, c, s1, s2, fx->mem_size, fx->mem_is_write,
		     fx->mem_size >= 16 && (i->x.row->flags & X86_R_ALIGN16));
	tr_restore_for(t, i, s2);
	tr_copy_mem(t, i, s1, 0);
	tr_wrote(t, fx->writes);
	tr_flags_after(t, i);
	tr_need(t, IMPLICIT);
	t->in_mem &= (uint16_t)~IMPLICIT;       /* the next may write them without saying so */
	tr_resume_here(t, c);
}

void tr_lea_rip(struct tr *t, const struct tr_insn *i)
{
	uint64_t va = (uint64_t)i->x.disp + (i->x.base == X86_REG_RIP ? i->va + i->x.len : 0);

	emit_mov_ri(&t->e, i->x.opnd[0].reg, t->key & BT_KEY_32 ? (uint32_t)va : va);
	tr_wrote(t, i->fx.writes);
}

void tr_move_sp(struct tr *t, unsigned from, int32_t by)
{
	emit_lea(&t->e, t->word == 8, RSP, from, EMIT_NONE, 0, by);
	tr_track_begun(t);
}

/* May RSP lag behind while I runs? It has no way out then, and finds its stack by the host address of a group. */
static bool tr_may_owe_sp(const struct tr *t, const struct tr_insn *i)
{
	const uint16_t sp = 1 << RSP;
	bool is_checked = i->group && i->group->first != t->now;

	switch (i->fx.kind) {
	case BT_COPY:
		return !i->fx.mem_size && !((i->fx.reads | i->fx.writes) & sp);
	case BT_PUSH:
		return is_checked && (i->x.opnd[0].kind == X86_O_IMM || i->x.opnd[0].reg != RSP);
	case BT_POP:
		return is_checked && i->x.opnd[0].reg != RSP;
	case BT_RET:
		return is_checked;
	default:
		return false;
	}
}

void tr_settle_sp(struct tr *t, const struct tr_insn *i)
{
	if (!t->sp_owed || (i && tr_may_owe_sp(t, i)))
		return;
	emit_lea(&t->e, true, RSP, RSP, EMIT_NONE, 0, t->sp_owed);
	t->sp_owed = 0;
	tr_track(t);
}

void tr_add_sp(struct tr *t, int32_t by)
{
	if (t->word == 8)
		t->sp_owed += by;
	else
		tr_move_sp(t, RSP, by);
}

/* The end of a PUSH: VAL or the immediate to [HOST + OFF]. */
static void tr_store_pushed(struct tr *t, const struct tr_insn *i, unsigned val, unsigned host, int32_t off)
{
	if (i->x.opnd[0].kind == X86_O_IMM) {
		emit_mem(&t->e, t->word == 8, 0xc7, 0, host, EMIT_NONE, 0, off);
		emit32(&t->e, (uint32_t)i->x.imm);
	} else {
		emit_mem(&t->e, t->word == 8, 0x89, val, host, EMIT_NONE, 0, off);
	}
	if (i->group)
		tr_add_sp(t, -(int32_t)t->word);
	else
		tr_move_sp(t, RSP, -(int32_t)t->word);  /* its cold path comes back when all has been done */
	tr_wrote(t, 1 << RSP);
}

void tr_push(struct tr *t, const struct tr_insn *i)
{
	const struct x86_opnd *o = &i->x.opnd[0];
	uint16_t avoid = i->fx.reads;

	tr_need(t, i->fx.reads);
	if (i->group) {
		tr_store_pushed(t, i, o->reg, tr_group_host(t, i, &avoid), i->off);
		return;
	}
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);
	unsigned val = o->kind == X86_O_MEM ? tr_scratch(t, &avoid, false) : o->reg;

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	if (o->kind == X86_O_MEM) {
		tr_address(t, i, s1);
		tr_translate(t, c, s1, s2, t->word, false, false);
		emit_mem(&t->e, t->word == 8, 0x8b, val, s1, EMIT_NONE, 0, 0);
	}
	emit_lea(&t->e, t->word == 8, s1, RSP, EMIT_NONE, 0, -(int32_t)t->word);
	tr_translate(t, c, s1, s2, t->word, true, false);
	tr_store_pushed(t, i, val, s1, 0);
	tr_resume_here(t, c);
}

/* POP and LEAVE: *reg = [from]; rsp = from + 8. */
void tr_pop(struct tr *t, const struct tr_insn *i, unsigned reg, unsigned from)
{
	uint16_t avoid = (uint16_t)(1u << reg) & t->in_host;

	if (i->group) {
		unsigned host = tr_group_host(t, i, &avoid);

		if (tr_is_window(t) && from != RSP) {   /* what may fault comes first */
			unsigned val = tr_scratch(t, &avoid, false);

			emit_mem(&t->e, t->word == 8, 0x8b, val, host, EMIT_NONE, 0, i->off);
			tr_move_sp(t, from, (int32_t)t->word);
			emit_mov_rr(&t->e, reg, val);
			tr_wrote(t, (uint16_t)(1u << reg | 1u << RSP));
			return;
		}
		if (from != RSP || (reg == RSP && !tr_is_window(t)))
			tr_move_sp(t, from, (int32_t)t->word);
		emit_mem(&t->e, t->word == 8, 0x8b, reg, host, EMIT_NONE, 0, i->off);
		if (from == RSP && reg != RSP)
			tr_add_sp(t, (int32_t)t->word);
		tr_wrote(t, (uint16_t)(1u << reg | 1u << RSP));
		return;
	}
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	emit_mov_rr(&t->e, s1, from);
	tr_translate(t, c, s1, s2, t->word, false, false);
	tr_move_sp(t, from, (int32_t)t->word);
	emit_mem(&t->e, t->word == 8, 0x8b, reg, s1, EMIT_NONE, 0, 0);
	tr_wrote(t, (uint16_t)(1u << reg | 1u << RSP));
	tr_resume_here(t, c);
}

void tr_clear_rflag(struct tr *t, const struct tr_insn *i)
{
	uint16_t avoid = 0;
	uint32_t bit = i->x.op == X86_OP_CLI ? X86_IF : X86_DF;

	if (tr_live_before(i) && !t->fl_slot)
		tr_save_flags(t, tr_scratch(t, &avoid, false));
	t->fl_host = false;
	emit_alu_gs_i(&t->e, EMIT_AND, (uint32_t)offsetof(struct bt_cpu, i.s.rflags), ~bit);
}

/* DIV faults exactly when the quotient does not fit, which is when the high half is not less than the
 * divisor; that covers 0. */
void tr_div(struct tr *t, const struct tr_insn *i)
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
void tr_idiv(struct tr *t, const struct tr_insn *i)
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

void tr_call_out(struct tr *t, const struct tr_insn *i)
{
	struct bt_site *s = tr_site(t, i);

	tr_boundary(t);
	emit_store32_imm(&t->e, BT_OFF(site), bt_arena_off(t->k, s));
	emit_jmp(&t->e, t->k->rw + (t->fl_slot ? t->k->thunk.call_slot : t->k->thunk.call_host));
	t->in_host = t->in_mem = 0xffff;
	memset(t->holds, 0, sizeof(t->holds));
	t->fl_host = t->fl_slot = true;
	if (t->is_crossing || !tr_ends_fragment(i))
		s->resume = bt_code_off(t->k, t->e.p);
}
