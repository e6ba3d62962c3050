/* SPDX-License-Identifier: Apache-2.0 */
/* evict.c - making room for fragments. Vcpu thread only, between fragments.
 *
 * Code and what describes it are filled region by region, both in step. When a region is full the next one is
 * emptied, which holds what was made longest ago: a small part of all goes, not everything. Nothing in it may
 * be found any more: by its place, its page, a link or the table of indirect jumps. */
#include "cpu/bt/bt_priv.h"

#include <sys/mman.h>
#include "util/checked.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25        /* Linux 6.1 */
#endif

_Static_assert(BT_FRAG_MAX * (2 * sizeof(struct bt_site) + 2 * sizeof(struct bt_link) + sizeof(struct bt_x87_note) + X86_INSN_MAX) +
	       4 * (sizeof(struct bt_site) + sizeof(struct bt_frag)) <= BT_FRAG_ARENA_ROOM, "room for one fragment");

/* Of the code of a region, in 256ths: what seldom runs, before it is known. */
enum { COLD_PART = 77, COLD_ROOM = 2 * BT_FRAG_CODE_ROOM };

/* What is going to be emptied. */
struct doomed {
	const uint8_t *arena, *arena_end;
};

static bool is_doomed(const struct doomed *d, const void *p)
{
	return (const uint8_t *)p >= d->arena && (const uint8_t *)p < d->arena_end;
}

static uint32_t region_bytes(const struct bt_cache *k) { return k->code_bytes / k->n_regions & ~((1u << BT_BLOCK_SHIFT) - 1); }
static uint32_t region_arena(const struct bt_cache *k) { return k->arena_bytes / k->n_regions & ~63u; }

static uint8_t *region_code(const struct bt_cache *k, unsigned region)
{
	return region ? k->rw + region * region_bytes(k) : k->code_start;
}

/* The region that is being filled is full: the next one is divided so that both its parts will be at the same time. */
static void learn_cold_part(struct bt_cache *k)
{
	uint32_t hot = (uint32_t)(k->e.p - region_code(k, k->region)), cold = (uint32_t)(k->cold.p - k->e.end);

	k->cold_part = (uint32_t)((uint64_t)cold * 256 / (hot + cold + 1));
}

static void region_start(struct bt_cache *k, unsigned region)
{
	uint32_t code = region_bytes(k), arena = region_arena(k);
	uint32_t cold = code / 256 * k->cold_part;

	cold = cold < COLD_ROOM ? COLD_ROOM : cold > code / 2 ? code / 2 : cold;
	k->region = region;
	k->e.p = region_code(k, region);
	k->cold.end = k->rw + (region + 1) * code;
	k->e.end = k->cold.p = k->cold.end - cold;
	k->arena_used = region ? region * arena : BT_ARENA_FIRST;
	k->arena_end = (region + 1) * arena;
}

/* The first regions up to END have been filled: large pages for them. Code lies here and there, and the host's kernel
 * gives a memfd none by itself, so programs of some size wait for the processor's TLB for instructions. Nothing grows by
 * it, for what is filled is all in memory. Once; later laps find it so. */
static void code_enlarge(struct bt_cache *k, uint32_t end)
{
	for (; k->n_large + BT_LARGE_PAGE <= end; k->n_large += BT_LARGE_PAGE)
		if (madvise(k->rw + k->n_large, BT_LARGE_PAGE, MADV_COLLAPSE) == 0)
			madvise(k->rx + k->n_large, BT_LARGE_PAGE, MADV_COLLAPSE);
}

/* Links that stay no longer lead to F, which goes. */
static void evict_links_to(struct bt_cache *k, const struct doomed *d, struct bt_frag *f)
{
	for (struct bt_link *l = bt_link_of(k, f->in), *next; l; l = next) {
		next = bt_link_of(k, l->next_in);
		if (!is_doomed(d, l))
			bt_link_undo(k, l);
	}
}

/* L goes: if what it leads to stays, that forgets it, and all others that go. */
static void evict_link(const struct bt_cache *k, const struct doomed *d, const struct bt_link *l)
{
	struct bt_frag *f = bt_frag_of(k, l->to);

	if (!f || is_doomed(d, f))
		return;
	for (uint32_t *at = &f->in; *at; ) {
		struct bt_link *in = bt_link_of(k, *at);

		if (is_doomed(d, in)) {
			*at = in->next_in;
			in->to = 0;
		} else {
			at = &in->next_in;
		}
	}
}

/* Of P those that go, which nothing leads to any more. */
static void evict_from_page(struct bt_cpu *b, const struct doomed *d, struct bt_page *p)
{
	for (uint32_t *at = &p->frags; *at; ) {
		struct bt_frag *f = bt_frag_of(b->cache, *at);

		if (!is_doomed(d, f)) {
			at = &f->next_page;
			continue;
		}
		*at = f->next_page;
		evict_links_to(b->cache, d, f);
		bt_frag_forget(b, f);
	}
}

