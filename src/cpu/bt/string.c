/* SPDX-License-Identifier: Apache-2.0 */
/* string.c - instructions whose addresses depend on more than their operand: strings (MOVS, STOS,
 * LODS, CMPS, SCAS, with and without REP) and bits counted from memory by a register (BT and its
 * kin). Intel SDM vol. 2. Vcpu thread only.
 *
 * A string instruction runs as it is, with RSI and RDI exchanged for host addresses, when it goes upward. One that
 * compares must lie in one page each. The others are done in parts that do. After each part the guest is between two
 * iterations, where the instruction may be interrupted. An element that lies in two pages is the interpreter's. */
#include "cpu/bt/system.h"

enum { PAGE = 4096 };

static bool string_has_source(const struct x86_insn *x)
{
	return x->op == X86_OP_MOVS || x->op == X86_OP_CMPS || x->op == X86_OP_LODS;
}

static bool string_has_dest(const struct x86_insn *x)
{
	return x->op != X86_OP_LODS;
}

static bool string_is_compare(const struct x86_insn *x)
{
	return x->op == X86_OP_CMPS || x->op == X86_OP_SCAS;
}

static bool string_is_repeated(const struct x86_insn *x)
{
	return x->prefixes & (X86_P_REP | X86_P_REPNE);
}

static unsigned string_size(const struct x86_insn *x)
{
	unsigned size = x->opnd[0].size;

	return size ? size : x->opnd[1].size;
}

enum bt_kind bt_string_kind(const struct x86_insn *x)
{
	const struct x86_opnd *o = x->opnd;

	switch (x->op) {
	case X86_OP_MOVS: case X86_OP_CMPS: case X86_OP_STOS: case X86_OP_LODS: case X86_OP_SCAS:
		return x->adsize == 8 && !(string_has_source(x) && x->seg >= X86_FS) ? BT_STRING : BT_CALL_OUT;
	case X86_OP_BT: case X86_OP_BTS: case X86_OP_BTR: case X86_OP_BTC:
		return o[0].kind == X86_O_MEM && o[1].kind == X86_O_REG && x->adsize == 8 ? BT_BIT_STRING : BT_CALL_OUT;
	default:
		return BT_CALL_OUT;
	}
}

void bt_string_effects(struct bt_effects *fx, const struct x86_insn *x)
{
	uint16_t indices = (string_has_source(x) ? 1 << RSI : 0) | (string_has_dest(x) ? 1 << RDI : 0);
	uint16_t count = string_is_repeated(x) ? 1 << RCX : 0;

	fx->reads = indices | count | (x->op != X86_OP_MOVS && x->op != X86_OP_CMPS ? 1 << RAX : 0);
	fx->writes = indices | count | (x->op == X86_OP_LODS ? 1 << RAX : 0);
	if (!string_is_compare(x))
		return;
	fx->fl_writes = X86_FLAGS_ARITH;
	fx->fl_kills = count ? 0 : X86_FLAGS_ARITH;     /* with a count of 0 they stay */
}

/* HOST = where REG points to in the host; gives up when the string ends in another page. */
static void string_host(struct tr *t, struct tr_cold *c, const struct x86_insn *x, unsigned host, unsigned tmp,
			unsigned reg, bool is_write)
{
	struct emit *e = &t->e;

	if (string_is_repeated(x)) {
		unsigned scale = (unsigned)__builtin_ctz(string_size(x));

		emit_rr(e, false, 0x89, reg, tmp);
		emit_alu_ri(e, false, EMIT_AND, tmp, PAGE - 1);
		emit_lea(e, true, tmp, tmp, RCX, scale, 0);
		emit_alu_ri(e, true, EMIT_CMP, tmp, PAGE);
		tr_give_up_if(t, c, EMIT_A);
	}
	emit_mov_rr(e, host, reg);
	tr_translate(t, c, host, tmp, string_is_repeated(x) ? 1 : string_size(x), is_write, false);
}

/* REG = HOST, and HOST = what turns it back. */
static void string_exchange(struct tr *t, unsigned reg, unsigned host)
{
	emit_alu_rr(&t->e, true, EMIT_SUB, reg, host);
	emit_rr(&t->e, true, 0x87, reg, host);
}

