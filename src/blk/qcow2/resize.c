/* SPDX-License-Identifier: Apache-2.0 */
/* resize.c - growing, shrinking, reserving space, forgetting everything. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PREALLOC_STEP = 1024 };  /* clusters */

/* Clusters FIRST.. of a part of the disk that has none: N of them in a row on the host. */
static int preallocate_run(struct q2 *s, uint64_t guest, uint64_t n, enum blk_prealloc prealloc, uint64_t *got)
{
	uint64_t host = guest;
	bool is_fresh = false;
	int r = 0;

	*got = n;
	if (!s->b->data)
		r = q2_alloc(s, n, true, &host, got, &is_fresh);
	if (!r && !is_fresh && prealloc != BLK_PREALLOC_FULL)
		r = blk_co_zeroes(q2_data(s), host, *got << s->cluster_bits, false);
	if (!r && is_fresh && prealloc == BLK_PREALLOC_FALLOC)
		r = blk_co_truncate(s->b->file, host + (*got << s->cluster_bits), BLK_PREALLOC_FALLOC, NULL);
	if (!r && prealloc == BLK_PREALLOC_FULL) {
		uint64_t len = *got << s->cluster_bits;
		AUTO(free) void *zero = calloc(1, 1 << 20);
		struct iovec iov;

		for (uint64_t at = 0; !r && zero && at < len; at += 1 << 20) {
			uint64_t some = len - at < 1 << 20 ? len - at : 1 << 20;

			r = blk_co_pwritev(q2_data(s), host + at, some, blk_vec_of(&iov, zero, some));
		}
	}
	/* Without backing image a reservation is data that is zero; behind one it must not show. */
	for (uint64_t i = 0; !r && i < *got; i++) {
		struct q2_entry e;

		r = q2_entry_get(s, guest + (i << s->cluster_bits), &e);
		e.host = host + (i << s->cluster_bits);
		e.has_host = e.is_copied = true;
		e.alloc = s->n_sub == 32 && s->b->backing_name ? 0 : q2_all_subs(s) & ~e.zero;
		if (!r)
			r = q2_entry_set(s, guest + (i << s->cluster_bits), &e);
	}
	return r;
}

int q2_preallocate(struct q2 *s, uint64_t off, uint64_t len, enum blk_prealloc prealloc, struct err *err)
{
	uint64_t at = q2_cluster_start(s, off), end = q2_cluster_up(s, off + len);
	uint64_t per_l2 = 1ull << (s->cluster_bits + s->l2_bits);
	int r = q2_prepare(s);

	if (s->luks)
		return err_set(err, -ENOTSUP, "space cannot be reserved in the encrypted image '%s': what was not "
			       "written would read as noise", s->b->name);
	while (!r && at < end) {
		uint64_t table_end = (at / per_l2 + 1) * per_l2;
		uint64_t limit = q2_cluster_of(s, (end < table_end ? end : table_end) - at), n = 0, got = 1;

		r = q2_balance(s);
		if (!r)
			r = q2_l2_make(s, at);
		for (limit = limit < PREALLOC_STEP ? limit : PREALLOC_STEP; !r && n < limit; n++) {
			struct q2_entry e;

			r = q2_entry_get(s, at + (n << s->cluster_bits), &e);
			if (!r && e.has_host)
				break;
		}
		if (!r && n)
			r = preallocate_run(s, at, n, prealloc, &got);
		at += got << s->cluster_bits;
		if (!r)
			r = blk_co_reserved(s->b, at - q2_cluster_start(s, off), end - q2_cluster_start(s, off));
	}
	int settled = !r || r == -EINTR ? q2_settle(s) : 0;

	r = r ? r : settled;
	if (r == -EINTR)
		return err_set(err, r, "interrupted; '%s' has its new size, and not all of the space", s->b->name);
	return r < 0 ? err_set(err, r, "cannot reserve space in '%s': %s", s->b->name, strerror(-r)) : 0;
}

/* --- size --------------------------------------------------------------------------------------- */

static uint64_t resize_l1_size(const struct q2 *s, uint64_t size)
{
	uint64_t per_l2 = 1ull << (s->cluster_bits + s->l2_bits);
	uint64_t n = size / per_l2 + (size % per_l2 != 0);

	return n ? n : 1;
}

/* What was behind the old end must not show: the rest of its last cluster, and what a backing image has. */
static int grow_hide(struct q2 *s, uint64_t from, uint64_t to)
{
	uint64_t cluster_end = q2_cluster_up(s, from), end = to;
	int r = 0;

	if (cluster_end > from) {
		uint64_t n = (cluster_end < to ? cluster_end : to) - from;

		r = q2_co_zeroes(s->b, from, n, true);
	}
	if (r || !s->b->backing || cluster_end >= to || s->b->backing->size <= cluster_end)
		return r;
	if (end > s->b->backing->size)
		end = s->b->backing->size;
	end = q2_cluster_up(s, end) < to ? q2_cluster_up(s, end) : to;
	r = q2_co_zeroes(s->b, cluster_end, end - cluster_end, true);
	if (r != -ENOTSUP)
		return r;
	/* Version 2: written. */
	AUTO(free) void *zero = calloc(1, 1 << 20);
	struct iovec iov;

	for (r = zero ? 0 : -ENOMEM; !r && cluster_end < end; cluster_end += 1 << 20) {
		uint64_t n = end - cluster_end < 1 << 20 ? end - cluster_end : 1 << 20;

		r = q2_co_pwritev(s->b, cluster_end, n, blk_vec_of(&iov, zero, n));
	}
	return r;
}