/* Costs by what goes and what is in the same pages, not by all there is. */
static void evict_frags(struct bt_cpu *b, const struct doomed *d, unsigned region)
{
	struct bt_cache *k = b->cache;

	for (struct bt_frag *f = bt_frag_of(k, k->newest[region]); f; f = bt_frag_of(k, f->older)) {
		for (unsigned n = 0; n < f->n_links; n++)
			evict_link(k, d, &bt_frag_links(f)[n]);
		if (!f->is_gone)
			evict_from_page(b, d, f->page);
	}
	k->newest[region] = 0;
	for (uint32_t at = region * region_bytes(k); at < (region + 1) * region_bytes(k); at += 1 << BT_BLOCK_SHIFT)
		k->in_block[at >> BT_BLOCK_SHIFT] = 0;
}

/* The table of indirect jumps to code of KEY gives its memory back, but for what it shares with its neighbours. */
static void indirect_forget(struct bt_cpu *b, unsigned key)
{
	uint8_t *from = (uint8_t *)align_up((uintptr_t)b->ind[key], 4096);
	uint8_t *to = (uint8_t *)((uintptr_t)(b->ind[key] + (1 << BT_IND_BITS)) & ~(uintptr_t)4095);

	if (madvise(from, (size_t)(to - from), MADV_REMOVE) == 0)
		b->ind_used[key] = false;
}

/* Tables of indirect jumps to keys that no code is left of: code jumps to its own and, by SYSCALL and SYSRET, to the
 * other privilege's. */
static void forget_indirect(struct bt_cpu *b)
{
	struct bt_cache *k = b->cache;
	bool is_needed[BT_N_KEYS] = { false };

	for (unsigned i = 0; i < k->n_pages; i++)
		if (k->pages[i].frags)
			is_needed[k->pages[i].key] = is_needed[k->pages[i].key ^ BT_KEY_USER] = true;
	for (unsigned key = 0; key < BT_N_KEYS; key++)
		if (b->ind_used[key] && !is_needed[key])
			indirect_forget(b, key);
}

static void evict_region(struct bt_cpu *b, unsigned region)
{
	struct bt_cache *k = b->cache;
	uint32_t arena = region_arena(k);

	evict_frags(b, &(struct doomed){ k->arena + region * arena, k->arena + (region + 1) * arena }, region);
}

static void page_forget(struct bt_cache *k, struct bt_page *p)
{
	struct bt_page **at = bt_page_by_va(k, p->va);

	while (*at != p)
		at = &(*at)->next_va;
	*at = p->next_va;
	at = bt_page_by_page(k, p->page);
	while (*at != p)
		at = &(*at)->next_page;
	*at = p->next_page;
	*p = (struct bt_page){ .next_va = k->free_pages };
	k->free_pages = p;
}

/* Pages without fragments: nobody knows of them but the tables that find them. */
static void forget_pages(struct bt_cache *k)
{
	for (unsigned i = 0; i < k->n_pages; i++)
		if (k->pages[i].id && !k->pages[i].frags)
			page_forget(k, &k->pages[i]);
}

static void evict_next_region(struct bt_cpu *b)
{
	struct bt_cache *k = b->cache;
	unsigned next = (k->region + 1) % k->n_regions;

	learn_cold_part(k);
	code_enlarge(k, (k->region + 1) * region_bytes(k));
	evict_region(b, next);
	forget_pages(k);
	forget_indirect(b);
	region_start(k, next);
	k->n_flushes++;
}

void bt_cache_clear(struct bt_cpu *b)
{
	struct bt_cache *k = b->cache;

	memset(k->frags, 0, sizeof(k->frags));
	memset(k->by_va, 0, sizeof(k->by_va));
	memset(k->by_page, 0, sizeof(k->by_page));
	memset(k->newest, 0, sizeof(k->newest));
	memset(k->in_block, 0, k->code_bytes >> BT_BLOCK_SHIFT << 2);
	k->n_pages = 0;
	k->free_pages = NULL;
	b->split = NULL;
	memset(b->ind_used, 0, sizeof(b->ind_used));
	icpu_inline_forget_code(&b->i);
	k->cold_part = COLD_PART;
	region_start(k, 0);
	k->n_flushes++;
}

void bt_cache_reserve(struct bt_cpu *b)
{
	struct bt_cache *k = b->cache;

	if (k->e.p + BT_FRAG_CODE_ROOM > k->e.end || k->cold.p + BT_FRAG_CODE_ROOM > k->cold.end ||
	    k->arena_used + BT_FRAG_ARENA_ROOM > k->arena_end)
		evict_next_region(b);
	if (!bt_page_has_room(k))
		forget_pages(k);
	for (unsigned i = 0; i < k->n_regions && !bt_page_has_room(k); i++)
		evict_next_region(b);
}
