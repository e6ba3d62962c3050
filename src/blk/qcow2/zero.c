/* SPDX-License-Identifier: Apache-2.0 */
/* zero.c - discarding and zeroing by changing tables instead of data. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>

enum { FREES_MAX = 4096 };      /* that wait for the next flush before we start it ourselves */

int q2_entry_release(struct q2 *s, const struct q2_entry *e, bool may_discard)
{
	uint64_t off = e->host, len = s->cluster_size;

	if (!e->has_host || s->b->data)
		return 0;
	if (e->is_compressed) {
		q2_packed_range(s, e, &off, &len);
		if (range_overlaps(off, len, s->inflated_host, 1))
			s->inflated_host = 0;
	}
	return q2_free_later(s, off, len, may_discard);
}

/* Many that wait keep the file large: write back now and then. */
static int zero_relieve(struct q2 *s)
{
	if (s->pending.n < FREES_MAX)
		return 0;
	int r = q2_writeback(s);

	return r ? r : q2_apply_frees(s);
}

/* The next cluster at or after *OFF and before END that has an L2 table; false: none. */
static bool zero_next_table(const struct q2 *s, uint64_t *off, uint64_t end)
{
	uint64_t per_l2 = 1ull << (s->cluster_bits + s->l2_bits);

	while (*off < end && (q2_l1_index(s, *off) >= s->l1_size || !(s->l1[q2_l1_index(s, *off)] & Q2_OFF_MASK)))
		*off = (*off / per_l2 + 1) * per_l2;
	return *off < end;
}

static int drop_cluster(struct q2 *s, uint64_t guest, enum q2_drop how, bool may_discard)
{
	struct q2_entry old, e = { 0 };
	int r = q2_entry_get(s, guest, &old);

	if (r < 0 || (!old.has_host && !(how == Q2_DROP_FULL && old.zero)))
		return r;
	/* What is shown instead must be zeroes, even where a backing image has something. */
	if (how == Q2_DROP_ZERO && s->version > 2 && (s->b->backing || s->b->backing_name))
		e.zero = q2_all_subs(s);
	r = q2_l2_make(s, guest);
	if (!r)
		r = q2_entry_set(s, guest, &e);
	if (!r && s->b->data && may_discard)
		r = blk_co_discard(s->b->data, guest, s->cluster_size);
	return r ? r : q2_entry_release(s, &old, may_discard);
}

int q2_drop(struct q2 *s, uint64_t off, uint64_t len, enum q2_drop how, bool may_discard)
{
	uint64_t end = off + len;
	int r = 0;

	while (!r && zero_next_table(s, &off, end)) {
		r = q2_balance(s);
		if (!r)
			r = drop_cluster(s, off, how, may_discard);
		if (!r)
			r = zero_relieve(s);
		off += s->cluster_size;
	}
	return r;
}

int q2_co_discard(struct blk *b, uint64_t off, uint64_t len)
{
	struct q2 *s = b->priv;
	uint64_t end = off + len, from = q2_cluster_up(s, off), to = q2_cluster_start(s, end);
	struct blk_range range;
	int r;

	/* The last cluster may be cut by the end of the disk. */
	if (end == b->size)
		to = q2_cluster_up(s, end);
	/* Advice that would bring the backing image back is not taken. */
	if (from >= to || (s->version == 2 && (b->backing || b->backing_name)))
		return 0;
	blk_range_lock(b, &range, from, to - from, true);
	r = q2_prepare(s);
	if (!r) {
		q2_bitmaps_mark(s, off, len);
		r = s->has_raw_data ? blk_co_discard(b->data, off, len) : q2_drop(s, from, to - from, Q2_DROP_ZERO, true);
	}
	blk_range_unlock(b, &range);
	return r;
}

/* --- zeroes ----------------------------------------------------------------------------------- */

/* The data file gives the space of the cluster of GUEST back; where it cannot, it keeps it. */
static int zero_data(struct q2 *s, uint64_t guest)
{
	uint64_t from = q2_cluster_start(s, guest), end = s->b->data->size;
	int r = from >= end ? 0 : blk_co_zeroes(s->b->data, from, end - from < s->cluster_size ? end - from : s->cluster_size,
						true);

	return r == -ENOTSUP ? 0 : r;
}

