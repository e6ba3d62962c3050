/* SPDX-License-Identifier: Apache-2.0 */
/* alloc.c - free clusters: finding them, giving them back, and not believing that they are free. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- what is metadata ------------------------------------------------------------------------- */

/* The set holds cluster index + 1 in open addressing; deleted ones leave META_GONE. */
#define META_GONE UINT64_MAX

static unsigned meta_slot(const struct q2 *s, uint64_t key)
{
	return (unsigned)(key * 0x9e3779b97f4a7c15ull >> (64 - s->meta_bits));
}

static void meta_put(struct q2 *s, uint64_t key)
{
	unsigned mask = (1u << s->meta_bits) - 1, i = meta_slot(s, key);

	while (s->meta[i] && s->meta[i] != key)
		i = (i + 1) & mask;
	s->meta_n += !s->meta[i];
	s->meta[i] = key;
}

static int meta_grow(struct q2 *s)
{
	struct q2 old = *s;

	s->meta_bits = s->meta_bits ? s->meta_bits + 1 : 8;
	s->meta_n = 0;
	s->meta = calloc(1u << s->meta_bits, sizeof(*s->meta));
	if (!s->meta) {
		s->meta = old.meta;
		s->meta_bits = old.meta_bits;
		s->meta_n = old.meta_n;
		return -ENOMEM;
	}
	for (unsigned i = 0; old.meta && i < 1u << old.meta_bits; i++)
		if (old.meta[i] && old.meta[i] != META_GONE)
			meta_put(s, old.meta[i]);
	free(old.meta);
	return 0;
}

int q2_meta_add(struct q2 *s, uint64_t off)
{
	if (!s->meta || s->meta_n > 3u << s->meta_bits >> 2) {
		int r = meta_grow(s);

		if (r < 0)
			return r;
	}
	meta_put(s, q2_cluster_of(s, off) + 1);
	return 0;
}

static unsigned meta_find(const struct q2 *s, uint64_t key, bool *found)
{
	unsigned mask = (1u << s->meta_bits) - 1, i = meta_slot(s, key);

	for (*found = false; s->meta[i]; i = (i + 1) & mask) {
		if (s->meta[i] == key) {
			*found = true;
			break;
		}
	}
	return i;
}

void q2_meta_remove(struct q2 *s, uint64_t off)
{
	bool found = false;
	unsigned i = s->meta ? meta_find(s, q2_cluster_of(s, off) + 1, &found) : 0;

	if (found)
		s->meta[i] = META_GONE;
}

bool q2_meta_has(const struct q2 *s, uint64_t off, uint64_t len)
{
	bool found = false;

	for (uint64_t c = q2_cluster_of(s, off); s->meta && !found && c <= q2_cluster_of(s, off + len - 1); c++)
		meta_find(s, c + 1, &found);
	return found;
}

bool q2_host_is_free_for_use(const struct q2 *s, uint64_t off, uint64_t len)
{
	return off >= s->cluster_size && range_fits(off, len, 1ull << 56) &&
	       !range_overlaps(off, len, s->l1_off, (uint64_t)s->l1_size * 8) &&
	       !range_overlaps(off, len, s->rt_off, (uint64_t)s->rt_clusters << s->cluster_bits) &&
	       !range_overlaps(off, len, s->crypt_off, s->crypt_len) &&
	       !q2_meta_has(s, off, len);
}

/* --- taking ----------------------------------------------------------------------------------- */

/* From *CLUSTER on: the first that is free, and how many are from there, up to N. Blocks that are missing
 * count as free. */
static int alloc_scan_block(struct q2 *s, uint64_t *cluster, uint64_t n, uint64_t *run)
{
	uint64_t per_page = (uint64_t)s->page_size * 8 >> s->refcount_order;

	for (*run = 0; *run < n;) {
		uint64_t c = *cluster + *run, block = c >> s->ref_bits, in_block = c & ((1ull << s->ref_bits) - 1);
		struct q2_page *page;

		if (block >= s->rt_size || !s->rt[block]) {
			*run = n;       /* free as far as anybody can see */
			return 0;
		}
		int r = q2_page_get(s, s->rt[block] + in_block / per_page * s->page_size, Q2_PAGE_REF, &page);

		if (r < 0)
			return r;
		for (uint64_t i = in_block % per_page; i < per_page && *run < n; i++) {
			if (!q2_ref_read(s, page->data, i)) {
				++*run;
			} else if (*run) {
				q2_page_put(page);
				return 0;
			} else {
				++*cluster;
			}
		}
		q2_page_put(page);
	}
	return 0;
}

/* Count them as used; where that makes a new block in their midst, the run ends before it. */
static int alloc_take(struct q2 *s, uint64_t first, uint64_t *n, bool may_be_less)
{
	uint64_t limit = *n;

	for (uint64_t i = 0; i < *n; i++) {
		uint64_t block = (first + i) >> s->ref_bits;

		if (block < s->rt_size && s->rt[block])
			continue;
		if (i && may_be_less) {
			*n = i;         /* what is in a block is enough */
			break;
		}
		limit = i;
		*n = 0;
		break;
	}
	if (!*n) {
		/* A block first, then look again: it has taken one of these. */
		int r = q2_ref_add_locked(s, (first + limit) << s->cluster_bits, 1, 1);

		if (r < 0)
			return r;
		r = q2_ref_add_locked(s, (first + limit) << s->cluster_bits, 1, -1);
		return r < 0 ? r : 1;
	}
	return q2_ref_add_locked(s, first << s->cluster_bits, *n << s->cluster_bits, 1);
}

