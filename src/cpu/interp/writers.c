/* SPDX-License-Identifier: Apache-2.0 */
/* writers.c - by which entries translated code may write to a page. Vcpu thread only.
 *
 * When a page gets a flag the entries to write to it have to go, wherever they are: in the table of the supervisor, in
 * those of any address space, at any address. Where they may be is noted when they are made, in a set for the page's
 * number. What has gone meanwhile stays noted until its place is wanted; a set that is full lets go of an entry, which
 * code makes again. So nothing ever has to be searched for.
 *
 * icpu_writer_note() is called while the guest's vector registers are in the host's. */
#include "cpu/interp/tlb_priv.h"

/* What is noted of an entry: never 0. */
static uint32_t writer_id(const struct icpu *c, const struct itlb_table *t, unsigned slot)
{
	bool is_shared = t >= c->shared_table && t < c->shared_table + ICPU_SHARED_TABLES;
	size_t space = is_shared ? ICPU_N_SPACES : (size_t)(c->space - c->spaces);
	size_t number = (size_t)(t - (is_shared ? c->shared_table : c->space->table));

	return (uint32_t)(((space * ICPU_SPACE_TABLES + number) << ICPU_TLB_BITS | slot) + 1);
}
_Static_assert(ICPU_SHARED_TABLES <= ICPU_SPACE_TABLES, "the last numbers are theirs");

static struct itlb_table *writer_table(struct icpu *c, uint32_t id, unsigned *slot)
{
	unsigned at = (id - 1) >> ICPU_TLB_BITS, space = at / ICPU_SPACE_TABLES, number = at % ICPU_SPACE_TABLES;

	*slot = (id - 1) % ICPU_TLB_SIZE;
	return space == ICPU_N_SPACES ? &c->shared_table[number] : &c->spaces[space].table[number];
}

static uint64_t inline_page(const struct icpu *c, const struct itlb_inline *n)
{
	return (uint64_t)(n->host - c->mem->host) >> GMEM_PAGE_SHIFT;
}

static uint32_t *writer_set(struct icpu *c, uint64_t page)
{
	return c->writers[page % ICPU_WRITER_SETS];
}

/* Is there an entry where ID says, and does it belong in SET? */
static bool writer_is_used(struct icpu *c, const uint32_t *set, uint32_t id)
{
	unsigned slot;
	const struct itlb_inline *n = &writer_table(c, id, &slot)->inl[slot];

	return tlb_inline_is_here(n, slot) && writer_set(c, inline_page(c, n)) == set;
}

void icpu_writer_note(struct icpu *c, const struct itlb_table *t, unsigned slot)
{
	uint32_t id = writer_id(c, t, slot), *set = writer_set(c, inline_page(c, &t->inl[slot]));
	unsigned at = 0, victim;

	for (; at < ICPU_WRITER_WAYS && set[at]; at++)
		if (set[at] == id)
			return;
	for (victim = at; victim == ICPU_WRITER_WAYS && at-- > 0; )
		if (!writer_is_used(c, set, set[at]))
			victim = at;
	if (victim == ICPU_WRITER_WAYS) {
		struct itlb_table *old = writer_table(c, set[id % ICPU_WRITER_WAYS], &slot);

		victim = id % ICPU_WRITER_WAYS;
		tlb_inline_drop(old, slot);
	}
	set[victim] = id;
}

/* Slot SLOT of T is for writing. Its entry goes when its page wants to hear of stores by now. */
static void inline_recheck(struct icpu *c, struct itlb_table *t, unsigned slot)
{
	uint64_t page = inline_page(c, &t->inl[slot]);

	if (!atomic_load(&c->mem->page_flags[page]) && !atomic_load(&c->mem->is_logging))
		return;
	tlb_inline_drop(t, slot);
	gmem_note_write(c->mem, page);
}

void icpu_inline_recheck(struct icpu *c, uint64_t page)
{
	icpu_window_recheck(c, page);
	unsigned first = page == UINT64_MAX ? 0 : page % ICPU_WRITER_SETS, n = page == UINT64_MAX ? ICPU_WRITER_SETS : 1;

	for (unsigned i = first; i < first + n; i++)
		for (unsigned way = 0; way < ICPU_WRITER_WAYS && c->writers[i][way]; way++) {
			unsigned slot;
			struct itlb_table *t = writer_table(c, c->writers[i][way], &slot);

			if (tlb_inline_is_here(&t->inl[slot], slot) && (n > 1 || inline_page(c, &t->inl[slot]) == page))
				inline_recheck(c, t, slot);
		}
}