/* Without prefixes that mean nothing. */
static void string_copy(struct tr *t, const struct tr_insn *i)
{
	unsigned size = string_size(&i->x);
	struct emit *e = &t->e;

	if (size == 2)
		emit8(e, 0x66);
	if (string_is_repeated(&i->x))
		emit8(e, i->x.prefixes & X86_P_REP ? 0xf3 : 0xf2);
	emit_rex(e, size == 8, 0, 0, 0);
	emit8(e, i->x.row->opcode);
}

/* The check of C is worth another try, by bt_refill(), which loses R10 and R11. */
static void string_note_miss(struct tr_cold *c, const struct x86_insn *x)
{
	if (c->in_host & BOUNDARY_MEM)
		return;
	c->site->miss = BT_MISS_STRING;
	c->site->base = string_has_source(x) ? RSI : X86_NO_REG;
	c->site->index = string_has_dest(x) ? RDI : X86_NO_REG;
	c->site->is_write = !string_is_compare(x);
}

/* Run I with RSI at S1 and RDI at S2, of those that it has. S3 is free. */
static void string_run(struct tr *t, const struct tr_insn *i, unsigned s1, unsigned s2, unsigned s3)
{
	bool has_source = string_has_source(&i->x), has_dest = string_has_dest(&i->x);

	if (has_source)
		string_exchange(t, RSI, s1);
	if (has_dest)
		string_exchange(t, RDI, s2);
	tr_restore_for(t, i, s3);
	string_copy(t, i);
	if (has_source)
		emit_lea(&t->e, true, RSI, RSI, s1, 0, 0);
	if (has_dest)
		emit_lea(&t->e, true, RDI, RDI, s2, 0, 0);
}

/* All at once. */
static void string_whole(struct tr *t, const struct tr_insn *i, struct tr_cold *c, unsigned s1, unsigned s2, unsigned s3)
{
	const struct x86_insn *x = &i->x;

	if (string_is_repeated(x)) {                    /* so that what follows cannot overflow */
		emit_alu_ri(&t->e, true, EMIT_CMP, RCX, PAGE);
		tr_give_up_if(t, c, EMIT_A);
	}
	if (string_has_source(x))
		string_host(t, c, x, s1, s3, RSI, false);
	if (string_has_dest(x))
		string_host(t, c, x, s2, s3, RDI, !string_is_compare(x));
	string_run(t, i, s1, s2, s3);
}

/* RCX = elements in the present pages, not more than it was, and what is left of them to memory. Loses S3. */
static void string_take_part(struct tr *t, const struct x86_insn *x, struct tr_cold *c, unsigned s3)
{
	unsigned log = (unsigned)__builtin_ctz(string_size(x));
	struct emit *e = &t->e;

	emit_store(e, RCX, BT_GPR(RCX));
	emit_mov_rr(e, s3, string_has_source(x) ? RSI : RDI);
	emit_alu_ri(e, true, EMIT_OR, s3, -PAGE);       /* less than 0 by the bytes in its page */
	if (string_has_source(x) && string_has_dest(x)) {
		emit_mov_rr(e, RCX, RDI);
		emit_alu_ri(e, true, EMIT_OR, RCX, -PAGE);
		emit_alu_rr(e, true, EMIT_CMP, s3, RCX);
		emit_cmov(e, EMIT_L, s3, RCX);
		emit_load(e, RCX, BT_GPR(RCX));
	}
	emit_rr(e, true, 0xf7, 3, s3);                  /* neg */
	if (log) {
		emit_shift_ri(e, true, EMIT_SHR, s3, log);
		tr_give_up_if(t, c, EMIT_E);
	}
	emit_alu_rr(e, true, EMIT_CMP, s3, RCX);
	emit_cmov(e, EMIT_A, s3, RCX);
	emit_alu_rr(e, true, EMIT_SUB, RCX, s3);
	emit_store(e, RCX, BT_GPR(RCX));
	emit_mov_rr(e, RCX, s3);
}

