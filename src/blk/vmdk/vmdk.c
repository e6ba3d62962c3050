/* SPDX-License-Identifier: Apache-2.0 */
/* vmdk.c - VMware's disk images: opening, and what an image says about itself. */
#include "blk/vmdk/vmdk.h"
#include "blk/vmdk/vmdk_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char desc_magic[] = "# Disk DescriptorFile";

static int vmdk_probe(const struct blk_probe *p)
{
	if (p->head_len >= sizeof(desc_magic) && !strncasecmp((const char *)p->head, desc_magic,
							      sizeof(desc_magic) - 1))
		return 100;
	if (p->head_len < BLK_SECTOR)
		return 0;
	return get_le32(p->head) == VMDK_MAGIC || get_le32(p->head) == VMDK_COWD_MAGIC ? 100 : 0;
}

/* --- the descriptor --------------------------------------------------------------------------- */

static int desc_load(struct vmdk *s, uint64_t off, uint64_t len, struct err *err)
{
	struct blk *file = s->b->file;

	if (!len || len > VMDK_DESC_MAX || !range_fits(off, len, file->size))
		return err_set(err, -EINVAL, "the descriptor of '%s' has %" PRIu64 " bytes at %" PRIu64 ", which "
			       "cannot be",
			       file->name, len, off);
	s->desc = calloc(1, len + 1);
	int r = s->desc ? blk_co_pread(file, off, s->desc, len) : -ENOMEM;

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", file->name, strerror(-r));
	s->desc_off = off;
	s->desc_max = len;
	return vmdk_desc_parse(s, err);
}

/* --- extents ---------------------------------------------------------------------------------- */

static struct vmdk_extent *extent_add(struct vmdk *s, enum vmdk_kind kind, struct blk *file)
{
	struct vmdk_extent *x = &s->ext[s->n_ext++];

	*x = (struct vmdk_extent){ .kind = kind, .file = file };
	x->t.b = s->b;
	x->t.base = s->b->size;
	x->t.arg = x;
	return x;
}

static int extent_flat(struct vmdk *s, struct vmdk_extent *x, const struct vmdk_line *line, struct err *err)
{
	uint64_t off = vmdk_bytes(line->off), len = line->sectors * BLK_SECTOR;

	x->t.is_flat = true;
	x->t.f = &vmdk_flat_format;
	x->t.file = x->file;
	x->t.size = len;
	x->t.data_off = off;
	if (x->file && !range_fits(off, len, x->file->size))
		return err_set(err, -EINVAL, "'%s' has %" PRIu64 " bytes, and '%s' wants %" PRIu64 " at %" PRIu64,
			       x->file->name, x->file->size, s->b->name, len, off);
	return bat_init(&x->t, err);
}

static int extent_sparse(struct vmdk *s, struct vmdk_extent *x, const struct vmdk_line *line, struct err *err)
{
	struct vmdk_header h;
	int r = blk_co_pread(x->file, 0, &h, sizeof(h));

	if (!r && le32_get(h.magic) != VMDK_MAGIC)
		r = -EINVAL;
	if (r < 0)
		return err_set(err, r, "'%s', an extent of '%s', is not a sparse one", x->file->name, s->b->name);
	r = vmdk_sparse_footer(s, x->file, &h, err);
	return r ? r : vmdk_sparse_open(s, x, &h, err);
}

/* The last one may have grown before the descriptor could (grow_split.c): what is behind its line is not of the disk. */
static void extent_shorten(struct vmdk_extent *x, uint64_t size)
{
	struct bat *t = &x->t;

	t->size = size;
	t->n_blocks = (size + t->block_size - 1) / t->block_size;
}

