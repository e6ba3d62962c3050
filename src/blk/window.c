/* SPDX-License-Identifier: Apache-2.0 */
/* window.c - a part of a file as a file of its own, for reading: an image inside another. */
#include "blk/core_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"

struct window { struct blk *of; uint64_t off; };

static struct blk *window_try_map(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off)
{
	const struct window *w = b->priv;

	*child_off = w->off + off;
	return op == BLK_READ ? w->of : NULL;
}

static int window_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	const struct window *w = b->priv;

	return blk_co_preadv(w->of, w->off + off, len, v);
}

static const struct blk_driver blk_window = {
	.name = "window",
	.title = "a part of a file",
	.priv_size = sizeof(struct window),
	.try_map = window_try_map,
	.co_preadv = window_co_preadv,
};

int blk_co_open_window(struct blk *b, uint64_t off, uint64_t len, const char *name, struct blk **out, struct err *err)
{
	struct blk_options o = { .fd = -1, .is_readonly = true, .has_no_backing = true, .is_confined = true,
				.is_alone = true };
	AUTO(free) char *full = NULL;
	const struct blk_driver *drv = NULL;
	struct blk *file = NULL;

	if (!range_fits(off, len, b->file->size))
		return err_set(err, -EINVAL, "'%s' lies behind the end of '%s'", name, b->name);
	if (asprintf(&full, "%s:%s", b->name, name) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	int r = blk_node_new(&file, b->ctx, &blk_window, full, &o, err);

	if (r < 0)
		return r;
	*(struct window *)file->priv = (struct window){ .of = b->file, .off = off };
	file->size = len;
	file->block_size = b->file->block_size;
	file->is_open = true;
	r = blk_co_probe(file, &drv, err);
	/* One in another in another would fill the stack. */
	if (!r && drv == b->drv)
		r = err_set(err, -ENOTSUP, "'%s' is itself of format %s, like what it is in", full, drv->name);
	if (r < 0) {
		blk_co_close(file);
		return r;
	}
	o.format = drv->name;
	return blk_co_open_image(out, file, &o, err);
}
