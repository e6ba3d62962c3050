/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.c - taking, applying and deleting snapshots inside the image.
 *
 * A snapshot is another L1 table; what two tables share is counted twice. Each operation is a few steps
 * with everything written back between them, in such an order that at each moment nothing is counted
 * less often than it is referred to. A cluster has the "copied" mark exactly when it is counted once:
 * marks go before a second reference comes, and come after it has gone (in between it is only copied
 * without need). All run drained. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- counting trees ----------------------------------------------------------------------------- */

/* Clusters with consecutive host offsets are counted in one go. */
struct tree_run { uint64_t off, len; };

static int tree_count(struct q2 *s, struct tree_run *run, uint64_t off, uint64_t len, int delta)
{
	int r = 0;

	if (len && run->len && run->off + run->len == off && !(off & (s->cluster_size - 1))) {
		run->len += len;
		return 0;
	}
	if (run->len)
		r = delta > 0 ? q2_ref_add(s, run->off, run->len, 1) : q2_free_later(s, run->off, run->len, true);
	*run = (struct tree_run){ off, len };
	return r;
}

static int tree_l2(struct q2 *s, uint64_t table, int delta, struct tree_run *run)
{
	int r = 0;

	for (uint32_t at = 0; !r && at < s->cluster_size; at += s->page_size) {
		AUTO(free) uint8_t *copy = malloc(s->page_size);
		struct q2_page *p;

		r = copy ? q2_page_get(s, table + at, Q2_PAGE_L2, &p) : -ENOMEM;
		if (r < 0)
			break;
		memcpy(copy, p->data, s->page_size);
		q2_page_put(p);
		for (uint32_t i = 0; !r && i < s->page_size; i += s->entry_size) {
			struct q2_entry e;
			uint64_t off, len = s->cluster_size;

			q2_entry_decode(s, copy + i, &e);
			if (!e.has_host || s->b->data)
				continue;
			off = e.host;
			if (e.is_compressed)
				q2_packed_range(s, &e, &off, &len);
			else if (off & (s->cluster_size - 1))
				r = q2_corrupt(s, "an L2 entry refers to host offset 0x%" PRIx64, off);
			if (!r)
				r = tree_count(s, run, off, len, delta);
		}
	}
	return r;
}

/* Everything that the L1 table refers to, one time more (+1) or less (-1, when it is durable). */
static int tree_add(struct q2 *s, const uint64_t *l1, uint32_t l1_size, int delta)
{
	struct tree_run run = { 0 };
	int r = 0;

	for (uint32_t i = 0; !r && i < l1_size; i++) {
		uint64_t table = l1[i] & Q2_OFF_MASK;

		if (!table)
			continue;
		if (table & (s->cluster_size - 1))
			return q2_corrupt(s, "an L1 entry refers to host offset 0x%" PRIx64, table);
		r = tree_l2(s, table, delta, &run);
		if (!r)
			r = tree_count(s, &run, table, s->cluster_size, delta);
	}
	return r ? r : tree_count(s, &run, 0, 0, delta);
}

/* --- operations --------------------------------------------------------------------------------- */

static struct q2_snapshot *snapshot_find(struct q2 *s, const char *which)
{
	for (uint32_t i = 0; i < s->n_snapshots; i++)
		if (!strcmp(s->snapshots[i].s.id, which))
			return &s->snapshots[i];
	for (uint32_t i = 0; i < s->n_snapshots; i++)
		if (!strcmp(s->snapshots[i].s.name, which))
			return &s->snapshots[i];
	return NULL;
}

int q2_co_snapshot_list(struct blk *b, struct blk_snapshot **list, unsigned *n, struct err *err)
{
	struct q2 *s = b->priv;

	*list = calloc(s->n_snapshots + 1, sizeof(**list));
	if (!*list)
		return err_set(err, -ENOMEM, "out of memory");
	for (*n = 0; *n < s->n_snapshots; ++*n)
		(*list)[*n] = s->snapshots[*n].s;
	return 0;
}

