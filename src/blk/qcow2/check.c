/* SPDX-License-Identifier: Apache-2.0 */
/* check.c - count every reference and compare with what the image says; repair.
 *
 * First everything that the header leads to is walked and counted in memory (entries that cannot be are
 * reported and, when repairing, emptied), then the counts are compared with the refcount blocks. A lower
 * count there is an error: the cluster could be given away. A higher one is a leak. When the blocks
 * themselves are broken, new ones are written behind the end of the file. */
#include "blk/qcow2/check_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPORTS_MAX = 100 };
#define CLUSTERS_MAX (1ull << 36 >> 4)          /* of a file that can be checked */

void chk_report(struct chk *c, const char *fmt, ...)
{
	char line[300];
	va_list ap;

	if (!c->out->report || c->n_reports++ >= REPORTS_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->out->report(c->out->report_arg, line);
}

/* An error that FIX can repair if it is asked to. True: repair it. */
bool chk_error(struct chk *c)
{
	if (c->fix & BLK_FIX_ERRORS)
		c->out->n_errors_fixed++;
	else
		c->out->n_errors++;
	return c->fix & BLK_FIX_ERRORS;
}

bool chk_leak(struct chk *c)
{
	if (c->fix & BLK_FIX_LEAKS)
		c->out->n_leaks_fixed++;
	else
		c->out->n_leaks++;
	return c->fix & BLK_FIX_LEAKS;
}

uint32_t chk_get(const struct chk *c, uint64_t cluster)
{
	const uint32_t *chunk = cluster < c->n_clusters ? c->chunks[cluster >> CHUNK_BITS] : NULL;

	return chunk ? chunk[cluster & ((1u << CHUNK_BITS) - 1)] : 0;
}

/* One reference to each cluster that [OFF, OFF+LEN) touches. 1: it is not in the file. */
int chk_count(struct chk *c, uint64_t off, uint64_t len)
{
	uint64_t first = q2_cluster_of(c->s, off), last = q2_cluster_of(c->s, off + len - 1);

	if (!len)
		return 0;
	if (off + len < off || last >= c->n_clusters)
		return 1;
	for (uint64_t i = first; i <= last; i++) {
		uint32_t **chunk = &c->chunks[i >> CHUNK_BITS];

		if (!*chunk)
			*chunk = calloc(1u << CHUNK_BITS, sizeof(**chunk));
		if (!*chunk)
			return -ENOMEM;
		if ((*chunk)[i & ((1u << CHUNK_BITS) - 1)] < UINT32_MAX)
			(*chunk)[i & ((1u << CHUNK_BITS) - 1)]++;
	}
	if ((last + 1) << c->s->cluster_bits > c->out->image_end)
		c->out->image_end = (last + 1) << c->s->cluster_bits;
	return 0;
}

/* A table that cannot be repaired if it is not there. */
int chk_table(struct chk *c, const char *what, uint64_t off, uint64_t len)
{
	int r = chk_count(c, off, len);

	if (r == 1) {
		chk_report(c, "the %s lies behind the end of the file", what);
		c->out->n_errors++;
		return 0;
	}
	return r;
}

/* --- the trees -------------------------------------------------------------------------------- */

struct chk_tree {
	bool is_active;
	const char *name;               /* "active" or a snapshot */
};

static bool entry_is_possible(const struct q2 *s, const uint8_t *p, const struct q2_entry *e)
{
	uint64_t v = get_be64(p);

	if (e->is_compressed)
		return !s->b->data && !(v & Q2_COPIED);
	if (v & Q2_L2_RESERVED || (v & Q2_ZERO && (s->version == 2 || s->n_sub == 32)))
		return false;
	return !(e->host & (s->cluster_size - 1)) && !(e->alloc & e->zero) && (!e->alloc || e->has_host);
}

static void chk_statistics(struct chk *c, const struct q2_entry *e)
{
	c->out->n_allocated++;
	if (e->is_compressed) {
		c->out->n_compressed++;
		c->out->n_fragmented++;
		return;
	}
	if (c->next_data && e->host != c->next_data)
		c->out->n_fragmented++;
	c->next_data = e->host + c->s->cluster_size;
}

/* 1: the entry at P was emptied. */
static int chk_entry(struct chk *c, const struct chk_tree *t, uint8_t *p, uint64_t guest)
{
	struct q2 *s = c->s;
	struct q2_entry e, empty = { 0 };
	uint64_t off, len = s->cluster_size;
	int r = 0;

	q2_entry_decode(s, p, &e);
	bool is_possible = entry_is_possible(s, p, &e);

	if (is_possible && e.has_host && !s->b->data) {
		off = e.host;
		if (e.is_compressed)
			q2_packed_range(s, &e, &off, &len);
		/* The last sectors of compressed data may be claimed without being there. */
		if (e.is_compressed && off < s->b->file->size && off + len > q2_cluster_up(s, s->b->file->size))
			len = q2_cluster_up(s, s->b->file->size) - off;
		/* Data in a table would change the table when it is written. */
		is_possible = e.is_compressed || q2_host_is_free_for_use(s, off, len);
		r = is_possible ? chk_count(c, off, len) : 1;
		is_possible = r != 1;
		if (!r && t->is_active)
			chk_statistics(c, &e);
	} else if (is_possible && e.has_host) {
		is_possible = e.host == guest;
		if (is_possible && t->is_active)
			chk_statistics(c, &e);
	}
	if (r < 0 || is_possible)
		return r < 0 ? r : 0;
	chk_report(c, "%s: guest offset 0x%" PRIx64 " has the impossible entry 0x%" PRIx64 "%s", t->name, guest,
		   (uint64_t)get_be64(p), c->fix & BLK_FIX_ERRORS ? ": it reads as zeroes now" : "");
	if (!chk_error(c))
		return 0;
	empty.zero = s->version > 2 ? q2_all_subs(s) : 0;
	q2_entry_encode(s, &empty, p);
	return 1;
}

static int chk_l2(struct chk *c, const struct chk_tree *t, uint64_t table, uint64_t guest)
{
	struct q2 *s = c->s;
	AUTO(free) uint8_t *buf = malloc(s->cluster_size);
	bool is_changed = false;
	int r = buf ? blk_co_pread(s->b->file, table, buf, s->cluster_size) : -ENOMEM;

	for (uint32_t at = 0; r >= 0 && at < s->cluster_size; at += s->entry_size) {
		r = chk_entry(c, t, buf + at, guest);
		is_changed |= r == 1;
		guest += s->cluster_size;
	}
	if (r >= 0 && is_changed)
		r = blk_co_pwrite(s->b->file, table, buf, s->cluster_size);
	return r < 0 ? r : 0;
}

static int chk_l1(struct chk *c, const struct chk_tree *t, uint64_t l1_off, uint64_t *l1, uint32_t l1_size)
{
	struct q2 *s = c->s;
	uint64_t per_l2 = 1ull << (s->cluster_bits + s->l2_bits);
	bool is_changed = false;
	int r = chk_table(c, "L1 table", l1_off, (uint64_t)l1_size * 8);

	for (uint32_t i = 0; !r && i < l1_size; i++) {
		uint64_t table = l1[i] & Q2_OFF_MASK;

		r = blk_check_progress(c->out, c->fix, i * per_l2, l1_size * per_l2);
		if (r < 0)
			break;
		if (!l1[i])
			continue;
		r = l1[i] & Q2_L1_RESERVED || !table || table & (s->cluster_size - 1) ? 1 :
		    chk_count(c, table, s->cluster_size);
		if (!r) {
			r = chk_l2(c, t, table, i * per_l2);
			continue;
		}
		if (r < 0)
			break;
		r = 0;
		chk_report(c, "%s: L1 entry %u is 0x%" PRIx64 ", which cannot be", t->name, i, l1[i]);
		if (chk_error(c)) {
			l1[i] = 0;
			is_changed = true;
		}
	}
	return !r && is_changed ? q2_write_table(s, l1_off, l1_size, l1) : r;
}

static int chk_snapshot(struct chk *c, const struct q2_snapshot *sn)
{
	const struct chk_tree t = { .name = sn->s.name };
	AUTO(free) uint64_t *l1 = calloc(sn->l1_size + 1ul, 8);
	int r = l1 ? q2_read_table(c->s, sn->l1_off, sn->l1_size, l1) : -ENOMEM;

	return r ? r : chk_l1(c, &t, sn->l1_off, l1, sn->l1_size);
}

static int chk_bitmap(struct chk *c, const struct q2_bitmap *m)
{
	struct q2 *s = c->s;
	AUTO(free) uint64_t *table = calloc(m->table_size + 1ul, 8);
	int r = table ? chk_table(c, "table of a bitmap", m->table_off, (uint64_t)m->table_size * 8) : -ENOMEM;

	if (!r)
		r = q2_read_table(s, m->table_off, m->table_size, table);
	for (uint32_t i = 0; !r && i < m->table_size; i++)
		if (table[i] & Q2_OFF_MASK)
			r = chk_table(c, "data of a bitmap", table[i] & Q2_OFF_MASK, s->cluster_size);
	return r;
}

int chk_count_all(struct chk *c)
{
	struct q2 *s = c->s;
	const struct chk_tree active = { .is_active = true, .name = "disk" };
	int r = chk_count(c, 0, s->cluster_size);

	if (!r)
		r = chk_l1(c, &active, s->l1_off, s->l1, s->l1_size);
	if (!r && s->snapshots_len)
		r = chk_table(c, "snapshot table", s->snapshots_off, s->snapshots_len);
	for (uint32_t i = 0; !r && i < s->n_snapshots; i++)
		r = chk_snapshot(c, &s->snapshots[i]);
	if (!r && s->n_bitmaps)
		r = chk_table(c, "bitmap directory", s->bitmap_dir_off, s->bitmap_dir_len);
	for (uint32_t i = 0; !r && i < s->n_bitmaps; i++)
		r = chk_bitmap(c, &s->bitmaps[i]);
	if (!r && s->crypt_len)
		r = chk_table(c, "encryption header", s->crypt_off, s->crypt_len);
	return r;
}

void chk_forget_counts(struct chk *c)
{
	for (uint64_t i = 0; i <= c->n_clusters >> CHUNK_BITS; i++) {
		free(c->chunks[i]);
		c->chunks[i] = NULL;
	}
}

/* --- the check ---------------------------------------------------------------------------------- */

/* The set of what is metadata, from the tables as they are now. */
static int chk_meta(struct q2 *s)
{
	int r = 0;

	free(s->meta);
	s->meta = NULL;
	s->meta_bits = s->meta_n = 0;
	for (uint64_t i = 0; !r && i < s->rt_size; i++)
		if (s->rt[i] && !(s->rt[i] & Q2_RT_RESERVED))
			r = q2_meta_add(s, s->rt[i]);
	for (uint64_t i = 0; !r && i < s->l1_size; i++)
		if (s->l1[i] & Q2_OFF_MASK)
			r = q2_meta_add(s, s->l1[i] & Q2_OFF_MASK);
	return r;
}

/* Nothing that is cached is true any more. */
static int chk_reset(struct q2 *s)
{
	for (unsigned i = 0; i < s->n_pages; i++)
		if (s->slots[i]->off)
			q2_pages_forget(s, s->slots[i]->off, s->page_size);
	s->free_hint = 0;
	s->compressed_at = 0;
	s->inflated_host = 0;
	return chk_meta(s);
}

static int chk_marks(struct chk *c)
{
	uint64_t n_wrong = 0, n_safe = 0;
	int r = q2_marks_check(c->s, c->fix, &n_wrong, &n_safe);

	for (uint64_t i = 0; i < n_wrong; i++)
		chk_error(c);
	for (uint64_t i = 0; i < n_safe; i++)
		chk_leak(c);
	if (n_wrong)
		chk_report(c, "%" PRIu64 " clusters are used more than once and marked as used once", n_wrong);
	if (n_safe)
		chk_report(c, "%" PRIu64 " clusters are used once and not marked so", n_safe);
	return r;
}

/* All is well now: take back what the header says. */
static int chk_clean_header(struct chk *c)
{
	struct q2 *s = c->s;
	uint64_t before = s->incompatible;

	if (c->fix != BLK_FIX_ALL || c->out->n_errors)
		return 0;
	s->incompatible &= ~(uint64_t)(Q2_INCOMPAT_DIRTY | Q2_INCOMPAT_CORRUPT);
	s->is_corrupt = false;
	int r = s->incompatible != before ? q2_header_update(s) : 0;

	return r ? r : q2_barrier(s);
}

static int chk_run(struct chk *c)
{
	struct q2 *s = c->s;
	int r = chk_meta(s);

	if (!r)
		r = chk_count_all(c);
	if (!r)
		r = chk_blocks(c);
	if (!r)
		r = chk_compare(c);
	if (!r && c->needs_rebuild) {
		chk_report(c, "the reference counts are broken%s", c->fix & BLK_FIX_ERRORS ? ": written anew" : "");
		if (chk_error(c))
			r = chk_rebuild(c);
	}
	if (!r && c->fix)
		r = q2_barrier(s);
	if (!s->b->is_readonly && chk_reset(s) < 0)
		r = -ENOMEM;
	if (!r && !(c->needs_rebuild && !c->fix))
		r = chk_marks(c);
	if (!r && c->fix)
		r = q2_settle(s);
	return r ? r : chk_clean_header(c);
}

int q2_co_check(struct blk *b, unsigned fix, struct blk_check *out, struct err *err)
{
	struct q2 *s = b->priv;
	struct chk c = { .s = s, .out = out, .fix = fix };
	bool was_checking = s->is_checking;
	struct blk_range range;
	int r = 0;

	blk_drain_begin(b, &range);
	if (b->is_open && !b->is_readonly)
		r = q2_settle(s);
	c.n_clusters = q2_cluster_of(s, q2_cluster_up(s, b->file->size));
	out->n_clusters = q2_cluster_of(s, q2_cluster_up(s, s->size));
	c.chunks = !r && c.n_clusters <= CLUSTERS_MAX
			   ? calloc((c.n_clusters >> CHUNK_BITS) + 1, sizeof(*c.chunks))
			   : NULL;
	s->is_checking = true;
	if (!r && !c.chunks)
		r = c.n_clusters > CLUSTERS_MAX ? -EFBIG : -ENOMEM;
	if (!r)
		r = chk_run(&c);
	s->is_checking = was_checking;
	if (c.chunks)
		chk_forget_counts(&c);
	free(c.chunks);
	blk_drain_end(b, &range);
	return r < 0 ? err_set(err, r, "cannot check '%s': %s", b->name, strerror(-r)) : 0;
}
