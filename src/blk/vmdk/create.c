/* SPDX-License-Identifier: Apache-2.0 */
/* create.c - new VMDK images: a descriptor and its extents. All grain tables are there from the beginning, behind the
 * directories, as VMware makes them: header | descriptor | second directory and tables | first ones | grains. */
#include "blk/vmdk/vmdk.h"
#include "blk/vmdk/vmdk_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
	CREATE_GRAIN = 128, CREATE_GTES = 512, CREATE_DESC_SECTORS = 20,
	CREATE_GT_SECTORS = CREATE_GTES * 4 / BLK_SECTOR,
	CREATE_GD_CHUNK = 64 << 10,
	CREATE_NAME_MAX = 256, CREATE_DESC_MEASURED = 1024, CREATE_LINE_MEASURED = 64,
};

enum create_type { MONO_SPARSE, MONO_FLAT, SPLIT_SPARSE, SPLIT_FLAT, STREAM, VMFS };
static const char *const create_types[] = { "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
					    "twoGbMaxExtentFlat", "streamOptimized", "vmfs", NULL };
static const char *const create_adapters[] = { "ide", "lsilogic", "buslogic", "legacyESX", NULL };
static const char *const create_preallocs[] = { "off", "metadata", "falloc", "full", NULL };
const struct blk_opt vmdk_create_opts[] = {
	{ "subformat", BLK_OPT_CHOICE, "monolithicSparse", "kind of extents", 0, 0, create_types },
	{ "adapter_type", BLK_OPT_CHOICE, "ide", "kind of controller that is written down", 0, 0, create_adapters },
	{ "hwversion", BLK_OPT_NUMBER, "4", "version of the virtual hardware that is written down", 1, 99, NULL },
	{ "compat6", BLK_OPT_BOOL, "off", "the same as hwversion=6", 0, 0, NULL },
	{ "zeroed_grain", BLK_OPT_BOOL, "off", "grains of zeroes need no space, even over a parent image", 0, 0, NULL },
	{ "preallocation", BLK_OPT_CHOICE, "off", "of flat extents: off (holes), falloc (reserved), full (zeroes "
	  "written)", 0, 0,
	  create_preallocs },
	{ .name = NULL },
};

struct create {
	struct blk_creating *c;
	enum create_type type;
	bool has_zero_grain;
	char base[CREATE_NAME_MAX];     /* name of the image without folder and ".vmdk"; "-1" follows for series 1 */
	uint32_t parent_cid;
	char *extents;                  /* their lines */
};

/* --- a sparse extent -------------------------------------------------------------------------- */

struct layout { uint64_t sectors, n_gts, gd_sectors, rgd, gd, overhead; };

static void layout_make(struct layout *l, uint64_t sectors, bool has_second)
{
	l->sectors = sectors;
	l->n_gts = (sectors + CREATE_GRAIN * CREATE_GTES - 1) / (CREATE_GRAIN * CREATE_GTES);
	l->gd_sectors = (l->n_gts * 4 + BLK_SECTOR - 1) / BLK_SECTOR;
	uint64_t each = l->gd_sectors + l->n_gts * CREATE_GT_SECTORS;

	l->rgd = 1 + CREATE_DESC_SECTORS;
	l->gd = has_second ? l->rgd + each : l->rgd;
	l->overhead = align_up(l->gd + each, CREATE_GRAIN);
}

static int layout_check(const struct layout *l, struct err *err)
{
	return l->overhead > UINT32_MAX || l->n_gts > VMDK_GD_MAX ?
	       err_set(err, -EFBIG, "a sparse VMDK extent cannot have %" PRIu64 " sectors", l->sectors) : 0;
}

/* The directory at sector GD, its tables following. */
static int write_directory(struct blk *file, uint64_t gd, const struct layout *l)
{
	AUTO(free) uint8_t *buf = calloc(1, CREATE_GD_CHUNK);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t i = 0, n; !r && i < l->n_gts; i += n) {
		n = l->n_gts - i < CREATE_GD_CHUNK / 4 ? l->n_gts - i : CREATE_GD_CHUNK / 4;
		for (uint64_t k = 0; k < n; k++)
			put_le32(buf + k * 4, (uint32_t)(gd + l->gd_sectors + (i + k) * CREATE_GT_SECTORS));
		r = blk_co_pwrite(file, gd * BLK_SECTOR + i * 4, buf, n * 4);
	}
	return r;
}

