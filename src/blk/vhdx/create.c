/* SPDX-License-Identifier: Apache-2.0 */
/* create.c - new VHDX images. A new file is: identifier, headers and region tables in the first
 * MiB | log | metadata | table | blocks. */
#include "blk/vhdx/vhdx.h"
#include "blk/vhdx/vhdx_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CREATE_CHUNK = 64 << 10 };

static const char *const create_types[] = { "dynamic", "fixed", NULL };
static const char *const create_preallocs[] = { "off", "metadata", "falloc", "full", NULL };
const struct blk_opt vhdx_create_opts[] = {
	{ "subformat", BLK_OPT_CHOICE, "dynamic", "dynamic or fixed", 0, 0, create_types },
	{ "block_size", BLK_OPT_SIZE, "0", "unit of allocation, 1M to 256M, a power of two; 0: by the size of the "
	  "disk", 0,
	  256 << 20, NULL },
	{ "log_size", BLK_OPT_SIZE, "1M", "of the log, a multiple of 1M", 1 << 20, 64 << 20, NULL },
	{ "preallocation", BLK_OPT_CHOICE, "off", "of fixed images: off (holes), falloc (reserved), full (zeroes "
	  "written)",
	  0, 0, create_preallocs },
	{ .name = NULL },
};

struct create {
	const struct blk_creating *c;
	bool is_fixed;
	uint32_t block_size, log_len;
	uint64_t chunk, n_blocks, bat_off, data_off;
	const char *parent;
	uint8_t linkage[16];
};

static uint32_t create_block_size(const struct blk_creating *c)
{
	uint64_t asked = blk_opts_num(c->opts, "block_size");

	if (asked)
		return (uint32_t)asked;
	if (c->args->backing)
		return 2 * VHDX_MB;
	return (c->size > 32ull << 40 ? 64 : c->size > 100ull << 30 ? 32 : c->size > 1ull << 30 ? 16 : 8) * VHDX_MB;
}

static int create_layout(struct create *k, struct err *err)
{
	uint64_t entries, size = k->c->size;

	k->block_size = create_block_size(k->c);
	k->log_len = (uint32_t)blk_opts_num(k->c->opts, "log_size");
	k->is_fixed = blk_opts_num(k->c->opts, "subformat") == 1;
	if (!is_pow2(k->block_size) || k->block_size < VHDX_MB || k->log_len % VHDX_MB)
		return err_set(err, -EINVAL, "block_size is a power of two of at least 1M, log_size a multiple of 1M");
	if (size > VHDX_SIZE_MAX)
		return err_set(err, -EFBIG, "a VHDX image is at most 64 TiB large");
	if (k->is_fixed && k->c->args->backing)
		return err_set(err, -EINVAL, "a fixed VHDX image cannot have a parent image");
	if (!k->is_fixed && blk_opts_num(k->c->opts, "preallocation"))
		return err_set(err, -EINVAL, "preallocation is for fixed images");
	k->chunk = VHDX_CHUNK_SECTORS * 512 / k->block_size;
	k->n_blocks = size / k->block_size + (size % k->block_size != 0);
	entries = vhdx_n_entries(k->n_blocks, k->chunk, k->c->args->backing);
	k->bat_off = VHDX_MB + k->log_len + VHDX_MB;
	k->data_off = k->bat_off + align_up(entries * 8, VHDX_MB);
	return 0;
}

/* The first MiB. */
static void create_head(const struct create *k, uint8_t *head)
{
	static const char creator[] = "Vivarium";
	uint8_t *region = head + VHDX_REGIONS_OFF;

	memcpy(head, "vhdxfile", 8);
	for (size_t i = 0; i < sizeof(creator); i++)
		head[8 + i * 2] = (uint8_t)creator[i];
	struct vhdx_header *h = (struct vhdx_header *)(void *)(head + VHDX_HEADER_OFF);

	memcpy(h->signature, "head", 4);
	bat_uuid_make(h->file_write_guid);
	bat_uuid_make(h->data_write_guid);
	h->version = le16_of(1);
	h->log_len = le32_of(k->log_len);
	h->log_off = le64_of(VHDX_MB);
	h->sequence = le64_of(1);
	memcpy(head + VHDX_HEADER_OFF + VHDX_HEADER_STEP, h, sizeof(*h));
	vhdx_sum(head + VHDX_HEADER_OFF, VHDX_HEADER_LEN);
	h = (struct vhdx_header *)(void *)(head + VHDX_HEADER_OFF + VHDX_HEADER_STEP);
	h->sequence = le64_of(2);
	vhdx_sum((uint8_t *)h, VHDX_HEADER_LEN);
	memcpy(region, "regi", 4);
	put_le32(region + 8, 2);
	memcpy(region + 16, vhdx_guid_bat, 16);
	put_le64(region + 32, k->bat_off);
	put_le32(region + 40, (uint32_t)(k->data_off - k->bat_off));
	put_le32(region + 44, 1);
	memcpy(region + 48, vhdx_guid_meta, 16);
	put_le64(region + 64, VHDX_MB + k->log_len);
	put_le32(region + 72, VHDX_MB);
	put_le32(region + 76, 1);
	vhdx_sum(region, VHDX_REGIONS_LEN);
	memcpy(region + VHDX_REGIONS_LEN, region, VHDX_REGIONS_LEN);
}

