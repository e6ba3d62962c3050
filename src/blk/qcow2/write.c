/* SPDX-License-Identifier: Apache-2.0 */
/* write.c - writing: in place where a cluster is ours alone, else into a new one.
 *
 * A new cluster is filled as a whole - what the request brings, and around it what was there before, in
 * one vector - and then its L2 entry is changed in memory. So at any time the tables refer to clusters
 * that are complete; writeback.c makes them durable in that order. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WRITE_BIG_FILL = 128 << 10, WRITE_CLUSTERS_MAX = 4096, WRITE_IOV = 1000 };

/* A part of a request that goes to consecutive host clusters. */
struct write_part {
	uint64_t off, end;              /* guest: what the request brings */
	uint64_t lo, hi;                /* with what is filled in around it */
	uint64_t first;                 /* guest: start of the first cluster */
	uint64_t n;                     /* clusters */
	uint64_t host;                  /* of FIRST */
	bool is_new, is_fresh;
};

static bool entry_is_in_place(const struct q2_entry *e)
{
	return e->has_host && e->is_copied && !e->is_compressed;
}

/* Does [OFF, OFF+LEN) read as zeroes for certain? */
static int write_is_zero(struct q2 *s, uint64_t off, uint64_t len, bool *is_zero)
{
	*is_zero = true;
	while (len && *is_zero) {
		struct q2_run run;
		int r = q2_map_run(s, off, len, &run);

		if (r < 0)
			return r;
		*is_zero = run.kind == Q2_ZEROES ||
			   (run.kind == Q2_UNALLOCATED && (!s->b->backing || off >= s->b->backing->size));
		off += run.len;
		len -= run.len;
	}
	return 0;
}

/* From where to where the clusters of P have to be filled. The entries are looked at before P is new. */
static int write_bounds(struct q2 *s, struct write_part *p)
{
	struct q2_entry first, last;
	int r = q2_entry_get(s, p->off, &first);

	if (!r)
		r = q2_entry_get(s, p->end - 1, &last);
	if (r < 0)
		return r;
	uint64_t mask = s->sub_size - 1, last_start = q2_cluster_start(s, p->end - 1);
	uint64_t first_end = p->first + s->cluster_size, last_off = p->off > last_start ? p->off : last_start;
	uint32_t touched = q2_subs_of(s, p->off, (p->end < first_end ? p->end : first_end) - p->off);
	uint32_t touched_last = q2_subs_of(s, last_off, p->end - last_off);

	p->lo = p->off;
	p->hi = p->end;
	/* A part of a subcluster that has no data here is filled up. */
	if (p->is_new || !(first.alloc & q2_subs_of(s, p->off, 1)))
		p->lo = p->off & ~mask;
	if (p->is_new || !(last.alloc & q2_subs_of(s, p->end - 1, 1)))
		p->hi = (p->end + mask) & ~mask;
	/* Data in the rest of a cluster that moves goes along. */
	if (p->is_new && first.alloc & ~touched)
		p->lo = p->first;
	if (p->is_new && last.alloc & ~touched_last)
		p->hi = last_start + s->cluster_size;
	return 0;
}

struct write_fill { uint8_t *mem; uint64_t len; bool is_zero; };

static int write_fill_read(struct q2 *s, uint64_t off, uint64_t len, struct write_fill *f)
{
	struct iovec iov;
	uint64_t size = s->b->size;
	int r;

	f->len = len;
	f->is_zero = true;
	if (!len)
		return 0;
	r = write_is_zero(s, off, len, &f->is_zero);
	if (r < 0)
		return r;
	f->mem = aligned_alloc(4096, align_up(len, 4096));
	if (!f->mem)
		return -ENOMEM;
	memset(f->mem, 0, len);
	if (f->is_zero || off >= size)
		return 0;
	return q2_read(s, off, len, blk_vec_of(&iov, f->mem, len));
}

/* FILL, request, FILL as one write. */
static int write_vector(struct q2 *s, const struct write_part *p, struct blk_vec v, const struct write_fill *head,
			const struct write_fill *tail)
{
	uint64_t at = p->host + (p->lo - p->first), len = p->end - p->off;
	AUTO(free) struct iovec *iov = calloc((size_t)v.n + 2, sizeof(*iov));
	int n = 0;

	if (!iov)
		return -ENOMEM;
	if (head->len)
		iov[n++] = (struct iovec){ head->mem, head->len };
	for (uint64_t left = len; left && v.n > 0; v.iov++, v.n--) {
		uint64_t piece = v.iov->iov_len > v.skip ? v.iov->iov_len - v.skip : 0;

		piece = piece < left ? piece : left;
		if (piece)
			iov[n++] = (struct iovec){ (char *)v.iov->iov_base + v.skip, piece };
		v.skip = v.skip > v.iov->iov_len ? v.skip - v.iov->iov_len : 0;
		left -= piece;
	}
	if (tail->len)
		iov[n++] = (struct iovec){ tail->mem, tail->len };
	return q2_data_write(s, at, p->hi - p->lo, (struct blk_vec){ .iov = iov, .n = n });
}

/* Bring the data of P to its clusters. Zeroes around it that are there already, or are many, are not
 * written with it - unless it is encrypted: zeroes of the file are none of the disk then. */
