/* SPDX-License-Identifier: Apache-2.0 */
/* sparse.c - hosted sparse extents and ESXi's COWD ones: a directory in memory, grain tables through the cache. */
#include "blk/vmdk/vmdk_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"

enum { COWD_GTES = 4096, COWD_HEADER_LEN = 64, GD_CHUNK = 64 << 10 };

/* --- entries ---------------------------------------------------------------------------------- */

static bool sparse_decode(const struct bat *t, const uint8_t *raw, struct bat_entry *e)
{
	const struct vmdk_extent *x = t->arg;
	uint32_t v = get_le32(raw);

	if (!v)
		return true;
	if (v == 1 && x->flags & VMDK_FLAG_ZERO_GRAIN) {
		e->kind = BAT_ZERO;
		return true;
	}
	e->kind = x->flags & VMDK_FLAG_COMPRESSED ? BAT_PACKED : BAT_DATA;
	e->host = (uint64_t)v * BLK_SECTOR;
	return e->kind == BAT_DATA || e->host >= t->data_off;
}

static void sparse_encode(const struct bat *t, const struct bat_entry *e, uint8_t *raw)
{
	put_le32(raw, e->kind == BAT_NONE ? 0 : e->kind == BAT_ZERO ? 1 : (uint32_t)(e->host / BLK_SECTOR));
}

static uint64_t gt_page(const struct bat *t, const uint32_t *gd, uint64_t no)
{
	const struct vmdk_extent *x = t->arg;
	uint32_t pages = x->gt_bytes / t->page_size;
	uint64_t i = no / pages;

	return i < x->n_gd && gd[i] ? (uint64_t)gd[i] * BLK_SECTOR + no % pages * t->page_size : 0;
}

static uint64_t sparse_page_at(const struct bat *t, uint64_t no)
{
	return gt_page(t, ((const struct vmdk_extent *)t->arg)->gd, no);
}

/* A new grain table behind the end: zeroes, durable, then the directory has it. */
static int sparse_make_page(struct bat *t, uint64_t no)
{
	struct vmdk_extent *x = t->arg;
	uint64_t i = no / (x->gt_bytes / t->page_size), at = t->alloc_end;
	uint8_t raw[4];

	if (i >= x->n_gd || at + x->gt_bytes > t->max_end)
		return -EFBIG;
	t->alloc_end += align_up(x->gt_bytes, t->unit ? t->block_size : BLK_SECTOR);
	t->unit = 0;                    /* there is a table among the grains now: what is free is not told by them */
	int r = blk_co_zeroes(t->file, at, x->gt_bytes, false);

	if (!r)
		r = blk_co_flush(t->file);
	put_le32(raw, (uint32_t)(at / BLK_SECTOR));
	if (!r)
		r = blk_co_pwrite(t->file, x->gd_off + i * 4, raw, 4);
	if (!r)
		x->gd[i] = (uint32_t)(at / BLK_SECTOR);
	return r;
}

/* The second tables first: who falls back to them after a cut finds nothing that was not written. */
static int sparse_commit(struct bat *t, struct bat_write *w, unsigned n)
{
	const struct vmdk_extent *x = t->arg;
	int r = 0;

	if (x->rgd && n) {
		r = bat_commit(t, NULL, 0);
		for (unsigned i = 0; !r && i < n; i++) {
			uint64_t at = gt_page(t, x->rgd, w[i].page);

			if (at)
				r = blk_co_pwrite(t->file, at, w[i].data, w[i].len);
		}
		for (unsigned i = 0; !r && i < n; i++)
			r = blk_co_pwrite(t->file, w[i].off, w[i].data, w[i].len);
		return r;
	}
	return n ? bat_commit(t, w, n) : 0;
}

static int extent_prepare(struct bat *t)
{
	struct vmdk_extent *x = t->arg;
	int r = vmdk_new_cid(t->b->priv, 0);

	if (!r && x->kind == VMDK_SPARSE) {
		x->has_mark = true;
		r = blk_co_pwrite(t->file, offsetof(struct vmdk_header, is_unclean), "\1", 1);
	}
	return r;
}

static const struct bat_format sparse_format = {
	.entry_size = 4, .decode = sparse_decode, .encode = sparse_encode, .page_at = sparse_page_at,
	.make_page = sparse_make_page, .commit = sparse_commit, .prepare = extent_prepare, .unpack = vmdk_unpack,
};
static const struct bat_format sparse_zero_format = {
	.entry_size = 4, .has_zero = true, .decode = sparse_decode, .encode = sparse_encode, .page_at = sparse_page_at,
	.make_page = sparse_make_page, .commit = sparse_commit, .prepare = extent_prepare, .unpack = vmdk_unpack,
};
const struct bat_format vmdk_flat_format = { .entry_size = 4, .prepare = extent_prepare };

