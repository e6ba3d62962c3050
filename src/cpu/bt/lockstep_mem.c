/* SPDX-License-Identifier: Apache-2.0 */
/* lockstep_mem.c - three memories: the machine's, which devices see, and one of each processor's own. Between
 * steps they are the same. Vcpu thread; devices store to the machine's at any time.
 *
 * Each store of the leader is written down (gmem_watch()). Its bytes are compared with the follower's, then
 * copied to the machine's. The other way, the machine's dirty log tells where devices have stored.
 * Accessed bits of page tables are nobody's store: each processor sets them when its TLB does not know
 * the page, and the TLBs need not agree. They are made the same in all three. */
#include "cpu/bt/lockstep_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "util/err.h"

enum { SCAN = 16, SYNC_ROUNDS = 16, PTE_A = 1 << 5 };

static uint64_t mem_pages(const struct lockstep *l) { return l->real->size >> GMEM_PAGE_SHIFT; }

/* --- life cycle ---------------------------------------------------------------------------------- */

/* What the machine's memory holds already. Holes stay holes. */
static void mem_copy_all(struct lockstep *l)
{
	off_t at = 0, end;

	while ((at = lseek(l->real->fd, at, SEEK_DATA)) >= 0 && (end = lseek(l->real->fd, at, SEEK_HOLE)) > at) {
		memcpy(l->lead_mem->host + at, l->real->host + at, (size_t)(end - at));
		memcpy(l->bt_mem->host + at, l->real->host + at, (size_t)(end - at));
		at = end;
	}
}

/* What is where in COPY, and its ROM, are those of REAL. */
static int mem_share_map(struct gmem *copy, const struct gmem *real, struct err *err)
{
	gmem_set_boot_size(copy, real->boot_size, real->low_size);
	return real->rom_size ? gmem_set_rom(copy, real->rom_base, real->host + real->size, real->rom_size, err) : 0;
}

int lockstep_mem_new(struct lockstep *l, struct err *err)
{
	int r = gmem_new(&l->lead_mem, l->real->size, err);

	if (r >= 0)
		r = gmem_new(&l->bt_mem, l->real->size, err);
	if (r >= 0)
		r = gmem_log_start(l->real, err);
	if (r < 0)
		return r;
	r = mem_share_map(l->lead_mem, l->real, err);
	if (r >= 0)
		r = mem_share_map(l->bt_mem, l->real, err);
	if (r < 0)
		return r;
	l->stores = icpu_cache_map(LOCKSTEP_MAX_STORES * sizeof(l->stores[0]));
	l->written = calloc(mem_pages(l) / 64 + 1, 8);
	if (!l->stores || !l->written)
		return err_set(err, -ENOMEM, "out of memory");
	mem_copy_all(l);
	gmem_watch(l->lead_mem);
	return 0;
}

void lockstep_mem_free(struct lockstep *l)
{
	icpu_cache_unmap(l->stores, LOCKSTEP_MAX_STORES * sizeof(l->stores[0]));
	free(l->written);
	gmem_free(l->bt_mem);
	gmem_free(l->lead_mem);
	if (l->real->dirty)
		gmem_log_stop(l->real);
}

/* --- the leader's stores ------------------------------------------------------------------------- */

void lockstep_stored(struct icpu *c, uint64_t off, uint32_t len)
{
	struct lockstep *l = lockstep_of(c);

	if (l->n_stores == LOCKSTEP_MAX_STORES && l->lead_door.mode == LOCKSTEP_FREE)
		lockstep_give_stores(l);
	if (l->n_stores == LOCKSTEP_MAX_STORES)
		l->is_full = true;
	else
		l->stores[l->n_stores++] = (struct lockstep_store){ off, len };
}

/* Numbers in one access of their size: a device may look at any time. */
static void mem_copy(uint8_t *dst, const uint8_t *src, uint32_t len)
{
	switch (len) {
	case 1: memcpy(dst, src, 1); break;
	case 2: memcpy(dst, src, 2); break;
	case 4: memcpy(dst, src, 4); break;
	case 8: memcpy(dst, src, 8); break;
	default: memcpy(dst, src, len); break;
	}
}

void lockstep_flush(struct lockstep *l)
{
	for (; l->n_flushed < l->n_stores; l->n_flushed++) {
		const struct lockstep_store *s = &l->stores[l->n_flushed];

		mem_copy(l->real->host + s->off, l->lead_mem->host + s->off, s->len);
	}
}

void lockstep_forget_stores(struct lockstep *l)
{
	l->n_stores = l->n_flushed = l->n_marks = 0;
	l->is_full = false;
}

static void mem_give(struct lockstep *l, uint64_t off, uint32_t len)
{
	memcpy(l->bt_mem->host + off, l->lead_mem->host + off, len);
	gmem_wrote(l->bt_mem, off, len);
}

