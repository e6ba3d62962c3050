/* SPDX-License-Identifier: Apache-2.0 */
/* refcount.c - how often each host cluster is referred to: section "Host cluster management".
 *
 * A new refcount block stands in the first of the clusters that it counts, or if that cannot be
 * in any free one. When the table of blocks is full a larger one is made behind everything else. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t q2_ref_read(const struct q2 *s, const uint8_t *block, uint64_t i)
{
	switch (s->refcount_order) {
	case 0:
		return block[i / 8] >> i % 8 & 1;
	case 1:
		return block[i / 4] >> i % 4 * 2 & 3;
	case 2:
		return block[i / 2] >> i % 2 * 4 & 15;
	case 3:
		return block[i];
	case 4:
		return get_be16(block + i * 2);
	case 5:
		return get_be32(block + i * 4);
	default:
		return get_be64(block + i * 8);
	}
}

void q2_ref_write(const struct q2 *s, uint8_t *block, uint64_t i, uint64_t v)
{
	switch (s->refcount_order) {
	case 0:
		block[i / 8] = (uint8_t)((block[i / 8] & ~(1u << i % 8)) | v << i % 8);
		break;
	case 1:
		block[i / 4] = (uint8_t)((block[i / 4] & ~(3u << i % 4 * 2)) | v << i % 4 * 2);
		break;
	case 2:
		block[i / 2] = (uint8_t)((block[i / 2] & ~(15u << i % 2 * 4)) | v << i % 2 * 4);
		break;
	case 3:
		block[i] = (uint8_t)v;
		break;
	case 4:
		put_be16(block + i * 2, (uint16_t)v);
		break;
	case 5:
		put_be32(block + i * 4, (uint32_t)v);
		break;
	default:
		put_be64(block + i * 8, v);
	}
}

/* The page that holds the count of CLUSTER, and its index there. 0: *PAGE is set; 1: no block counts it. */
static int ref_page(struct q2 *s, uint64_t cluster, struct q2_page **page, uint64_t *index)
{
	uint64_t block = cluster >> s->ref_bits;

	*page = NULL;
	*index = 0;
	if (block >= s->rt_size || !s->rt[block])
		return 1;
	uint64_t per_page = (uint64_t)s->page_size * 8 >> s->refcount_order;
	uint64_t in_block = cluster & ((1ull << s->ref_bits) - 1);

	*index = in_block % per_page;
	return q2_page_get(s, s->rt[block] + in_block / per_page * s->page_size, Q2_PAGE_REF, page);
}

int q2_ref_get(struct q2 *s, uint64_t cluster, uint64_t *out)
{
	struct q2_page *page;
	uint64_t index = 0;
	int r = ref_page(s, cluster, &page, &index);

	*out = 0;
	if (r)
		return r < 0 ? r : 0;
	*out = q2_ref_read(s, page->data, index);
	q2_page_put(page);
	return 0;
}

/* Entries of the table that a larger one needs, so that it covers block BLOCK and itself. */
static uint64_t ref_larger(const struct q2 *s, uint64_t block)
{
	uint64_t want = block + 1, per_cluster = s->cluster_size / 8;

	if (want < s->rt_size + s->rt_size / 2)
		want = s->rt_size + s->rt_size / 2;
	want += 1 + want / per_cluster / (1ull << s->ref_bits) + 2;
	return (want + per_cluster - 1) / per_cluster * per_cluster;
}

/* Make a table of N entries at cluster FIRST, followed by the blocks that count it, N_BLOCKS of them.
 * Everything is behind all that is counted, so nothing can be there. */
static int ref_write_larger(struct q2 *s, const uint64_t *rt, uint64_t n, uint64_t first, uint64_t n_blocks)
{
	uint64_t table_clusters = n * 8 >> s->cluster_bits, used = table_clusters + n_blocks;
	uint64_t base = first >> s->ref_bits << s->ref_bits;
	AUTO(free) uint8_t *blocks = calloc(n_blocks, s->cluster_size);

	if (!blocks)
		return -ENOMEM;
	for (uint64_t i = 0; i < used; i++)
		q2_ref_write(s, blocks, first - base + i, 1);
	int r = q2_write_table(s, first << s->cluster_bits, n, rt);

	if (!r)
		r = blk_co_pwrite(s->b->file, (first + table_clusters) << s->cluster_bits, blocks,
				  n_blocks << s->cluster_bits);
	return r ? r : q2_barrier(s);
}