/* --- directories ------------------------------------------------------------------------------ */

static int gd_read(struct vmdk_extent *x, uint64_t off, uint32_t **out)
{
	uint8_t *raw = calloc(x->n_gd, 4);
	int r = raw ? blk_co_pread(x->file, off, raw, (size_t)x->n_gd * 4) : -ENOMEM;

	for (uint32_t i = 0; !r && i < x->n_gd; i++) {
		uint32_t v = get_le32(raw + (size_t)i * 4);

		memcpy(raw + (size_t)i * 4, &v, 4);
	}
	if (r < 0)
		free(raw);
	else
		*out = (uint32_t *)(void *)raw;
	return r;
}

static bool gt_is_sane(const struct vmdk_extent *x, uint32_t v)
{
	return !v || range_fits((uint64_t)v * BLK_SECTOR, x->gt_bytes, x->file->size);
}

/* A damaged directory: the second one, if it is whole, takes its place while repairing. */
static int gd_check(struct vmdk *s, struct vmdk_extent *x, struct err *err)
{
	for (uint32_t i = 0; i < x->n_gd; i++) {
		if (gt_is_sane(x, x->gd[i]))
			continue;
		if (s->b->is_repairing && x->rgd && gt_is_sane(x, x->rgd[i])) {
			x->gd[i] = x->rgd[i];
			continue;
		}
		return err_set(err, -EINVAL, "the grain directory of '%s' is damaged: entry %u is sector %u%s",
			       x->file->name, i,
			       x->gd[i], x->rgd ? "; its second directory may help: check with repair" : "");
	}
	for (uint32_t i = 0; x->rgd && i < x->n_gd; i++)
		if (!gt_is_sane(x, x->rgd[i]))
			x->rgd[i] = 0;
	return 0;
}

static int gd_load(struct vmdk *s, struct vmdk_extent *x, struct err *err)
{
	int r = range_fits(x->gd_off, (uint64_t)x->n_gd * 4, x->file->size) ? gd_read(x, x->gd_off, &x->gd) : -EINVAL;

	if (!r && x->rgd_off)
		r = range_fits(x->rgd_off, (uint64_t)x->n_gd * 4, x->file->size) ? gd_read(x, x->rgd_off,
			&x->rgd) : -EINVAL;
	if (r < 0)
		return err_set(err, r, "cannot read the grain directory of '%s' at byte %" PRIu64 ": %s", x->file->name,
			       x->gd_off, strerror(-r));
	return gd_check(s, x, err);
}

/* The end of what is not grains: directories and tables. */
static uint64_t gd_end(const struct vmdk_extent *x)
{
	uint64_t end = x->gd_off + (uint64_t)x->n_gd * 4, rend = x->rgd_off ? x->rgd_off + (uint64_t)x->n_gd * 4 : 0;

	end = end > rend ? end : rend;
	for (uint32_t i = 0; i < x->n_gd; i++) {
		uint64_t a = x->gd[i] ? (uint64_t)x->gd[i] * BLK_SECTOR + x->gt_bytes : 0;
		uint64_t b = x->rgd && x->rgd[i] ? (uint64_t)x->rgd[i] * BLK_SECTOR + x->gt_bytes : 0;

		end = a > end ? a : end;
		end = b > end ? b : end;
	}
	return end;
}

/* Everything is known: the table. */
static int extent_init(struct vmdk *s, struct vmdk_extent *x, uint64_t sectors, uint32_t grain, uint64_t overhead,
		       struct err *err)
{
	struct bat *t = &x->t;
	bool is_tidy = overhead >= gd_end(x) && !(x->flags & VMDK_FLAG_COMPRESSED);

	t->f = x->flags & VMDK_FLAG_ZERO_GRAIN ? &sparse_zero_format : &sparse_format;
	t->file = x->file;
	t->arg = x;
	t->size = vmdk_bytes(sectors);
	t->block_size = grain * BLK_SECTOR;
	t->page_size = x->gt_bytes < BAT_PAGE_MAX ? x->gt_bytes : BAT_PAGE_MAX;
	t->n_slots = (uint64_t)x->n_gd * (x->gt_bytes / 4);
	t->data_off = is_tidy ? overhead : BLK_SECTOR;
	t->stride = t->block_size;
	t->unit = is_tidy ? t->block_size : 0;
	t->alloc_end = t->file->size > t->data_off ? t->file->size : t->data_off;
	t->alloc_end = is_tidy ? t->data_off + (t->alloc_end - t->data_off + t->unit - 1) / t->unit * t->unit :
		       align_up(t->alloc_end, BLK_SECTOR);
	t->max_end = (1ull << 32) * BLK_SECTOR;
	t->cache_bytes = s->cache_bytes;
	return bat_init(t, err);
}