static int grow_table(struct q2 *s, uint64_t size, struct err *err)
{
	uint64_t n = resize_l1_size(s, size);

	if (n > Q2_L1_MAX)
		return err_set(err, -EFBIG, "'%s' with clusters of %u bytes cannot be that large",
			       s->b->name, s->cluster_size);
	if (n <= s->l1_size) {
		s->size = size;
		s->b->size = align_up(size, BLK_SECTOR);
		int r = q2_header_update(s);

		return r < 0 ? err_set(err, r, "cannot write the header of '%s': %s", s->b->name, strerror(-r)) : 0;
	}
	uint64_t *l1 = calloc(n, 8);

	if (!l1)
		return err_set(err, -ENOMEM, "out of memory");
	int r = q2_settle(s);

	if (r < 0) {
		free(l1);
		return err_set(err, r, "cannot write '%s': %s", s->b->name, strerror(-r));
	}
	memcpy(l1, s->l1, (size_t)s->l1_size * 8);
	return q2_l1_replace(s, l1, (uint32_t)n, size, err);
}

/* The data file is never shorter than the disk: it has its length durably before the header says so. */
static int grow_data(struct q2 *s, uint64_t size, struct err *err)
{
	int r = blk_co_truncate(s->b->data, size, BLK_PREALLOC_OFF, err);

	if (r < 0)
		return r;
	r = blk_co_flush(s->b->data);
	return r < 0 ? err_set(err, r, "cannot write '%s': %s", s->b->data->name, strerror(-r)) : 0;
}

static int resize_grow(struct q2 *s, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	uint64_t old = s->b->size;
	struct blk_range range;
	int r = s->b->data ? grow_data(s, size, err) : 0;

	if (!r) {
		blk_drain_begin(s->b, &range);
		r = grow_table(s, size, err);
		blk_drain_end(s->b, &range);
	}
	if (r < 0)
		return r;
	r = grow_hide(s, old, s->b->size);
	if (r < 0)
		return err_set(err, r, "cannot clear the new part of '%s': %s", s->b->name, strerror(-r));
	return prealloc == BLK_PREALLOC_OFF
		       ? 0
		       : q2_preallocate(s, q2_cluster_up(s, old), s->b->size - old, prealloc, err);
}

/* L2 tables that are behind the end are empty now: give them back. */
static int shrink_tables(struct q2 *s, uint64_t size)
{
	int r = 0;

	for (uint64_t i = resize_l1_size(s, size); !r && i < s->l1_size; i++) {
		uint64_t table = s->l1[i] & Q2_OFF_MASK;

		if (!table)
			continue;
		q2_l1_set(s, i, 0);
		q2_meta_remove(s, table);
		r = q2_free_later(s, table, s->cluster_size, true);
	}
	return r;
}

static int resize_shrink(struct q2 *s, uint64_t size, struct err *err)
{
	uint64_t from = q2_cluster_up(s, size), old = s->b->size;
	int r = from < old ? q2_drop(s, from, q2_cluster_up(s, old) - from, Q2_DROP_FULL, true) : 0;

	if (!r)
		r = shrink_tables(s, size);
	if (!r)
		r = q2_settle(s);
	if (!r) {
		s->size = size;
		s->b->size = align_up(size, BLK_SECTOR);
		r = q2_header_update(s);
	}
	if (!r && s->b->data)
		r = q2_barrier(s);
	if (!r && s->b->data)
		r = blk_co_truncate(s->b->data, size, BLK_PREALLOC_OFF, err);
	return r < 0 ? err_set(err, r, "cannot shrink '%s': %s", s->b->name, strerror(-r)) : 0;
}

int q2_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct q2 *s = b->priv;
	struct blk_range range;
	int r;

	if (size > INT64_MAX - BLK_SECTOR)
		return err_set(err, -EFBIG, "'%s' cannot be that large", b->name);
	if (s->n_snapshots && s->version == 2)
		return err_set(
			err, -ENOTSUP,
			"'%s' is version 2 and has snapshots, which would not know their size",
			b->name);
	r = q2_prepare(s);
	if (r < 0)
		return err_set(err, r, "cannot write '%s': %s", b->name, strerror(-r));
	r = q2_bitmaps_resize(s, size, err);
	if (!r && size > b->size) {
		r = resize_grow(s, size, prealloc, err);
	} else if (!r && size < b->size) {
		blk_drain_begin(b, &range);
		r = resize_shrink(s, size, err);
		blk_drain_end(b, &range);
	}
	if (!r && q2_settle(s) < 0)
		r = err_set(err, -EIO, "cannot write '%s'", b->name);
	return r;
}

int q2_co_make_empty(struct blk *b, struct err *err)
{
	struct q2 *s = b->priv;
	struct blk_range range;
	int r;

	blk_drain_begin(b, &range);
	r = q2_prepare(s);
	q2_bitmaps_mark(s, 0, b->size);
	if (!r)
		r = q2_drop(s, 0, q2_cluster_up(s, b->size), Q2_DROP_FULL, true);
	if (!r)
		r = q2_settle(s);
	blk_drain_end(b, &range);
	return r < 0 ? err_set(err, r, "cannot empty '%s': %s", b->name, strerror(-r)) : 0;
}
