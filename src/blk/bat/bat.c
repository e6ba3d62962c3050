/* SPDX-License-Identifier: Apache-2.0 */
/* bat.c - a table: its life, and the members of blk_driver for nodes that have one. */
#include "blk/bat/bat_priv.h"

#include <errno.h>
#include <stdlib.h>

const struct blk_opt bat_open_opts[] = {
	{ "cache_size", BLK_OPT_SIZE, "32M", "memory for tables of the image, per file", 64 << 10, 1ull << 32, NULL },
	{ .name = NULL },
};

int bat_init(struct bat *t, struct err *err)
{
	if (t->is_flat)
		return 0;
	t->n_blocks = (t->size + t->block_size - 1) / t->block_size;
	t->pending = calloc(BAT_FREE_MAX, sizeof(*t->pending));
	t->spare = calloc(BAT_FREE_MAX, sizeof(*t->spare));
	if (!t->pending || !t->spare || bat_cache_init(t) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

void bat_fini(struct bat *t)
{
	bat_cache_fini(t);
	free(t->pending);
	free(t->spare);
	free(t->unpacked);
	t->pending = t->spare = NULL;
	t->unpacked = NULL;
}

void bat_lock_range(struct bat *t, struct blk_range *r, uint64_t at, uint64_t len)
{
	uint64_t unit = t->is_flat ? BLK_SECTOR : t->block_size, from = at / unit * unit, end = at + len;
	uint64_t rest = end % unit;

	end += rest ? unit - rest : 0;
	blk_range_lock(t->b, r, t->base + from, end - from, true);
}

struct blk *bat_drv_try_map(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off)
{
	struct bat *t = b->priv;

	if (op == BLK_FLUSH)
		return bat_is_clean(t) ? t->file : NULL;
	return bat_try_map(t, op, off, len, child_off);
}

int bat_drv_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct blk_range range;

	blk_range_lock(b, &range, off, len, false);
	int r = bat_read(b->priv, off, len, v);

	blk_range_unlock(b, &range);
	return r;
}

int bat_drv_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct blk_range range;

	bat_lock_range(b->priv, &range, off, len);
	int r = bat_write(b->priv, off, len, v);

	blk_range_unlock(b, &range);
	return r;
}

int bat_drv_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	struct blk_range range;

	bat_lock_range(b->priv, &range, off, len);
	int r = bat_zeroes(b->priv, off, len, may_unmap);

	blk_range_unlock(b, &range);
	return r;
}

int bat_drv_discard(struct blk *b, uint64_t off, uint64_t len)
{
	struct blk_range range;

	bat_lock_range(b->priv, &range, off, len);
	int r = bat_discard(b->priv, off, len);

	blk_range_unlock(b, &range);
	return r;
}

int bat_drv_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	return bat_map(b->priv, off, len, out);
}

int bat_drv_flush(struct blk *b)
{
	return bat_flush(b->priv);
}
