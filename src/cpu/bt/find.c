/* SPDX-License-Identifier: Apache-2.0 */
/* find.c - fragments by their addresses, links between them, and the quick way on when a link has not been made yet
 * or the table of indirect jumps has something else. Vcpu thread only.
 *
 * This file is compiled for general registers alone: the guest's vector and x87 registers stay in the host's
 * meanwhile. */
#include "cpu/bt/bt_priv.h"

uint32_t *bt_frag_bucket(struct bt_cache *k, uint64_t va, uint32_t id)
{
	return &k->frags[bt_hash(va ^ (uint64_t)id << 40) >> (64 - BT_HASH_BITS)];
}

struct bt_frag *bt_frag_first(struct bt_cache *k, uint64_t va, uint32_t id)
{
	return bt_frag_of(k, *bt_frag_bucket(k, va, id));
}

struct bt_frag *bt_frag_next(const struct bt_cache *k, const struct bt_frag *f)
{
	return bt_frag_of(k, f->next_hash);
}

struct bt_frag *bt_frag_find(struct bt_cache *k, uint64_t va, uint32_t id)
{
	for (struct bt_frag *f = bt_frag_first(k, va, id); f; f = bt_frag_next(k, f))
		if (f->va == va && f->page->id == id && !f->is_split)
			return f;
	return NULL;
}

static void link_point(struct bt_cache *k, const struct bt_link *l, uint32_t to)
{
	emit_patch(k->rw + l->at, k->rw + to);
}

void bt_link_undo(struct bt_cache *k, struct bt_link *l)
{
	l->to = 0;
	link_point(k, l, l->exit);
}

void bt_link_make(struct bt_cache *k, struct bt_link *l, struct bt_frag *to)
{
	if (l->to)
		return;
	bool has_vec = !to->vec || (l->has_vec && !(to->vec & BT_VEC_X87));
	uint32_t near = l->kind == BT_LINK_FORWARD ? to->body : to->entry;
	uint32_t at = l->kind == BT_LINK_PAGE ? to->lentry : !has_vec ? to->ventry : near;

	/* Flags that are live in it: LENTRY and what follows expect them in the slot. */
	if (to->needs_flags && !l->has_slot)
		at = to->xentry;
	link_point(k, l, to->ientry + at);
	l->to = bt_arena_off(k, to);
	l->next_in = to->in;
	to->in = bt_arena_off(k, l);
}

bool bt_indirect_is_return(const struct bt_cpu *b)
{
	return ((const struct bt_site *)bt_arena_at(b->cache, b->site))->is_return;
}

void bt_indirect_set(struct bt_cpu *b, const struct bt_frag *f, bool is_return)
{
	b->ind[f->page->key][bt_indirect_index(f->va, is_return)] = b->cache->rx + f->ientry;
}

void bt_indirect_forget(struct bt_cpu *b, const struct bt_frag *f)
{
	for (unsigned is_return = 0; f->has_head && is_return < 2; is_return++) {
		const uint8_t **ind = &b->ind[f->page->key][bt_indirect_index(f->va, is_return)];

		if (*ind == b->cache->rx + f->ientry)
			*ind = b->cache->rx + b->cache->thunk.miss;
	}
}

/* --- from code -------------------------------------------------------------------------------- */

/* What there is at VA, for now; or NULL. */
static struct bt_frag *find_now(struct bt_cpu *b, uint64_t va)
{
	struct icpu *c = &b->i;
	unsigned key = bt_key_now(c), slot = va >> GMEM_PAGE_SHIFT & (ICPU_TLB_SIZE - 1);

	if (key == BT_NO_KEY || c->code_maybe || atomic_load_explicit(&c->req, memory_order_relaxed))
		return NULL;
	uint64_t id = c->table[key & BT_KEY_PRIV][ICPU_EXEC]->inl[slot].tag;
	struct bt_frag *f = id & 1 ? bt_frag_find(b->cache, va, (uint32_t)id) : NULL;

	return f && f->page->key == key ? f : NULL;
}

const uint8_t *bt_indirect_again(struct bt_cpu *b)
{
	struct bt_frag *f = find_now(b, b->i.s.rip);

	if (!f || !f->has_head)
		return NULL;
	bt_start_note(f->page, f->va);
	bt_indirect_set(b, f, bt_indirect_is_return(b));
	return b->cache->rx + f->ientry + f->lentry;
}

const uint8_t *bt_link_again(struct bt_cpu *b)
{
	struct bt_link *l = bt_arena_at(b->cache, b->exit_link);
	struct bt_frag *f = b->split ? NULL : find_now(b, l->va);

	if (!f || (l->kind != BT_LINK_FORWARD && !f->has_head))
		return NULL;
	bt_start_note(f->page, f->va);
	bt_link_make(b->cache, l, f);
	b->exit_link = 0;
	return b->cache->rx + f->ientry + f->lentry;
}
