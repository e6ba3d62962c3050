/* SPDX-License-Identifier: Apache-2.0 */
/* vdi.c - VirtualBox's disk image: opening, entries, checking.
 *
 * Blocks stand in a row behind data_off and are numbered; the header counts them. Who allocates by that count
 * (QEMU does) must not find a used block behind it, so blocks are never given up, the count goes to the file
 * before the entries, and holes that a power cut leaves are closed by repairing. */
#include "blk/vdi/vdi_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include "blk/vdi/vdi.h"

static int vdi_probe(const struct blk_probe *p)
{
	return p->head_len >= VDI_HEADER_LEN && get_le32(p->head + 64) == VDI_SIGNATURE ? 100 : 0;
}

/* --- entries ---------------------------------------------------------------------------------- */

static bool vdi_decode(const struct bat *t, const uint8_t *raw, struct bat_entry *e)
{
	uint32_t v = get_le32(raw);

	if (v >= VDI_ZERO) {
		e->kind = v == VDI_FREE ? BAT_NONE : BAT_ZERO;
		return true;
	}
	const struct vdi *s = container_of(t, const struct vdi, t);

	e->kind = BAT_DATA;
	e->host = t->data_off + (uint64_t)v * t->block_size;
	/* A full image whose map is being moved (grow.c) counts some more. */
	return v < t->n_slots || v < le32_get(s->h.n_allocated);
}

static void vdi_encode(const struct bat *t, const struct bat_entry *e, uint8_t *raw)
{
	put_le32(raw, e->kind == BAT_DATA ? (uint32_t)((e->host - t->data_off) / t->block_size) :
		      e->kind == BAT_ZERO ? VDI_ZERO : VDI_FREE);
}

int vdi_write_header(struct vdi *s)
{
	return blk_co_pwrite(s->t.file, 0, &s->h, sizeof(s->h));
}

/* The parent images of others know this one by uuid_modify: it changes when the image does. */
static int vdi_prepare(struct bat *t)
{
	struct vdi *s = container_of(t, struct vdi, t);

	if (!s->has_new_identity)
		bat_uuid_make(s->h.uuid_modify);
	s->has_new_identity = true;
	return vdi_write_header(s);
}

static int vdi_commit(struct bat *t, struct bat_write *w, unsigned n)
{
	struct vdi *s = container_of(t, struct vdi, t);
	uint32_t count = (uint32_t)((t->alloc_end - t->data_off) / t->block_size);
	int r = 0;

	if (count != le32_get(s->h.n_allocated)) {
		s->h.n_allocated = le32_of(count);
		r = vdi_write_header(s);
	}
	return r || !n ? r : bat_commit(t, w, n);
}

static const struct bat_format vdi_format = {
	.entry_size = 4, .is_kept = true, .decode = vdi_decode, .encode = vdi_encode, .prepare = vdi_prepare,
	.commit = vdi_commit,
};

/* --- opening ---------------------------------------------------------------------------------- */

static int header_check_kind(const struct vdi_header *h, const char *name, struct err *err)
{
	uint32_t type = le32_get(h->type);

	if (le32_get(h->signature) != VDI_SIGNATURE)
		return err_set(err, -EINVAL, "'%s' is not a VDI image", name);
	if (le32_get(h->version) != VDI_VERSION)
		return err_set(err, -ENOTSUP, "'%s' is a VDI image of version %u.%u; 1.1 is known", name,
			       le32_get(h->version) >> 16, le32_get(h->version) & 0xffff);
	if (type == VDI_UNDO || type < VDI_DYNAMIC || type > VDI_DIFF)
		return err_set(err, -ENOTSUP, "'%s' is a VDI image of type %u%s; dynamic, fixed and differencing "
			       "ones are known",
			       name, type, type == VDI_UNDO ? " (undo)" : "");
	if (le32_get(h->block_extra))
		return err_set(err, -ENOTSUP, "'%s' has %u extra bytes per block, which is not known", name,
			       le32_get(h->block_extra));
	return 0;
}

int vdi_header_check(const struct vdi_header *h, const char *name, uint64_t file_size, struct err *err)
{
	uint64_t size = le64_get(h->disk_size), map = le32_get(h->map_off), data = le32_get(h->data_off);
	uint32_t block = le32_get(h->block_size), n = le32_get(h->n_blocks);
	int r = header_check_kind(h, name, err);

	if (r < 0)
		return r;
	if (!is_pow2(block) || block < 4096 || block > BAT_BLOCK_MAX)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: blocks of %u bytes", name, block);
	if (n > VDI_BLOCKS_MAX || size > (uint64_t)n * block)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: %u blocks for a disk of %" PRIu64 " bytes",
			       name, n, size);
	if (map < VDI_HEADER_LEN || map % BLK_SECTOR || map + (uint64_t)n * 4 > file_size)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: a block map at byte %" PRIu64
			       " does not fit into the file", name, map);
	if (data % BLK_SECTOR || data < VDI_HEADER_LEN || range_overlaps(map, (uint64_t)n * 4, data, INT64_MAX))
		return err_set(err, -EINVAL, "the header of '%s' is damaged: data at byte %" PRIu64
			       " lies over its block map", name, data);
	return 0;
}

