/* SPDX-License-Identifier: Apache-2.0 */
/* writeback.c - metadata to the file so that a power cut at any moment costs at most space.
 *
 * Nothing but this file writes L2 pages, refcount pages, the L1 table and the refcount table. It takes
 * a picture of all that is dirty at one moment, and writes the picture in this order, each step durable
 * before the next:
 *
 *	1  the length of the file, refcount blocks     clusters count as used ...
 *	2  the refcount table                          ... in blocks that can be found
 *	3  L2 tables (data was written before)         now something refers to them
 *	4  the L1 table                                now something refers to new L2 tables
 *	5  (in memory) clusters that are no longer referred to are given back
 *
 * Step 5 makes refcounts lower, which the next round's step 1 writes: by then the reference is gone for
 * good, so a cluster is never free and referred to. Between rounds nothing is written, and what changes
 * while a round is under way waits for the next: rounds may be long, changes need not wait for them. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE_CHUNK = 512, IOV_MAX_RUN = 64 };

/* A part of the metadata as it was when the picture was taken. */
struct wb_piece {
	uint64_t off;
	struct q2_page *page;           /* NULL: of a table */
	uint32_t len;
	uint8_t *data;
};

struct wb_list { struct wb_piece *v; size_t n; uint8_t *mem; };

struct wb_picture {
	struct wb_list ref, rt, l2, l1;
	struct q2_frees frees;
};

bool q2_is_clean(const struct q2 *s)
{
	return !s->n_dirty && !s->has_l1_dirty && !s->has_rt_dirty && !s->pending.n && s->wb_started == s->wb_done;
}

static void table_set(uint64_t *table, uint8_t *dirty, bool *has_dirty, uint64_t index, uint64_t value)
{
	table[index] = value;
	dirty[index / (TABLE_CHUNK / 8)] = 1;
	*has_dirty = true;
}

void q2_l1_set(struct q2 *s, uint64_t index, uint64_t value)
{
	table_set(s->l1, s->l1_dirty, &s->has_l1_dirty, index, value);
}

void q2_rt_set(struct q2 *s, uint64_t index, uint64_t value)
{
	table_set(s->rt, s->rt_dirty, &s->has_rt_dirty, index, value);
}

/* --- the picture ------------------------------------------------------------------------------ */

static int wb_list_alloc(struct wb_list *l, size_t n, size_t piece)
{
	if (!n)
		return 0;
	l->v = calloc(n, sizeof(*l->v));
	l->mem = aligned_alloc(512, align_up(n * piece, 512));
	return l->v && l->mem ? 0 : -ENOMEM;
}

static int wb_compare(const void *a, const void *b)
{
	const struct wb_piece *x = a, *y = b;

	return x->off < y->off ? -1 : x->off > y->off;
}

static int wb_take_pages(struct q2 *s, enum q2_page_kind kind, struct wb_list *l)
{
	size_t n = 0;

	for (struct q2_page *p = s->dirty[kind]; p; p = p->dirty_next)
		n++;
	int r = wb_list_alloc(l, n, s->page_size);

	if (r < 0 || !n)
		return r;
	s->n_copies += (unsigned)n;
	q2_cache_count(s);
	for (struct q2_page *p = s->dirty[kind]; p; p = p->dirty_next)
		l->v[l->n++] = (struct wb_piece){ .off = p->off, .page = p, .len = s->page_size };
	qsort(l->v, l->n, sizeof(*l->v), wb_compare);
	for (size_t i = 0; i < n; i++) {
		l->v[i].data = l->mem + i * s->page_size;
		memcpy(l->v[i].data, l->v[i].page->data, s->page_size);
	}
	return 0;
}

static size_t wb_chunks(uint64_t entries)
{
	return (size_t)((entries + TABLE_CHUNK / 8 - 1) / (TABLE_CHUNK / 8));
}

static int wb_take_table(struct wb_list *l, uint64_t off, const uint64_t *table, uint64_t entries, const uint8_t *dirty,
			 bool has_dirty)
{
	size_t n = 0, chunks = wb_chunks(entries);

	for (size_t i = 0; has_dirty && i < chunks; i++)
		n += dirty[i];
	int r = wb_list_alloc(l, n, TABLE_CHUNK);

	if (r < 0 || !n)
		return r;
	for (size_t i = 0; i < chunks; i++) {
		uint64_t first = i * (TABLE_CHUNK / 8), left = entries - first;
		struct wb_piece *p = &l->v[l->n];

		if (!dirty[i])
			continue;
		*p = (struct wb_piece){ .off = off + first * 8,
					.len = left < TABLE_CHUNK / 8 ? (uint32_t)left * 8
								      : TABLE_CHUNK,
					.data = l->mem + l->n * TABLE_CHUNK };
		for (uint32_t k = 0; k < p->len / 8; k++)
			put_be64(p->data + k * 8, table[first + k]);
		l->n++;
	}
	return 0;
}

/* Everything that is dirty is in the picture now: it is clean until it is changed again. */
static void wb_commit(struct q2 *s, struct wb_picture *w)
{
	for (int kind = 0; kind < Q2_N_PAGE_KINDS; kind++) {
		for (struct q2_page *p = s->dirty[kind]; p; p = p->dirty_next) {
			p->is_dirty = false;
			p->is_staged = true;
		}
		s->dirty[kind] = NULL;
	}
	s->n_dirty = 0;
	if (s->has_l1_dirty)
		memset(s->l1_dirty, 0, wb_chunks(s->l1_size));
	if (s->has_rt_dirty)
		memset(s->rt_dirty, 0, wb_chunks(s->rt_size));
	s->has_l1_dirty = s->has_rt_dirty = false;
	w->frees = s->pending;
	s->pending = (struct q2_frees){ 0 };
}

