/* SPDX-License-Identifier: Apache-2.0 */
/* job_moment.c - what takes a moment: a new image on top, another size, dirty bitmaps. */
#include "blk/job_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "util/checked.h"
#include "util/log.h"

/* --- overlay: an external snapshot ---------------------------------------------------------------- */

struct overlay {
	struct blk_job j;
	struct blk *image;
};

/* The new image is whole and durable, and names the top as its backing image, before anything is written to it: whenever
 * the process dies, it opens and shows what the disk was. */
static int overlay_prepare(struct blk_job *j, struct err *err)
{
	struct overlay *o = container_of(j, struct overlay, j);
	struct blk_job_image *i = &j->args.target;
	struct blk *top = blk_front_top(j->front);

	if (top->is_readonly)
		return err_set(err, -EROFS, "'%s' is open for reading only", top->name);
	i->is_empty = true;
	if (!i->backing) {
		char *name = blk_absolute_name(top);

		if (!name)
			return err_set(err, -ENOMEM, "out of memory");
		i->backing = j->strings[j->n_strings++] = name;
	}
	i->backing_format = top->drv->name;
	return blk_co_open_job_image(&o->image, j->front, i, err);
}

static int overlay_begin(struct blk_job *j, struct err *err)
{
	struct overlay *o = container_of(j, struct overlay, j);
	struct blk *top = j->front->file;
	int r = blk_co_flush(top);

	if (r < 0)
		return err_set(err, r, "cannot write '%s': %s", top->name, strerror(-r));
	if (o->image->size != top->size)
		return err_set(err, -EBUSY, "'%s' has just changed its size", top->name);
	return 0;
}

static void overlay_begun(struct blk_job *j)
{
	struct overlay *o = container_of(j, struct overlay, j);
	struct err err = ERR_INIT;

	o->image->backing = j->front->file;
	blk_front_set_top(j->front, take_ptr(&o->image));
	/* Others may read it now. Where that cannot be had it only stays locked. */
	if (blk_co_reopen(&j->front->file->backing, true, NULL, &err) < 0)
		log_info("%s", err.msg);
}

static void overlay_release(struct blk_job *j, int result)
{
	struct overlay *o = container_of(j, struct overlay, j);

	blk_co_close(o->image);
}

const struct blk_job_ops blk_job_overlay = {
	.kind = "overlay", .size = sizeof(struct overlay), .is_moment = true, .prepare = overlay_prepare,
	.begin = overlay_begin, .begun = overlay_begun, .release = overlay_release,
};

/* --- resize --------------------------------------------------------------------------------------- */

static int resize_prepare(struct blk_job *j, struct err *err)
{
	const struct blk *top = blk_front_top(j->front);

	if (top->is_readonly)
		return err_set(err, -EROFS, "'%s' is open for reading only", top->name);
	if (j->args.size % BLK_SECTOR)
		return err_set(err, -EINVAL, "the size of a disk is a multiple of 512 bytes");
	if (j->args.size < top->size)
		return err_set(err, -EINVAL, "'%s' has %" PRIu64 " bytes: a disk in use cannot become smaller", top->name, top->size);
	return 0;
}

static int resize_begin(struct blk_job *j, struct err *err)
{
	struct blk *top = j->front->file;
	int r = blk_co_truncate(top, j->args.size, BLK_PREALLOC_OFF, err);

	blk_front_resized(j->front);
	if (!r && (r = blk_co_flush(top)) < 0)
		err_set(err, r, "cannot write '%s': %s", top->name, strerror(-r));
	return r;
}

static void moment_release(struct blk_job *j, int result)
{
}

const struct blk_job_ops blk_job_resize = {
	.kind = "resize", .size = sizeof(struct blk_job), .is_moment = true, .prepare = resize_prepare,
	.begin = resize_begin, .release = moment_release,
};
