/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - pages of L2 tables and refcount blocks in memory, within a budget.
 *
 * Pages are smaller than tables, so that scattered I/O on a large disk keeps what it needs and not
 * what is beside it. A page is read once, changed in memory, and written by writeback.c alone: what is
 * dirty stays until then. Who keeps a page across a yield pins it.
 *
 * The budget is of everything: the bytes of pages, which lie in one piece of memory (aligned ones from malloc() take
 * twice their size), what describes them, and the copies that writeback.c makes of dirty ones. What changes many pages
 * calls q2_balance() between them, which writes back before the copies would be more than their share. */
#include "blk/qcow2/qcow2_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	/* Of each page beside its bytes: what describes it, as malloc() rounds it, its slot, a hash that is half empty. */
	PAGE_COST = sizeof(struct q2_page) + 16 + 3 * sizeof(void *),
	PAGES_MIN = 128,                /* with copies: requests at the same time pin what they work on */
	COPIES_MIN = 512,               /* or as many as there are pages */
};

static unsigned cache_hash(const struct q2 *s, uint64_t off)
{
	return (unsigned)((off / s->page_size * 0x9e3779b97f4a7c15ull) >> (64 - s->hash_bits));
}

int q2_cache_init(struct q2 *s, uint64_t bytes)
{
	uint64_t fit = bytes / (s->page_size + PAGE_COST);
	unsigned n = fit < PAGES_MIN ? PAGES_MIN : fit > 1 << 24 ? 1 << 24 : (unsigned)fit;
	unsigned copies = n / 4 > COPIES_MIN ? n / 4 : n / 2 < COPIES_MIN ? n / 2 : COPIES_MIN;

	s->max_pages = n - copies;
	s->max_copies = copies;
	for (s->hash_bits = 6; 1u << s->hash_bits < s->max_pages; s->hash_bits++)
		;
	s->hash = calloc(1u << s->hash_bits, sizeof(struct q2_page *));
	s->slots = calloc(s->max_pages, sizeof(struct q2_page *));
	s->bytes = aligned_alloc(Q2_PAGE_MAX, align_up((uint64_t)s->max_pages * s->page_size, Q2_PAGE_MAX));
	return s->hash && s->slots && s->bytes ? 0 : -ENOMEM;
}

void q2_cache_fini(struct q2 *s)
{
	for (unsigned i = 0; s->slots && i < s->n_pages; i++)
		free(s->slots[i]);
	free(s->bytes);
	free(s->slots);
	free(s->hash);
}

struct q2_page *q2_page_peek(struct q2 *s, uint64_t off)
{
	for (struct q2_page *p = s->hash[cache_hash(s, off)]; p; p = p->hash_next) {
		if (p->off == off) {
			if (p->is_loading)
				return NULL;
			p->is_used = true;
			return p;
		}
	}
	return NULL;
}

static void cache_unhash(struct q2 *s, struct q2_page *p)
{
	struct q2_page **at = &s->hash[cache_hash(s, p->off)];

	while (*at != p)
		at = &(*at)->hash_next;
	*at = p->hash_next;
}

static void cache_insert(struct q2 *s, struct q2_page *p, uint64_t off, enum q2_page_kind kind)
{
	struct q2_page **at = &s->hash[cache_hash(s, off)];

	p->off = off;
	p->kind = kind;
	p->hash_next = *at;
	*at = p;
}

static bool page_is_idle(const struct q2_page *p)
{
	return !p->n_pins && !p->is_dirty && !p->is_staged && !p->is_loading;
}

/* A page that nobody needs, by the clock; out of the hash. NULL: all are dirty or in use. */
static struct q2_page *cache_evict(struct q2 *s)
{
	for (unsigned n = 0; n < 2 * s->n_pages; n++) {
		struct q2_page *p = s->slots[s->hand];

		s->hand = (s->hand + 1) % s->n_pages;
		if (!page_is_idle(p))
			continue;
		if (!p->is_used) {
			if (p->off)
				cache_unhash(s, p);
			return p;
		}
		p->is_used = false;
	}
	return NULL;
}