/* Of a disk of TYPE. */
static int create_sparse(struct blk *file, enum create_type type, uint64_t sectors, bool has_zero_grain, struct err *err)
{
	bool is_stream = type == STREAM, has_desc = type == STREAM || type == MONO_SPARSE;
	struct layout l;

	layout_make(&l, sectors, !is_stream);
	int r = layout_check(&l, err);

	if (r < 0)
		return r;
	struct vmdk_header h = {
		.magic = le32_of(VMDK_MAGIC), .version = le32_of(is_stream ? 3 : has_zero_grain ? 2 : 1),
		.flags = le32_of((uint32_t)VMDK_FLAG_NEWLINE | (has_zero_grain ? VMDK_FLAG_ZERO_GRAIN : 0u) |
				 (is_stream ? VMDK_FLAG_COMPRESSED | VMDK_FLAG_MARKERS : VMDK_FLAG_RGD)),
		.capacity = le64_of(sectors), .grain_size = le64_of(CREATE_GRAIN),
		.desc_off = le64_of(has_desc ? 1 : 0), .desc_size = le64_of(has_desc ? CREATE_DESC_SECTORS : 0),
		.gtes_per_gt = le32_of(CREATE_GTES), .rgd_off = le64_of(is_stream ? 0 : l.rgd), .gd_off = le64_of(l.gd),
		.overhead = le64_of(l.overhead), .newlines = { '\n', ' ', '\r', '\n' },
		.compression = le16_of(is_stream ? 1 : 0),
	};
	r = blk_co_pwrite(file, 0, &h, sizeof(h));
	if (!r)
		r = write_directory(file, l.gd, &l);
	if (!r && !is_stream)
		r = write_directory(file, l.rgd, &l);
	if (r < 0)
		return err_set(err, r, "cannot write '%s': %s", file->name, strerror(-r));
	return blk_co_truncate(file, l.overhead * BLK_SECTOR, BLK_PREALLOC_OFF, err);
}

int vmdk_create_sparse(struct blk *file, uint64_t sectors, bool has_zero_grain, struct err *err)
{
	return create_sparse(file, SPLIT_SPARSE, sectors, has_zero_grain, err);
}

/* --- extents ---------------------------------------------------------------------------------- */

static int add_line(struct create *k, const char *type, uint64_t sectors, const char *name, bool has_off)
{
	char *more = NULL;
	int n = asprintf(&more, "%sRW %" PRIu64 " %s \"%s\"%s\n", k->extents ? k->extents : "", sectors, type, name,
			 has_off ? " 0" : "");

	if (n < 0)
		return -ENOMEM;
	free(k->extents);
	k->extents = more;
	return 0;
}