static void snapshot_new_id(const struct q2 *s, char *id, size_t cap)
{
	uint64_t max = 0;

	for (uint32_t i = 0; i < s->n_snapshots; i++) {
		uint64_t v = strtoull(s->snapshots[i].s.id, NULL, 10);

		max = v > max && v < UINT64_MAX ? v : max;
	}
	snprintf(id, cap, "%" PRIu64, max + 1);
}

/* The active L1 table once more, somewhere else, without marks. */
static int snapshot_copy_l1(struct q2 *s, uint64_t *off)
{
	uint64_t len = q2_cluster_up(s, (uint64_t)s->l1_size * 8), got;
	AUTO(free) uint64_t *copy = calloc(1, len ? len : 1);
	bool is_fresh;

	*off = 0;
	if (!copy)
		return -ENOMEM;
	if (!len)
		return 0;
	for (uint32_t i = 0; i < s->l1_size; i++)
		copy[i] = s->l1[i] & Q2_OFF_MASK;
	int r = q2_alloc(s, q2_cluster_of(s, len), false, off, &got, &is_fresh);

	return r ? r : q2_write_table(s, *off, len / 8, copy);
}

static int snapshot_create(struct q2 *s, struct blk_snapshot *out, struct err *err)
{
	struct q2_snapshot sn = { .l1_size = s->l1_size, .known_len = 16, .s = *out };
	struct q2_snapshot *list = reallocarray(s->snapshots, s->n_snapshots + 1, sizeof(*list));
	int r = list ? q2_prepare(s) : -ENOMEM;

	if (list)
		s->snapshots = list;
	if (!sn.s.id[0])
		snapshot_new_id(s, sn.s.id, sizeof(sn.s.id));
	sn.s.disk_size = s->b->size;
	if (sn.s.icount != UINT64_MAX && sn.s.icount)
		sn.known_len = 24;
	sn.extra = malloc(1);
	if (!r)
		r = q2_settle(s);
	if (!r)
		r = q2_marks_clear(s);
	if (!r)
		r = q2_settle(s);
	/* The marks are gone for good before anything is counted twice. */
	if (!r)
		r = q2_barrier(s);
	if (!r)
		r = tree_add(s, s->l1, s->l1_size, 1);
	if (!r)
		r = snapshot_copy_l1(s, &sn.l1_off);
	if (!r)
		r = q2_writeback(s);
	if (r < 0 || !sn.extra) {
		free(sn.extra);
		return err_set(err, r ? r : -ENOMEM, "cannot take a snapshot of '%s': %s",
			       s->b->name, strerror(r ? -r : ENOMEM));
	}
	s->snapshots[s->n_snapshots++] = sn;
	r = q2_snapshots_store(s, err);
	if (r < 0)
		q2_snapshot_free(&s->snapshots[--s->n_snapshots]);
	else
		*out = sn.s;
	return r;
}

int q2_co_snapshot_create(struct blk *b, struct blk_snapshot *out, struct err *err)
{
	struct q2 *s = b->priv;
	struct blk_range range;
	struct timespec now;
	int r;

	if (b->data)
		return err_set(err, -ENOTSUP,
			       "'%s' keeps its data in another file, where snapshots cannot be",
			       b->name);
	if (s->n_snapshots >= Q2_SNAPSHOTS_MAX)
		return err_set(err, -EFBIG, "'%s' has %u snapshots already", b->name, s->n_snapshots);
	if (out->id[0] ? !!snapshot_find(s, out->id) : out->name[0] && snapshot_find(s, out->name))
		return err_set(err, -EEXIST, "'%s' has a snapshot '%s' already", b->name,
			       out->id[0] ? out->id : out->name);
	if (!out->date_s) {
		clock_gettime(CLOCK_REALTIME, &now);
		out->date_s = (uint64_t)now.tv_sec;
		out->date_ns = (uint32_t)now.tv_nsec;
	}
	blk_drain_begin(b, &range);
	r = snapshot_create(s, out, err);
	blk_drain_end(b, &range);
	return r;
}