static int write_data(struct q2 *s, struct write_part *p, struct blk_vec v)
{
	struct write_fill head = { 0 }, tail = { 0 };
	int r = write_fill_read(s, p->lo, p->off - p->lo, &head);

	if (!r)
		r = write_fill_read(s, p->end, p->hi - p->end, &tail);
	for (int i = 0; !r && i < 2; i++) {
		struct write_fill *f = i ? &tail : &head;
		uint64_t guest = i ? p->end : p->lo;

		if (s->luks || !f->len || !f->is_zero || (!p->is_fresh && f->len < WRITE_BIG_FILL))
			continue;
		if (!p->is_fresh)
			r = blk_co_zeroes(q2_data(s), p->host + (guest - p->first), f->len, true);
		f->len = 0;
	}
	if (!r) {
		struct write_part narrowed = *p;

		narrowed.lo = p->off - head.len;
		narrowed.hi = p->end + tail.len;
		r = write_vector(s, &narrowed, v, &head, &tail);
	}
	free(head.mem);
	free(tail.mem);
	return r;
}

/* The data of P is written: refer to it. */
static int write_link(struct q2 *s, const struct write_part *p)
{
	int r = 0;

	for (uint64_t i = 0; !r && i < p->n; i++) {
		uint64_t guest = p->first + (i << s->cluster_bits), next = guest + s->cluster_size;
		uint64_t lo = p->lo > guest ? p->lo : guest, hi = p->hi < next ? p->hi : next;
		uint32_t subs = q2_subs_of(s, lo, hi - lo);
		struct q2_entry old, e;

		r = q2_entry_get(s, guest, &old);
		if (r < 0)
			break;
		if (!p->is_new && (old.alloc & subs) == subs)
			continue;
		e = old;
		if (p->is_new) {
			e.host = p->host + (i << s->cluster_bits);
			e.has_host = e.is_copied = true;
			e.is_compressed = false;
			e.alloc = 0;
		}
		e.alloc |= subs;
		e.zero &= ~subs;
		r = q2_entry_set(s, guest, &e);
		if (!r && p->is_new)
			r = q2_entry_release(s, &old, false);
	}
	return r;
}

/* How many clusters from that of P on can be treated alike: new ones, or in place without filling. */
static int write_count(struct q2 *s, struct write_part *p)
{
	uint64_t per_l2 = 1ull << (s->cluster_bits + s->l2_bits);
	uint64_t limit = (p->off / per_l2 + 1) * per_l2, want = p->end < limit ? p->end : limit;
	struct q2_entry e;
	int r = q2_entry_get(s, p->off, &e);

	if (r < 0)
		return r;
	p->first = q2_cluster_start(s, p->off);
	p->is_new = !entry_is_in_place(&e);
	p->host = e.host;
	p->is_fresh = false;
	for (p->n = 1; p->n < WRITE_CLUSTERS_MAX && p->first + (p->n << s->cluster_bits) < want; p->n++) {
		uint64_t guest = p->first + (p->n << s->cluster_bits);
		struct q2_entry next;

		r = q2_entry_get(s, guest, &next);
		if (r < 0)
			return r;
		if (entry_is_in_place(&next) == p->is_new ||
		    (!p->is_new && next.host != p->host + (p->n << s->cluster_bits)))
			break;
		if (!p->is_new && (next.alloc != q2_all_subs(s) || e.alloc != q2_all_subs(s)))
			break;
	}
	if (p->end > p->first + (p->n << s->cluster_bits))
		p->end = p->first + (p->n << s->cluster_bits);
	return 0;
}

static int write_allocate(struct q2 *s, struct write_part *p)
{
	uint64_t got = p->n;
	int r = 0;

	if (s->b->data) {
		p->host = p->first;
		return 0;
	}
	r = q2_alloc(s, p->n, true, &p->host, &got, &p->is_fresh);
	if (r < 0)
		return r;
	p->n = got;
	if (p->end > p->first + (got << s->cluster_bits))
		p->end = p->first + (got << s->cluster_bits);
	return 0;
}

/* As much of [OFF, OFF+LEN) as goes in one: *DONE bytes. */
static int write_part(struct q2 *s, uint64_t off, uint64_t len, struct blk_vec v, uint64_t *done)
{
	struct write_part p = { .off = off, .end = off + len };
	int r = q2_l2_make(s, off);

	if (!r)
		r = write_count(s, &p);
	if (!r && p.is_new)
		r = write_allocate(s, &p);
	if (r < 0)
		return r;
	r = write_bounds(s, &p);
	if (!r)
		r = write_data(s, &p, v);
	if (r < 0) {
		if (p.is_new && !s->b->data)
			q2_free_now(s, p.host, p.n << s->cluster_bits);
		return r;
	}
	*done = p.end - p.off;
	return write_link(s, &p);
}

int q2_write(struct q2 *s, uint64_t off, uint64_t len, struct blk_vec v)
{
	int r = q2_prepare(s);

	q2_bitmaps_mark(s, off, len);
	while (!r && len) {
		uint64_t done = 0;

		r = q2_balance(s);
		if (!r)
			r = write_part(s, off, len, v, &done);
		off += done;
		len -= done;
		v = blk_vec_at(v, done);
	}
	return r;
}

int q2_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct q2 *s = b->priv;
	uint64_t from = q2_cluster_start(s, off), to = q2_cluster_up(s, off + len);
	struct blk_range range;

	blk_range_lock(b, &range, from, to - from, true);
	int r = q2_write(s, off, len, v);

	blk_range_unlock(b, &range);
	return r;
}
