/* SPDX-License-Identifier: Apache-2.0 */
/* proto.c - requests for protocols: any request as pieces that a protocol can do. */
#include "blk/proto/proto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"

enum { PROTO_BOUNCE = 1 << 20 };

static uint64_t proto_align(const struct blk *b) { return b->io_align ? b->io_align : 1; }
static uint64_t proto_max(const struct blk *b) { return b->io_max &&
						 b->io_max < PROTO_BOUNCE ? b->io_max : PROTO_BOUNCE; }

static int proto_read(struct blk *b, uint64_t off, uint8_t *buf, uint64_t len)
{
	struct iovec iov;

	return b->drv->co_preadv(b, off, len, blk_vec_of(&iov, buf, len));
}

static int proto_write(struct blk *b, uint64_t off, const uint8_t *buf, uint64_t len)
{
	struct iovec iov;

	return b->drv->co_pwritev(b, off, len, blk_vec_of(&iov, buf, len));
}

/* The piece of [OFF, END) that is done next: [FROM, TO), which is aligned. */
struct proto_piece { uint64_t from, to, skip, len; };

static struct proto_piece proto_piece(const struct blk *b, uint64_t off, uint64_t end)
{
	uint64_t mask = proto_align(b) - 1, max = proto_max(b);
	struct proto_piece p = { .from = off & ~mask };
	uint64_t stop = end - p.from < max ? end : p.from + max;

	p.to = (stop + mask) & ~mask;
	if (p.to > b->size && !b->drv->co_truncate)
		p.to = b->size;
	p.skip = off - p.from;
	p.len = stop - off;
	return p;
}

/* Can the memory of V be used as it is for LEN bytes? */
static uint8_t *proto_direct(struct blk_vec v, uint64_t len)
{
	while (v.n && v.skip >= v.iov->iov_len) {
		v.skip -= v.iov->iov_len;
		v.iov++;
		v.n--;
	}
	return v.n && v.iov->iov_len - v.skip >= len ? (uint8_t *)v.iov->iov_base + v.skip : NULL;
}

static int proto_read_all(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	uint64_t end = off + len;
	AUTO(free) uint8_t *bounce = NULL;
	int r = 0;

	for (struct proto_piece p; !r && off < end; off += p.len, v = blk_vec_at(v, p.len)) {
		p = proto_piece(b, off, end);
		uint8_t *direct = p.skip || p.len < p.to - p.from ? NULL : proto_direct(v, p.len);

		if (!direct && !bounce && !(bounce = malloc(PROTO_BOUNCE)))
			return -ENOMEM;
		r = proto_read(b, p.from, direct ? direct : bounce, p.to - p.from);
		if (!r && !direct)
			blk_vec_put(v, bounce + p.skip, p.len);
	}
	return r;
}

/* What is around a piece in its first and last unit. */
static int proto_edges(struct blk *b, const struct proto_piece *p, uint8_t *buf)
{
	uint64_t align = proto_align(b), last = (p->to - 1) & ~(align - 1);
	int r = p->skip ? proto_read(b, p->from, buf, align < p->to - p->from ? align : p->to - p->from) : 0;

	if (!r && p->from + p->skip + p->len < p->to && (last != p->from || !p->skip))
		r = proto_read(b, last, buf + (last - p->from), p->to - last);
	return r;
}

static int proto_write_all(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	uint64_t end = off + len;
	AUTO(free) uint8_t *bounce = NULL;
	int r = 0;

	for (struct proto_piece p; !r && off < end; off += p.len, v = blk_vec_at(v, p.len)) {
		p = proto_piece(b, off, end);
		uint8_t *direct = p.skip || p.len < p.to - p.from ? NULL : proto_direct(v, p.len);

		if (!direct && !bounce && !(bounce = malloc(PROTO_BOUNCE)))
			return -ENOMEM;
		if (!direct) {
			r = proto_edges(b, &p, bounce);
			blk_vec_get(v, bounce + p.skip, p.len);
		}
		if (!r)
			r = proto_write(b, p.from, direct ? direct : bounce, p.to - p.from);
	}
	return r;
}

/* Writes that share a unit of the protocol are kept apart. */
static int proto_write_locked(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	uint64_t mask = proto_align(b) - 1, from = off & ~mask, to = (off + len + mask) & ~mask;
	struct blk_range range;

	if (!b->drv->co_pwritev)
		return -EROFS;
	if (off + len > b->size && !b->drv->co_truncate)
		return -ENOSPC;
	if (!mask)
		return proto_write_all(b, off, len, v);
	blk_range_lock(b, &range, from, to - from, (off | len) & mask);
	int r = proto_write_all(b, off, len, v);

	blk_range_unlock(b, &range);
	return r;
}

static int proto_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	bool is_aligned = !((off | len) & (proto_align(b) - 1)) && range_fits(off, len, b->size);
	int r = b->drv->co_zeroes && is_aligned ? b->drv->co_zeroes(b, off, len, may_unmap) : -ENOTSUP;
	AUTO(free) uint8_t *zero = NULL;
	struct iovec iov;

	if (r != -ENOTSUP)
		return r;
	zero = calloc(1, PROTO_BOUNCE);
	for (r = zero ? 0 : -ENOMEM; !r && len;) {
		uint64_t n = len < PROTO_BOUNCE ? len : PROTO_BOUNCE;

		r = proto_write_locked(b, off, n, blk_vec_of(&iov, zero, n));
		off += n;
		len -= n;
	}
	return r;
}

/* Whole units only: the rest is left as it is. */
static int proto_discard(struct blk *b, uint64_t off, uint64_t len)
{
	uint64_t mask = proto_align(b) - 1, from = (off + mask) & ~mask, to = (off + len) & ~mask;

	return b->drv->co_discard && to > from ? b->drv->co_discard(b, from, to - from) : 0;
}

static int proto_do(struct blk *b, struct blk_req *r)
{
	struct blk_vec v = { .iov = r->iov, .n = r->n_iov, .skip = r->skip };
	uint64_t off = r->at_off, inside = off >= b->size ? 0 : b->size - off < r->len ? b->size - off : r->len;
	int result;

	switch (r->op) {
	case BLK_READ:
		if (inside < r->len && !b->may_grow)
			return -EIO;
		result = proto_read_all(b, off, inside, v);
		if (!result && inside < r->len)
			blk_vec_zero(blk_vec_at(v, inside), r->len - inside);
		return result;
	case BLK_WRITE:
		return proto_write_locked(b, off, r->len, v);
	case BLK_FLUSH:
		return b->drv->co_flush ? b->drv->co_flush(b) : 0;
	case BLK_DISCARD:
		return proto_discard(b, off, inside);
	case BLK_ZEROES:
		return proto_zeroes(b, off, r->len, r->may_unmap);
	}
	return -EINVAL;
}

static void proto_run(void *arg)
{
	struct blk_req *r = arg;
	struct blk *b = r->at;
	int result = proto_do(b, r);

	if (r->is_starting)
		blk_finish_later(b, r, result);
	else
		blk_finish(b, r, result);
}

void blk_proto_submit(struct blk *b, struct blk_req *r)
{
	r->at = b;
	r->is_starting = true;
	int e = co_start(proto_run, r);

	if (e < 0)
		blk_finish_later(b, r, e);
	/* Not over before the next event, or is_starting would have deferred it. */
	r->is_starting = false;
}