/* Make L1, of L1_SIZE entries, the active table of a disk of SIZE bytes: in new clusters, so that the header
 * names the old or the new one. */
int q2_l1_replace(struct q2 *s, uint64_t *l1, uint32_t l1_size, uint64_t size, struct err *err)
{
	uint64_t len = q2_cluster_up(s, (uint64_t)l1_size * 8), off = 0, got;
	uint64_t old_off = s->l1_off, old_size = s->l1_size, old_bytes = s->size;
	uint8_t *dirty = calloc(l1_size / 64 + 1, 1);
	uint64_t *padded = calloc(1, len ? len : 8);
	bool is_fresh;
	int r = dirty && padded ? q2_settle(s) : -ENOMEM;

	if (!r)
		memcpy(padded, l1, (size_t)l1_size * 8);
	if (!r && len)
		r = q2_alloc(s, q2_cluster_of(s, len), false, &off, &got, &is_fresh);
	if (!r && len)
		r = q2_write_table(s, off, len / 8, padded);
	if (!r)
		r = q2_writeback(s);
	if (!r)
		r = q2_barrier(s);
	co_mutex_lock(&s->wb_lock);
	if (!r) {
		s->l1_off = off;
		s->l1_size = l1_size;
		s->size = size;
		r = q2_header_update(s);
		if (!r)
			r = q2_barrier(s);
	}
	if (r < 0) {
		s->l1_off = old_off;
		s->l1_size = (uint32_t)old_size;
		s->size = old_bytes;
		free(dirty);
		err_set(err, r, "cannot write a table of '%s': %s", s->b->name, strerror(-r));
	} else {
		for (uint32_t i = 0; i < old_size; i++)
			if (s->l1[i] & Q2_OFF_MASK)
				q2_meta_remove(s, s->l1[i] & Q2_OFF_MASK);
		for (uint32_t i = 0; i < l1_size; i++)
			if (l1[i] & Q2_OFF_MASK)
				q2_meta_add(s, l1[i] & Q2_OFF_MASK);
		free(s->l1);
		free(s->l1_dirty);
		s->l1 = take_ptr(&padded);
		s->l1_dirty = dirty;
		s->has_l1_dirty = false;
		s->b->size = align_up(size, BLK_SECTOR);
		if (old_size)
			q2_free_later(s, old_off, q2_cluster_up(s, old_size * 8), false);
	}
	co_mutex_unlock(&s->wb_lock);
	free(padded);
	free(l1);
	return r;
}

/* The end of a change of the counts: they and the entries' marks that follow from them are on the disk. */
static int settle_marks(struct q2 *s)
{
	uint64_t n = 0;
	int r = q2_settle(s);

	if (!r)
		r = q2_marks_check(s, BLK_FIX_ALL, &n, &n);
	return r ? r : q2_settle(s);
}

