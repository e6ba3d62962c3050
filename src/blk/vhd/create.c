/* SPDX-License-Identifier: Apache-2.0 */
/* create.c - new VHD images, and growing them. */
#include "blk/vhd/vhd.h"
#include "blk/vhd/vhd_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CREATE_CHUNK = 64 << 10 };

static const char *const create_types[] = { "dynamic", "fixed", NULL };
static const char *const create_preallocs[] = { "off", "metadata", "falloc", "full", NULL };
const struct blk_opt vhd_create_opts[] = {
	{ "subformat", BLK_OPT_CHOICE, "dynamic", "dynamic or fixed", 0, 0, create_types },
	{ "force_size", BLK_OPT_BOOL, "on", "the size counts; off: rounded up to what cylinders, heads and sectors "
	  "make", 0, 0,
	  NULL },
	{ "block_size", BLK_OPT_SIZE, "2M", "unit of allocation, a power of two", 4096, 64 << 20, NULL },
	{ "preallocation", BLK_OPT_CHOICE, "off", "of fixed images: off (holes), falloc (reserved), full (zeroes "
	  "written)", 0, 0,
	  create_preallocs },
	{ .name = NULL },
};

static void create_footer(struct vhd_footer *f, uint64_t size, uint32_t type, bool is_forced)
{
	uint16_t cylinders;

	*f = (struct vhd_footer){
		.cookie = { 'c', 'o', 'n', 'e', 'c', 't', 'i', 'x' }, .features = be32_of(2),
		.version = be32_of(0x10000),
		.data_off = be64_of(type == VHD_FIXED ? VHD_NO_DATA : VHD_FOOTER_LEN),
		.timestamp = be32_of((uint32_t)(time(NULL) - VHD_EPOCH)), .creator_version = be32_of(0x50003),
		.creator_os = { 'W', 'i', '2', 'k' }, .original_size = be64_of(size), .current_size = be64_of(size),
		.type = be32_of(type),
	};
	/* The marks by which readers tell which size is meant. */
	memcpy(f->creator, is_forced ? "qem2" : "qemu", 4);
	vhd_geometry(size / BLK_SECTOR, &cylinders, &f->heads, &f->sectors);
	f->cylinders = be16_of(cylinders);
	bat_uuid_make(f->uuid);
	vhd_footer_seal(f);
}

/* The least size of at least SIZE that a geometry makes. */
static uint64_t create_round(uint64_t size)
{
	uint64_t sectors = size / BLK_SECTOR, chs = 0;

	for (uint64_t i = 0; i < 1 << 17 && chs < sectors; i++) {
		uint16_t c;
		uint8_t h, s;

		vhd_geometry(sectors + i, &c, &h, &s);
		chs = (uint64_t)c * h * s;
	}
	return chs < sectors ? size : chs * BLK_SECTOR;
}

static int create_fixed(struct blk_creating *c, const struct vhd_footer *f, struct err *err)
{
	enum blk_prealloc p = (enum blk_prealloc)blk_opts_num(c->opts, "preallocation");
	uint64_t size = be64_get(f->current_size);
	int r = blk_co_truncate(c->file, size, p == BLK_PREALLOC_METADATA ? BLK_PREALLOC_OFF : p, err);

	if (r < 0)
		return r;
	r = blk_co_pwrite(c->file, size, f, sizeof(*f));
	return r < 0 ? err_set(err, r, "cannot write '%s': %s", c->args->path, strerror(-r)) : 0;
}

/* Entries from FROM to TO: free. */
static int create_table(struct blk *file, uint64_t off, uint64_t from, uint64_t to)
{
	AUTO(free) uint8_t *buf = malloc(CREATE_CHUNK);
	int r = buf ? 0 : -ENOMEM;

	if (buf)
		memset(buf, 0xff, CREATE_CHUNK);
	for (uint64_t at = off + from * 4, end = off + to * 4, n; !r && at < end; at += n) {
		n = end - at < CREATE_CHUNK ? end - at : CREATE_CHUNK;
		r = blk_co_pwrite(file, at, buf, n);
	}
	return r;
}

/* The name of the parent relative to the folder of the image; NULL: it is elsewhere. */
static const char *create_parent_name(const struct blk_create *a)
{
	const char *slash = strrchr(a->path, '/');
	size_t n = slash ? (size_t)(slash - a->path) + 1 : 0;

	if (a->backing[0] != '/')
		return a->backing;
	return n && !strncmp(a->backing, a->path, n) ? a->backing + n : NULL;
}

