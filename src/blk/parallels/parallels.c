/* SPDX-License-Identifier: Apache-2.0 */
/* parallels.c - Parallels' disk image: opening, entries, checking. */
#include "blk/parallels/parallels.h"
#include "blk/parallels/parallels_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <string.h>
#include "util/log.h"

static bool magic_is(const void *magic, bool *is_ext)
{
	*is_ext = !memcmp(magic, "WithouFreSpacExt", 16);
	return *is_ext || !memcmp(magic, "WithoutFreeSpace", 16);
}

static int prl_probe(const struct blk_probe *p)
{
	bool is_ext;

	if (p->head_len >= PRL_HEADER_LEN && magic_is(p->head, &is_ext) && get_le32(p->head + 16) == PRL_VERSION)
		return 100;
	return prl_is_descriptor(p->head, p->head_len) ? 100 : 0;
}

/* --- entries ---------------------------------------------------------------------------------- */

static bool prl_decode(const struct bat *t, const uint8_t *raw, struct bat_entry *e)
{
	uint32_t v = get_le32(raw);

	if (!v)
		return true;
	e->kind = BAT_DATA;
	e->host = v * container_of(t, const struct prl, t)->scale;
	return true;
}

static void prl_encode(const struct bat *t, const struct bat_entry *e, uint8_t *raw)
{
	put_le32(raw, e->kind == BAT_NONE ? 0 : (uint32_t)(e->host / container_of(t, const struct prl, t)->scale));
}

static int prl_write_header(struct prl *s)
{
	return blk_co_pwrite(s->t.file, 0, &s->h, sizeof(s->h));
}

/* The mark is in the file before anything changes. */
static int prl_prepare(struct bat *t)
{
	struct prl *s = container_of(t, struct prl, t);

	if (s->has_mark)
		return 0;
	s->h.in_use = le32_of(PRL_IN_USE);
	s->h.flags = le32_of(le32_get(s->h.flags) & ~(uint32_t)PRL_FLAG_EMPTY);
	int r = prl_write_header(s);

	if (!r)
		r = blk_co_flush(t->file);
	s->has_mark = !r;
	return r;
}

static const struct bat_format prl_format = { .entry_size = 4, .decode = prl_decode, .encode = prl_encode,
					      .prepare = prl_prepare };

/* --- opening ---------------------------------------------------------------------------------- */

static int header_check(const struct prl *s, uint64_t file_size, struct err *err)
{
	const char *name = s->t.b->name;
	uint64_t tracks = le32_get(s->h.tracks), n = le32_get(s->h.n_entries), sectors = le64_get(s->h.n_sectors);
	uint64_t data = (uint64_t)le32_get(s->h.data_off) * BLK_SECTOR, end = PRL_HEADER_LEN + n * 4;

	if (le32_get(s->h.version) != PRL_VERSION)
		return err_set(err, -ENOTSUP, "'%s' is a Parallels image of version %u; %d is known", name,
			       le32_get(s->h.version), PRL_VERSION);
	if (!tracks || tracks > PRL_CLUSTER_MAX / BLK_SECTOR)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: clusters of %" PRIu64 " sectors", name,
			       tracks);
	if (!s->is_ext)
		sectors &= UINT32_MAX;
	if (sectors > INT64_MAX / BLK_SECTOR || sectors > n * tracks || end > file_size)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: %" PRIu64 " clusters for a disk of "
			       "%" PRIu64
			       " sectors", name, n, sectors);
	if (data && (data < end || (s->is_ext && data % (tracks * BLK_SECTOR))))
		return err_set(err, -EINVAL, "the header of '%s' is damaged: data at byte %" PRIu64, name, data);
	return 0;
}

/* Dirty bitmaps are what extensions are for. Read they do no harm; written to, the image would lie in them. */
static int open_extension(struct prl *s, struct err *err)
{
	struct blk *b = s->t.b;
	uint64_t off = le64_get(s->h.ext_off);
	uint8_t magic[8];

	if (!off || !s->is_ext)
		return 0;
	if (off > INT64_MAX / BLK_SECTOR || !range_fits(off * BLK_SECTOR, s->t.block_size, b->file->size) ||
	    off * BLK_SECTOR < s->t.data_off)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: an extension at sector %" PRIu64, b->name,
			       off);
	int r = blk_co_pread(b->file, off * BLK_SECTOR, magic, sizeof(magic));

	if (!r && get_le64(magic) != PRL_EXT_MAGIC)
		r = -EINVAL;
	if (r < 0)
		return err_set(err, r, "the extension of '%s' is damaged", b->name);
	if (!b->is_readonly)
		return err_set(err, -EROFS, "'%s' has a format extension (dirty bitmaps), which cannot be kept up: "
			       "open it with "
			       "readonly=on, or convert it", b->name);
	s->used[0] = (struct bat_used){ off * BLK_SECTOR, s->t.block_size };
	s->t.used = s->used;
	s->t.n_used = 1;
	return 0;
}