void lockstep_give_stores(struct lockstep *l)
{
	lockstep_flush(l);
	for (unsigned i = 0; i < l->n_stores; i++)
		mem_give(l, l->stores[i].off, l->stores[i].len);
	for (unsigned i = 0; i < l->n_marks; i++)
		mem_give(l, l->marks[i], 4);
	lockstep_forget_stores(l);
}

/* --- stores of devices --------------------------------------------------------------------------- */

static void mem_sync_page(struct lockstep *l, uint64_t off)
{
	uint8_t *lead = l->lead_mem->host + off, *bt = l->bt_mem->host + off;

	if (memcmp(lead, l->real->host + off, GMEM_PAGE_SIZE)) {
		memcpy(lead, l->real->host + off, GMEM_PAGE_SIZE);
		gmem_wrote(l->lead_mem, off, GMEM_PAGE_SIZE);
	}
	if (memcmp(bt, lead, GMEM_PAGE_SIZE)) {
		memcpy(bt, lead, GMEM_PAGE_SIZE);
		gmem_wrote(l->bt_mem, off, GMEM_PAGE_SIZE);
	}
}

/* Again until nothing is new: a ring's index that was copied announces data that must be here too. */
void lockstep_sync(struct lockstep *l)
{
	l->wants_sync = false;
	for (unsigned round = 0; round < SYNC_ROUNDS && !gmem_log_is_empty(l->real); round++) {
		gmem_log_fetch(l->real, l->written);
		for (uint64_t w = 0; w < (mem_pages(l) + 63) / 64; w++)
			for (uint64_t bits = l->written[w]; bits; bits &= bits - 1)
				mem_sync_page(l, (w * 64 + (unsigned)__builtin_ctzll(bits)) << GMEM_PAGE_SHIFT);
	}
}

/* --- accessed bits ---------------------------------------------------------------------------------- */

static void mem_mark(struct lockstep *l, uint64_t off)
{
	if (l->n_marks < LOCKSTEP_MAX_MARKS)
		l->marks[l->n_marks++] = off;
}

void lockstep_marked_lead(struct icpu *c, uint64_t off) { mem_mark(lockstep_of(c), off); }

void lockstep_marked_bt(struct icpu *c, uint64_t off)
{
	mem_mark(container_of(c->host, struct lockstep_door, host)->l, off);
}

/* The low half of a page-table entry lies at OFF: if it differs in its accessed bit alone, it no longer does. */
static void mem_unify_mark(struct lockstep *l, uint64_t off)
{
	uint32_t *lead = (uint32_t *)(l->lead_mem->host + off), *bt = (uint32_t *)(l->bt_mem->host + off);

	if ((*lead ^ *bt) == PTE_A)
		*lead = *bt = *lead | PTE_A;
	if ((*lead ^ *(uint32_t *)(l->real->host + off)) == PTE_A)
		*(uint32_t *)(l->real->host + off) |= PTE_A;
}

/* --- comparing --------------------------------------------------------------------------------------- */

/* Backwards: while they are apart, the last store is the one most likely not yet made. */
static uint64_t mem_compare_stores(const struct lockstep *l)
{
	for (unsigned i = l->n_stores; i-- > 0; ) {
		const struct lockstep_store *s = &l->stores[i];

		if (memcmp(l->lead_mem->host + s->off, l->bt_mem->host + s->off, s->len))
			return s->off;
	}
	return UINT64_MAX;
}

static uint64_t mem_compare_page(struct lockstep *l, uint64_t off)
{
	if (!memcmp(l->lead_mem->host + off, l->bt_mem->host + off, GMEM_PAGE_SIZE))
		return UINT64_MAX;
	for (uint64_t at = off; at < off + GMEM_PAGE_SIZE; at += 4) {
		mem_unify_mark(l, at);
		if (memcmp(l->lead_mem->host + at, l->bt_mem->host + at, 4))
			return at;
	}
	return UINT64_MAX;
}

uint64_t lockstep_mem_compare(struct lockstep *l, bool all)
{
	enum { SLOTS = ICPU_N_PRIV * ICPU_TLB_SIZE };

	for (unsigned i = 0; i < l->n_marks; i++)
		mem_unify_mark(l, l->marks[i]);
	uint64_t bad = mem_compare_stores(l);

	for (unsigned n = all ? SLOTS : SCAN; n && bad == UINT64_MAX; n--) {
		unsigned at = l->scan++ % SLOTS, slot = at % ICPU_TLB_SIZE;
		const struct itlb_inline *e = &l->bt->i.table[at / ICPU_TLB_SIZE][ICPU_WRITE]->inl[slot];

		if ((e->tag >> 12) % ICPU_TLB_SIZE == slot)
			bad = mem_compare_page(l, (uint64_t)(e->host - l->bt_mem->host));
	}
	return bad;
}

void lockstep_mem_rewind(struct lockstep *l)
{
	for (uint64_t off = 0; off < l->real->size; off += GMEM_PAGE_SIZE)
		mem_sync_page(l, off);
	lockstep_forget_stores(l);
}