/* Footer | header | table | place of the locator | footer. */
static int create_dynamic(struct blk_creating *c, const struct vhd_footer *f, const struct vhd_footer *parent,
			  struct err *err)
{
	uint32_t block = (uint32_t)blk_opts_num(c->opts, "block_size");
	uint64_t size = be64_get(f->current_size), n = size / block + (size % block != 0);
	uint64_t table = VHD_FOOTER_LEN + VHD_HEADER_LEN, locator_off = table, locator_len = 0;
	AUTO(free) uint8_t *locator = calloc(1, VHD_LOCATOR_MAX);
	struct vhd_header h = {
		.cookie = { 'c', 'x', 's', 'p', 'a', 'r', 's', 'e' }, .data_off = be64_of(UINT64_MAX),
		.version = be32_of(0x10000), .n_entries = be32_of((uint32_t)n), .block_size = be32_of(block),
	};
	int r = locator ? 0 : -ENOMEM;

	if (!r && parent) {
		uint32_t len = 0;

		r = vhd_parent_set(&h, parent, create_parent_name(c->args), locator_off, locator, &len);
		locator_len = VHD_LOCATOR_MAX;
		table += locator_len;
	}
	h.table_off = be64_of(table);
	vhd_header_seal(&h);
	if (!r)
		r = blk_co_pwrite(c->file, 0, f, sizeof(*f));
	if (!r)
		r = blk_co_pwrite(c->file, VHD_FOOTER_LEN, &h, sizeof(h));
	if (!r && locator_len)
		r = blk_co_pwrite(c->file, locator_off, locator, locator_len);
	/* To the end of its sector, and of the page behind it: room to grow. */
	if (!r)
		r = create_table(c->file, table, 0, align_up(n * 4, BLK_SECTOR) / 4);
	if (!r)
		r = blk_co_pwrite(c->file, vhd_table_end(table, n), f, sizeof(*f));
	return r < 0 ? err_set(err, r, "cannot write '%s': %s", c->args->path, strerror(-r)) : 0;
}

static int create_parent(struct blk_creating *c, struct vhd_footer *out, struct err *err)
{
	struct blk *parent = NULL;

	if (strcmp(c->args->backing_format, "vpc"))
		return err_set(err, -EINVAL, "the parent of a VHD image is a VHD image (vpc)");
	if (!create_parent_name(c->args) || strlen(c->args->backing) > 1000)
		return err_set(err, -EINVAL, "a VHD image names its parent relative to its own folder");
	int r = blk_co_open_beside(c, c->args->backing, "vpc", &parent, err);

	if (r < 0)
		return err_wrap(err, r, "parent image");
	*out = ((const struct vhd *)parent->priv)->footer;
	blk_co_close(parent);
	return 0;
}

/* What is asked for can be made; how large the disk is then. */
static int create_check(const struct blk_creating *c, uint64_t *size, struct err *err)
{
	bool is_fixed = blk_opts_num(c->opts, "subformat") == 1;
	uint64_t block = blk_opts_num(c->opts, "block_size");

	*size = blk_opts_num(c->opts, "force_size") ? c->size : create_round(c->size);
	if (*size > VHD_SIZE_MAX)
		return err_set(err, -EFBIG, "a VHD image is at most 2040 GiB large; VHDX can be larger");
	if (!is_pow2(block))
		return err_set(err, -EINVAL, "block_size is a power of two");
	if (is_fixed && c->args->backing)
		return err_set(err, -EINVAL, "a fixed VHD image cannot have a parent image");
	if (!is_fixed && blk_opts_num(c->opts, "preallocation"))
		return err_set(err, -EINVAL, "preallocation is for fixed images");
	if (!is_fixed && *size > VHD_ENTRIES_MAX * block)
		return err_set(err, -EFBIG, "a disk of %" PRIu64 " bytes needs larger blocks than %" PRIu64 " bytes",
			       *size, block);
	return 0;
}

int vhd_measure(const struct blk_creating *c, struct blk_layout *out, struct err *err)
{
	bool is_fixed = blk_opts_num(c->opts, "subformat") == 1;
	uint64_t block = blk_opts_num(c->opts, "block_size"), size;
	int r = create_check(c, &size, err);

	if (r < 0)
		return r;
	uint64_t table_end = vhd_table_end(VHD_FOOTER_LEN + VHD_HEADER_LEN, size / block + (size % block != 0));

	*out = (struct blk_layout){ .size = size, .unit = block,
				    .each = is_fixed ? 0 : block + vhd_bitmap_len((uint32_t)block),
				    .fixed = (is_fixed ? size : table_end) + VHD_FOOTER_LEN };
	return 0;
}

int vhd_co_create(struct blk_creating *c, struct err *err)
{
	bool is_fixed = blk_opts_num(c->opts, "subformat") == 1, is_forced = blk_opts_num(c->opts, "force_size");
	struct vhd_footer f, parent;
	uint64_t size;
	int r = create_check(c, &size, err);

	if (!r && c->args->backing)
		r = create_parent(c, &parent, err);
	if (r < 0)
		return r;
	create_footer(&f, size, is_fixed ? VHD_FIXED : c->args->backing ? VHD_DIFF : VHD_DYNAMIC, is_forced);
	return is_fixed ? create_fixed(c, &f, err) : create_dynamic(c, &f, c->args->backing ? &parent : NULL, err);
}

/* --- growing ---------------------------------------------------------------------------------- */