static int extent_open(struct vmdk *s, const struct vmdk_line *line, bool is_last, struct err *err)
{
	struct blk *file = NULL;
	int r = 0;

	if (!s->b->is_readonly && (line->is_readonly || line->kind != VMDK_FLAT) && line->kind != VMDK_SPARSE)
		return err_set(err, -EROFS, "'%s' has an extent that can only be read: open it with readonly=on, or "
			       "convert it",
			       s->b->name);
	if (line->kind != VMDK_ZERO)
		r = blk_co_open_extra(s->b, line->name, NULL, &file, err);
	if (r < 0)
		return err_wrap(err, r, "extent of '%s'", s->b->name);
	struct vmdk_extent *x = extent_add(s, line->kind, file);

	switch (line->kind) {
	case VMDK_FLAT:
	case VMDK_ZERO:
		r = extent_flat(s, x, line, err);
		break;
	case VMDK_SPARSE:
		r = extent_sparse(s, x, line, err);
		break;
	case VMDK_COWD:
		r = vmdk_cowd_open(s, x, err);
		break;
	case VMDK_SE:
		r = vmdk_se_open(s, x, err);
	}
	if (!r && is_last && x->kind == VMDK_SPARSE && x->t.size > line->sectors * BLK_SECTOR)
		extent_shorten(x, line->sectors * BLK_SECTOR);
	if (!r && x->t.size != line->sectors * BLK_SECTOR)
		r = err_set(err, -EINVAL, "'%s' says that '%s' has %" PRIu64 " sectors, and that says %" PRIu64,
			    s->b->name,
			    line->name, line->sectors, x->t.size / BLK_SECTOR);
	return r;
}

int vmdk_extent_over(struct vmdk *s, struct blk *file, uint64_t base, const struct vmdk_line *line, struct err *err)
{
	struct vmdk_extent *x = extent_add(s, line->kind, file);

	x->t.base = base;
	return line->kind == VMDK_FLAT ? extent_flat(s, x, line, err) : extent_sparse(s, x, line, err);
}

/* How many extents the descriptor has, all lines being right. */
static int extents_count(struct vmdk *s, uint32_t *n, struct err *err)
{
	struct vmdk_line *line = malloc(sizeof(*line));
	const char *at = s->desc;
	uint64_t size = 0;
	int r = line ? 1 : err_set(err, -ENOMEM, "out of memory");

	*n = 0;
	while (r > 0 && (r = vmdk_desc_extent(s, &at, line, err)) > 0) {
		if (++*n > VMDK_EXTENTS_MAX || !u64_add(size, line->sectors * BLK_SECTOR, &size) || size > INT64_MAX)
			r = err_set(err, -EINVAL, "the descriptor of '%s' is damaged: too many or too large extents",
				    s->b->name);
	}
	free(line);
	if (!r && !*n)
		r = err_set(err, -EINVAL, "the descriptor of '%s' has no extents", s->b->name);
	return r;
}

