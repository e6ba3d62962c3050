/* SPDX-License-Identifier: Apache-2.0 */
/* check_refs.c - the counts of the image against those that were found; new blocks where the old are broken. */
#include "blk/qcow2/check_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int chk_blocks(struct chk *c)
{
	struct q2 *s = c->s;
	int r = chk_table(c, "refcount table", s->rt_off, (uint64_t)s->rt_clusters << s->cluster_bits);

	if (!s->rt_clusters)
		c->needs_rebuild = true;
	for (uint32_t i = 0; !r && i < s->rt_size; i++) {
		uint64_t off = s->rt[i];

		if (!off)
			continue;
		r = off & Q2_RT_RESERVED || off & (s->cluster_size - 1) ? 1 : chk_count(c, off, s->cluster_size);
		if (r == 1 || (!r && chk_get(c, q2_cluster_of(s, off)) != 1)) {
			chk_report(c, "refcount block %u is at the impossible offset 0x%" PRIx64, i, off);
			c->needs_rebuild = true;
			s->rt[i] = 0;
			r = 0;
		}
	}
	return r;
}

static int chk_compare_one(struct chk *c, uint64_t cluster, uint64_t stored, bool *is_wrong)
{
	uint32_t count = chk_get(c, cluster);

	*is_wrong = false;
	if (stored == count)
		return 0;
	if (stored < count) {
		chk_report(c, "cluster %" PRIu64 " is used %u times and counted %" PRIu64, cluster, count, stored);
		*is_wrong = chk_error(c);
	} else {
		chk_report(c, "cluster %" PRIu64 " leaks: it is used %u times and counted %" PRIu64,
			   cluster, count, stored);
		*is_wrong = chk_leak(c);
	}
	return count > c->s->ref_max ? -E2BIG : 0;
}

/* One block, which counts from cluster FIRST on. */
static int chk_compare_block(struct chk *c, uint64_t off, uint64_t first)
{
	struct q2 *s = c->s;
	AUTO(free) uint8_t *buf = malloc(s->cluster_size);
	bool is_changed = false, is_wrong;
	int r = buf ? blk_co_pread(s->b->file, off, buf, s->cluster_size) : -ENOMEM;

	for (uint64_t i = 0; !r && i < 1ull << s->ref_bits; i++) {
		r = chk_compare_one(c, first + i, q2_ref_read(s, buf, i), &is_wrong);
		if (!r && is_wrong) {
			q2_ref_write(s, buf, i, chk_get(c, first + i));
			is_changed = true;
		}
	}
	if (!r && is_changed)
		r = blk_co_pwrite(s->b->file, off, buf, s->cluster_size);
	return r;
}

/* Clusters that no block counts: those that are used make a rebuild necessary. */
static void chk_uncounted(struct chk *c, uint64_t first)
{
	for (uint64_t i = first; i < c->n_clusters && i < first + (1ull << c->s->ref_bits); i++) {
		if (!c->chunks[i >> CHUNK_BITS]) {
			i |= (1u << CHUNK_BITS) - 1;
		} else if (chk_get(c, i)) {
			chk_report(c, "cluster %" PRIu64 " is used and nothing counts it", i);
			c->needs_rebuild = true;
			return;
		}
	}
}

int chk_compare(struct chk *c)
{
	struct q2 *s = c->s;
	uint64_t n_blocks = (c->n_clusters + (1ull << s->ref_bits) - 1) >> s->ref_bits;
	int r = 0;

	for (uint64_t i = 0; !c->needs_rebuild && i < n_blocks; i++)
		if (i >= s->rt_size || !s->rt[i])
			chk_uncounted(c, i << s->ref_bits);
	for (uint32_t i = 0; !r && !c->needs_rebuild && i < s->rt_size; i++)
		if (s->rt[i])
			r = chk_compare_block(c, s->rt[i], (uint64_t)i << s->ref_bits);
	return r;
}

/* --- rebuilding --------------------------------------------------------------------------------- */

static int rebuild_write(struct chk *c, uint64_t first, uint64_t table_clusters, uint64_t n_blocks)
{
	struct q2 *s = c->s;
	uint64_t n = table_clusters << s->cluster_bits >> 3, used = table_clusters + n_blocks;
	AUTO(free) uint64_t *rt = calloc(n, 8);
	AUTO(free) uint8_t *buf = malloc(s->cluster_size);
	int r = rt && buf ? 0 : -ENOMEM;

	for (uint64_t i = 0; !r && i < n_blocks; i++) {
		memset(buf, 0, s->cluster_size);
		for (uint64_t k = 0; k < 1ull << s->ref_bits; k++) {
			uint64_t cluster = (i << s->ref_bits) + k;
			uint64_t v = cluster >= first && cluster < first + used ? 1 : chk_get(c, cluster);

			if (v > s->ref_max)
				return -E2BIG;
			q2_ref_write(s, buf, k, v);
		}
		rt[i] = (first + table_clusters + i) << s->cluster_bits;
		r = blk_co_pwrite(s->b->file, rt[i], buf, s->cluster_size);
	}
	if (!r)
		r = q2_write_table(s, first << s->cluster_bits, n, rt);
	if (!r)
		r = q2_barrier(s);
	if (r < 0)
		return r;
	s->rt_off = first << s->cluster_bits;
	s->rt_clusters = (uint32_t)table_clusters;
	r = q2_header_update(s);
	if (!r)
		r = q2_barrier(s);
	if (!r) {
		free(s->rt);
		free(s->rt_dirty);
		s->rt = take_ptr(&rt);
		s->rt_size = (uint32_t)n;
		s->rt_dirty = calloc(n / 64 + 1, 1);
		s->has_rt_dirty = false;
	}
	return r || s->rt_dirty ? r : -ENOMEM;
}

/* New blocks behind the end of the file, for all that is referred to but the old ones. */
int chk_rebuild(struct chk *c)
{
	struct q2 *s = c->s;
	uint64_t first = c->n_clusters, table = 1, blocks = 1, need_blocks, need_table;
	unsigned fix = c->fix;
	struct blk_check out = *c->out;
	int r;

	chk_forget_counts(c);
	c->fix = 0;
	r = chk_count_all(c);
	*c->out = out;
	c->fix = fix;
	for (;;) {
		need_blocks = (first + table + blocks + (1ull << s->ref_bits) - 1) >> s->ref_bits;
		need_table = (need_blocks * 8 + s->cluster_size - 1) >> s->cluster_bits;
		if (need_blocks <= blocks && need_table <= table)
			break;
		blocks = need_blocks > blocks ? need_blocks : blocks;
		table = need_table > table ? need_table : table;
	}
	if (table << s->cluster_bits >> 3 > Q2_RT_MAX)
		return -EFBIG;
	return r ? r : rebuild_write(c, first, table, blocks);
}