static int ref_switch_table(struct q2 *s, uint64_t *rt, uint8_t *dirty, uint64_t n, uint64_t first)
{
	uint64_t old_off = s->rt_off, old_len = (uint64_t)s->rt_clusters << s->cluster_bits;
	int r;

	/* A round that is under way writes into the old one; wait. Changes since then are in RT, and so written. */
	s->rt_off = first << s->cluster_bits;
	s->rt_clusters = (uint32_t)(n * 8 >> s->cluster_bits);
	r = q2_header_update(s);
	if (!r)
		r = q2_barrier(s);
	if (r < 0) {
		s->rt_off = old_off;
		s->rt_clusters = (uint32_t)(old_len >> s->cluster_bits);
		return r;
	}
	free(s->rt);
	free(s->rt_dirty);
	s->rt = rt;
	s->rt_dirty = dirty;
	s->rt_size = (uint32_t)n;
	s->has_rt_dirty = false;
	return old_len ? q2_free_later(s, old_off, old_len, false) : 0;
}

/* The table must get an entry for BLOCK. alloc_lock is held. */
static int ref_grow(struct q2 *s, uint64_t block)
{
	uint64_t n = ref_larger(s, block);
	uint64_t base = (block > s->rt_size ? block : s->rt_size) << s->ref_bits;
	uint64_t table_clusters = n * 8 >> s->cluster_bits, n_blocks = 1;
	int r;

	if (n > Q2_RT_MAX)
		return -EFBIG;
	while (n_blocks << s->ref_bits < table_clusters + n_blocks)
		n_blocks++;
	if ((base >> s->ref_bits) + n_blocks > n)
		return -EFBIG;
	/* Entries that are dirty go along with the new table: blocks that they name must be there before. */
	r = q2_writeback(s);
	if (r < 0)
		return r;
	co_mutex_lock(&s->wb_lock);
	uint64_t *rt = calloc(n, sizeof(*rt));
	uint8_t *dirty = calloc(n / 64 + 1, 1);

	if (!rt || !dirty) {
		r = -ENOMEM;
	} else {
		memcpy(rt, s->rt, (size_t)s->rt_size * 8);
		for (uint64_t i = 0; i < n_blocks; i++)
			rt[(base >> s->ref_bits) + i] = (base + table_clusters + i) << s->cluster_bits;
		r = ref_write_larger(s, rt, n, base, n_blocks);
		if (!r)
			r = ref_switch_table(s, rt, dirty, n, base);
	}
	if (s->rt != rt) {
		free(rt);
		free(dirty);
	} else {
		for (uint64_t i = 0; i < n_blocks; i++)
			q2_meta_add(s, rt[(base >> s->ref_bits) + i]);
		if ((base + table_clusters + n_blocks) << s->cluster_bits > s->alloc_end)
			s->alloc_end = (base + table_clusters + n_blocks) << s->cluster_bits;
	}
	co_mutex_unlock(&s->wb_lock);
	return r;
}

/* A block that counts CLUSTER, which none does yet. It takes the first cluster that it counts: all of them
 * are free. */
static int ref_make_block(struct q2 *s, uint64_t cluster)
{
	uint64_t block = cluster >> s->ref_bits, off = block << s->ref_bits << s->cluster_bits;
	struct q2_page *page;
	int r = 0;

	if (block >= s->rt_size)
		r = ref_grow(s, block);
	if (r < 0 || s->rt[block])
		return r;
	if (!q2_host_is_free_for_use(s, off, s->cluster_size))
		return q2_corrupt(s, "host offset 0x%llx is in use and counted as free", (unsigned long long)off);
	if (off < s->b->file->size) {
		r = blk_co_zeroes(s->b->file, off, s->cluster_size, true);
		if (r < 0)
			return r;
	}
	q2_pages_forget(s, off, s->cluster_size);
	r = q2_meta_add(s, off);
	if (r < 0)
		return r;
	r = q2_page_get(s, off, Q2_PAGE_REF, &page);    /* it counts itself first */
	if (r < 0)
		return r;
	/* Both at once: a picture with one of them alone would be wrong. */
	q2_rt_set(s, block, off);
	q2_ref_write(s, page->data, 0, 1);
	q2_page_dirty(s, page);
	q2_page_put(page);
	if (off + s->cluster_size > s->alloc_end)
		s->alloc_end = off + s->cluster_size;
	return 0;
}