/* --- hosted ----------------------------------------------------------------------------------- */

static int header_check(const struct vmdk *s, const struct vmdk_extent *x, const struct vmdk_header *h, struct err *err)
{
	uint64_t grain = le64_get(h->grain_size), gtes = le32_get(h->gtes_per_gt), capacity = le64_get(h->capacity);
	uint32_t version = le32_get(h->version), flags = le32_get(h->flags);
	const char *name = x->file->name;

	if (version < 1 || version > 3)
		return err_set(err, -ENOTSUP, "'%s' is a sparse VMDK extent of version %u; 1 to 3 are known", name,
			       version);
	if (flags & ~(uint32_t)VMDK_FLAG_KNOWN)
		return err_set(err, -ENOTSUP, "'%s' has flags 0x%x, of which 0x%x are not known", name, flags,
			       flags & ~(uint32_t)VMDK_FLAG_KNOWN);
	if (version == 3 && !(flags & VMDK_FLAG_COMPRESSED) && !s->b->is_readonly)
		return err_set(err, -EROFS, "'%s' is a sparse VMDK extent of version 3, which can only be read: open "
			       "it with "
			       "readonly=on, or convert it", name);
	if (flags & VMDK_FLAG_COMPRESSED && le16_get(h->compression) != 1)
		return err_set(err, -ENOTSUP, "'%s' is compressed by algorithm %u; 1 (deflate) is known", name,
			       le16_get(h->compression));
	if (flags & VMDK_FLAG_NEWLINE && memcmp(h->newlines, "\n \r\n", 4))
		return err_set(err, -EINVAL, "'%s' was copied as text: its line ends are changed, and so may its "
			       "data be", name);
	if (!is_pow2(grain) || grain < 8 || grain > VMDK_GRAIN_MAX)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: grains of %" PRIu64 " sectors", name,
			       grain);
	if (!is_pow2(gtes) || gtes < 128 || gtes > 4096)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: %" PRIu64 " entries per grain table",
			       name, gtes);
	if (!capacity || capacity > INT64_MAX / BLK_SECTOR || capacity / (grain * gtes) >= VMDK_GD_MAX)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: %" PRIu64 " sectors", name, capacity);
	return 0;
}

/* The header with the place of the directory is at the end of a stream: 1024 bytes before it. */
int vmdk_sparse_footer(struct vmdk *s, struct blk *file, struct vmdk_header *h, struct err *err)
{
	struct vmdk_header footer;
	int r;

	if (le64_get(h->gd_off) != VMDK_GD_AT_END)
		return 0;
	if (!s->b->is_readonly)
		return err_set(err, -EROFS, "'%s' is a streamOptimized VMDK image with its directory at the end, "
			       "which can only be "
			       "read: open it with readonly=on, or convert it", file->name);
	r = file->size < 1536 ? -EINVAL : blk_co_pread(file, file->size - 1024, &footer, sizeof(footer));
	if (!r && (le32_get(footer.magic) != VMDK_MAGIC || le64_get(footer.gd_off) == VMDK_GD_AT_END))
		r = -EINVAL;
	if (r < 0)
		return err_set(err, r, "'%s' has no footer at its end: it may be cut", file->name);
	*h = footer;
	return 0;
}

int vmdk_sparse_open(struct vmdk *s, struct vmdk_extent *x, const struct vmdk_header *h, struct err *err)
{
	int r = header_check(s, x, h, err);

	if (r < 0)
		return r;
	uint64_t capacity = le64_get(h->capacity), per_gt = le64_get(h->grain_size) * le32_get(h->gtes_per_gt);

	x->kind = VMDK_SPARSE;
	x->flags = le32_get(h->flags);
	x->gt_bytes = le32_get(h->gtes_per_gt) * 4;
	x->n_gd = (uint32_t)((capacity + per_gt - 1) / per_gt);
	x->gd_off = vmdk_bytes(le64_get(h->gd_off));
	x->rgd_off = x->flags & VMDK_FLAG_RGD &&
	!(x->flags & VMDK_FLAG_COMPRESSED) ? vmdk_bytes(le64_get(h->rgd_off)) : 0;
	x->is_unclean = h->is_unclean;
	s->is_stream |= x->flags & VMDK_FLAG_COMPRESSED;
	r = gd_load(s, x, err);
	return r ? r : extent_init(s, x, capacity, (uint32_t)le64_get(h->grain_size),
				   vmdk_bytes(le64_get(h->overhead)), err);
}