/* What one page has of each, again and again; a request is the interpreter's to see. */
static void string_in_parts(struct tr *t, const struct tr_insn *i, struct tr_cold *c, unsigned s1, unsigned s2, unsigned s3)
{
	const struct x86_insn *x = &i->x;
	struct emit *e = &t->e;

	emit_rr(e, true, 0x85, RCX, RCX);               /* test */
	uint8_t *none = emit_jcc(e, EMIT_E, NULL), *again = e->p;

	if (string_has_source(x)) {
		emit_mov_rr(e, s1, RSI);
		tr_translate(t, c, s1, s3, 1, false, false);
	}
	if (string_has_dest(x)) {
		emit_mov_rr(e, s2, RDI);
		tr_translate(t, c, s2, s3, 1, true, false);
	}
	string_take_part(t, x, c, s3);
	string_run(t, i, s1, s2, s3);
	emit_load(e, RCX, BT_GPR(RCX));
	emit_rr(e, true, 0x85, RCX, RCX);
	uint8_t *done = emit_jcc(e, EMIT_E, NULL);

	emit_alu_gs_i(e, EMIT_CMP, (uint32_t)offsetof(struct bt_cpu, i.req), 0);
	tr_give_up_if(t, c, EMIT_NE);
	emit_jmp(e, again);
	emit_patch(none, e->p);
	emit_patch(done, e->p);
}

void tr_string(struct tr *t, const struct tr_insn *i)
{
	const struct x86_insn *x = &i->x;
	uint16_t avoid = i->fx.reads | i->fx.writes | 1 << RSI | 1 << RDI;

	tr_need(t, i->fx.reads);
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false), s3 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s3);
	struct tr_cold *c = tr_cold_new(t, i);

	emit_test_gs_i(&t->e, BT_OFF(i.s.rflags), X86_DF);
	tr_give_up_if(t, c, EMIT_NE);
	if (string_is_repeated(x) && !string_is_compare(x))
		string_in_parts(t, i, c, s1, s2, s3);
	else
		string_whole(t, i, c, s1, s2, s3);
	string_note_miss(c, x);
	tr_wrote(t, i->fx.writes);
	tr_flags_after(t, i);
	tr_resume_here(t, c);
}

/* --- bits ------------------------------------------------------------------------------------- */

/* S1 = the address of the word of I's memory operand that has the bit of register REG. */
static void bit_address(struct tr *t, const struct tr_insn *i, unsigned s1, unsigned s2, unsigned reg, unsigned size)
{
	struct emit *e = &t->e;
	unsigned log = (unsigned)__builtin_ctz(size);

	tr_address(t, i, s1);
	if (size == 2) {                                /* movsx s2, reg16 */
		emit_rex(e, true, s2, 0, reg);
		emit8(e, 0x0f); emit8(e, 0xbf);
		emit8(e, 0xc0 | (s2 & 7) << 3 | (reg & 7));
	} else if (size == 4) {
		emit_rr(e, true, 0x63, s2, reg);        /* movsxd */
	} else {
		emit_mov_rr(e, s2, reg);
	}
	emit_shift_ri(e, true, EMIT_SAR, s2, log + 3);
	emit_lea(e, true, s1, s1, s2, log, 0);
}

/* With LOCK in memory, by the bit's number in its word; else in a register, which is faster. */
void tr_bit_string(struct tr *t, const struct tr_insn *i)
{
	unsigned reg = i->x.opnd[1].reg, size = i->x.opnd[0].size, opcode = i->x.row->opcode;
	bool is_locked = i->x.prefixes & X86_P_LOCK;
	uint16_t avoid = i->fx.reads;
	struct emit *e = &t->e;

	tr_need(t, i->fx.reads);
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false), s3 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	bit_address(t, i, s1, s2, reg, size);
	tr_translate(t, c, s1, s2, size, i->fx.mem_is_write, false);
	emit_rr(e, false, 0x89, reg, s3);
	emit_alu_ri(e, false, EMIT_AND, s3, 8 * (int)size - 1);
	tr_restore_for(t, i, s2);
	if (is_locked)
		emit8(e, 0xf0);
	if (size == 2)
		emit8(e, 0x66);
	if (is_locked || size == 2) {
		emit_rex(e, size == 8, s3, 0, s1);
		emit8(e, 0x0f); emit8(e, opcode);
		emit_modrm_mem(e, s3, s1, EMIT_NONE, 0, 0);
	} else {
		emit_mem(e, size == 8, 0x8b, s2, s1, EMIT_NONE, 0, 0);
		emit_rex(e, size == 8, s3, 0, s2);
		emit8(e, 0x0f); emit8(e, opcode);
		emit8(e, 0xc0 | (s3 & 7) << 3 | (s2 & 7));
		if (i->fx.mem_is_write)
			emit_mem(e, size == 8, 0x89, s2, s1, EMIT_NONE, 0, 0);
	}
	tr_flags_after(t, i);
	tr_resume_here(t, c);
}
