/* SPDX-License-Identifier: Apache-2.0 */
/* head.c - what comes before a fragment's first instruction: see struct bt_frag. Vcpu thread only. */
#include "cpu/bt/translate.h"

static uint8_t head_size(const struct tr *t)
{
	return (uint8_t)(bt_code_off(t->k, t->e.p) - t->frag->ientry);
}

/* Is R10 the fragment's address? Returns a jump on, if there is something to skip. */
static uint8_t *tr_head_target(struct tr *t)
{
	const struct bt_frag *f = t->frag;
	struct emit *e = &t->e;

	if ((uint64_t)(int32_t)f->va == f->va) {
		emit_alu_ri(e, true, EMIT_CMP, R10, (int32_t)f->va);
	} else {
		emit_mov_ri(e, R11, f->va);
		emit_rr(e, true, 0x39, R11, R10);
	}
	emit_jcc(e, EMIT_NE, t->k->rw + t->k->thunk.miss);
	return f->needs_flags ? emit_jmp(e, NULL) : NULL;
}

static void head_leave_if(struct tr *t, unsigned cc)
{
	t->head_jump[t->n_head_jumps++] = emit_jcc(&t->e, cc, NULL);
}

/* One less of the counter at OFF; leave when there is none. */
static void head_count(struct tr *t, uint32_t off)
{
	emit_alu_gs_i(&t->e, EMIT_SUB, off, 1);
	head_leave_if(t, EMIT_S);
}

static void tr_poll(struct tr *t)
{
	emit_cmp_gs_0(&t->e, (uint32_t)offsetof(struct bt_cpu, i.req));
	head_leave_if(t, EMIT_NE);
	if (t->b->is_checked)
		head_count(t, BT_OFF(fuel));
}

void tr_at_boundary(struct tr *t)
{
	t->in_host = BOUNDARY_HOST;
	t->in_mem = BOUNDARY_MEM;
	memset(t->holds, 0, sizeof(t->holds));
	t->stored = 0;
	t->fl_host = false;
	t->fl_slot = t->frag->needs_flags;
	t->is_ymm_noted = false;
}

void tr_head(struct tr *t)
{
	struct bt_frag *f = t->frag;
	struct emit *e = &t->e;
	unsigned priv = t->key & BT_KEY_PRIV, slot = f->va >> 12 & (ICPU_TLB_SIZE - 1);
	uint32_t tag = bt_inline_at(priv, ICPU_EXEC, slot);

	tr_at_boundary(t);
	f->ientry = bt_code_off(t->k, e->p);
	uint8_t *skip = f->has_head ? tr_head_target(t) : NULL;

	f->xentry = head_size(t);
	if (f->needs_flags) {
		t->fl_host = true;
		t->fl_slot = false;
		tr_save_flags(t, R11);
	}
	if (skip)
		emit_patch(skip, e->p);
	t->fl_host = false;
	t->fl_slot = f->needs_flags;
	f->lentry = head_size(t);
	if (f->has_head) {
		emit_alu_gs_i(e, EMIT_CMP, tag, t->page->id);
		head_leave_if(t, EMIT_NE);
	}
	f->ventry = head_size(t);
	f->vec = (t->uses_vec ? BT_VEC_XMM : 0) | (t->uses_x87 ? BT_VEC_X87 : 0);
	if (t->uses_vec) {
		t->vec_jump = emit_jump_if_byte_zero(e, t->uses_x87 ? BT_OFF(x87_live) : BT_OFF(vec_live));
		t->vec_back = bt_code_off(t->k, e->p);
	}
	f->entry = head_size(t);
	if (f->has_head)
		tr_poll(t);
	if (f->may_loop)
		head_count(t, BT_OFF(loop_turns));
	f->body = head_size(t);
}

void tr_head_cold(struct tr *t)
{
	struct emit *e = &t->e;

	for (unsigned n = 0; n < t->n_head_jumps; n++)
		emit_patch(t->head_jump[n], e->p);
	if (t->frag->has_head) {
		emit_mov_ri(e, R11, bt_arena_off(t->k, t->frag));
		emit_jmp(e, t->k->rw + t->k->thunk.exit_head);
	}
	if (!t->uses_vec)
		return;
	emit_patch(t->vec_jump, e->p);
	emit_rex(e, true, R10, 0, 0);                   /* lea r10, [rip + back] */
	emit8(e, 0x8d);
	emit8(e, (R10 & 7) << 3 | 5);
	emit32(e, 0);
	emit_patch(e->p - 4, t->k->rw + t->vec_back);
	emit_jmp(e, t->k->rw + (t->uses_x87 ? t->k->thunk.x87_load : t->k->thunk.vec_load));
}
