/* SPDX-License-Identifier: Apache-2.0 */
/* evict.c - making room for fragments. Vcpu thread only, between fragments.
 *
 * Code and what describes it are filled region by region, both in step. When a region is full the next one is
 * emptied, which holds what was made longest ago: a quarter of all goes, not everything. Nothing in it may
 * be found any more: by its place, its page, a link or the table of indirect jumps. */
#include "cpu/bt/bt_priv.h"

_Static_assert(BT_FRAG_MAX * (2 * sizeof(struct bt_site) + 2 * sizeof(struct bt_link) + sizeof(struct bt_x87_note) + X86_INSN_MAX) +
	       4 * (sizeof(struct bt_site) + sizeof(struct bt_frag)) <= BT_FRAG_ARENA_ROOM, "room for one fragment");

/* One part in so many of the code of a region; as it turned out to be used. */
enum { COLD_PART = 4 };

/* What is going to be emptied. */
struct doomed {
	const uint8_t *arena, *arena_end;
	const uint8_t *code, *code_end;         /* in rx */
};

static bool is_doomed(const struct doomed *d, const void *p)
{
	return (const uint8_t *)p >= d->arena && (const uint8_t *)p < d->arena_end;
}

static void region_start(struct bt_cache *k, unsigned region)
{
	uint32_t code = k->code_bytes / BT_N_REGIONS, arena = k->arena_bytes / BT_N_REGIONS;

	k->region = region;
	k->e.p = region ? k->rw + region * code : k->code_start;
	k->cold.end = k->rw + (region + 1) * code;
	k->e.end = k->cold.p = k->cold.end - code / COLD_PART;
	k->arena_used = region ? region * arena : BT_ARENA_FIRST;
	k->arena_end = (region + 1) * arena;
}

/* Links that stay no longer lead to F, which goes. */
static void evict_links_to(struct bt_cache *k, const struct doomed *d, struct bt_frag *f)
{
	for (struct bt_link *l = f->in, *next; l; l = next) {
		next = l->next_in;
		if (!is_doomed(d, l))
			bt_link_undo(k, l);
	}
}

/* F stays: it forgets links to it that go. */
static void evict_links_from(const struct doomed *d, struct bt_frag *f)
{
	struct bt_link **at = &f->in;

	while (*at) {
		if (is_doomed(d, *at))
			*at = (*at)->next_in;
		else
			at = &(*at)->next_in;
	}
}

static void evict_frags(struct bt_cache *k, const struct doomed *d)
{
	for (unsigned i = 0; i < k->n_pages; i++)
		for (struct bt_frag **at = &k->pages[i].frags; *at; ) {
			struct bt_frag *f = *at;

			if (is_doomed(d, f)) {
				evict_links_to(k, d, f);
				bt_frag_unhash(k, f);
				*at = f->next_page;
			} else {
				evict_links_from(d, f);
				at = &f->next_page;
			}
		}
}

static void evict_region(struct bt_cpu *b, unsigned region)
{
	struct bt_cache *k = b->cache;
	uint32_t code = k->code_bytes / BT_N_REGIONS, arena = k->arena_bytes / BT_N_REGIONS;
	const struct doomed d = {
		.arena = k->arena + region * arena, .arena_end = k->arena + (region + 1) * arena,
		.code = k->rx + (region ? region * code : (uint32_t)(k->code_start - k->rw)),
		.code_end = k->rx + (region + 1) * code,
	};

	evict_frags(k, &d);
	for (unsigned key = 0; key < BT_N_KEYS; key++)
		for (unsigned i = 0; b->ind_used[key] && i < 1 << BT_IND_BITS; i++)
			if (b->ind[key][i] >= d.code && b->ind[key][i] < d.code_end)
				b->ind[key][i] = k->rx + k->thunk.miss;
	if (b->split && is_doomed(&d, b->split))
		b->split = NULL;
}

/* Of pages that hold no code any more nothing is kept: mostly their address spaces are gone. */
static void collect_pages(struct bt_cache *k)
{
	for (unsigned i = 0; i < k->n_pages; i++)
		if (k->pages[i].id && !k->pages[i].frags)
			bt_page_free(k, &k->pages[i]);
}

void bt_cache_clear(struct bt_cpu *b)
{
	struct bt_cache *k = b->cache;

	memset(k->frags, 0, sizeof(k->frags));
	memset(k->by_va, 0, sizeof(k->by_va));
	memset(k->by_page, 0, sizeof(k->by_page));
	k->n_pages = 0;
	k->free_pages = NULL;
	b->split = NULL;
	memset(b->ind_used, 0, sizeof(b->ind_used));
	icpu_inline_forget_code(&b->i);
	region_start(k, 0);
	k->n_flushes++;
}

void bt_cache_reserve(struct bt_cpu *b)
{
	struct bt_cache *k = b->cache;

	if (!bt_pages_has(k))
		collect_pages(k);
	if (!bt_pages_has(k)) {
		bt_cache_clear(b);
	} else if (k->e.p + BT_FRAG_CODE_ROOM > k->e.end || k->cold.p + BT_FRAG_CODE_ROOM > k->cold.end ||
		   k->arena_used + BT_FRAG_ARENA_ROOM > k->arena_end) {
		unsigned next = (k->region + 1) % BT_N_REGIONS;

		evict_region(b, next);
		region_start(k, next);
		k->n_flushes++;
	}
}