static int extents_alloc(struct vmdk *s, uint32_t n, struct err *err)
{
	s->ext = calloc(n, sizeof(*s->ext));
	s->cache_bytes /= n;
	return s->ext ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* A descriptor in a file of its own. */
static int open_descriptor(struct vmdk *s, struct err *err)
{
	AUTO(free) struct vmdk_line *line = malloc(sizeof(*line));
	uint32_t n = 0;
	int r = line ? desc_load(s, 0, s->b->file->size, err) : err_set(err, -ENOMEM, "out of memory");

	if (!r && strncasecmp(s->desc, desc_magic, sizeof(desc_magic) - 1))
		r = err_set(err, -EINVAL, "'%s' is not a VMDK image", s->b->name);
	if (!r)
		r = extents_count(s, &n, err);
	if (!r)
		r = extents_alloc(s, n, err);
	const char *at = s->desc;

	while (!r && s->n_ext < n) {
		r = vmdk_desc_extent(s, &at, line, err);
		r = r > 0 ? extent_open(s, line, s->n_ext == n - 1, err) : r;
		if (!r)
			s->b->size += s->ext[s->n_ext - 1].t.size;
	}
	return r;
}

/* A sparse extent with its descriptor inside. */
static int open_monolithic(struct vmdk *s, struct vmdk_header *h, struct err *err)
{
	uint64_t off = le64_get(h->desc_off), len = le64_get(h->desc_size);
	uint32_t n = 0;

	if (!off || !len)
		return err_set(err, -EINVAL, "'%s' is a part of a VMDK image; open the descriptor that names it",
			       s->b->name);
	int r = desc_load(s, vmdk_bytes(off), vmdk_bytes(len), err);

	if (!r)
		r = extents_count(s, &n, err);
	if (!r && n != 1)
		r = err_set(err, -EINVAL, "'%s' has a descriptor inside and names %u extents", s->b->name, n);
	if (!r)
		r = vmdk_sparse_footer(s, s->b->file, h, err);
	if (!r)
		r = extents_alloc(s, 1, err);
	if (!r)
		r = vmdk_sparse_open(s, extent_add(s, VMDK_SPARSE, s->b->file), h, err);
	if (!r)
		s->b->size = s->ext[0].t.size;
	return r;
}

static int open_cowd(struct vmdk *s, struct err *err)
{
	if (!s->b->is_readonly)
		return err_set(err, -EROFS, "'%s' is a COWD extent, which can only be read: open it with readonly=on",
			       s->b->name);
	int r = extents_alloc(s, 1, err);

	s->parent_cid = VMDK_NO_PARENT;
	if (!r)
		r = vmdk_cowd_open(s, extent_add(s, VMDK_COWD, s->b->file), err);
	if (!r)
		s->b->size = s->ext[0].t.size;
	return r;
}

static int open_parent(struct vmdk *s, struct err *err)
{
	struct blk *b = s->b;

	if (s->parent_cid == VMDK_NO_PARENT)
		return 0;
	if (!s->parent)
		return err_set(err, -EINVAL, "'%s' was made over another image and does not say which", b->name);
	b->backing_name = strdup(s->parent);
	b->backing_format = strdup("vmdk");
	return b->backing_name && b->backing_format ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int vmdk_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	struct vmdk *s = b->priv;
	struct vmdk_header h = { .pad = { 0 } };
	int r = blk_co_pread(b->file, 0, &h, b->file->size < sizeof(h) ? (size_t)b->file->size : sizeof(h));

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", b->name, strerror(-r));
	s->b = b;
	s->cache_bytes = blk_opts_num(opts, "cache_size");
	if (le32_get(h.magic) == VMDK_MAGIC)
		r = open_monolithic(s, &h, err);
	else if (le32_get(h.magic) == VMDK_COWD_MAGIC)
		r = open_cowd(s, err);
	else
		r = open_descriptor(s, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < s->n_ext; i++)
		if (s->ext[i].t.block_size > b->cluster_size)
			b->cluster_size = s->ext[i].t.block_size;
	b->can_discard = !b->is_readonly && s->ext[0].file && s->ext[0].file->can_discard;
	return open_parent(s, err);
}

/* Is the parent another one than this image was made over? A commit that was cut has changed its CID and nothing else:
 * that is noted here then. */
static int vmdk_co_meet_backing(struct blk *b, struct err *err)
{
	struct vmdk *s = b->priv;
	const struct vmdk *p = b->backing->priv;

	if (b->backing->drv != &blk_vmdk || s->parent_cid == VMDK_NO_PARENT || p->cid == s->parent_cid)
		return 0;
	if (p->cid != vmdk_committed_cid(s))
		return err_set(err, -EINVAL, "'%s' has been changed since '%s' was made over it: its CID is %08x, not %08x",
			       b->backing->name, b->name, p->cid, s->parent_cid);
	int r = b->is_readonly ? 0 : vmdk_set_parent_cid(s, p->cid);

	if (!r)
		r = blk_co_flush(b->file);
	return r < 0 ? err_set(err, r, "cannot write '%s': %s", b->name, strerror(-r)) : 0;
}

/* This image gets a CID that no other one over the same parent has; the parent one that follows from it; then it is
 * written down here. Each is durable before the next. */
static int vmdk_co_adopt_backing(struct blk *b, struct err *err)
{
	struct vmdk *s = b->priv, *p = b->backing->priv;

	if (b->backing->drv != &blk_vmdk || s->parent_cid == VMDK_NO_PARENT)
		return 0;
	int r = vmdk_has_parent_cid(s) ? vmdk_new_cid(s, 0) : -ENOTSUP;

	if (!r)
		r = blk_co_flush(b->file);
	if (!r)
		r = vmdk_new_cid(p, vmdk_committed_cid(s));
	if (!r)
		r = blk_co_flush(b->backing->file);
	if (!r && p->cid != s->parent_cid)
		r = vmdk_set_parent_cid(s, p->cid);
	if (!r)
		r = blk_co_flush(b->file);
	return r < 0 ? err_set(err, r, "cannot note in '%s' that '%s' is going to change: %s", b->name, b->backing->name,
			       strerror(-r)) : 0;
}

static void vmdk_co_close(struct blk *b)
{
	struct vmdk *s = b->priv;

	for (uint32_t i = 0; i < s->n_ext; i++)
		vmdk_sparse_close(s, &s->ext[i]);
	free(s->ext);
	free(s->desc);
	free(s->parent);
}

/* --- telling ---------------------------------------------------------------------------------- */

static int vmdk_co_check(struct blk *b, unsigned fix, struct blk_check *check, struct err *err)
{
	struct vmdk *s = b->priv;
	int r = 0;

	for (uint32_t i = 0; !r && i < s->n_ext; i++)
		if (!s->ext[i].t.is_flat)
			r = vmdk_sparse_check(s, &s->ext[i], fix, check, err);
	return r;
}

static json_t *info_extent(const struct vmdk_extent *x)
{
	static const char *const kinds[] = { "FLAT", "ZERO", "SPARSE", "VMFSSPARSE", "SESPARSE" };
	json_t *o = json_object();

	json_object_set_new(o, "type", json_string(kinds[x->kind]));
	json_object_set_new(o, "virtual-size", json_integer((json_int_t)x->t.size));
	if (x->file)
		json_object_set_new(o, "filename", json_string(x->file->name));
	if (x->t.block_size)
		json_object_set_new(o, "cluster-size", json_integer(x->t.block_size));
	if (x->flags & VMDK_FLAG_COMPRESSED)
		json_object_set_new(o, "compressed", json_true());
	if (x->is_unclean)
		json_object_set_new(o, "unclean", json_true());
	return o;
}

static int vmdk_co_info(struct blk *b, json_t *out, struct err *err)
{
	const struct vmdk *s = b->priv;
	json_t *list = json_array();

	json_object_set_new(out, "create-type", json_string(s->type[0] ? s->type : "vmfsSparse"));
	json_object_set_new(out, "cid", json_integer(s->cid));
	json_object_set_new(out, "parent-cid", json_integer(s->parent_cid));
	for (uint32_t i = 0; i < s->n_ext; i++)
		json_array_append_new(list, info_extent(&s->ext[i]));
	json_object_set_new(out, "extents", list);
	return 0;
}

const struct blk_driver blk_vmdk = {
	.name = "vmdk",
	.title = "VMware's disk image: sparse, flat, split, streamOptimized; ESXi's sparse ones for reading",
	.flags = BLK_DRIVER_BACKING,
	.priv_size = sizeof(struct vmdk),
	.open_opts = bat_open_opts,
	.create_opts = vmdk_create_opts,
	.probe = vmdk_probe,
	.co_open = vmdk_co_open,
	.co_meet_backing = vmdk_co_meet_backing,
	.co_adopt_backing = vmdk_co_adopt_backing,
	.co_close = vmdk_co_close,
	.try_map = vmdk_try_map,
	.co_preadv = vmdk_co_preadv,
	.co_pwritev = vmdk_co_pwritev,
	.co_pwritev_compressed = vmdk_co_pwritev_compressed,
	.co_flush = vmdk_co_flush,
	.co_discard = vmdk_co_discard,
	.co_zeroes = vmdk_co_zeroes,
	.co_map = vmdk_co_map,
	.co_truncate = vmdk_co_truncate,
	.co_check = vmdk_co_check,
	.co_info = vmdk_co_info,
	.co_create = vmdk_co_create,
	.measure = vmdk_measure,
};
