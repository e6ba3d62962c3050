/* SPDX-License-Identifier: Apache-2.0 */
/* refill.c - a memory access has found no entry in the table: the quick way to make one. Vcpu thread only.
 *
 * This file is compiled for general registers alone, as icpu_tlb_refill() is: the guest's vector and
 * x87 registers stay in the host's meanwhile. */
#include "cpu/bt/bt_priv.h"

static const struct itlb_inline *refill_one(struct icpu *c, uint64_t la, enum icpu_access acc)
{
	unsigned priv = icpu_priv(c);

	if (!icpu_inline_has(c, la, acc) && !icpu_tlb_refill(c, la, acc, priv))
		return NULL;
	return &c->table[priv][acc]->inl[(la >> GMEM_PAGE_SHIFT) % ICPU_TLB_SIZE];
}

/* The pages that the string instruction of S accesses next. False: it was something else, or they cannot be had
 * together. Nothing in the guest changes, so it does no harm if there is no next. */
static bool refill_string(struct icpu *c, const struct bt_site *s)
{
	enum icpu_access acc[] = { ICPU_READ, s->is_write ? ICPU_WRITE : ICPU_READ };
	uint8_t reg[] = { s->base, s->index };
	bool has_all = true;

	for (unsigned i = 0; i < 2; i++)
		has_all &= reg[i] > 15 || icpu_inline_has(c, c->s.gpr[reg[i]], acc[i]);
	if (has_all)
		return false;
	for (unsigned i = 0; i < 2; i++)
		if (reg[i] < 16 && !refill_one(c, c->s.gpr[reg[i]], acc[i]))
			return false;
	return reg[0] > 15 || icpu_inline_has(c, c->s.gpr[reg[0]], acc[0]);
}

const uint8_t *bt_refill(struct bt_cpu *b)
{
	const struct bt_site *s = bt_arena_at(b->cache, b->site);
	bool is_r11 = s->miss & BT_MISS_R11;
	unsigned priv = bt_site_frag(b->cache, s)->page->key & BT_KEY_PRIV;
	enum icpu_access acc = s->miss & BT_MISS_WRITE ? ICPU_WRITE : ICPU_READ;
	uint64_t beyond = b->scratch[is_r11], slot = b->scratch[!is_r11] / sizeof(struct itlb_inline);

	if (s->miss == BT_MISS_STRING)
		return refill_string(&b->i, s) ? b->cache->rx + s->retry : NULL;
	if (!(s->miss & BT_MISS_KNOWN) || slot >= ICPU_TLB_SIZE)
		return NULL;
	/* Something else than the check may have failed, after it; then these are any two numbers. */
	uint64_t la = beyond + b->i.table[priv][acc]->inl[slot].tag;

	if ((la >> GMEM_PAGE_SHIFT) % ICPU_TLB_SIZE != slot || !icpu_tlb_refill(&b->i, la, acc, priv))
		return NULL;
	return b->cache->rx + s->retry;
}

bool bt_refill_two(struct bt_cpu *b, uint64_t la, uint64_t last, enum icpu_access acc)
{
	const struct itlb_inline *first = refill_one(&b->i, la, acc), *second = refill_one(&b->i, last, acc);

	return first && second && (uint64_t)(second->host - first->host) == (last & ~0xfffull) - (la & ~0xfffull);
}
