/* SPDX-License-Identifier: Apache-2.0 */
/* create.c - new Parallels images, and growing them. */
#include "blk/parallels/parallels.h"
#include "blk/parallels/parallels_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The image of a bundle, beside its descriptor; the number is that of the series. */
#define BUNDLE_IMAGE "disk.hdd.%u.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds"

static const char *const create_preallocs[] = { "off", "metadata", "falloc", "full", NULL };
const struct blk_opt prl_create_opts[] = {
	{ "cluster_size", BLK_OPT_SIZE, "1M", "unit of allocation, a multiple of 512", 512, 64 << 20, NULL },
	{ "preallocation", BLK_OPT_CHOICE, "off", "off, metadata, falloc (space reserved) or full (zeroes written)", 0,
	  0,
	  create_preallocs },
	{ "bundle", BLK_OPT_BOOL, "off", "as Parallels Desktop has them: FILE is the DiskDescriptor.xml of a .hdd folder, its image lies beside it",
	  0, 0, NULL },
	{ .name = NULL },
};

static uint64_t table_end(uint64_t n, uint64_t cluster)
{
	return (PRL_HEADER_LEN + n * 4 + cluster - 1) / cluster * cluster;
}

static int size_check(uint64_t n, uint64_t cluster, uint64_t size, struct err *err)
{
	if (n >= UINT32_MAX - 1 - table_end(n, cluster) / cluster || table_end(n, cluster) / BLK_SECTOR > UINT32_MAX)
		return err_set(err, -EFBIG, "a disk of %" PRIu64 " bytes needs larger clusters than %" PRIu64 " bytes",
			       size,
			       cluster);
	return 0;
}

static int create_check(const struct blk_creating *c, uint64_t cluster, uint64_t n, struct err *err)
{
	if (cluster % BLK_SECTOR)
		return err_set(err, -EINVAL, "cluster_size is a multiple of 512");
	return size_check(n, cluster, c->size, err);
}

int prl_measure(const struct blk_creating *c, struct blk_layout *out, struct err *err)
{
	uint64_t cluster = blk_opts_num(c->opts, "cluster_size"), n = c->size / cluster + (c->size % cluster != 0);
	bool has_all = blk_opts_num(c->opts, "preallocation") != BLK_PREALLOC_OFF;

	*out = (struct blk_layout){ .size = c->size, .unit = cluster, .each = has_all ? 0 : cluster,
				    .fixed = table_end(n, cluster) + (has_all ? n * cluster : 0) +
					     (blk_opts_num(c->opts, "bundle") ? PRL_XML_LEN : 0) };
	return create_check(c, cluster, n, err);
}

/* An image without any data in FILE. */
static int create_image(const struct blk_creating *c, struct blk *file, uint64_t cluster, uint64_t n, struct err *err)
{
	struct prl_header h = {
		.version = le32_of(PRL_VERSION), .heads = le32_of(PRL_HEADS),
		.cylinders = le32_of((uint32_t)((c->size / BLK_SECTOR + PRL_PER_CYLINDER - 1) / PRL_PER_CYLINDER)),
		.tracks = le32_of((uint32_t)(cluster / BLK_SECTOR)), .n_entries = le32_of((uint32_t)n),
		.n_sectors = le64_of(c->size / BLK_SECTOR),
		.data_off = le32_of((uint32_t)(table_end(n, cluster) / BLK_SECTOR)),
	};
	memcpy(h.magic, "WithouFreSpacExt", 16);
	int r = blk_co_pwrite(file, 0, &h, sizeof(h));

	return r < 0 ? err_set(err, r, "cannot write '%s': %s", file->name, strerror(-r)) :
	       blk_co_truncate(file, table_end(n, cluster), BLK_PREALLOC_OFF, err);
}

static int create_bundle(struct blk_creating *c, uint64_t cluster, uint64_t n, struct err *err)
{
	struct blk *file = NULL;
	char image[96];

	snprintf(image, sizeof(image), BUNDLE_IMAGE, c->args->series);
	int r = blk_co_create_file(c, image, &file, err);

	if (r < 0)
		return r;
	r = create_image(c, file, cluster, n, err);
	if (!r && blk_co_flush(file) < 0)
		r = err_set(err, -EIO, "cannot write '%s'", image);
	blk_co_close(file);
	return r ? r : prl_bundle_write(c, image, cluster, err);
}