void vmdk_sparse_close(struct vmdk *s, struct vmdk_extent *x)
{
	int r = 0;

	if (s->b->is_open && !s->b->is_readonly)
		r = bat_trim(&x->t);
	if (!r && x->has_mark) {
		r = blk_co_flush(x->file);
		if (!r)
			r = blk_co_pwrite(x->file, offsetof(struct vmdk_header, is_unclean), "\0", 1);
	}
	if (r < 0)
		log_error("disk '%s': cannot write back on closing: %s", s->b->name, strerror(-r));
	bat_fini(&x->t);
	free(x->gd);
	free(x->rgd);
	free(x->se_gd);
}

/* --- ESXi's older one --------------------------------------------------------------------------- */

int vmdk_cowd_open(struct vmdk *s, struct vmdk_extent *x, struct err *err)
{
	uint8_t h[COWD_HEADER_LEN];
	int r = blk_co_pread(x->file, 0, h, sizeof(h));

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", x->file->name, strerror(-r));
	uint32_t sectors = get_le32(h + 12), grain = get_le32(h + 16);

	if (get_le32(h) != VMDK_COWD_MAGIC || get_le32(h + 4) != 1)
		return err_set(err, -EINVAL, "'%s' is not a COWD extent of version 1", x->file->name);
	if (!is_pow2(grain) || grain > VMDK_GRAIN_MAX || !sectors || get_le32(h + 24) > VMDK_GD_MAX)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: %u sectors in grains of %u, directory "
			       "of %u",
			       x->file->name, sectors, grain, get_le32(h + 24));
	x->kind = VMDK_COWD;
	x->gt_bytes = COWD_GTES * 4;
	x->n_gd = (uint32_t)(((uint64_t)sectors + (uint64_t)grain * COWD_GTES - 1) / ((uint64_t)grain * COWD_GTES));
	x->gd_off = vmdk_bytes(get_le32(h + 20));
	r = gd_load(s, x, err);
	return r ? r : extent_init(s, x, sectors, grain, 0, err);
}

/* --- checking --------------------------------------------------------------------------------- */

/* The second tables say what the first ones say: else they are written again. */
static int check_second(struct vmdk_extent *x, unsigned fix, struct blk_check *check)
{
	uint8_t *a = malloc(x->gt_bytes), *b = malloc(x->gt_bytes);
	uint64_t n_bad = 0;
	int r = a && b ? 0 : -ENOMEM;

	for (uint32_t i = 0; !r && i < x->n_gd; i++) {
		if (!x->gd[i] || !x->rgd[i])
			continue;
		r = blk_co_pread(x->file, (uint64_t)x->gd[i] * BLK_SECTOR, a, x->gt_bytes);
		if (!r)
			r = blk_co_pread(x->file, (uint64_t)x->rgd[i] * BLK_SECTOR, b, x->gt_bytes);
		if (r < 0 || !memcmp(a, b, x->gt_bytes))
			continue;
		n_bad++;
		if (fix & BLK_FIX_LEAKS)
			r = blk_co_pwrite(x->file, (uint64_t)x->rgd[i] * BLK_SECTOR, a, x->gt_bytes);
	}
	free(a);
	free(b);
	if (n_bad)
		bat_finding(check, true, n_bad, fix & BLK_FIX_LEAKS && !r, "%" PRIu64 " second grain tables are not "
			    "what the "
			    "first ones are", n_bad);
	return r;
}

/* A repaired directory goes to the file. */
static int check_directory(struct vmdk_extent *x, unsigned fix, struct blk_check *check)
{
	uint64_t n_bad = 0;
	uint32_t *was = NULL;
	int r = gd_read(x, x->gd_off, &was);

	for (uint32_t i = 0; !r && i < x->n_gd; i++) {
		uint8_t raw[4];

		if (was[i] == x->gd[i])
			continue;
		n_bad++;
		put_le32(raw, x->gd[i]);
		if (fix & BLK_FIX_ERRORS)
			r = blk_co_pwrite(x->file, x->gd_off + (uint64_t)i * 4, raw, 4);
	}
	free(was);
	if (n_bad)
		bat_finding(check, false, n_bad, fix & BLK_FIX_ERRORS && !r, "%" PRIu64 " entries of the grain "
			    "directory are "
			    "damaged, the second directory has them", n_bad);
	return r;
}

int vmdk_sparse_check(struct vmdk *s, struct vmdk_extent *x, unsigned fix, struct blk_check *check, struct err *err)
{
	struct bat_checking c = { .check = check, .fix = fix };
	int r = bat_check(&x->t, &c, err);

	if (r < 0 || x->kind != VMDK_SPARSE)
		return r;
	r = check_directory(x, fix, check);
	if (!r && x->rgd)
		r = check_second(x, fix, check);
	return r < 0 ? err_set(err, r, "cannot check '%s': %s", x->file->name, strerror(-r)) : 0;
}