/* Are there blocks for all N from CLUSTER on? */
static bool alloc_is_counted(const struct q2 *s, uint64_t cluster, uint64_t n)
{
	for (uint64_t block = cluster >> s->ref_bits; block <= (cluster + n - 1) >> s->ref_bits; block++)
		if (block >= s->rt_size || !s->rt[block])
			return false;
	return true;
}

int q2_alloc_locked(struct q2 *s, uint64_t n, bool may_be_less, uint64_t *off, uint64_t *got, bool *is_fresh)
{
	uint64_t cluster = s->free_hint ? s->free_hint : 1, hint_run = 0;
	bool is_first = true;

	if (!n || n > 1ull << 32)
		return -EFBIG;
	for (;;) {
		uint64_t run;
		int r = alloc_scan_block(s, &cluster, n, &run);

		if (r < 0)
			return r;
		if (is_first) {
			s->free_hint = cluster; /* nothing is free below the first that we found */
			is_first = false;
		}
		if (run < n && !may_be_less) {
			cluster += run;
			continue;
		}
		if ((cluster + run) << s->cluster_bits >> s->cluster_bits != cluster + run ||
		    (cluster + run) << s->cluster_bits > 1ull << 56)
			return -EFBIG;
		/* A block takes the first cluster that it counts: of more than that, none are in a row. */
		if (!may_be_less && n >> s->ref_bits && !alloc_is_counted(s, cluster, n)) {
			r = q2_ref_make_run(s, n, &cluster);
			if (r < 0)
				return r;
		}
		hint_run = run;
		r = alloc_take(s, cluster, &hint_run, may_be_less);
		if (r < 0)
			return r;
		if (!r) {
			*got = hint_run;
			break;
		}
	}
	*off = cluster << s->cluster_bits;
	if (s->free_hint == cluster)
		s->free_hint = cluster + *got;
	if (!q2_host_is_free_for_use(s, *off, *got << s->cluster_bits))
		return q2_corrupt(s, "host offset 0x%llx is in use and counted as free", (unsigned long long)*off);
	q2_pages_forget(s, *off, *got << s->cluster_bits);
	*is_fresh = *off >= s->b->file->size;
	if (*off + (*got << s->cluster_bits) > s->alloc_end)
		s->alloc_end = *off + (*got << s->cluster_bits);
	return 0;
}

int q2_alloc(struct q2 *s, uint64_t n, bool may_be_less, uint64_t *off, uint64_t *got, bool *is_fresh)
{
	int r = q2_apply_frees(s);

	if (r < 0)
		return r;
	co_mutex_lock(&s->alloc_lock);
	r = q2_alloc_locked(s, n, may_be_less, off, got, is_fresh);
	co_mutex_unlock(&s->alloc_lock);
	return r;
}

/* --- giving back ------------------------------------------------------------------------------ */

int q2_free_later(struct q2 *s, uint64_t off, uint64_t len, bool may_discard)
{
	struct q2_frees *f = &s->pending;

	/* Compressed neighbours in one cluster count one each. */
	if (f->n && f->v[f->n - 1].off + f->v[f->n - 1].len == off && f->v[f->n - 1].may_discard == may_discard &&
	    !(off & (s->cluster_size - 1))) {
		f->v[f->n - 1].len += len;
		return 0;
	}
	if (f->n == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 64;
		struct q2_free *v = reallocarray(f->v, cap, sizeof(*v));

		if (!v)
			return -ENOMEM; /* it leaks, and the caller goes on or not */
		f->v = v;
		f->cap = cap;
	}
	f->v[f->n++] = (struct q2_free){ .off = off, .len = len, .may_discard = may_discard };
	return 0;
}

void q2_free_now(struct q2 *s, uint64_t off, uint64_t len)
{
	q2_ref_add(s, off, len, -1);
}

/* Those of [OFF, OFF+LEN) that nobody uses any more become holes. */
static int free_discard(struct q2 *s, uint64_t off, uint64_t len)
{
	for (uint64_t at = off; at < off + len; at += s->cluster_size) {
		uint64_t v, n = 0;
		int r = 0;

		while (!r && at + n < off + len) {
			r = q2_ref_get(s, q2_cluster_of(s, at + n), &v);
			if (!r && v)
				break;
			n += s->cluster_size;
		}
		if (!r && n)
			r = blk_co_discard(s->b->file, at, n);
		if (r < 0)
			return r;
		at += n;
	}
	return 0;
}

int q2_apply_frees(struct q2 *s)
{
	int r = 0;

	if (!s->freeable.n)
		return 0;
	co_mutex_lock(&s->alloc_lock);
	struct q2_frees f = s->freeable;

	s->freeable = (struct q2_frees){ 0 };
	for (size_t i = 0; !r && i < f.n; i++) {
		r = q2_ref_add_locked(s, f.v[i].off, f.v[i].len, -1);
		if (!r && f.v[i].may_discard && s->b->file->can_discard)
			free_discard(s, q2_cluster_start(s, f.v[i].off),
				     q2_cluster_up(s, f.v[i].off + f.v[i].len) - q2_cluster_start(s, f.v[i].off));
	}
	co_mutex_unlock(&s->alloc_lock);
	free(f.v);
	return r;
}
