/* SPDX-License-Identifier: Apache-2.0 */
/* sync.c - the calls that wait: a coroutine does the work, and whoever is outside of one serves the
 * disk's events until it is done. */
#include "blk/core_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "blk/front.h"
#include "util/checked.h"

struct sync_run {
	int (*fn)(void *arg);
	void *arg;
	bool is_over;
	int result;
};

static void sync_main(void *arg)
{
	struct sync_run *s = arg;

	s->result = s->fn(s->arg);
	s->is_over = true;
}

int blk_ctx_run(struct blk_ctx *c, int (*fn)(void *arg), void *arg)
{
	struct sync_run s = { .fn = fn, .arg = arg };

	if (co_self())
		return fn(arg);
	c->n_nodes++;                   /* FN may close the last node */
	int r = co_start(sync_main, &s);

	while (!r && !s.is_over)
		blk_ctx_wait(c);
	blk_ctx_put(c);
	return r < 0 ? r : s.result;
}

int blk_run(struct blk *b, int (*fn)(void *arg), void *arg)
{
	return blk_ctx_run(b->ctx, fn, arg);
}

void blk_wait(struct blk *b)
{
	blk_ctx_wait(b->ctx);
}

/* --- bytes ---------------------------------------------------------------------------------- */

struct sync_io {
	struct blk *b;
	enum blk_op op;
	uint64_t off, len;
	char *buf;
	bool may_unmap;
};

/* A part of one sector: through a copy of it. */
static int sync_partial(struct sync_io *io, uint64_t off, char *buf, size_t len)
{
	uint8_t sector[BLK_SECTOR] __attribute__((aligned(512)));
	uint64_t start = off / BLK_SECTOR * BLK_SECTOR;
	int r = blk_co_pread(io->b, start, sector, BLK_SECTOR);

	if (r < 0)
		return r;
	if (io->op == BLK_READ) {
		memcpy(buf, sector + (off - start), len);
		return 0;
	}
	memcpy(sector + (off - start), buf, len);
	return blk_co_pwrite(io->b, start, sector, BLK_SECTOR);
}

static int sync_bytes(void *arg)
{
	struct sync_io *io = arg;
	uint64_t off = io->off, end = off + io->len;
	char *buf = io->buf;
	int r = 0;

	if (!range_fits(io->off, io->len, io->b->size))
		return -EINVAL;
	while (!r && off < end) {
		uint64_t left = end - off, n = BLK_SECTOR - off % BLK_SECTOR;

		if (off % BLK_SECTOR || left < BLK_SECTOR) {
			n = n < left ? n : left;
			r = sync_partial(io, off, buf, n);
		} else {
			n = left / BLK_SECTOR * BLK_SECTOR;
			r = io->op == BLK_READ ? blk_co_pread(io->b, off, buf, n) : blk_co_pwrite(io->b, off, buf, n);
		}
		off += n;
		buf += n;
	}
	return r;
}

int blk_pread(struct blk *b, uint64_t off, void *buf, size_t len)
{
	struct sync_io io = { .b = b, .op = BLK_READ, .off = off, .len = len, .buf = buf };

	return blk_run(b, sync_bytes, &io);
}

int blk_pwrite(struct blk *b, uint64_t off, const void *buf, size_t len)
{
	struct sync_io io = { .b = b, .op = BLK_WRITE, .off = off, .len = len, .buf = (char *)(uintptr_t)buf };

	return blk_run(b, sync_bytes, &io);
}

static int sync_op(void *arg)
{
	struct sync_io *io = arg;

	if (io->op != BLK_FLUSH && (!range_fits(io->off, io->len, io->b->size) || (io->off | io->len) % BLK_SECTOR))
		return -EINVAL;
	switch (io->op) {
	case BLK_DISCARD:
		return blk_co_discard(io->b, io->off, io->len);
	case BLK_ZEROES:
		return blk_co_zeroes(io->b, io->off, io->len, io->may_unmap);
	default:
		return blk_co_flush(io->b);
	}
}

int blk_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	struct sync_io io = { .b = b, .op = BLK_ZEROES, .off = off, .len = len, .may_unmap = may_unmap };

	return blk_run(b, sync_op, &io);
}

int blk_discard(struct blk *b, uint64_t off, uint64_t len)
{
	struct sync_io io = { .b = b, .op = BLK_DISCARD, .off = off, .len = len };

	return blk_run(b, sync_op, &io);
}

int blk_flush(struct blk *b)
{
	struct sync_io io = { .b = b, .op = BLK_FLUSH };

	return blk_run(b, sync_op, &io);
}

static int sync_compressed(void *arg)
{
	struct sync_io *io = arg;
	struct blk *b = blk_top(io->b);
	struct iovec iov;

	if (!b->drv->co_pwritev_compressed)
		return -ENOTSUP;
	if (b->is_readonly)
		return -EROFS;
	if (!io->len || !range_fits(io->off, io->len, b->size) || (io->off | io->len) % BLK_SECTOR)
		return -EINVAL;
	return b->drv->co_pwritev_compressed(b, io->off, io->len, blk_vec_of(&iov, io->buf, io->len));
}