static struct q2_page *cache_grow(struct q2 *s)
{
	struct q2_page *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->data = s->bytes + (size_t)s->n_pages * s->page_size;
	s->slots[s->n_pages++] = p;
	q2_cache_count(s);
	return p;
}

void q2_cache_count(struct q2 *s)
{
	unsigned n = s->n_pages + s->n_copies;

	s->peak_pages = n > s->peak_pages ? n : s->peak_pages;
}

uint64_t q2_cache_peak(const struct q2 *s)
{
	return (uint64_t)s->peak_pages * (s->page_size + PAGE_COST);
}

/* A page to load into, in no hash. May write back to make room. */
static int cache_room(struct q2 *s, struct q2_page **out)
{
	for (int tries = 0; tries < 8; tries++) {
		struct q2_page *p = s->n_pages < s->max_pages ? cache_grow(s) : cache_evict(s);

		if (!p && s->n_pages < s->max_pages)
			p = s->n_pages ? cache_evict(s) : NULL;
		if (p) {
			p->off = 0;
			p->n_pins = 1;          /* ours until it is in the hash */
			*out = p;
			return 0;
		}
		int r = q2_writeback(s);

		if (r < 0)
			return r;
	}
	return -ENOMEM;
}

static void page_wait(struct q2_page *p)
{
	p->n_pins++;
	while (p->is_loading)
		co_queue_wait(&p->waiting);
	p->n_pins--;
}

/* Read page P, which is ours and empty, for OFF. */
static int page_load(struct q2 *s, struct q2_page *p, uint64_t off, enum q2_page_kind kind)
{
	cache_insert(s, p, off, kind);
	p->is_loading = true;
	int r = blk_co_pread(s->b->file, off, p->data, s->page_size);

	p->is_loading = false;
	if (r < 0) {
		cache_unhash(s, p);
		p->off = 0;
		p->n_pins--;
	}
	p->is_used = true;
	co_queue_wake_all(&p->waiting);
	return r;
}

int q2_page_get(struct q2 *s, uint64_t off, enum q2_page_kind kind, struct q2_page **out)
{
	for (;;) {
		struct q2_page *p, *fresh;

		for (p = s->hash[cache_hash(s, off)]; p && p->off != off; p = p->hash_next)
			;
		if (p && !p->is_loading) {
			if (p->kind != kind)
				return q2_corrupt(s, "host offset 0x%llx is both an L2 table and a refcount block",
						  (unsigned long long)off);
			p->is_used = true;
			p->n_pins++;
			*out = p;
			return 0;
		}
		if (p) {
			page_wait(p);
			continue;
		}
		int r = cache_room(s, &fresh);

		if (r < 0)
			return r;
		/* Somebody may have been faster while there was to write back. */
		for (p = s->hash[cache_hash(s, off)]; p && p->off != off; p = p->hash_next)
			;
		if (p) {
			fresh->n_pins = 0;
			continue;
		}
		r = page_load(s, fresh, off, kind);
		if (!r)
			*out = fresh;
		return r;
	}
}

void q2_page_put(struct q2_page *p)
{
	assert(p->n_pins);
	p->n_pins--;
}

void q2_page_dirty(struct q2 *s, struct q2_page *p)
{
	if (p->is_dirty)
		return;
	p->is_dirty = true;
	p->dirty_next = s->dirty[p->kind];
	s->dirty[p->kind] = p;
	s->n_dirty++;
}

int q2_balance(struct q2 *s)
{
	return s->n_dirty < s->max_copies / 2 ? 0 : q2_writeback(s);
}

static void cache_undirty(struct q2 *s, struct q2_page *p)
{
	struct q2_page **at = &s->dirty[p->kind];

	while (*at != p)
		at = &(*at)->dirty_next;
	*at = p->dirty_next;
	p->is_dirty = false;
	s->n_dirty--;
}

void q2_pages_forget(struct q2 *s, uint64_t off, uint64_t len)
{
	for (uint64_t at = off; at < off + len; at += s->page_size) {
		struct q2_page *p = q2_page_peek(s, at);

		if (!p)
			continue;
		if (p->is_dirty)
			cache_undirty(s, p);
		cache_unhash(s, p);
		p->off = 0;
		p->is_used = false;
	}
}
