/* SPDX-License-Identifier: Apache-2.0 */
/* co_io.c - the bytes of a node, for coroutines: drivers reach their children through this. */
#include "blk/core_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"

enum { ZEROES_LEN = 256 << 10 };

struct co_req {
	struct blk_req r;
	struct co *co;
	bool is_over;
	int result;
};

static void co_req_done(struct blk_req *r, int result)
{
	struct co_req *q = container_of(r, struct co_req, r);

	q->result = result;
	q->is_over = true;
	co_wake(q->co);
}

/* A protocol does it; wait. */
static int co_leaf(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, struct blk_vec v, bool may_unmap)
{
	struct co_req q = {
		.r = { .op = op, .may_unmap = may_unmap, .off = off, .len = len, .iov = v.iov, .n_iov = v.n,
		       .done = co_req_done, .at = b, .at_off = off, .skip = v.skip,
		       .iov_is_exact = v.n == 1 && !v.skip && v.iov->iov_len == len },
		.co = co_self(),
	};

	if (b->drv->now) {
		int r = b->drv->now(b, &q.r);

		if (r != -EAGAIN)
			return r;
	}
	b->drv->submit(b, &q.r);
	while (!q.is_over)
		co_yield();
	return q.result;
}

static int co_read_format(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	uint64_t inside = off >= b->size ? 0 : b->size - off < len ? b->size - off : len;
	int r = inside ? b->drv->co_preadv(b, off, inside, v) : 0;

	if (!r && inside < len)
		blk_vec_zero(blk_vec_at(v, inside), len - inside);
	return r;
}

static int co_write_zeroes(struct blk *b, uint64_t off, uint64_t len)
{
	AUTO(free) void *zero = aligned_alloc(4096, ZEROES_LEN);
	struct iovec iov;
	int r = zero ? 0 : -ENOMEM;

	if (zero)
		memset(zero, 0, ZEROES_LEN);
	while (!r && len) {
		uint64_t n = len < ZEROES_LEN ? len : ZEROES_LEN;

		r = b->drv->co_pwritev(b, off, n, blk_vec_of(&iov, zero, n));
		off += n;
		len -= n;
	}
	return r;
}

static int co_flush_node(struct blk *b)
{
	int r = b->drv->co_flush ? b->drv->co_flush(b) : 0;

	if (!r)
		r = blk_co_flush(b->file);
	if (!r && b->data)
		r = blk_co_flush(b->data);
	for (unsigned i = 0; !r && i < b->n_extra; i++)
		r = blk_co_flush(b->extra[i]);
	return r;
}

int blk_co_do(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, struct blk_vec v, bool may_unmap)
{
	int r;

	if (op == BLK_FLUSH && b->is_readonly)
		return 0;
	if (b->drv->submit)
		return co_leaf(b, op, off, len, v, may_unmap);
	if (op != BLK_READ && op != BLK_FLUSH && !range_fits(off, len, b->size))
		return -EINVAL;
	if (op != BLK_READ && b->is_readonly)
		return -EROFS;
	switch (op) {
	case BLK_READ:
		return co_read_format(b, off, len, v);
	case BLK_WRITE:
		return b->drv->co_pwritev(b, off, len, v);
	case BLK_FLUSH:
		return co_flush_node(b);
	case BLK_DISCARD:
		return b->drv->co_discard ? b->drv->co_discard(b, off, len) : 0;
	case BLK_ZEROES:
		r = b->drv->co_zeroes ? b->drv->co_zeroes(b, off, len, may_unmap) : -ENOTSUP;
		return r == -ENOTSUP ? co_write_zeroes(b, off, len) : r;
	}
	return -EINVAL;
}

int blk_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	return len ? blk_co_do(b, BLK_READ, off, len, v, false) : 0;
}

int blk_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	return len ? blk_co_do(b, BLK_WRITE, off, len, v, false) : 0;
}

int blk_co_pread(struct blk *b, uint64_t off, void *buf, size_t len)
{
	struct iovec iov;

	return blk_co_preadv(b, off, len, blk_vec_of(&iov, buf, len));
}

int blk_co_pwrite(struct blk *b, uint64_t off, const void *buf, size_t len)
{
	struct iovec iov;

	return blk_co_pwritev(b, off, len, blk_vec_of(&iov, buf, len));
}

int blk_co_discard(struct blk *b, uint64_t off, uint64_t len)
{
	if (!len || !b->can_discard)
		return 0;
	return blk_co_do(b, BLK_DISCARD, off, len, (struct blk_vec){ .n = 0 }, false);
}

int blk_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	return len ? blk_co_do(b, BLK_ZEROES, off, len, (struct blk_vec){ .n = 0 }, may_unmap) : 0;
}

int blk_co_flush(struct blk *b)
{
	return blk_co_do(b, BLK_FLUSH, 0, 0, (struct blk_vec){ .n = 0 }, false);
}

int blk_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	if (!b->drv->co_truncate && b->drv->submit && size <= b->size)
		return 0;               /* a disk elsewhere, as large as it is */
	if (!b->drv->co_truncate)
		return err_set(err, -ENOTSUP, "the size of a %s image cannot be changed: '%s'", b->drv->name, b->name);
	return b->drv->co_truncate(b, size, prealloc, err);
}

int blk_co_reserved(const struct blk *b, uint64_t done, uint64_t total)
{
	return blk_progress(b->ctx->progress, done, total);
}

/* One image: what it says, or else that all is data. */
static int co_map_one(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	*out = (struct blk_extent){ .off = off, .len = len, .flags = BLK_EXT_DATA | BLK_EXT_ALLOCATED };
	if (!b->drv->co_map)
		return 0;
	int r = b->drv->co_map(b, off, len, out);

	out->off = off;
	return r;
}

int blk_co_map(struct blk *b, uint64_t off, uint64_t len, bool is_chain, struct blk_extent *out)
{
	int r = co_map_one(b, off, len, out);
	unsigned depth = 0;

	if (!is_chain)
		return r;
	while (!r && !(out->flags & BLK_EXT_ALLOCATED)) {
		len = out->len;
		b = b->backing;
		depth++;
		if (!b || off >= b->size) {
			*out = (struct blk_extent){ .off = off, .len = len, .flags = BLK_EXT_ZERO, .depth = depth - 1 };
			return 0;
		}
		r = co_map_one(b, off, len < b->size - off ? len : b->size - off, out);
	}
	out->depth = depth;
	return r;
}

/* --- work on other threads -------------------------------------------------------------------- */

struct co_call {
	struct aio_job j;
	struct co *co;
	bool is_over;
};

static void co_call_done(struct aio_job *j, int64_t result)
{
	struct co_call *c = container_of(j, struct co_call, j);

	c->j.result = result;
	c->is_over = true;
	co_wake(c->co);
}

int64_t blk_co_call(struct blk *b, int64_t (*call)(void *arg), void *arg)
{
	struct co_call c = { .j = { .op = AIO_CALL, .call = call, .call_arg = arg, .done = co_call_done },
			     .co = co_self() };
	struct blk_ctx *x = b->ctx;

	if (!x->aio_ops->has_threads && !x->threads && aio_threads.open(&x->threads, x->event.h.fd, NULL) < 0)
		return call(arg);
	blk_submit_job(b, &c.j);
	while (!c.is_over)
		co_yield();
	return c.j.result;
}
