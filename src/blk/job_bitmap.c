/* SPDX-License-Identifier: Apache-2.0 */
/* job_bitmap.c - dirty bitmaps of the top image: made, removed, emptied; each a moment. */
#include "blk/job_priv.h"

#include <errno.h>
#include <stdlib.h>

static int bitmap_no(const struct blk *b, struct err *err)
{
	return err_set(err, -ENOTSUP, "'%s' is a %s image: it keeps no dirty bitmaps", b->name, b->drv->name);
}

int blk_co_bitmap_take(struct blk *b, const char *name, struct blk_bits *out, struct err *err)
{
	return b->drv->co_bitmap_take ? b->drv->co_bitmap_take(b, name, out, err) : bitmap_no(b, err);
}

void blk_co_bitmap_give(struct blk *b, const char *name, const struct blk_bits *bits)
{
	if (b->drv->co_bitmap_give)
		b->drv->co_bitmap_give(b, name, bits);
}

static int bitmap_prepare(struct blk_job *j, struct err *err)
{
	const struct blk *top = blk_front_top(j->front);

	if (!top->drv->co_bitmap_add)
		return bitmap_no(top, err);
	if (top->is_readonly)
		return err_set(err, -EROFS, "'%s' is open for reading only", top->name);
	return j->args.bitmap ? 0 : err_set(err, -EINVAL, "the name of the bitmap is missing");
}

static int bitmap_add(struct blk_job *j, struct err *err)
{
	enum { GRANULARITY = 64 << 10 };
	struct blk *top = j->front->file;

	return top->drv->co_bitmap_add(top, j->args.bitmap, j->args.size ? j->args.size : GRANULARITY, err);
}

static int bitmap_remove(struct blk_job *j, struct err *err)
{
	return j->front->file->drv->co_bitmap_remove(j->front->file, j->args.bitmap, err);
}

static int bitmap_clear(struct blk_job *j, struct err *err)
{
	struct blk_bits bits = { 0 };
	int r = blk_co_bitmap_take(j->front->file, j->args.bitmap, &bits, err);

	free(bits.v);
	return r;
}

static void bitmap_release(struct blk_job *j, int result)
{
}

#define BITMAP_JOB(name, fn) { \
	.kind = name, .size = sizeof(struct blk_job), .is_moment = true, .prepare = bitmap_prepare, .begin = fn, \
	.release = bitmap_release }

const struct blk_job_ops blk_job_bitmap_add = BITMAP_JOB("bitmap-add", bitmap_add);
const struct blk_job_ops blk_job_bitmap_remove = BITMAP_JOB("bitmap-remove", bitmap_remove);
const struct blk_job_ops blk_job_bitmap_clear = BITMAP_JOB("bitmap-clear", bitmap_clear);
