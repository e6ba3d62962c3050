/* SPDX-License-Identifier: Apache-2.0 */
/* job_moment.c - what takes a moment: a new image on top, another size, snapshots inside. */
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

/* The new image is whole and durable, and names the top as its backing image, before anything is written to it:
 * whenever the process dies, it opens and shows what the disk was. */
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
		return err_set(err, -EINVAL, "'%s' has %" PRIu64 " bytes: a disk in use cannot become smaller",
			       top->name, top->size);
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

/* --- snapshots inside ----------------------------------------------------------------------------- */

struct snapshot {
	struct blk_job j;
	struct blk_snapshot made;       /* its id is "" until it is */
};

static int snapshot_prepare(struct blk_job *j, struct err *err)
{
	struct snapshot *s = container_of(j, struct snapshot, j);
	const struct blk *top = blk_front_top(j->front);

	if (!top->drv->co_snapshot_create || !top->drv->co_snapshot_delete)
		return err_set(err, -ENOTSUP, "'%s' is a %s image: it takes no snapshots inside", top->name,
			       top->drv->name);
	if (top->is_readonly)
		return err_set(err, -EROFS, "'%s' is open for reading only", top->name);
	if (!j->args.snapshot || !*j->args.snapshot || strlen(j->args.snapshot) >= sizeof(s->made.name))
		return err_set(err, -EINVAL, "the name of a snapshot has 1 to %zu bytes", sizeof(s->made.name) - 1);
	s->made.icount = UINT64_MAX;
	strcpy(s->made.name, j->args.snapshot);
	return 0;
}

static int snapshot_create(struct blk_job *j, struct err *err)
{
	struct snapshot *s = container_of(j, struct snapshot, j);
	struct blk *top = j->front->file;

	return top->drv->co_snapshot_create(top, &s->made, err);
}

/* Not on all disks: then on none. */
static void snapshot_release(struct blk_job *j, int result)
{
	struct snapshot *s = container_of(j, struct snapshot, j);
	struct blk *top = j->front->file;
	struct err err = ERR_INIT;

	if (result < 0 && *s->made.id && top->drv->co_snapshot_delete(top, s->made.id, &err) < 0)
		log_warn("%s", err.msg);
}

static int snapshot_delete(struct blk_job *j, struct err *err)
{
	struct blk *top = j->front->file;

	return top->drv->co_snapshot_delete(top, j->args.snapshot, err);
}

const struct blk_job_ops blk_job_snapshot_create = {
	.kind = "snapshot-create", .size = sizeof(struct snapshot), .is_moment = true, .prepare = snapshot_prepare,
	.begin = snapshot_create, .release = snapshot_release,
};

const struct blk_job_ops blk_job_snapshot_delete = {
	.kind = "snapshot-delete", .size = sizeof(struct snapshot), .is_moment = true, .prepare = snapshot_prepare,
	.begin = snapshot_delete, .release = moment_release,
};
