/* SPDX-License-Identifier: Apache-2.0 */
/* vhdx.c - Microsoft's second virtual hard disk: opening, entries, checking.
 *
 * Changes of the table and of sector bitmaps go through the log. New blocks of a differencing image are filled from
 * the parent as a whole, so bitmaps are made by others only; those that are there are read and kept up. */
#include "blk/vhdx/vhdx.h"
#include "blk/vhdx/vhdx_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"

enum { STATE_MASK = 7, SB_PRESENT = 6 };
#define OFFSET_MASK 0xfffffffffff00000ull
#define RESERVED_MASK 0x00000000000ffff8ull

static int vhdx_probe(const struct blk_probe *p)
{
	return p->head_len >= 8 && !memcmp(p->head, "vhdxfile", 8) ? 100 : 0;
}

/* --- entries ---------------------------------------------------------------------------------- */

static bool vhdx_decode(const struct bat *t, const uint8_t *raw, struct bat_entry *e)
{
	const struct vhdx *s = container_of(t, struct vhdx, t);
	uint64_t v = get_le64(raw);

	e->host = v & OFFSET_MASK;
	switch (v & STATE_MASK) {
	case VHDX_NOT_PRESENT:
		return !(v & RESERVED_MASK);
	case VHDX_UNDEFINED:
	case VHDX_ZERO:
	case VHDX_UNMAPPED:
		e->kind = BAT_ZERO;
		return !(v & RESERVED_MASK);
	case VHDX_PRESENT:
		e->kind = BAT_DATA;
		break;
	case VHDX_PARTIAL:
		e->kind = BAT_PARTIAL;
		if (s->has_parent)
			break;
		return false;
	default:
		return false;
	}
	return !(v & RESERVED_MASK) && e->host <= (uint64_t)INT64_MAX - t->block_size &&
	       !range_overlaps(e->host, t->block_size, s->bat_off, s->bat_len) &&
	       !range_overlaps(e->host, t->block_size, s->meta_off, s->meta_len) &&
	       !range_overlaps(e->host, t->block_size, le64_get(s->header.log_off), le32_get(s->header.log_len));
}

static void vhdx_encode(const struct bat *t, const struct bat_entry *e, uint8_t *raw)
{
	uint64_t was = get_le64(raw) & STATE_MASK;

	put_le64(raw, e->kind == BAT_NONE ? VHDX_NOT_PRESENT : e->kind == BAT_ZERO ? VHDX_ZERO :
		      e->host | (e->kind == BAT_PARTIAL ? was : VHDX_PRESENT));
}

static uint64_t vhdx_slot(const struct bat *t, uint64_t block)
{
	return block + block / container_of(t, const struct vhdx, t)->chunk;
}

static uint64_t bits_slot(const struct vhdx *s, uint64_t chunk)
{
	return chunk * (s->chunk + 1) + s->chunk;
}

static uint64_t vhdx_bits_at(struct bat *t, uint64_t block, const struct bat_entry *e)
{
	const struct vhdx *s = container_of(t, struct vhdx, t);
	uint8_t raw[8];

	if (!bat_raw_peek(t, bits_slot(s, block / s->chunk), raw) || (get_le64(raw) & STATE_MASK) != SB_PRESENT)
		return 0;
	return (get_le64(raw) & OFFSET_MASK) + block % s->chunk * (t->block_size / BLK_SECTOR / 8);
}

static int vhdx_bits_load(struct bat *t, uint64_t block)
{
	const struct vhdx *s = container_of(t, struct vhdx, t);
	uint8_t raw[8];

	return bat_raw_get(t, bits_slot(s, block / s->chunk), raw);
}

/* The log is ours. */
static int log_begin(struct vhdx *s)
{
	bat_uuid_make(s->header.log_guid);
	s->log_sequence = s->log_sequence ? s->log_sequence : 1;
	s->log_at = 0;
	return vhdx_header_update(s);
}

/* All is in its place: the log is not needed. */
static int log_end(struct vhdx *s)
{
	memset(s->header.log_guid, 0, 16);
	return vhdx_header_update(s);
}

/* A session that writes: new identities, and the log. */
static int vhdx_prepare(struct bat *t)
{
	struct vhdx *s = container_of(t, struct vhdx, t);

	if (s->has_session)
		return 0;
	bat_uuid_make(s->header.file_write_guid);
	bat_uuid_make(s->header.data_write_guid);
	if (s->has_next_guid)
		memcpy(s->header.data_write_guid, s->next_guid, 16);
	int r = log_begin(s);

	s->has_session = !r;
	return r;
}

static int vhdx_commit(struct bat *t, struct bat_write *w, unsigned n)
{
	struct vhdx *s = container_of(t, struct vhdx, t);
	int r = bat_commit_grow(t);

	if (r < 0 || !n)
		return r;
	r = blk_co_flush(t->file);
	return r ? r : vhdx_log_write(s, w, n);
}