static void grow_footer(struct vhd *s, uint64_t size)
{
	uint16_t cylinders;

	s->footer.current_size = be64_of(size);
	memcpy(s->footer.creator, "qem2", 4);
	vhd_geometry(size / BLK_SECTOR, &cylinders, &s->footer.heads, &s->footer.sectors);
	s->footer.cylinders = be16_of(cylinders);
	vhd_footer_seal(&s->footer);
}

/* There is a footer at the new end before the one at the old end goes. */
static int grow_fixed(struct vhd *s, uint64_t size, enum blk_prealloc prealloc)
{
	struct blk *file = s->t.file;
	uint64_t old = s->t.size, old_footer = file->size - VHD_FOOTER_LEN;
	int r = blk_co_truncate(file, size + VHD_FOOTER_LEN, prealloc, NULL);

	grow_footer(s, size);
	if (!r)
		r = blk_co_pwrite(file, size, &s->footer, sizeof(s->footer));
	if (!r)
		r = blk_co_flush(file);
	if (!r && old_footer < size)
		r = blk_co_zeroes(file, old_footer,
				  size - old_footer < VHD_FOOTER_LEN ? size - old_footer : VHD_FOOTER_LEN,
				  false);
	if (!r && old_footer > old)
		r = blk_co_zeroes(file, old, old_footer - old, false);
	return r;
}

/* Blocks that stand where the table will, go; entries; then the header has them, then the footers the size. */
static int grow_dynamic(struct vhd *s, uint64_t size, uint64_t n)
{
	struct bat *t = &s->t;
	uint64_t end = vhd_table_end(t->table_off, n), old = t->size, edge = old % t->block_size;
	int r = end > t->data_off ? bat_make_room(t, end) : 0;

	if (!r && edge) {
		t->size = old - edge + t->block_size;
		r = bat_zeroes(t, old, t->size - old, false);
		t->size = old;
	}
	if (!r)
		r = bat_flush(t);
	if (!r && end > t->data_off) {
		t->data_off = end;
		t->alloc_end = t->alloc_end > end ? t->alloc_end : end;
		r = vhd_write_end(s);
	}
	if (!r)
		r = create_table(t->file, t->table_off, t->n_slots, align_up(n * 4, BLK_SECTOR) / 4);
	if (!r)
		r = blk_co_flush(t->file);
	if (r < 0)
		return r;
	s->header.n_entries = be32_of((uint32_t)n);
	vhd_header_seal(&s->header);
	r = blk_co_pwrite(t->file, s->header_off, &s->header, sizeof(s->header));
	if (!r)
		r = blk_co_flush(t->file);
	grow_footer(s, size);
	if (!r)
		r = blk_co_pwrite(t->file, 0, &s->footer, sizeof(s->footer));
	if (!r)
		r = vhd_write_end(s);
	bat_pages_drop(t);
	t->n_slots = n;
	t->n_blocks = size / t->block_size + (size % t->block_size != 0);
	return r;
}

static int grow_check(const struct vhd *s, uint64_t size, uint64_t n, struct err *err)
{
	const struct bat *t = &s->t;
	const char *name = t->b->name;

	if (size < t->size)
		return err_set(err, -ENOTSUP, "a VHD image can grow, not shrink: '%s'", name);
	if (size > VHD_SIZE_MAX || n > VHD_ENTRIES_MAX)
		return err_set(err, -EFBIG, "a VHD image is at most 2040 GiB large; VHDX can be larger");
	for (unsigned i = 0; i < t->n_used; i++)
		if (t->used[i].off >= t->table_off && t->used[i].off < vhd_table_end(t->table_off, n))
			return err_set(err, -ENOTSUP, "the table of '%s' cannot grow: the name of its parent is "
				       "behind it", name);
	if (s->type != VHD_FIXED && s->header_off > t->table_off && s->header_off < vhd_table_end(t->table_off, n))
		return err_set(err, -ENOTSUP, "the table of '%s' cannot grow: its header is behind it", name);
	return 0;
}

int vhd_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct vhd *s = b->priv;
	struct bat *t = &s->t;
	uint64_t n = s->type == VHD_FIXED ? 0 : size / t->block_size + (size % t->block_size != 0);
	struct blk_range range;
	int r;

	n = n > t->n_slots ? n : t->n_slots;
	r = grow_check(s, size, n, err);
	if (r < 0)
		return r;
	blk_drain_begin(b, &range);
	r = bat_prepare(t);
	if (!r)
		r = s->type == VHD_FIXED ? grow_fixed(s, size, prealloc) : grow_dynamic(s, size, n);
	if (!r)
		t->size = b->size = size;
	if (!r && prealloc != BLK_PREALLOC_OFF && s->type == VHD_DYNAMIC)
		r = bat_preallocate(t, 0, size, prealloc);
	blk_drain_end(b, &range);
	return r < 0 ? err_set(err, r, "cannot grow '%s': %s", b->name, strerror(-r)) : 0;
}
