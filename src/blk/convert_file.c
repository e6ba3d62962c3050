/* SPDX-License-Identifier: Apache-2.0 */
/* convert_file.c - a disk into a new file, which is there as a whole or not at all. */
#include "blk/convert.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include "blk/convert_target.h"
#include "blk/core_priv.h"
#include "blk/file_priv.h"

enum { TARGET_GROW = 64 << 20 };

/* Where the file system shares blocks between files, a raw disk is there at once. */
static bool target_clone(struct target *t, const struct blk *src)
{
	const struct file *from = src->file ? src->file->priv : NULL;
	struct blk *dst = t->blk;

	return src->drv == &blk_raw && dst->drv == &blk_raw && src->file->drv == &blk_file &&
	       dst->file->drv == &blk_file &&
	       src->size == dst->size && !ioctl(((struct file *)dst->file->priv)->fd, FICLONE, from->fd);
}

static int convert_into(struct target *t, struct blk *src, struct blk_convert_file *c, struct err *err)
{
	int r = target_room(t, src, err);

	if (!r)
		r = target_make(t, src->size, err);
	if (r < 0)
		return r;
	c->how.is_target_zero = !(t->is_device && t->blk->drv == &blk_raw) && blk_is_zero_when_new(t->blk);
	if (!target_clone(t, src)) {
		if (t->blk->file->drv == &blk_file && t->blk->drv != &blk_raw)
			blk_file_grow_in_steps(t->blk->file, TARGET_GROW);
		r = blk_convert(src, t->blk, t->loop, &c->how, err);
	}
	return r ? r : target_finish(t, err);
}

int blk_convert_file(struct blk_convert_file *c, struct err *err)
{
	AUTO(loop_free) struct loop *loop = NULL;
	AUTO(blk_close) struct blk *src = NULL;
	AUTO(target_fini) struct target t = { .c = c, .old_fd = -1 };
	int r = loop_new(&loop, err);

	if (!r)
		r = blk_open(&src, loop, c->src, err);
	t.loop = loop;
	if (!r && !blk_size(src))
		r = err_set(err, -EINVAL, "'%s' is empty, and a disk has at least %d bytes", blk_name(src), BLK_SECTOR);
	if (!r && c->size_max && blk_size(src) > c->size_max)
		r = err_set(err, -EFBIG, "the disk in '%s' has %" PRIu64 " bytes, and at most %" PRIu64 " are allowed", blk_name(src),
			    blk_size(src), c->size_max);
	if (!r)
		r = target_check(&t, err);
	if (r < 0)
		return r;
	c->size = blk_size(src);
	r = convert_into(&t, src, c, err);
	if (r < 0)
		target_remove(&t);
	return r;
}