static int snapshot_apply(struct q2 *s, const struct q2_snapshot *sn, struct err *err)
{
	uint64_t per_l2 = 1ull << (s->cluster_bits + s->l2_bits);
	uint64_t needed = sn->s.disk_size / per_l2 + (sn->s.disk_size % per_l2 != 0);
	uint32_t l1_size = needed > sn->l1_size ? (uint32_t)needed : sn->l1_size, old_size = s->l1_size;
	uint64_t *l1 = calloc(l1_size + 1ul, 8);
	AUTO(free) uint64_t *old = malloc((size_t)s->l1_size * 8 + 8);
	int r = l1 && old ? q2_prepare(s) : -ENOMEM;

	if (!r)
		r = q2_settle(s);
	if (!r)
		r = q2_read_table(s, sn->l1_off, sn->l1_size, l1);
	for (uint32_t i = 0; !r && i < sn->l1_size; i++)
		l1[i] &= Q2_OFF_MASK;
	if (!r)
		r = tree_add(s, l1, l1_size, 1);
	if (!r)
		memcpy(old, s->l1, (size_t)s->l1_size * 8);
	if (r < 0) {
		free(l1);
		return err_set(err, r, "cannot apply snapshot '%s' of '%s': %s", sn->s.name, s->b->name, strerror(-r));
	}
	r = q2_l1_replace(s, l1, l1_size, sn->s.disk_size, err);
	if (r < 0)
		return r;
	r = tree_add(s, old, old_size, -1);
	if (!r)
		r = settle_marks(s);
	q2_bitmaps_mark(s, 0, s->b->size);
	return r < 0 ? err_set(err, r, "cannot finish applying snapshot '%s' of '%s': %s", sn->s.name, s->b->name,
			       strerror(-r)) : 0;
}

int q2_co_snapshot_apply(struct blk *b, const char *which, struct err *err)
{
	struct q2 *s = b->priv;
	struct blk_range range;
	int r;

	blk_drain_begin(b, &range);
	struct q2_snapshot *sn = snapshot_find(s, which);

	if (!sn)
		r = err_set(err, -ENOENT, "'%s' has no snapshot '%s'", b->name, which);
	else if (sn->s.disk_size % BLK_SECTOR || sn->s.disk_size > INT64_MAX)
		r = err_set(err, -EINVAL, "snapshot '%s' of '%s' has an impossible size", which, b->name);
	else if (sn->s.disk_size != b->size && s->n_bitmaps)
		r = err_set(err, -ENOTSUP, "'%s' has bitmaps, and snapshot '%s' another size", b->name, which);
	else
		r = snapshot_apply(s, sn, err);
	blk_drain_end(b, &range);
	return r;
}

static int snapshot_delete(struct q2 *s, struct q2_snapshot *sn, struct err *err)
{
	uint32_t i = (uint32_t)(sn - s->snapshots);
	struct q2_snapshot gone = *sn;
	AUTO(free) uint64_t *l1 = calloc(gone.l1_size + 1ul, 8);
	int r = l1 ? q2_prepare(s) : -ENOMEM;

	if (!r)
		r = q2_settle(s);
	if (!r)
		r = q2_read_table(s, gone.l1_off, gone.l1_size, l1);
	if (r < 0)
		return err_set(err, r, "cannot read snapshot '%s' of '%s': %s", gone.s.name, s->b->name, strerror(-r));
	memmove(sn, sn + 1, (s->n_snapshots - i - 1) * sizeof(*sn));
	s->n_snapshots--;
	r = q2_snapshots_store(s, err);
	if (r < 0) {
		memmove(sn + 1, sn, (s->n_snapshots - i) * sizeof(*sn));
		*sn = gone;
		s->n_snapshots++;
		return r;
	}
	r = tree_add(s, l1, gone.l1_size, -1);
	if (!r && gone.l1_size)
		r = q2_free_later(s, gone.l1_off, q2_cluster_up(s, (uint64_t)gone.l1_size * 8), false);
	if (!r)
		r = settle_marks(s);
	q2_snapshot_free(&gone);
	return r < 0 ? err_set(err, r, "cannot give back what snapshot '%s' of '%s' used: %s", gone.s.name, s->b->name,
			       strerror(-r)) : 0;
}

int q2_co_snapshot_delete(struct blk *b, const char *which, struct err *err)
{
	struct q2 *s = b->priv;
	struct blk_range range;
	int r;

	blk_drain_begin(b, &range);
	struct q2_snapshot *sn = snapshot_find(s, which);

	r = sn ? snapshot_delete(s, sn, err) : err_set(err, -ENOENT, "'%s' has no snapshot '%s'", b->name, which);
	blk_drain_end(b, &range);
	return r;
}
