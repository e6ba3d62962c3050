/* SPDX-License-Identifier: Apache-2.0 */
/* x87.c - x87 and MMX instructions, and those that load a control word (SDM vol. 1 chapters 8 and 9).
 *
 * They run as they are while every exception is masked, on the guest's own registers (vec.c). What loads
 * or stores more than one register or a control word is the interpreter's, but for FLDCW and LDMXCSR, which
 * programs use to set a rounding mode: they are native as long as all exceptions stay masked.
 *
 * FIP, FOP and FDP are to be the guest's, as the interpreter keeps them, and the host's tell of
 * translated code. So each instruction leaves behind which one it is (x87_note), and where its operand is. */
#include "cpu/bt/translate.h"

enum bt_kind bt_x87_kind(const struct x86_insn *x, unsigned key)
{
	if ((key & BT_KEY_FP) < BT_KEY_X87)
		return BT_CALL_OUT;
	switch (x->op) {
	case X86_OP_FNINIT: case X86_OP_MASKMOVQ:
		return BT_CALL_OUT;
	case X86_OP_FLDCW:
		return BT_LOAD_CONTROL;
	case X86_OP_WAIT: case X86_OP_FNOP:
		return BT_NOTHING;              /* no exception is ever pending */
	case X86_OP_FNSTSW: case X86_OP_FNSTCW: case X86_OP_FNCLEX:
		return BT_COPY;
	default:
		return x->row->flags & X86_R_X87 ? BT_X87 : BT_COPY;
	}
}

void bt_x87_settle(struct bt_cpu *b)
{
	uint8_t *fx = b->i.s.xsave;

	if (__builtin_expect(!b->x87_note, 1))
		return;
	const struct bt_x87_note *n = bt_arena_at(b->cache, b->x87_note);

	memcpy(fx + X86_FX_FOP, &n->fop, sizeof(n->fop));
	memcpy(fx + X86_FX_FIP, &n->fip, sizeof(n->fip));
	b->x87_note = 0;
}

void tr_x87(struct tr *t, const struct tr_insn *i)
{
	struct bt_x87_note *n = bt_arena_alloc(t->k, sizeof(*n));
	uint16_t avoid = i->fx.reads;

	n->fip = i->va;
	n->fop = (uint16_t)((i->x.row->opcode & 7) << 8 | i->x.modrm);
	tr_copy(t, i);
	emit_store32_imm(&t->e, BT_OFF(x87_note), bt_arena_off(t->k, n));
	if (!i->fx.mem_size)
		return;
	unsigned s1 = tr_scratch(t, &avoid, false);

	tr_offset(t, i, s1);
	emit_store(&t->e, s1, (uint32_t)offsetof(struct bt_cpu, i.s.xsave) + X86_FX_FDP);
}

/* Judged and loaded from a copy: another processor may be writing to the operand. What unmasks an
 * exception, or makes LDMXCSR fault, is for the cold path, which leaves: the key changes. */
void tr_load_control(struct tr *t, const struct tr_insn *i)
{
	bool is_mxcsr = i->x.op == X86_OP_LDMXCSR;
	uint32_t masks = is_mxcsr ? 0x1f80 : 0x3f, judged = is_mxcsr ? 0xffff0000 | masks : masks;
	uint16_t avoid = i->fx.reads;
	struct emit *e = &t->e;

	tr_need(t, i->fx.reads);
	unsigned s1 = tr_scratch(t, &avoid, false), s2 = tr_scratch(t, &avoid, false);

	tr_give_flags(t, i, s2);
	struct tr_cold *c = tr_cold_new(t, i);

	tr_address(t, i, s1);
	tr_translate(t, c, s1, s2, i->fx.mem_size, false, false);
	if (!is_mxcsr)
		emit8(e, 0x66);                 /* the rest of S2 counts for nothing */
	emit_mem(e, false, 0x8b, s2, s1, EMIT_NONE, 0, 0);
	emit_store32(e, s2, BT_OFF(control));
	emit_alu_ri(e, false, EMIT_AND, s2, (int32_t)judged);
	emit_alu_ri(e, false, EMIT_CMP, s2, (int32_t)masks);
	tr_give_up_if(t, c, EMIT_NE);
	emit8(e, 0x65);                         /* ldmxcsr or fldcw gs:[control] */
	if (is_mxcsr)
		emit8(e, 0x0f);
	emit8(e, is_mxcsr ? 0xae : 0xd9);
	emit8(e, (is_mxcsr ? 2 : 5) << 3 | 4);
	emit8(e, 0x25);
	emit32(e, BT_OFF(control));
}