/* A fixed disk has all its blocks in a row. */
static int create_table(const struct create *k)
{
	AUTO(free) uint8_t *buf = calloc(1, CREATE_CHUNK);
	uint64_t entries = vhdx_n_entries(k->n_blocks, k->chunk, false), block = 0;
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0, n; !r && at < entries; at += n) {
		n = entries - at < CREATE_CHUNK / 8 ? entries - at : CREATE_CHUNK / 8;
		for (uint64_t i = 0; i < n; i++) {
			bool is_bits = (at + i) % (k->chunk + 1) == k->chunk;

			put_le64(buf + i * 8, is_bits ? 0 : (k->data_off + block++ * k->block_size) | VHDX_PRESENT);
		}
		r = blk_co_pwrite(k->c->file, k->bat_off + at * 8, buf, n * 8);
	}
	return r;
}

static int create_write(const struct create *k, struct err *err)
{
	AUTO(free) uint8_t *buf = calloc(1, VHDX_MB);
	enum blk_prealloc p = (enum blk_prealloc)blk_opts_num(k->c->opts, "preallocation");
	struct blk *file = k->c->file;
	int r = buf ? 0 : -ENOMEM;

	if (!r) {
		create_head(k, buf);
		r = blk_co_pwrite(file, 0, buf, VHDX_REGIONS_OFF + 2 * VHDX_REGIONS_LEN);
		memset(buf, 0, VHDX_MB);
	}
	if (!r && !vhdx_meta_build(buf, k->c->size, k->block_size, k->is_fixed, k->parent, k->linkage))
		return err_set(err, -EINVAL, "the name of the parent image is too long, or not UTF-8");
	if (!r)
		r = blk_co_pwrite(file, VHDX_MB + k->log_len, buf, VHDX_META_TABLE_LEN + VHDX_LOCATOR_MAX);
	if (!r && k->is_fixed)
		r = create_table(k);
	if (!r)
		r = blk_co_truncate(file, k->data_off, BLK_PREALLOC_OFF, err);
	if (!r && k->is_fixed)
		r = blk_co_truncate(file, k->data_off + k->n_blocks * k->block_size,
				    p == BLK_PREALLOC_METADATA ? BLK_PREALLOC_OFF : p, err);
	return r < 0 ? err_wrap(err, r, "cannot write '%s'", k->c->args->path) : 0;
}

static int create_look_at_parent(struct create *k, struct blk_creating *c, struct err *err)
{
	const struct blk_create *a = c->args;
	const char *slash = strrchr(a->path, '/');
	size_t n = slash ? (size_t)(slash - a->path) + 1 : 0;
	struct blk *parent = NULL;

	if (strcmp(a->backing_format, "vhdx"))
		return err_set(err, -EINVAL, "the parent of a VHDX image is a VHDX image");
	k->parent = a->backing[0] == '/' && n && !strncmp(a->backing, a->path, n) ? a->backing + n : a->backing;
	if (k->parent[0] == '/')
		return err_set(err, -EINVAL, "a VHDX image names its parent relative to its own folder");
	int r = blk_co_open_beside(c, a->backing, "vhdx", &parent, err);

	if (r < 0)
		return err_wrap(err, r, "parent image");
	memcpy(k->linkage, ((const struct vhdx *)parent->priv)->header.data_write_guid, 16);
	blk_co_close(parent);
	return 0;
}

int vhdx_co_create(struct blk_creating *c, struct err *err)
{
	struct create k = { .c = c };
	int r = create_layout(&k, err);

	if (!r && c->args->backing)
		r = create_look_at_parent(&k, c, err);
	return r ? r : create_write(&k, err);
}

int vhdx_measure(const struct blk_creating *c, struct blk_layout *out, struct err *err)
{
	struct create k = { .c = c };
	int r = create_layout(&k, err);

	*out = (struct blk_layout){ .size = c->size, .unit = k.block_size, .each = k.is_fixed ? 0 : k.block_size,
				    .fixed = k.data_off + (k.is_fixed ? k.n_blocks * k.block_size : 0) };
	return r;
}
