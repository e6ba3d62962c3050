/* SPDX-License-Identifier: Apache-2.0 */
/* span.c - an instruction that goes on in the next page, as a fragment of its own. Vcpu thread only.
 *
 * Fragments are found, kept and dropped by one page. That the other one is still mapped where it was, and that the
 * rest of the instruction is still in it, is seen by the code itself, each time: it compares the few bytes in the guest's
 * memory. When they are not, the interpreter runs what is there (run_crossing()). */
#include "cpu/bt/translate.h"

static uint64_t next_page(const struct tr *t, uint64_t va)
{
	uint64_t next = (va & ~0xfffull) + 4096;

	return t->key & BT_KEY_32 ? (uint32_t)next : next;
}

static const uint8_t *tail_host(const struct tr *t)
{
	return t->b->i.mem->host + (t->tail.page << GMEM_PAGE_SHIFT);
}

/* The rest of what may belong to the instruction. */
static bool tail_take(struct tr *t, uint64_t va)
{
	const struct bt_page *p = bt_page_now(t->b, next_page(t, va), t->key);

	if (!p)
		return false;
	t->tail = (struct bt_tail){ .page = p->page, .id = p->id };
	memcpy(t->code + t->n_code, tail_host(t), X86_INSN_MAX - t->n_code);
	return true;
}

bool tr_span(struct tr *t, uint64_t va)
{
	struct tr_insn *i = &t->insn[0];

	/* Who looks ahead sees the same whether the page is known or not: see below. */
	if (!t->is_spanning && (t->is_look || !tail_take(t, va)))
		return false;
	t->is_spanning = tr_decode_one(t, i, va, t->code, X86_INSN_MAX);
	/* All flags are live, as they are when the interpreter runs it. */
	i->fx.fl_reads |= X86_FLAGS_ARITH;
	return t->is_spanning;
}

/* CMP of the bytes from AT on of the next page, R11 being its host address, with those of T's code. */
static void compare(struct tr *t, struct tr_cold *c, unsigned at, unsigned size)
{
	const uint8_t *want = t->code + t->n_code + at;
	uint32_t all;

	emit_mem(&t->e, false, size == 4 ? 0x81 : 0x80, EMIT_CMP, R11, EMIT_NONE, 0, (int32_t)at);
	if (size == 4) {
		memcpy(&all, want, 4);
		emit32(&t->e, all);
	} else {
		emit8(&t->e, *want);
	}
	tr_give_up_if(t, c, EMIT_NE);
}

void tr_check_tail(struct tr *t)
{
	uint64_t va = next_page(t, t->insn[0].va);
	unsigned n = t->insn[0].x.len - t->n_code, at = 0;

	if (!t->is_spanning)
		return;
	struct tr_cold *c = tr_cold_new(t, &t->insn[0]);

	c->site->len = 0;       /* it is not known any more */
	emit_alu_gs_i(&t->e, EMIT_CMP, bt_inline_at(t->key & BT_KEY_PRIV, ICPU_EXEC, va >> GMEM_PAGE_SHIFT & (ICPU_TLB_SIZE - 1)),
		      t->tail.id);
	tr_give_up_if(t, c, EMIT_NE);
	emit_mov_ri(&t->e, R11, (uint64_t)(uintptr_t)tail_host(t));
	for (; at + 4 <= n; at += 4)
		compare(t, c, at, 4);
	if (at < n && n > 4)
		compare(t, c, n - 4, 4);
	for (; at < n && n < 4; at++)
		compare(t, c, at, 1);
}

/* --- what is kept ------------------------------------------------------------------------------ */

size_t tr_tail_size(const struct tr *t)
{
	return t->is_spanning ? X86_INSN_MAX - t->n_code + sizeof(t->tail) : 0;
}

void tr_tail_store(const struct tr *t, struct bt_frag *f)
{
	f->is_spanning = t->is_spanning;
	if (!t->is_spanning)
		return;
	memcpy(f->bytes + f->n_bytes, t->code + t->n_code, X86_INSN_MAX - t->n_code);
	memcpy(f->bytes + X86_INSN_MAX, &t->tail, sizeof(t->tail));
}

void tr_tail_load(struct tr *t, const struct bt_frag *f)
{
	t->is_spanning = f->is_spanning;
	if (!f->is_spanning)
		return;
	memcpy(t->code + t->n_code, f->bytes + f->n_bytes, X86_INSN_MAX - t->n_code);
	memcpy(&t->tail, f->bytes + X86_INSN_MAX, sizeof(t->tail));
}