/* Extent number I, of SECTORS, in a file of its own. */
static int create_extent(struct create *k, unsigned i, uint64_t sectors, struct err *err)
{
	bool is_flat = k->type != SPLIT_SPARSE, is_split = k->type == SPLIT_SPARSE || k->type == SPLIT_FLAT;
	enum blk_prealloc p = (enum blk_prealloc)blk_opts_num(k->c->opts, "preallocation");
	struct blk *file = NULL;
	char name[300];

	if (is_split)
		snprintf(name, sizeof(name), "%s-%c%03u.vmdk", k->base, is_flat ? 'f' : 's', i + 1);
	else
		snprintf(name, sizeof(name), "%s-flat.vmdk", k->base);
	int r = blk_co_create_file(k->c, name, &file, err);

	if (r < 0)
		return r;
	if (is_flat)
		r = blk_co_truncate(file, sectors * BLK_SECTOR, p == BLK_PREALLOC_METADATA ? BLK_PREALLOC_OFF : p, err);
	else
		r = create_sparse(file, k->type, sectors, k->has_zero_grain, err);
	if (!r && blk_co_flush(file) < 0)
		r = err_set(err, -EIO, "cannot write '%s'", name);
	blk_co_close(file);
	if (!r && add_line(k, k->type == VMFS ? "VMFS" : is_flat ? "FLAT" : "SPARSE", sectors, name,
			   is_flat && k->type != VMFS) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	return r;
}

/* Sectors of each extent but the last, and how many there are. */
static int count_extents(const struct blk_creating *c, enum create_type type, uint64_t *each, uint64_t *n,
			 struct err *err)
{
	uint64_t sectors = c->size / BLK_SECTOR;

	if (!sectors)
		return err_set(err, -EINVAL, "a VMDK image of no bytes cannot be");
	*each = type == SPLIT_SPARSE || type == SPLIT_FLAT ? VMDK_SPLIT_SECTORS : sectors;
	*n = (sectors - 1) / *each + 1;
	return *n > VMDK_EXTENTS_MAX ? err_set(err, -EFBIG, "a disk of %" PRIu64 " bytes has too many extents",
					       c->size) : 0;
}

static int create_extents(struct create *k, struct err *err)
{
	uint64_t left = k->c->size / BLK_SECTOR, each = left, n_extents = 0;
	int r = count_extents(k->c, k->type, &each, &n_extents, err);
	char name[300];

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%s.vmdk", k->base);
	if (k->type == MONO_SPARSE || k->type == STREAM)
		return add_line(k, "SPARSE", left, name, false) < 0 ? err_set(err, -ENOMEM, "out of memory") :
		       create_sparse(k->c->file, k->type, left, k->has_zero_grain, err);
	for (unsigned i = 0; !r && i < n_extents; i++) {
		uint64_t n = left < each ? left : each;

		r = create_extent(k, i, n, err);
		left -= n;
	}
	return r;
}

/* --- the descriptor --------------------------------------------------------------------------- */

static char *descriptor(const struct create *k)
{
	const struct blk_create *a = k->c->args;
	uint64_t adapter = blk_opts_num(k->c->opts, "adapter_type"), heads = adapter ? 255 : 16;
	uint32_t cid = 0;
	char hint[VMDK_NAME_MAX + 32] = "", *text = NULL;

	while (cid == 0 || cid >= 0xfffffffe)
		if (getrandom(&cid, sizeof(cid), 0) != sizeof(cid))
			cid = 0x12345678;
	if (a->backing)
		snprintf(hint, sizeof(hint), "parentFileNameHint=\"%s\"\n", a->backing);
	int n = asprintf(&text, "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\ncreateType=\"%s\"\n%s\n"
			 "# Extent description\n%s\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = "
			 "\"%" PRIu64 "\"\n"
			 "ddb.geometry.cylinders = \"%" PRIu64 "\"\nddb.geometry.heads = \"%" PRIu64 "\"\n"
			 "ddb.geometry.sectors = \"63\"\nddb.adapterType = \"%s\"\n",
			 cid, k->parent_cid, create_types[k->type], hint, k->extents,
			 blk_opts_num(k->c->opts, "compat6") ? 6 : blk_opts_num(k->c->opts, "hwversion"),
			 k->c->size / BLK_SECTOR / (heads * 63), heads, create_adapters[adapter]);

	return n < 0 ? NULL : text;
}

static int write_descriptor(const struct create *k, struct err *err)
{
	AUTO(free) char *text = descriptor(k);
	bool is_inside = k->type == MONO_SPARSE || k->type == STREAM;
	size_t len = text ? strlen(text) : 0;

	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	if (is_inside && len > CREATE_DESC_SECTORS * BLK_SECTOR)
		return err_set(err, -EINVAL, "the names in the descriptor are too long");
	int r = blk_co_pwrite(k->c->file, is_inside ? BLK_SECTOR : 0, text, len);

	return r < 0 ? err_set(err, r, "cannot write '%s': %s", k->c->args->path, strerror(-r)) : 0;
}

static int create_name(struct create *k, struct err *err)
{
	const struct blk_create *a = k->c->args;
	const char *path = a->final_path ? a->final_path : a->path, *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	size_t n = strlen(name);

	if (n > 5 && !strcmp(name + n - 5, ".vmdk"))
		n -= 5;
	if (!n || n >= sizeof(k->base) - 32 || memchr(name, '"', n) || memchr(name, '\n', n) || memchr(name, '\r', n))
		return err_set(err, -EINVAL, "'%s' cannot be named in a descriptor", path);
	memcpy(k->base, name, n);
	if (a->series)
		snprintf(k->base + n, sizeof(k->base) - n, "-%u", a->series);
	return 0;
}

static bool type_is_flat(enum create_type type)
{
	return type == MONO_FLAT || type == SPLIT_FLAT || type == VMFS;
}

static int create_check(const struct blk_creating *c, enum create_type type, struct err *err)
{
	const struct blk_create *a = c->args;
	bool is_flat = type_is_flat(type);

	if (a->backing && (is_flat || type == STREAM))
		return err_set(err, -EINVAL, "a VMDK image of type %s cannot have a parent image", create_types[type]);
	if (a->backing && strcmp(a->backing_format, "vmdk"))
		return err_set(err, -EINVAL, "the parent of a VMDK image is a VMDK image");
	if (a->backing && (strlen(a->backing) >= VMDK_NAME_MAX || strpbrk(a->backing, "\"\r\n")))
		return err_set(err, -EINVAL, "'%s' cannot be named in a descriptor", a->backing);
	if (blk_opts_num(c->opts, "zeroed_grain") && (is_flat || type == STREAM))
		return err_set(err, -EINVAL, "zeroed_grain is for sparse images");
	if (!is_flat && blk_opts_num(c->opts, "preallocation"))
		return err_set(err, -EINVAL, "preallocation is for flat images");
	return 0;
}

/* The CID that the content of the parent has now. */
static int create_look_at_parent(struct create *k, struct err *err)
{
	struct blk *parent = NULL;

	k->parent_cid = VMDK_NO_PARENT;
	if (!k->c->args->backing)
		return 0;
	int r = blk_co_open_beside(k->c, k->c->args->backing, "vmdk", &parent, err);

	if (r < 0)
		return err_wrap(err, r, "parent image");
	k->parent_cid = ((const struct vmdk *)parent->priv)->cid;
	blk_co_close(parent);
	return 0;
}

int vmdk_co_create(struct blk_creating *c, struct err *err)
{
	struct create k = { .c = c, .type = (enum create_type)blk_opts_num(c->opts, "subformat"),
			    .has_zero_grain = blk_opts_num(c->opts, "zeroed_grain") };
	int r = create_check(c, k.type, err);

	if (!r)
		r = create_name(&k, err);
	if (!r)
		r = create_look_at_parent(&k, err);
	if (!r)
		r = create_extents(&k, err);
	if (!r)
		r = write_descriptor(&k, err);
	free(k.extents);
	return r;
}

/* --- measuring -------------------------------------------------------------------------------- */

/* Of a descriptor in a file of its own, at most: its names are not known. */
static uint64_t measure_descriptor(enum create_type type, uint64_t n_extents)
{
	return type == MONO_SPARSE || type == STREAM ? 0 :
	       CREATE_DESC_MEASURED + n_extents * (CREATE_NAME_MAX + CREATE_LINE_MEASURED);
}

int vmdk_measure(const struct blk_creating *c, struct blk_layout *out, struct err *err)
{
	enum create_type type = (enum create_type)blk_opts_num(c->opts, "subformat");
	uint64_t each = 0, n = 0, sectors = c->size / BLK_SECTOR, grain = CREATE_GRAIN * BLK_SECTOR;
	struct layout one, last;
	int r = create_check(c, type, err);

	if (!r)
		r = count_extents(c, type, &each, &n, err);
	if (r < 0)
		return r;
	*out = (struct blk_layout){ .size = c->size, .unit = grain, .fixed = measure_descriptor(type, n) };
	if (type_is_flat(type)) {
		out->fixed += c->size;
		return 0;
	}
	layout_make(&one, each, type != STREAM);
	layout_make(&last, sectors - (n - 1) * each, type != STREAM);
	out->fixed += ((n - 1) * one.overhead + last.overhead) * BLK_SECTOR;
	out->each = type == STREAM ? vmdk_packed_max((uint32_t)grain) : grain;
	return layout_check(&one, err);
}
