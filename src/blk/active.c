/* SPDX-License-Identifier: Apache-2.0 */
/* active.c - a disk goes from one process to another: who is active holds the lock and may write.
 *
 * Only the top image and its file change hands; backing images are read by both. An image whose data lie in
 * several files would have to hand over each of them at once, which this does not do. */
#include "blk/core_priv.h"
#include "blk/front.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct active_call {
	struct blk *b;
	struct err *err;
};

static int active_check(const struct blk *b, struct err *err)
{
	if (b->data || b->n_extra || b->has_opts || !b->file || b->file->drv != &blk_file)
		return err_set(err, -ENOTSUP, "disk '%s' cannot be handed over to another process: it is no single file or block device, "
			       "or was opened with options of its format", b->name);
	return 0;
}

int blk_co_expect_active(struct blk *b, struct err *err)
{
	int r = active_check(b, err);

	if (!r && b->drv->flags & BLK_DRIVER_READONLY)
		r = err_set(err, -EROFS, "%s images can only be read: open '%s' with readonly=on, or convert it", b->drv->name,
			    b->name);
	b->is_inactive = !r;
	/* A format that rewrites its tables takes what a readonly image does not. */
	b->can_discard |= b->drv != &blk_raw && b->drv->co_discard;
	return r;
}

/* The driver forgets all that it knows of the image, but for the key of an encrypted one, which nobody tells again. */
static void active_co_forget(struct blk *b)
{
	b->is_forgetting = true;
	if (b->drv->co_close)
		b->drv->co_close(b);
	b->is_forgetting = false;
	memset(b->priv, 0, b->drv->priv_size);
	b->is_open = false;
}

static int active_co_deactivate(void *arg)
{
	struct active_call *c = arg;
	struct blk *b = c->b;
	int r = blk_co_flush(b);

	if (r < 0)
		return err_set(c->err, r, "cannot write back disk '%s': %s", b->name, strerror(-r));
	active_co_forget(b);
	b->is_inactive = b->is_readonly = true;
	return 0;
}

int blk_deactivate(struct blk *disk, struct err *err)
{
	struct blk *b = blk_top(disk);
	struct active_call c = { b, err };
	int r = b->is_readonly ? 0 : active_check(b, err);

	assert(!blk_in_flight(disk));
	return r || b->is_readonly ? r : blk_run(b, active_co_deactivate, &c);
}

void blk_release(struct blk *disk)
{
	struct blk *b = blk_top(disk);

	if (b->is_inactive)
		blk_file_release(b->file);
}

static int active_co_activate(void *arg)
{
	struct active_call *c = arg;
	struct blk *b = c->b;
	struct blk_options o = { .fd = -1 };

	if (b->is_open)
		active_co_forget(b);
	free(b->backing_name);
	free(b->backing_format);
	b->backing_name = b->backing_format = NULL;
	b->is_readonly = false;
	int r = blk_co_open_format(b, &o, c->err);
	if (r < 0) {
		active_co_forget(b);
		b->is_readonly = true;
		return err_wrap(c->err, r, "disk '%s'", b->name);
	}
	b->is_inactive = false;
	return 0;
}

int blk_activate(struct blk *disk, struct err *err)
{
	struct blk *b = blk_top(disk);
	struct active_call c = { b, err };
	int r = b->is_inactive ? blk_file_activate(b->file, err) : 0;

	if (r || !b->is_inactive)
		return r;
	r = blk_run(b, active_co_activate, &c);
	if (r < 0)
		blk_file_release(b->file);
	else if (disk != b)
		blk_front_resized(disk);
	return r;
}