static int open_parent(struct blk *b, struct vdi *s, struct err *err)
{
	if (s->type != VDI_DIFF || b->opening->has_no_backing || b->opening->backing)
		return 0;
	int r = vdi_find_parent(b, s->h.uuid_parent, &b->backing_name, err);

	if (r < 0)
		return r;
	b->backing_format = strdup("vdi");
	return b->backing_format ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int vdi_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	struct vdi *s = b->priv;
	struct bat *t = &s->t;
	int r = blk_co_pread(b->file, 0, &s->h, sizeof(s->h));

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", b->name, strerror(-r));
	r = vdi_header_check(&s->h, b->name, b->file->size, err);
	if (r < 0)
		return r;
	s->type = le32_get(s->h.type);
	if (s->type == VDI_DIFF && !b->is_readonly)
		return err_set(err, -EROFS, "'%s' is a differencing VDI image, which can only be read: open it with "
			       "readonly=on, or convert it", b->name);
	b->size = align_up(le64_get(s->h.disk_size), BLK_SECTOR);
	b->cluster_size = le32_get(s->h.block_size);
	b->can_discard = !b->is_readonly && b->file->can_discard;
	*t = (struct bat){
		.f = &vdi_format, .b = b, .file = b->file, .size = b->size, .block_size = b->cluster_size,
		.page_size = BAT_PAGE_MAX, .n_slots = le32_get(s->h.n_blocks), .table_off = le32_get(s->h.map_off),
		.data_off = le32_get(s->h.data_off), .stride = b->cluster_size, .unit = b->cluster_size,
		.has_no_holes = true, .cache_bytes = blk_opts_num(opts, "cache_size"),
	};
	t->alloc_end = t->data_off + (uint64_t)le32_get(s->h.n_allocated) * t->block_size;
	/* There are as many blocks as the disk has; then the image is full. */
	t->max_end = t->data_off + (uint64_t)le32_get(s->h.n_blocks) * t->block_size;
	r = bat_init(t, err);
	return r ? r : open_parent(b, s, err);
}

/* What a parent image must have been when this one was made. */
static int vdi_co_meet_backing(struct blk *b, struct err *err)
{
	static const uint8_t none[16];
	const struct vdi *s = b->priv;

	if (s->type != VDI_DIFF || b->backing->drv != &blk_vdi)
		return 0;
	const struct vdi *p = b->backing->priv;

	if (memcmp(p->h.uuid, s->h.uuid_parent, 16))
		return err_set(err, -EINVAL, "'%s' was not made over '%s': their identities differ", b->name,
			       b->backing->name);
	if (memcmp(s->h.uuid_parent_modify, none, 16) && memcmp(p->h.uuid_modify, s->h.uuid_parent_modify, 16))
		return err_set(err, -EINVAL, "'%s' has been changed since '%s' was made over it", b->backing->name,
			       b->name);
	return 0;
}

static void vdi_co_close(struct blk *b)
{
	struct vdi *s = b->priv;

	bat_close(&s->t, b);
}

/* --- checking --------------------------------------------------------------------------------- */

static int check_count(struct vdi *s, struct bat_checking *c)
{
	uint64_t count = le32_get(s->h.n_allocated);
	bool is_leak = count > c->n_data, is_fixing = c->fix & (is_leak ? BLK_FIX_LEAKS : BLK_FIX_ERRORS);

	if (count == c->n_data)
		return 0;
	bat_finding(c->check, is_leak, is_leak ? count - c->n_data : 1, is_fixing,
		    "the header counts %" PRIu64 " blocks, %" PRIu64 " are used", count, c->n_data);
	if (!is_fixing)
		return 0;
	s->h.n_allocated = le32_of((uint32_t)c->n_data);
	int r = vdi_write_header(s);

	return r ? r : blk_co_flush(s->t.file);
}

static int vdi_co_check(struct blk *b, unsigned fix, struct blk_check *check, struct err *err)
{
	struct vdi *s = b->priv;
	struct bat_checking c = { .check = check, .fix = fix };
	int r = bat_check(&s->t, &c, err);

	if (r < 0)
		return r;
	r = check_count(s, &c);
	return r < 0 ? err_set(err, r, "cannot write the header of '%s': %s", b->name, strerror(-r)) : 0;
}

static int vdi_co_info(struct blk *b, json_t *out, struct err *err)
{
	static const char *const types[] = { "", "dynamic", "fixed", "undo", "differencing" };
	const struct vdi *s = b->priv;
	char text[BAT_UUID_TEXT];

	json_object_set_new(out, "type", json_string(types[s->type]));
	json_object_set_new(out, "uuid", json_string(bat_uuid_text(s->h.uuid, text)));
	if (s->type == VDI_DIFF)
		json_object_set_new(out, "parent-uuid", json_string(bat_uuid_text(s->h.uuid_parent, text)));
	json_object_set_new(out, "allocated-blocks", json_integer(le32_get(s->h.n_allocated)));
	return 0;
}

const struct blk_driver blk_vdi = {
	.name = "vdi",
	.title = "VirtualBox's disk image: dynamic and fixed, differencing for reading",
	.priv_size = sizeof(struct vdi),
	.open_opts = bat_open_opts,
	.create_opts = vdi_create_opts,
	.probe = vdi_probe,
	.co_open = vdi_co_open,
	.co_meet_backing = vdi_co_meet_backing,
	.co_close = vdi_co_close,
	.try_map = bat_drv_try_map,
	.co_preadv = bat_drv_preadv,
	.co_pwritev = bat_drv_pwritev,
	.co_flush = bat_drv_flush,
	.co_discard = bat_drv_discard,
	.co_zeroes = bat_drv_zeroes,
	.co_map = bat_drv_map,
	.co_truncate = vdi_co_truncate,
	.co_check = vdi_co_check,
	.co_info = vdi_co_info,
	.co_create = vdi_co_create,
	.measure = vdi_measure,
};
