/* SPDX-License-Identifier: Apache-2.0 */
/* ring.c - system instructions after which another kind of fragment runs: SYSCALL and SYSRET change
 * the privilege, STAC and CLAC what may be accessed, SERIALIZE the code (Intel SDM vol. 2). Vcpu
 * thread only.
 *
 * The first two go on through the table of indirect jumps of the other privilege. */
#include "cpu/bt/system.h"

/* Flat segments as these instructions make them (SDM vol. 2, SYSCALL). */
enum {
	FLAT = X86_SEG_G | X86_SEG_P | X86_SEG_S | X86_SEG_RW | X86_SEG_ACCESSED,
	FLAT_SS = FLAT | X86_SEG_DB,
	FLAT_CS = FLAT | X86_SEG_L | X86_SEG_CODE,
	/* What SYSRET may bring without further ado. */
	PLAIN_FLAGS = X86_FLAGS_ARITH | X86_IF,
	SYSRET_FLAGS = 0x3c7fd7,
};

/* Segment SEG = the selector in SEL, which grows by ADD first. */
static void ring_set_flat(struct tr *t, enum x86_sreg seg, unsigned sel, int add, uint32_t attr, unsigned cpl)
{
	uint32_t at = BT_OFF(i.s.seg) + (uint32_t)sizeof(struct x86_seg) * seg;
	struct emit *e = &t->e;

	emit_lea(e, false, sel, sel, EMIT_NONE, 0, add);
	emit_store16(e, sel, at + (uint32_t)offsetof(struct x86_seg, sel));
	emit_store32_imm(e, at + (uint32_t)offsetof(struct x86_seg, attr), attr | cpl << X86_SEG_DPL_SHIFT);
	emit_store32_imm(e, at + (uint32_t)offsetof(struct x86_seg, limit), 0xffffffff);
	emit_store_imm(e, at + (uint32_t)offsetof(struct x86_seg, base), 0, EMIT_NONE);
}

/* Registers and flags to where they are between fragments; R10 and R11 are free after it. */
static struct tr_cold *ring_begin(struct tr *t, const struct tr_insn *i)
{
	tr_boundary(t);
	t->in_host = BOUNDARY_HOST;
	tr_give_flags(t, i, R11);
	struct tr_cold *c = tr_cold_new(t, i);

	emit_test_gs_i(&t->e, BT_OFF(i.s.efer), X86_EFER_SCE);
	tr_give_up_if(t, c, EMIT_E);
	return c;
}

static void ring_go(struct tr *t, const struct tr_cold *c, unsigned cpl)
{
	emit_set_byte(&t->e, BT_OFF(i.cpl), cpl);
	emit_store32_imm(&t->e, BT_OFF(site), bt_arena_off(t->k, c->site));
	tr_indirect(t, cpl ? t->key | BT_KEY_USER : t->key & ~(unsigned)BT_KEY_USER, false);
}

static void ring_syscall(struct tr *t, const struct tr_insn *i)
{
	struct tr_cold *c = ring_begin(t, i);
	struct emit *e = &t->e;

	tr_rflags_get(t, R10, R11);
	emit_store(e, R10, BT_GPR(R11));
	emit_mov_ri(e, RCX, i->va + i->x.len);
	emit_load(e, R11, BT_OFF(i.s.fmask));
	emit_rr(e, true, 0xf7, 2, R11);                 /* not */
	emit_alu_rr(e, true, EMIT_AND, R10, R11);
	emit_alu_ri(e, true, EMIT_OR, R10, X86_FLAGS_FIXED);
	emit_store(e, R10, BT_OFF(i.s.rflags));
	tr_rflags_split(t, R10, R11);
	emit_load16(e, R10, BT_OFF(i.s.star) + 4);
	emit_alu_ri(e, false, EMIT_AND, R10, 0xfffc);
	ring_set_flat(t, X86_CS, R10, 0, FLAT_CS, 0);
	ring_set_flat(t, X86_SS, R10, 8, FLAT_SS, 0);
	emit_load(e, R10, BT_OFF(i.s.lstar));
	ring_go(t, c, 0);
}

static void ring_sysret(struct tr *t, const struct tr_insn *i)
{
	struct tr_cold *c = ring_begin(t, i);
	struct emit *e = &t->e;

	tr_unless_waiting(t, c);
	emit_mov_rr(e, R10, RCX);
	emit_shift_ri(e, true, EMIT_SHL, R10, 16);
	emit_shift_ri(e, true, EMIT_SAR, R10, 16);
	emit_alu_rr(e, true, EMIT_CMP, R10, RCX);
	tr_give_up_if(t, c, EMIT_NE);
	emit_load(e, R10, BT_GPR(R11));
	emit_test_ri(e, false, R10, SYSRET_FLAGS & ~(PLAIN_FLAGS | X86_FLAGS_FIXED));
	tr_give_up_if(t, c, EMIT_NE);
	emit_alu_ri(e, false, EMIT_AND, R10, PLAIN_FLAGS);
	emit_alu_ri(e, false, EMIT_OR, R10, X86_FLAGS_FIXED);
	emit_store(e, R10, BT_OFF(i.s.rflags));
	tr_rflags_split(t, R10, R11);
	emit_load16(e, R10, BT_OFF(i.s.star) + 6);
	emit_lea(e, false, R10, R10, EMIT_NONE, 0, 8);
	emit_alu_ri(e, false, EMIT_OR, R10, 3);
	ring_set_flat(t, X86_SS, R10, 0, FLAT_SS, 3);
	emit_load16(e, R10, BT_OFF(i.s.star) + 6);
	emit_lea(e, false, R10, R10, EMIT_NONE, 0, 16);
	emit_alu_ri(e, false, EMIT_OR, R10, 3);
	ring_set_flat(t, X86_CS, R10, 0, FLAT_CS, 3);
	emit_mov_rr(e, R10, RCX);
	ring_go(t, c, 3);
}

/* Go on after I by way of the poll, so that code that has changed is noticed. */
static void ring_serialize(struct tr *t, const struct tr_insn *i)
{
	tr_boundary(t);
	tr_link(t, i, emit_jmp(&t->e, NULL), i->va + i->x.len);
	if (t->links[t->n_links - 1].kind == BT_LINK_FORWARD)
		t->links[t->n_links - 1].kind = BT_LINK_BACKWARD;
}

/* The next fragment has another key: the one that the dispatcher finds when it makes the link. */
static void ring_set_ac(struct tr *t, const struct tr_insn *i)
{
	tr_boundary(t);
	t->in_host = BOUNDARY_HOST;
	tr_give_flags(t, i, R11);
	if (i->x.op == X86_OP_STAC)
		emit_alu_gs_i(&t->e, EMIT_OR, BT_OFF(i.s.rflags), X86_AC);
	else
		emit_alu_gs_i(&t->e, EMIT_AND, BT_OFF(i.s.rflags), ~(uint32_t)X86_AC);
	tr_link(t, i, emit_jmp(&t->e, NULL), i->va + i->x.len);
}

void tr_system_end(struct tr *t, const struct tr_insn *i)
{
	switch (i->x.op) {
	case X86_OP_SYSCALL: ring_syscall(t, i); break;
	case X86_OP_SYSRET: ring_sysret(t, i); break;
	case X86_OP_SERIALIZE: ring_serialize(t, i); break;
	default: ring_set_ac(t, i); break;
	}
}