static void wb_free(struct q2 *s, struct wb_picture *w)
{
	struct wb_list *const lists[] = { &w->ref, &w->rt, &w->l2, &w->l1 };

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		for (size_t k = 0; k < lists[i]->n; k++)
			if (lists[i]->v[k].page)
				lists[i]->v[k].page->is_staged = false;
		free(lists[i]->v);
		free(lists[i]->mem);
	}
	s->n_copies = 0;
}

static int wb_take(struct q2 *s, struct wb_picture *w)
{
	int r = wb_take_pages(s, Q2_PAGE_REF, &w->ref);

	if (!r)
		r = wb_take_table(&w->rt, s->rt_off, s->rt, s->rt_size, s->rt_dirty, s->has_rt_dirty);
	if (!r)
		r = wb_take_pages(s, Q2_PAGE_L2, &w->l2);
	if (!r)
		r = wb_take_table(&w->l1, s->l1_off, s->l1, s->l1_size, s->l1_dirty, s->has_l1_dirty);
	if (!r)
		wb_commit(s, w);
	return r;
}

static void wb_redirty(struct q2 *s, const struct wb_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].page && l->v[i].page->off == l->v[i].off)
			q2_page_dirty(s, l->v[i].page);
}

/* It did not work out: all of it is dirty as before. */
static void wb_undo(struct q2 *s, struct wb_picture *w)
{
	wb_redirty(s, &w->ref);
	wb_redirty(s, &w->l2);
	for (size_t i = 0; i < w->l1.n; i++) {
		s->l1_dirty[(w->l1.v[i].off - s->l1_off) / TABLE_CHUNK] = 1;
		s->has_l1_dirty = true;
	}
	for (size_t i = 0; i < w->rt.n; i++) {
		s->rt_dirty[(w->rt.v[i].off - s->rt_off) / TABLE_CHUNK] = 1;
		s->has_rt_dirty = true;
	}
	for (size_t i = 0; i < w->frees.n; i++)
		q2_free_later(s, w->frees.v[i].off, w->frees.v[i].len, w->frees.v[i].may_discard);
	free(w->frees.v);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Neighbours in one go. The copies of pages of one list lie side by side in memory as well. */
static int wb_write(struct q2 *s, const struct wb_list *l)
{
	int r = 0;

	for (size_t i = 0, n; !r && i < l->n; i += n) {
		uint64_t len = l->v[i].len;

		for (n = 1; i + n < l->n && l->v[i + n].off == l->v[i].off + len &&
		     l->v[i + n].data == l->v[i].data + len; n++)
			len += l->v[i + n].len;
		r = blk_co_pwrite(s->b->file, l->v[i].off, l->v[i].data, len);
	}
	return r;
}

static int wb_barrier_all(struct q2 *s)
{
	int r = q2_barrier(s);

	return !r && s->b->data ? blk_co_flush(s->b->data) : r;
}

static int wb_run(struct q2 *s, const struct wb_picture *w)
{
	int r = 0;

	/* Nothing refers to what is behind the end, not even zeroes: others would take it for damage. */
	if (s->alloc_end > s->b->file->size)
		r = blk_co_truncate(s->b->file, s->alloc_end, BLK_PREALLOC_OFF, NULL);
	if (!r && w->ref.n)
		r = wb_write(s, &w->ref);
	if (!r && w->rt.n) {
		r = q2_barrier(s);
		if (!r)
			r = wb_write(s, &w->rt);
	}
	if (!r && (w->l2.n || w->l1.n)) {
		r = wb_barrier_all(s);
		if (!r)
			r = wb_write(s, &w->l2);
	}
	if (!r && w->l1.n) {
		if (w->l2.n)
			r = q2_barrier(s);
		if (!r)
			r = wb_write(s, &w->l1);
	}
	if (!r && w->frees.n)
		r = q2_barrier(s);
	return r;
}

static void wb_append_frees(struct q2_frees *to, struct q2_frees *from)
{
	if (!to->n) {
		free(to->v);
		*to = *from;
		return;
	}
	struct q2_free *v = reallocarray(to->v, to->n + from->n, sizeof(*v));

	/* No memory: they leak, which check repairs. */
	if (v) {
		memcpy(v + to->n, from->v, from->n * sizeof(*v));
		to->v = v;
		to->n += from->n;
		to->cap = to->n;
	}
	free(from->v);
}

static int wb_round(struct q2 *s)
{
	struct wb_picture w = { 0 };
	int r = wb_take(s, &w);

	if (r < 0) {
		wb_free(s, &w);
		return r;
	}
	r = wb_run(s, &w);
	if (r < 0)
		wb_undo(s, &w);
	else if (w.frees.n)
		wb_append_frees(&s->freeable, &w.frees);
	else
		free(w.frees.v);
	wb_free(s, &w);
	return r;
}

/* A round that starts after we came is enough for us, whoever runs it. */
int q2_writeback(struct q2 *s)
{
	if (q2_is_clean(s))
		return 0;
	uint64_t want = s->wb_started + 1;

	co_mutex_lock(&s->wb_lock);
	if (s->wb_done < want) {
		uint64_t number = ++s->wb_started;

		s->wb_result = wb_round(s);
		s->wb_done = number;
	}
	int r = s->wb_result;

	co_mutex_unlock(&s->wb_lock);
	return r;
}

int q2_settle(struct q2 *s)
{
	int r = 0;

	for (int round = 0; !r && round < 16 && (!q2_is_clean(s) || s->freeable.n); round++) {
		r = q2_writeback(s);
		if (!r)
			r = q2_apply_frees(s);
	}
	return r;
}