static const struct bat_format vhdx_format = {
	.entry_size = 8, .has_zero = true, .decode = vhdx_decode, .encode = vhdx_encode, .slot = vhdx_slot,
	.bits_at = vhdx_bits_at, .bits_load = vhdx_bits_load, .prepare = vhdx_prepare, .commit = vhdx_commit,
};
/* A fixed disk keeps its blocks. */
static const struct bat_format vhdx_fixed_format = {
	.entry_size = 8, .has_zero = true, .is_kept = true, .decode = vhdx_decode, .encode = vhdx_encode,
	.slot = vhdx_slot, .bits_at = vhdx_bits_at, .bits_load = vhdx_bits_load, .prepare = vhdx_prepare,
	.commit = vhdx_commit,
};

/* --- opening ---------------------------------------------------------------------------------- */

static int open_table(struct blk *b, struct vhdx *s, const struct blk_opts *opts, struct err *err)
{
	struct bat *t = &s->t;
	uint64_t n = b->size / t->block_size + (b->size % t->block_size != 0);
	uint64_t entries = vhdx_n_entries(n, s->chunk, s->has_parent);

	if (entries * 8 > s->bat_len)
		return err_set(err, -EINVAL, "the table of '%s' has %u bytes, which is not enough for a disk of "
			       "%" PRIu64,
			       b->name, s->bat_len, b->size);
	t->f = s->leaves_blocks ? &vhdx_fixed_format : &vhdx_format;
	t->file = b->file;
	t->size = b->size;
	t->page_size = t->bits_page = BAT_PAGE_MAX;
	t->n_slots = align_up(entries, BAT_PAGE_MAX / 8);
	t->table_off = s->bat_off;
	t->data_off = t->unit = VHDX_MB;
	t->stride = t->block_size;
	t->alloc_end = align_up(b->file->size, VHDX_MB);
	t->cache_bytes = blk_opts_num(opts, "cache_size");
	b->cluster_size = t->block_size;
	b->can_discard = !b->is_readonly && b->file->can_discard;
	return bat_init(t, err);
}

/* Blocks of sector bitmaps, as far as they can be, and the regions. */
static int open_used(struct vhdx *s, struct err *err)
{
	struct bat *t = &s->t;
	uint64_t n = s->has_parent ? (t->n_blocks + s->chunk - 1) / s->chunk : 0;

	s->used = calloc(n + 3, sizeof(*s->used));
	if (!s->used)
		return err_set(err, -ENOMEM, "out of memory");
	s->used[t->n_used++] = (struct bat_used){ s->bat_off, s->bat_len };
	s->used[t->n_used++] = (struct bat_used){ s->meta_off, s->meta_len };
	s->used[t->n_used++] = (struct bat_used){ le64_get(s->header.log_off), le32_get(s->header.log_len) };
	for (uint64_t i = 0; i < n; i++) {
		uint8_t raw[8];
		int r = bat_raw_get(t, bits_slot(s, i), raw);

		if (r < 0)
			return err_set(err, r, "cannot read the table of '%s': %s", t->b->name, strerror(-r));
		if ((get_le64(raw) & STATE_MASK) == SB_PRESENT &&
		    range_fits(get_le64(raw) & OFFSET_MASK, VHDX_MB, t->file->size))
			s->used[t->n_used++] = (struct bat_used){ get_le64(raw) & OFFSET_MASK, VHDX_MB };
	}
	t->used = s->used;
	return 0;
}

static int open_parent(struct blk *b, struct vhdx *s, struct err *err)
{
	if (!s->has_parent)
		return 0;
	if (!s->parent && !b->opening->backing && !b->opening->has_no_backing)
		return err_set(err, -EINVAL, "'%s' is a differencing image and does not say of what; say it with "
			       "backing=",
			       b->name);
	b->backing_name = strdup(s->parent ? s->parent : "?");
	b->backing_format = strdup("vhdx");
	return b->backing_name && b->backing_format ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int vhdx_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	struct vhdx *s = b->priv;
	uint8_t id[8];
	int r = blk_co_pread(b->file, 0, id, sizeof(id));

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", b->name, strerror(-r));
	if (memcmp(id, "vhdxfile", 8))
		return err_set(err, -EINVAL, "'%s' is not a VHDX image", b->name);
	s->t.b = b;
	r = vhdx_headers_load(s, err);
	if (!r)
		r = vhdx_log_replay(s, err);
	if (!r)
		r = vhdx_regions_load(s, err);
	if (!r)
		r = vhdx_meta_load(s, err);
	if (!r)
		r = open_table(b, s, opts, err);
	if (!r)
		r = open_used(s, err);
	return r ? r : open_parent(b, s, err);
}

/* What the identity of the parent's content becomes when this image is committed: made of the old one and of ours, and
 * not the old one again when it is committed once more. */
static void committed_guid(const struct vhdx *s, uint8_t guid[16])
{
	for (int i = 0; i < 16; i++)
		guid[i] = (uint8_t)(s->linkage[0][i] * 5 + s->header.data_write_guid[15 - i] + 1);
}

/* A commit that was cut has changed the parent's identity and nothing else: that is noted, and our own identity, from
 * which it follows, stays. */
static int finish_adoption(struct vhdx *s, const uint8_t guid[16])
{
	int r = s->linkage_at ? log_begin(s) : -ENOTSUP;

	if (!r)
		r = vhdx_meta_set_linkage(s, guid);
	return r ? r : log_end(s);
}