int prl_co_create(struct blk_creating *c, struct err *err)
{
	uint64_t cluster = blk_opts_num(c->opts, "cluster_size"), n = c->size / cluster + (c->size % cluster != 0);
	enum blk_prealloc p = (enum blk_prealloc)blk_opts_num(c->opts, "preallocation");
	struct blk *b = NULL;
	int r = create_check(c, cluster, n, err);

	if (!r)
		r = blk_opts_num(c->opts, "bundle") ? create_bundle(c, cluster, n, err) : create_image(c, c->file, cluster, n, err);
	if (r < 0 || p == BLK_PREALLOC_OFF)
		return r;
	r = blk_co_open_new(c, &b, err);
	if (r < 0)
		return r;
	struct prl *s = b->priv;
	r = bat_preallocate(s->image ? s->image->priv : b->priv, 0, b->size, p);
	blk_co_close(b);
	return r < 0 ? err_set(err, r, "cannot allocate '%s': %s", c->args->path, strerror(-r)) : 0;
}

/* --- growing ---------------------------------------------------------------------------------- */

/* Clusters that stand where the table will, go; then entries; then the header, in one sector, has them. */
static int grow(struct prl *s, uint64_t size, uint64_t n)
{
	struct bat *t = &s->t;
	uint64_t old = t->size, edge = old % t->block_size, end = table_end(n, s->scale);
	int r = end > t->data_off ? bat_make_room(t, end) : 0;

	if (!r && edge) {
		t->size = old - edge + t->block_size;
		r = bat_zeroes(t, old, t->size - old, false);
		t->size = old;
	}
	if (!r)
		r = bat_flush(t);
	if (!r)
		r = blk_co_zeroes(t->file, t->table_off + t->n_slots * 4, (n - t->n_slots) * 4, false);
	if (!r && t->file->size < end)
		r = blk_co_truncate(t->file, end, BLK_PREALLOC_OFF, NULL);
	if (!r)
		r = blk_co_flush(t->file);
	if (r < 0)
		return r;
	t->data_off = end > t->data_off ? end : t->data_off;
	t->alloc_end = t->alloc_end > t->data_off ? t->alloc_end : t->data_off;
	s->h.n_entries = le32_of((uint32_t)n);
	s->h.n_sectors = le64_of(size / BLK_SECTOR);
	s->h.data_off = le32_of((uint32_t)(t->data_off / BLK_SECTOR));
	r = blk_co_pwrite(t->file, 0, &s->h, sizeof(s->h));
	bat_pages_drop(t);
	t->n_slots = n;
	t->n_blocks = size / t->block_size + (size % t->block_size != 0);
	return r;
}

int prl_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct prl *s = b->priv;
	struct bat *t = &s->t;
	struct blk_range range;

	if (s->image)
		return err_set(err, -ENOTSUP, "a bundle keeps its size: convert '%s' to a larger disk", b->name);
	if (size < b->size)
		return err_set(err, -ENOTSUP, "a Parallels image can grow, not shrink: '%s'", b->name);
	uint64_t n = size / t->block_size + (size % t->block_size != 0);

	n = n > t->n_slots ? n : t->n_slots;
	int r = size_check(n, s->scale, size, err);

	if (!r && !s->is_ext && size / BLK_SECTOR > UINT32_MAX)
		r = err_set(err, -EFBIG, "'%s' is of the older kind, which ends at 2 TiB; convert it", b->name);
	if (r < 0)
		return r;
	blk_drain_begin(b, &range);
	r = bat_prepare(t);
	if (!r)
		r = grow(s, size, n);
	if (!r)
		t->size = b->size = size;
	if (!r && prealloc != BLK_PREALLOC_OFF)
		r = bat_preallocate(t, 0, size, prealloc);
	blk_drain_end(b, &range);
	return r < 0 ? err_set(err, r, "cannot grow '%s': %s", b->name, strerror(-r)) : 0;
}
