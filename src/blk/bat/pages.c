/* SPDX-License-Identifier: Apache-2.0 */
/* pages.c - pages of tables and bitmaps in memory, within a budget; evicted by the clock. Dirty pages stay
 * until commit.c has written them. Who keeps a page across a yield pins it. */
#include "blk/bat/bat_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t bat_page_place(const struct bat *t, bool is_bits, uint64_t no)
{
	if (is_bits)
		return no * t->bits_page;
	return t->f->page_at ? t->f->page_at(t, no) : t->table_off + no * t->page_size;
}

uint32_t bat_page_len(const struct bat *t, bool is_bits, uint64_t no)
{
	uint64_t left = t->n_slots * t->f->entry_size - (is_bits ? 0 : no * t->page_size);

	return is_bits ? t->bits_page : left < t->page_size ? (uint32_t)left : t->page_size;
}

static unsigned cache_hash(const struct bat *t, bool is_bits, uint64_t no)
{
	return (unsigned)((no * 2 + is_bits) * 0x9e3779b97f4a7c15ull >> (64 - t->hash_bits));
}

int bat_cache_init(struct bat *t)
{
	uint64_t n = (t->cache_bytes ? t->cache_bytes : BAT_CACHE_DEFAULT) / BAT_PAGE_MAX;

	t->max_pages = n < 16 ? 16 : n > 1 << 20 ? 1 << 20 : (unsigned)n;
	for (t->hash_bits = 4; 1u << t->hash_bits < t->max_pages; t->hash_bits++)
		;
	t->hash = calloc(1u << t->hash_bits, sizeof(*t->hash));
	t->slots = calloc(t->max_pages, sizeof(*t->slots));
	return t->hash && t->slots ? 0 : -ENOMEM;
}

void bat_cache_fini(struct bat *t)
{
	for (unsigned i = 0; t->slots && i < t->n_pages; i++) {
		free(t->slots[i]->data);
		free(t->slots[i]);
	}
	free(t->slots);
	free(t->hash);
	t->slots = t->hash = NULL;
	t->n_pages = 0;
}

static struct bat_page *cache_find(struct bat *t, bool is_bits, uint64_t no)
{
	struct bat_page *p = t->hash[cache_hash(t, is_bits, no)];

	while (p && (p->no != no || p->is_bits != is_bits))
		p = p->hash_next;
	return p;
}

struct bat_page *bat_page_peek(struct bat *t, bool is_bits, uint64_t no)
{
	struct bat_page *p = cache_find(t, is_bits, no);

	if (!p || p->is_loading)
		return NULL;
	p->is_used = true;
	return p;
}

static void cache_unhash(struct bat *t, struct bat_page *p)
{
	struct bat_page **at = &t->hash[cache_hash(t, p->is_bits, p->no)];

	if (!p->is_hashed)
		return;
	while (*at != p)
		at = &(*at)->hash_next;
	*at = p->hash_next;
	p->is_hashed = false;
}

static void cache_insert(struct bat *t, struct bat_page *p, bool is_bits, uint64_t no)
{
	struct bat_page **at = &t->hash[cache_hash(t, is_bits, no)];

	p->no = no;
	p->is_bits = is_bits;
	p->hash_next = *at;
	p->is_hashed = true;
	*at = p;
}

static struct bat_page *cache_evict(struct bat *t)
{
	for (unsigned n = 0; n < 2 * t->n_pages; n++) {
		struct bat_page *p = t->slots[t->hand];

		t->hand = (t->hand + 1) % t->n_pages;
		if (p->n_pins || p->is_dirty || p->is_staged || p->is_loading)
			continue;
		if (!p->is_used) {
			cache_unhash(t, p);
			return p;
		}
		p->is_used = false;
	}
	return NULL;
}

static struct bat_page *cache_grow(struct bat *t)
{
	struct bat_page *p = calloc(1, sizeof(*p));

	if (p)
		p->data = aligned_alloc(BAT_PAGE_MAX, BAT_PAGE_MAX);
	if (!p || !p->data) {
		free(p);
		return NULL;
	}
	p->slot = t->n_pages;
	t->slots[t->n_pages++] = p;
	return p;
}

/* A page in no hash, pinned for us. May write back to make room. */
static int cache_room(struct bat *t, struct bat_page **out)
{
	for (int tries = 0; tries < 8; tries++) {
		struct bat_page *p = t->n_pages < t->max_pages ? cache_grow(t) : NULL;

		if (!p && t->n_pages)
			p = cache_evict(t);
		if (p) {
			p->n_pins = 1;
			*out = p;
			return 0;
		}
		int r = bat_flush(t);

		if (r < 0)
			return r;
	}
	return -ENOMEM;
}

/* Read P, which is ours and empty. */
static int page_load(struct bat *t, struct bat_page *p, bool is_bits, uint64_t no)
{
	uint64_t place = bat_page_place(t, is_bits, no);
	uint32_t len = bat_page_len(t, is_bits, no);
	int r = 0;

	cache_insert(t, p, is_bits, no);
	p->is_loading = true;
	memset(p->data, 0, BAT_PAGE_MAX);
	if (place)
		r = blk_co_pread(t->file, place, p->data, len);
	p->is_loading = false;
	p->is_used = true;
	if (r < 0) {
		cache_unhash(t, p);
		p->n_pins--;
	}
	co_queue_wake_all(&p->waiting);
	return r;
}

int bat_page_get(struct bat *t, bool is_bits, uint64_t no, struct bat_page **out)
{
	for (;;) {
		struct bat_page *p = cache_find(t, is_bits, no), *fresh;

		if (p && !p->is_loading) {
			p->is_used = true;
			p->n_pins++;
			*out = p;
			return 0;
		}
		if (p) {
			p->n_pins++;
			while (p->is_loading)
				co_queue_wait(&p->waiting);
			p->n_pins--;
			continue;
		}
		int r = cache_room(t, &fresh);

		if (r < 0)
			return r;
		/* Somebody may have been faster while there was to write back. */
		if (cache_find(t, is_bits, no)) {
			fresh->n_pins--;
			continue;
		}
		r = page_load(t, fresh, is_bits, no);
		if (r < 0)
			return r;
		*out = fresh;
		return 0;
	}
}

void bat_page_put(struct bat_page *p)
{
	assert(p->n_pins);
	p->n_pins--;
}

void bat_page_dirty(struct bat *t, struct bat_page *p)
{
	if (p->is_dirty)
		return;
	p->is_dirty = true;
	p->dirty_next = t->dirty;
	t->dirty = p;
	t->n_dirty++;
}

void bat_pages_forget_bits(struct bat *t, uint64_t off, uint64_t len)
{
	for (uint64_t no = off / t->bits_page; no * t->bits_page < off + len; no++) {
		struct bat_page *p = cache_find(t, true, no);

		if (p && !p->n_pins && !p->is_loading && !p->is_dirty && !p->is_staged)
			cache_unhash(t, p);
	}
}

void bat_pages_drop(struct bat *t)
{
	for (unsigned i = 0; i < t->n_pages; i++)
		if (!t->slots[i]->is_dirty && !t->slots[i]->n_pins)
			cache_unhash(t, t->slots[i]);
}