/* Subclusters SUBS of the cluster of GUEST, which become zeroes. */
static int zero_cluster(struct q2 *s, uint64_t guest, uint32_t subs, bool may_unmap)
{
	struct q2_entry old, e;
	int r = q2_entry_get(s, guest, &old);

	if (r < 0 || (!old.is_compressed && (old.zero & subs) == subs && !(may_unmap && old.has_host)))
		return r;
	if (old.is_compressed && subs != q2_all_subs(s))
		return -EAGAIN;         /* has to be unpacked: written as data */
	e = old;
	e.alloc &= ~subs;
	e.zero |= subs;
	/* Nothing of it is used: give it back, or keep it as a reservation if it is ours alone. */
	if (!e.alloc && (old.is_compressed || may_unmap || !old.is_copied) && !s->b->data)
		e = (struct q2_entry){ .zero = e.zero };
	r = q2_l2_make(s, guest);
	if (!r)
		r = q2_entry_set(s, guest, &e);
	if (!r && s->b->data && old.alloc && !e.alloc && may_unmap)
		r = zero_data(s, guest);
	if (!r && old.has_host && !e.has_host)
		r = q2_entry_release(s, &old, may_unmap);
	return r;
}

/* Version 2 has no zero flag: without a backing image, no entry is as good. */
static int zero_version_2(struct q2 *s, uint64_t off, uint64_t len, bool may_unmap)
{
	if (s->b->backing || s->b->backing_name || !may_unmap)
		return -ENOTSUP;
	return q2_drop(s, off, len, Q2_DROP_ZERO, true);
}

int q2_zero(struct q2 *s, uint64_t off, uint64_t len, bool may_unmap)
{
	uint64_t end = off + len;
	int r = 0;

	if (s->version == 2)
		return zero_version_2(s, off, len, may_unmap);
	while (!r && off < end) {
		uint64_t next = q2_cluster_start(s, off) + s->cluster_size;

		next = next < end ? next : end;
		r = q2_balance(s);
		if (!r)
			r = zero_cluster(s, off, q2_subs_of(s, off, next - off), may_unmap);
		if (r == -EAGAIN) {
			static const uint8_t zero[4096];
			struct iovec iov;

			for (r = 0; !r && off < next; off += sizeof(zero))
				r = q2_write(s, off, next - off < sizeof(zero) ? next - off : sizeof(zero),
					     blk_vec_of(&iov, zero, sizeof(zero)));
		}
		off = next;
		if (!r)
			r = zero_relieve(s);
	}
	return r;
}

/* Zeroes for a part of a subcluster: nothing if it is zero anyhow, else written. */
static int zero_edge(struct q2 *s, uint64_t off, uint64_t len)
{
	struct q2_run run;
	struct iovec iov;
	int r = 0;

	while (!r && len) {
		static const uint8_t zero[64 << 10];

		r = q2_map_run(s, off, len, &run);
		if (r < 0)
			break;
		bool is_zero = run.kind == Q2_ZEROES || (run.kind == Q2_UNALLOCATED && !s->b->backing);
		uint64_t n = !is_zero && run.len > sizeof(zero) ? sizeof(zero) : run.len;

		if (!is_zero)
			r = q2_write(s, off, n, blk_vec_of(&iov, zero, n));
		off += n;
		len -= n;
	}
	return r;
}

int q2_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	struct q2 *s = b->priv;
	uint64_t end = off + len, mask = s->sub_size - 1;
	uint64_t from = (off + mask) & ~mask, to = end == b->size ? (end + mask) & ~mask : end & ~mask;
	uint64_t lock_from = q2_cluster_start(s, off), lock_to = q2_cluster_up(s, end);
	struct blk_range range;

	blk_range_lock(b, &range, lock_from, lock_to - lock_from, true);
	int r = q2_prepare(s);

	q2_bitmaps_mark(s, off, len);
	if (!r && s->has_raw_data) {
		r = blk_co_zeroes(b->data, off, len, may_unmap);        /* which itself must show them; no entry says otherwise */
	} else if (!r && from >= to) {
		r = zero_edge(s, off, len);
	} else if (!r) {
		r = q2_zero(s, from, to - from, may_unmap);
		if (!r)
			r = zero_edge(s, off, from - off);
		if (!r && end > to)
			r = zero_edge(s, to, end - to);
	}
	blk_range_unlock(b, &range);
	return r;
}