int blk_pwrite_compressed(struct blk *b, uint64_t off, const void *buf, size_t len)
{
	struct sync_io io = { .b = b, .off = off, .len = len, .buf = (char *)(uintptr_t)buf };

	return blk_run(b, sync_compressed, &io);
}

/* --- the image ------------------------------------------------------------------------------ */

struct sync_call {
	struct blk *b;
	struct err *err;
	uint64_t off, len, size;
	bool is_chain;
	enum blk_prealloc prealloc;
	unsigned fix;
	struct blk_extent *extent;
	struct blk_check *check;
	struct blk_snapshot *snapshot, **list;
	unsigned *n;
	uint8_t **bits;
	uint32_t *granularity;
	const char *name, *format;
	const struct blk_opts *opts;
};

static int sync_no(const struct sync_call *c, const char *what)
{
	return err_set(c->err, -ENOTSUP, "'%s' is a %s image: %s", c->b->name, c->b->drv->name, what);
}

static int sync_map(void *arg)
{
	struct sync_call *c = arg;

	return blk_co_map(c->b, c->off, c->len, c->is_chain, c->extent);
}

int blk_map(struct blk *b, uint64_t off, uint64_t len, bool is_chain, struct blk_extent *out)
{
	struct sync_call c = { .b = blk_top(b), .off = off, .len = len, .is_chain = is_chain, .extent = out };

	if (!len || !range_fits(off, len, b->size) || (off | len) % BLK_SECTOR)
		return -EINVAL;
	return blk_run(b, sync_map, &c);
}

static int sync_resize(void *arg)
{
	struct sync_call *c = arg;

	if (c->b->is_readonly)
		return err_set(c->err, -EROFS, "'%s' is open for reading only", c->b->name);
	if (c->size % BLK_SECTOR)
		return err_set(c->err, -EINVAL, "the size of a disk is a multiple of 512 bytes");
	int r = blk_co_truncate(c->b, c->size, c->prealloc, c->err);

	return r ? r : blk_co_flush(c->b);
}

int blk_resize_watched(struct blk *b, uint64_t size, enum blk_prealloc prealloc, const struct blk_progress *progress,
		       struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .size = size, .prealloc = prealloc, .err = err };

	c.b->ctx->progress = progress;
	int r = blk_run(b, sync_resize, &c);

	c.b->ctx->progress = NULL;
	if (!r && b->is_front)
		blk_front_resized(b);
	return r;
}

int blk_resize(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	return blk_resize_watched(b, size, prealloc, NULL, err);
}

static int sync_check(void *arg)
{
	struct sync_call *c = arg;

	if (!c->b->drv->co_check)
		return sync_no(c, "there is nothing to check");
	if (c->fix && c->b->is_readonly)
		return err_set(c->err, -EROFS, "'%s' is open for reading only and cannot be repaired", c->b->name);
	return c->b->drv->co_check(c->b, c->fix, c->check, c->err);
}

int blk_check(struct blk *b, unsigned fix, struct blk_check *check, struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .fix = fix, .check = check, .err = err };

	*check = (struct blk_check){ .report = check->report, .report_arg = check->report_arg, .progress = check->progress };
	return blk_run(b, sync_check, &c);
}

static int sync_snapshot_list(void *arg)
{
	struct sync_call *c = arg;

	if (!c->b->drv->co_snapshot_list)
		return sync_no(c, "it has no snapshots inside");
	return c->b->drv->co_snapshot_list(c->b, c->list, c->n, c->err);
}

int blk_snapshot_list(struct blk *b, struct blk_snapshot **list, unsigned *n, struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .list = list, .n = n, .err = err };

	return blk_run(b, sync_snapshot_list, &c);
}

/* Operations that change the image at its whole: it must be writable. */
static int sync_writable(const struct sync_call *c)
{
	return c->b->is_readonly ? err_set(c->err, -EROFS, "'%s' is open for reading only", c->b->name) : 0;
}

static int sync_snapshot_create(void *arg)
{
	struct sync_call *c = arg;

	if (!c->b->drv->co_snapshot_create)
		return sync_no(c, "it takes no snapshots inside");
	int r = sync_writable(c);

	return r ? r : c->b->drv->co_snapshot_create(c->b, c->snapshot, c->err);
}

int blk_snapshot_create(struct blk *b, struct blk_snapshot *s, struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .snapshot = s, .err = err };

	return blk_run(b, sync_snapshot_create, &c);
}

static int sync_snapshot_apply(void *arg)
{
	struct sync_call *c = arg;

	if (!c->b->drv->co_snapshot_apply)
		return sync_no(c, "it has no snapshots inside");
	int r = sync_writable(c);

	return r ? r : c->b->drv->co_snapshot_apply(c->b, c->name, c->err);
}