/* Block NUMBER, at cluster AT, which one that is there already counts. */
static int ref_make_block_at(struct q2 *s, uint64_t number, uint64_t at)
{
	uint64_t off = at << s->cluster_bits, index = 0;
	struct q2_page *own, *counts;
	int r = 0;

	if (!q2_host_is_free_for_use(s, off, s->cluster_size))
		return q2_corrupt(s, "host offset 0x%llx is in use and counted as free", (unsigned long long)off);
	if (off < s->b->file->size)
		r = blk_co_zeroes(s->b->file, off, s->cluster_size, true);
	q2_pages_forget(s, off, s->cluster_size);
	if (!r)
		r = q2_meta_add(s, off);
	if (!r)
		r = q2_page_get(s, off, Q2_PAGE_REF, &own);
	if (r < 0)
		return r;
	r = ref_page(s, at, &counts, &index);
	if (!r) {
		q2_rt_set(s, number, off);      /* both at once, as above */
		q2_ref_write(s, counts->data, index, 1);
		q2_page_dirty(s, counts);
		q2_page_dirty(s, own);
		q2_page_put(counts);
	}
	q2_page_put(own);
	if (off + s->cluster_size > s->alloc_end)
		s->alloc_end = off + s->cluster_size;
	return r == 1 ? -EIO : r;
}

int q2_ref_make_run(struct q2 *s, uint64_t n, uint64_t *cluster)
{
	uint64_t n_blocks = 1, first, found = 0;

	while (n_blocks << s->ref_bits < n_blocks + n)
		n_blocks++;
	for (first = (q2_cluster_of(s, s->alloc_end - 1) >> s->ref_bits) + 1; found < n_blocks;) {
		if (first + found >= s->rt_size) {
			int r = ref_grow(s, s->rt_size);        /* which takes some of what is behind the end */

			if (r < 0)
				return r;
			first = (q2_cluster_of(s, s->alloc_end - 1) >> s->ref_bits) + 1;
			found = 0;
		} else if (s->rt[first + found]) {
			first += found + 1;
			found = 0;
		} else {
			found++;
		}
	}
	int r = ref_make_block(s, first << s->ref_bits);

	for (uint64_t i = 1; !r && i < n_blocks; i++)
		r = ref_make_block_at(s, first + i, (first << s->ref_bits) + i);
	*cluster = (first << s->ref_bits) + n_blocks;
	return r;
}

static int ref_add_one(struct q2 *s, uint64_t cluster, int delta)
{
	struct q2_page *page;
	uint64_t index = 0;
	int r = ref_page(s, cluster, &page, &index);

	if (r == 1 && delta > 0) {
		r = ref_make_block(s, cluster);
		if (!r)
			r = ref_page(s, cluster, &page, &index);
	}
	if (r)
		return r < 0 ? r
			     : q2_corrupt(s, "cluster %llu is freed and was not counted",
					  (unsigned long long)cluster);
	uint64_t v = q2_ref_read(s, page->data, index);

	if (delta < 0 && v < (uint64_t)-delta) {
		r = q2_corrupt(s, "cluster %llu is freed more often than used", (unsigned long long)cluster);
	} else if (delta > 0 && v + (uint64_t)delta > s->ref_max) {
		r = -E2BIG;
	} else {
		v = v + (uint64_t)(int64_t)delta;
		q2_ref_write(s, page->data, index, v);
		q2_page_dirty(s, page);
		if (!v && cluster < s->free_hint)
			s->free_hint = cluster;
		if (!v && cluster == q2_cluster_of(s, s->compressed_at))
			s->compressed_at = 0;
	}
	q2_page_put(page);
	return r;
}

int q2_ref_add_locked(struct q2 *s, uint64_t off, uint64_t len, int delta)
{
	uint64_t first = q2_cluster_of(s, off), last = q2_cluster_of(s, off + len - 1);

	for (uint64_t c = first; c <= last; c++) {
		int r = q2_balance(s);

		if (!r)
			r = ref_add_one(s, c, delta);
		if (r < 0) {
			/* Of those before, none: what fails leaves things as they were. */
			while (c-- > first)
				ref_add_one(s, c, -delta);
			return r;
		}
	}
	return 0;
}

int q2_ref_add(struct q2 *s, uint64_t off, uint64_t len, int delta)
{
	co_mutex_lock(&s->alloc_lock);
	int r = q2_ref_add_locked(s, off, len, delta);

	co_mutex_unlock(&s->alloc_lock);
	return r;
}
