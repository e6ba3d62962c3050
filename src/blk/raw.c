/* SPDX-License-Identifier: Apache-2.0 */
/* raw.c - the format without a format: the file is the disk.
 *
 * An image that was taken for raw because its content looked like nothing else must not be made to
 * look like something by the guest: the next opening would believe it, and a header can name any
 * file of the host as backing image. So for such an image the parts that probing looks at are kept
 * in memory, and a write is refused when the file with it would probe as a format. */
#include "blk/core_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "util/checked.h"

struct raw {
	bool is_guarded;
	size_t head_len;
	uint64_t tail_off;              /* of the last BLK_PROBE_TAIL bytes */
	uint8_t head[BLK_PROBE_HEAD];   /* as they are in the file, or will be when writes in flight end */
	uint8_t tail[BLK_PROBE_TAIL];
};

static int raw_guard(struct blk *b, struct err *err)
{
	struct raw *raw = b->priv;

	raw->head_len = b->size < BLK_PROBE_HEAD ? (size_t)b->size : BLK_PROBE_HEAD;
	raw->tail_off = b->size - (b->size < BLK_PROBE_TAIL ? b->size : BLK_PROBE_TAIL);
	raw->is_guarded = true;
	int r = blk_co_pread(b->file, 0, raw->head, raw->head_len);

	if (!r)
		r = blk_co_pread(b->file, raw->tail_off, raw->tail, b->size - raw->tail_off);
	return r < 0 ? err_set(err, r, "cannot read '%s': %s", b->name, strerror(-r)) : 0;
}

static int raw_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	b->size = b->file->size;
	b->file->may_grow = false;
	if (b->size % BLK_SECTOR || b->size > INT64_MAX)
		return err_set(err, -EINVAL, "'%s' is %" PRIu64 " bytes long, which is not a multiple of 512; "
			       "if it is a raw image, extend it with: truncate -s %" PRIu64 " '%s'",
			       b->name, b->size, align_up(b->size, BLK_SECTOR), b->name);
	return b->is_probed && !b->is_readonly ? raw_guard(b, err) : 0;
}

static bool raw_touches_guard(const struct raw *raw, uint64_t off, uint64_t len)
{
	return raw->is_guarded && (off < raw->head_len || off + len > raw->tail_off);
}

static struct blk *raw_try_map(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off)
{
	if (op != BLK_READ && op != BLK_FLUSH && raw_touches_guard(b->priv, off, len))
		return NULL;
	*child_off = off;
	return b->file;
}

/* Put what a write brings, V or zeroes, over PART, which is LEN bytes of the disk at AT. */
static void raw_overlay(uint8_t *part, uint64_t at, uint64_t len, uint64_t off, uint64_t n, const struct blk_vec *v)
{
	uint64_t from = off > at ? off : at, to = off + n < at + len ? off + n : at + len;

	if (from >= to)
		return;
	if (v)
		blk_vec_get(blk_vec_at(*v, from - off), part + (from - at), to - from);
	else
		memset(part + (from - at), 0, to - from);
}

/* 0: the file may become this; -EPERM. */
static int raw_allow(struct blk *b, uint64_t off, uint64_t len, const struct blk_vec *v)
{
	struct raw *raw = b->priv, after;

	if (!raw_touches_guard(raw, off, len))
		return 0;
	after = *raw;
	raw_overlay(after.head, 0, raw->head_len, off, len, v);
	raw_overlay(after.tail, raw->tail_off, b->size - raw->tail_off, off, len, v);
	const struct blk_probe p = {
		.head = after.head, .head_len = raw->head_len,
		.tail = after.tail, .tail_len = (size_t)(b->size - raw->tail_off), .size = b->size,
	};

	if (blk_probe_format(&p) != &blk_raw)
		return -EPERM;
	*raw = after;
	return 0;
}

static int raw_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	return blk_co_preadv(b->file, off, len, v);
}

static int raw_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	int r = raw_allow(b, off, len, &v);

	return r < 0 ? r : blk_co_pwritev(b->file, off, len, v);
}

static int raw_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	int r = raw_allow(b, off, len, NULL);

	return r < 0 ? r : blk_co_zeroes(b->file, off, len, may_unmap);
}

/* No sector becomes anything but what it is or zeroes; formats have their marks in one sector. */
static int raw_co_discard(struct blk *b, uint64_t off, uint64_t len)
{
	return blk_co_discard(b->file, off, len);
}

static int raw_co_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	return blk_co_map(b->file, off, len, false, out);
}

static int raw_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct raw *raw = b->priv;
	int r = blk_co_truncate(b->file, size, prealloc, err);

	if (r < 0)
		return r;
	b->size = size;
	return raw->is_guarded ? raw_guard(b, err) : 0;
}

static const char *const raw_preallocs[] = { "off", "metadata", "falloc", "full", NULL };
static const struct blk_opt raw_create_opts[] = {
	{ "preallocation", BLK_OPT_CHOICE, "off", "off (a hole), falloc (space reserved), full (zeroes written)",
	  .choices = raw_preallocs },
	{ .name = NULL },
};

static int raw_co_create(struct blk_creating *c, struct err *err)
{
	enum blk_prealloc p = (enum blk_prealloc)blk_opts_num(c->opts, "preallocation");

	return blk_co_truncate(c->file, c->size, p == BLK_PREALLOC_METADATA ? BLK_PREALLOC_OFF : p, err);
}

const struct blk_driver blk_raw = {
	.name = "raw",
	.title = "the disk's bytes as they are",
	.flags = BLK_DRIVER_DEVICE,
	.priv_size = sizeof(struct raw),
	.create_opts = raw_create_opts,
	.co_open = raw_co_open,
	.try_map = raw_try_map,
	.co_preadv = raw_co_preadv,
	.co_pwritev = raw_co_pwritev,
	.co_discard = raw_co_discard,
	.co_zeroes = raw_co_zeroes,
	.co_map = raw_co_map,
	.co_truncate = raw_co_truncate,
	.co_create = raw_co_create,
};