int blk_snapshot_apply(struct blk *b, const char *which, struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .name = which, .err = err };
	int r = blk_run(b, sync_snapshot_apply, &c);

	if (!r && b->is_front)
		blk_front_resized(b);
	return r;
}

static int sync_snapshot_delete(void *arg)
{
	struct sync_call *c = arg;

	if (!c->b->drv->co_snapshot_delete)
		return sync_no(c, "it has no snapshots inside");
	int r = sync_writable(c);

	return r ? r : c->b->drv->co_snapshot_delete(c->b, c->name, c->err);
}

int blk_snapshot_delete(struct blk *b, const char *which, struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .name = which, .err = err };

	return blk_run(b, sync_snapshot_delete, &c);
}

static int sync_bitmap_read(void *arg)
{
	struct sync_call *c = arg;

	if (!c->b->drv->co_bitmap_read)
		return sync_no(c, "it has no bitmaps");
	return c->b->drv->co_bitmap_read(c->b, c->name, c->bits, c->granularity, c->err);
}

int blk_bitmap_read(struct blk *b, const char *name, uint8_t **bits, uint32_t *granularity, struct err *err)
{
	struct sync_call c = { .b = b, .name = name, .bits = bits, .granularity = granularity, .err = err };

	return blk_run(b, sync_bitmap_read, &c);
}

static int sync_bitmap_change(void *arg)
{
	struct sync_call *c = arg;
	const struct blk_driver *drv = c->b->drv;
	struct blk_bits bits = { 0 };

	if (!drv->co_bitmap_add)
		return sync_no(c, "it keeps no bitmaps");
	int r = sync_writable(c);

	if (!r && c->size) {
		r = drv->co_bitmap_add(c->b, c->name, c->size, c->err);
	} else if (!r && c->fix) {
		r = drv->co_bitmap_take(c->b, c->name, &bits, c->err);
		free(bits.v);
	} else if (!r) {
		r = drv->co_bitmap_remove(c->b, c->name, c->err);
	}
	return r;
}

int blk_bitmap_add(struct blk *b, const char *name, uint64_t granularity, struct err *err)
{
	struct sync_call c = { .b = b, .name = name, .size = granularity, .err = err };

	return granularity ? blk_run(b, sync_bitmap_change, &c) :
	       err_set(err, -EINVAL, "the granularity of a bitmap is a power of two");
}

int blk_bitmap_remove(struct blk *b, const char *name, struct err *err)
{
	struct sync_call c = { .b = b, .name = name, .err = err };

	return blk_run(b, sync_bitmap_change, &c);
}

int blk_bitmap_clear(struct blk *b, const char *name, struct err *err)
{
	struct sync_call c = { .b = b, .name = name, .fix = true, .err = err };

	return blk_run(b, sync_bitmap_change, &c);
}

static int sync_change_backing(void *arg)
{
	struct sync_call *c = arg;

	int r = blk_can_change_backing(c->b, c->err);

	if (!r)
		r = sync_writable(c);
	return r ? r : c->b->drv->co_change_backing(c->b, c->name, c->format, c->err);
}

int blk_can_change_backing(struct blk *b, struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .err = err };

	if (c.b->drv->co_change_backing)
		return 0;
	return sync_no(&c, c.b->backing_name ? "its backing image stays what it is; convert it into an image that needs none"
					     : "it cannot have a backing image");
}

int blk_change_backing(struct blk *b, const char *name, const char *format, struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .name = name, .format = format, .err = err };

	return blk_run(b, sync_change_backing, &c);
}

static int sync_adopt_backing(void *arg)
{
	struct sync_call *c = arg;
	int r = sync_writable(c);

	return r || !c->b->drv->co_adopt_backing ? r : c->b->drv->co_adopt_backing(c->b, c->err);
}

int blk_adopt_backing(struct blk *b, struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .err = err };

	return blk_run(b, sync_adopt_backing, &c);
}

static int sync_amend(void *arg)
{
	struct sync_call *c = arg;

	if (!c->b->drv->co_amend)
		return sync_no(c, "its options cannot be changed");
	int r = sync_writable(c);

	return r ? r : c->b->drv->co_amend(c->b, c->opts, c->err);
}

int blk_amend(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .opts = opts, .err = err };

	return blk_run(b, sync_amend, &c);
}

static int sync_make_empty(void *arg)
{
	struct sync_call *c = arg;

	if (!c->b->drv->co_make_empty)
		return sync_no(c, "it cannot be emptied");
	int r = sync_writable(c);

	return r ? r : c->b->drv->co_make_empty(c->b, c->err);
}

int blk_make_empty(struct blk *b, struct err *err)
{
	struct sync_call c = { .b = blk_top(b), .err = err };

	return blk_run(b, sync_make_empty, &c);
}