static int vhdx_co_meet_backing(struct blk *b, struct err *err)
{
	struct vhdx *s = b->priv;
	const struct vhdx *p = b->backing->priv;
	char want[BAT_UUID_TEXT], got[BAT_UUID_TEXT];
	uint8_t committed[16];

	if (!s->has_parent || b->backing->drv != &blk_vhdx ||
	    !memcmp(s->linkage[0], p->header.data_write_guid, 16) || !memcmp(s->linkage[1], p->header.data_write_guid,
									     16))
		return 0;
	committed_guid(s, committed);
	if (memcmp(committed, p->header.data_write_guid, 16))
		return err_set(err, -EINVAL, "'%s' has been changed since '%s' was made over it: its content is %s, not %s",
			       b->backing->name, b->name, bat_uuid_text(p->header.data_write_guid, got),
			       bat_uuid_text(s->linkage[0], want));
	int r = b->is_readonly ? 0 : finish_adoption(s, p->header.data_write_guid);

	return r < 0 ? err_set(err, r, "cannot write '%s': %s", b->name, strerror(-r)) : 0;
}

/* A session of this image gives it an identity that no other one over the same parent has; one of the parent gives that
 * the identity that follows from it; then it is written down here. Each is durable before the next. */
static int vhdx_co_adopt_backing(struct blk *b, struct err *err)
{
	struct vhdx *s = b->priv, *p = b->backing->priv;

	if (!s->has_parent || b->backing->drv != &blk_vhdx)
		return 0;
	int r = s->linkage_at ? bat_prepare(&s->t) : -ENOTSUP;

	if (!r) {
		committed_guid(s, p->next_guid);
		p->has_next_guid = true;
		r = bat_prepare(&p->t);
	}
	if (!r)
		r = vhdx_meta_set_linkage(s, p->header.data_write_guid);
	return r < 0 ? err_set(err, r, "cannot note in '%s' that '%s' is going to change: %s", b->name, b->backing->name,
			       strerror(-r)) : 0;
}

static int close_session(struct vhdx *s)
{
	int r = bat_trim(&s->t);

	if (!r)
		r = blk_co_flush(s->t.b->file);
	if (r < 0 || !s->has_session)
		return r;
	return log_end(s);
}

static void vhdx_co_close(struct blk *b)
{
	struct vhdx *s = b->priv;
	int r = b->is_open && !b->is_readonly && bat_is_clean(&s->t) ? close_session(s) : 0;

	if (r < 0)
		log_error("disk '%s': cannot write back on closing: %s", b->name, strerror(-r));
	bat_fini(&s->t);
	free(s->used);
	free(s->parent);
}

/* --- telling ---------------------------------------------------------------------------------- */

static int vhdx_co_check(struct blk *b, unsigned fix, struct blk_check *check, struct err *err)
{
	struct vhdx *s = b->priv;
	struct bat_checking c = { .check = check, .fix = fix };

	/* Opening has replayed it. */
	if (s->was_replayed)
		bat_finding(check, true, 1, true, "the log was replayed");
	s->was_replayed = false;
	return bat_check(&s->t, &c, err);
}

static int vhdx_co_info(struct blk *b, json_t *out, struct err *err)
{
	const struct vhdx *s = b->priv;
	char text[BAT_UUID_TEXT];

	json_object_set_new(out, "type",
			    json_string(s->has_parent ? "differencing" : s->leaves_blocks ? "fixed" : "dynamic"));
	json_object_set_new(out, "disk-id", json_string(bat_uuid_text(s->disk_id, text)));
	json_object_set_new(out, "data-write-guid", json_string(bat_uuid_text(s->header.data_write_guid, text)));
	json_object_set_new(out, "logical-sector-size", json_integer(s->sector_size));
	json_object_set_new(out, "physical-sector-size", json_integer(s->physical_size));
	json_object_set_new(out, "log-size", json_integer(le32_get(s->header.log_len)));
	return 0;
}

const struct blk_driver blk_vhdx = {
	.name = "vhdx",
	.title = "Microsoft's VHDX: fixed, dynamic and differencing, with a log",
	.flags = BLK_DRIVER_BACKING,
	.priv_size = sizeof(struct vhdx),
	.open_opts = bat_open_opts,
	.create_opts = vhdx_create_opts,
	.probe = vhdx_probe,
	.co_open = vhdx_co_open,
	.co_meet_backing = vhdx_co_meet_backing,
	.co_adopt_backing = vhdx_co_adopt_backing,
	.co_close = vhdx_co_close,
	.try_map = bat_drv_try_map,
	.co_preadv = bat_drv_preadv,
	.co_pwritev = bat_drv_pwritev,
	.co_flush = bat_drv_flush,
	.co_discard = bat_drv_discard,
	.co_zeroes = bat_drv_zeroes,
	.co_map = bat_drv_map,
	.co_truncate = vhdx_co_truncate,
	.co_check = vhdx_co_check,
	.co_info = vhdx_co_info,
	.co_create = vhdx_co_create,
	.measure = vhdx_measure,
};