static int open_image(struct prl *s, const struct blk_opts *opts, struct err *err)
{
	struct bat *t = &s->t;
	struct blk *b = t->b;
	uint64_t sectors = le64_get(s->h.n_sectors), data = (uint64_t)le32_get(s->h.data_off) * BLK_SECTOR;
	int r = header_check(s, b->file->size, err);

	if (r < 0)
		return r;
	b->size = (s->is_ext ? sectors : sectors & UINT32_MAX) * BLK_SECTOR;
	t->f = &prl_format;
	t->file = b->file;
	t->size = b->size;
	t->block_size = le32_get(s->h.tracks) * BLK_SECTOR;
	t->page_size = BAT_PAGE_MAX;
	t->n_slots = le32_get(s->h.n_entries);
	t->table_off = PRL_HEADER_LEN;
	s->scale = s->is_ext ? t->block_size : BLK_SECTOR;
	if (!data)
		data = (PRL_HEADER_LEN + t->n_slots * 4 + s->scale - 1) / s->scale * s->scale;
	t->data_off = data;
	t->stride = t->unit = t->block_size;
	t->alloc_end = b->file->size > data ? data + (b->file->size - data + t->unit - 1) / t->unit * t->unit : data;
	t->max_end = UINT32_MAX * s->scale;
	t->cache_bytes = blk_opts_num(opts, "cache_size");
	b->cluster_size = t->block_size;
	b->can_discard = !b->is_readonly && b->file->can_discard;
	s->was_in_use = le32_get(s->h.in_use) == PRL_IN_USE;
	r = bat_init(t, err);
	return r ? r : open_extension(s, err);
}

static int prl_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	struct prl *s = b->priv;
	int r = blk_co_pread(b->file, 0, &s->h, sizeof(s->h));

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", b->name, strerror(-r));
	s->t.b = b;
	if (magic_is(s->h.magic, &s->is_ext))
		return open_image(s, opts, err);
	return prl_bundle_open(s, err);
}

static void prl_co_close(struct blk *b)
{
	struct prl *s = b->priv;
	int r = 0;

	if (b->is_open && !b->is_readonly && !s->image && bat_is_clean(&s->t)) {
		r = bat_trim(&s->t);
		if (!r && (s->has_mark || s->was_in_use)) {
			r = blk_co_flush(b->file);
			s->h.in_use = le32_of(PRL_CLOSED);
			if (!r)
				r = prl_write_header(s);
		}
	}
	if (r < 0)
		log_error("disk '%s': cannot write back on closing: %s", b->name, strerror(-r));
	bat_fini(&s->t);
}

/* --- telling ---------------------------------------------------------------------------------- */

static int prl_co_check(struct blk *b, unsigned fix, struct blk_check *check, struct err *err)
{
	struct prl *s = b->priv;
	struct bat_checking c = { .check = check, .fix = fix };

	if (s->image)
		return s->image->drv->co_check ? s->image->drv->co_check(s->image, fix, check, err) : 0;
	if (s->was_in_use) {
		bat_finding(check, true, 1, fix & BLK_FIX_LEAKS, "the image was not closed");
		s->was_in_use = !(fix & BLK_FIX_LEAKS);
		s->has_mark |= fix & BLK_FIX_LEAKS;     /* closing takes the mark away */
	}
	return bat_check(&s->t, &c, err);
}

static int prl_co_info(struct blk *b, json_t *out, struct err *err)
{
	const struct prl *s = b->priv;

	if (s->image) {
		json_object_set_new(out, "type", json_string("bundle"));
		json_object_set_new(out, "image", json_string(s->image->name));
		return 0;
	}
	json_object_set_new(out, "type", json_string(s->is_ext ? "WithouFreSpacExt" : "WithoutFreeSpace"));
	json_object_set_new(out, "in-use", json_boolean(s->was_in_use));
	json_object_set_new(out, "extension", json_boolean(s->is_ext && le64_get(s->h.ext_off)));
	return 0;
}

/* --- what a bundle does otherwise --------------------------------------------------------------- */

static struct blk *prl_try_map(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off)
{
	const struct prl *s = b->priv;

	if (!s->image)
		return bat_drv_try_map(b, op, off, len, child_off);
	*child_off = off;
	return op == BLK_READ ? s->image : NULL;
}

static int prl_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	const struct prl *s = b->priv;

	return s->image ? blk_co_preadv(s->image, off, len, v) : bat_drv_preadv(b, off, len, v);
}

static int prl_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	const struct prl *s = b->priv;

	return s->image ? blk_co_pwritev(s->image, off, len, v) : bat_drv_pwritev(b, off, len, v);
}

/* Of a bundle: the core flushes its files. */
static int prl_co_flush(struct blk *b)
{
	const struct prl *s = b->priv;

	return s->image ? 0 : bat_drv_flush(b);
}

static int prl_co_discard(struct blk *b, uint64_t off, uint64_t len)
{
	const struct prl *s = b->priv;

	return s->image ? blk_co_discard(s->image, off, len) : bat_drv_discard(b, off, len);
}

static int prl_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	const struct prl *s = b->priv;

	return s->image ? blk_co_zeroes(s->image, off, len, may_unmap) : bat_drv_zeroes(b, off, len, may_unmap);
}

static int prl_co_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	const struct prl *s = b->priv;

	return s->image ? blk_co_map(s->image, off, len, false, out) : bat_drv_map(b, off, len, out);
}

const struct blk_driver blk_parallels = {
	.name = "parallels",
	.title = "Parallels' disk image, alone or in a bundle",
	.priv_size = sizeof(struct prl),
	.open_opts = bat_open_opts,
	.create_opts = prl_create_opts,
	.probe = prl_probe,
	.co_open = prl_co_open,
	.co_close = prl_co_close,
	.try_map = prl_try_map,
	.co_preadv = prl_co_preadv,
	.co_pwritev = prl_co_pwritev,
	.co_flush = prl_co_flush,
	.co_discard = prl_co_discard,
	.co_zeroes = prl_co_zeroes,
	.co_map = prl_co_map,
	.co_truncate = prl_co_truncate,
	.co_check = prl_co_check,
	.co_info = prl_co_info,
	.co_create = prl_co_create,
	.measure = prl_measure,
};
