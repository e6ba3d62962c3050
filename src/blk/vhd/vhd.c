/* SPDX-License-Identifier: Apache-2.0 */
/* vhd.c - Microsoft's first virtual hard disk: opening, entries, checking.
 *
 * Each block stands behind a bitmap of its sectors: what is not set comes from the parent image, or is zero. The
 * footer stands at the end and, but in fixed disks, in a copy at the beginning. New blocks go over the one at the
 * end; it is written anew behind them before the table refers to them. */
#include "blk/vhd/vhd.h"
#include "blk/vhd/vhd_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

static bool footer_is_fixed(const struct vhd_footer *f, uint64_t file_size)
{
	return vhd_footer_is_good(f) && be32_get(f->type) == VHD_FIXED &&
	       be64_get(f->current_size) == file_size - VHD_FOOTER_LEN;
}

/* The disk's own bytes stand at the beginning of a fixed one and may look like anything: this driver is the first in
 * the table, and sure only if all of the footer is right. */
static int vhd_probe(const struct blk_probe *p)
{
	struct vhd_footer f;

	if (p->head_len >= sizeof(f)) {
		memcpy(&f, p->head, sizeof(f));
		if (vhd_footer_is_good(&f) && be32_get(f.type) != VHD_FIXED)
			return 100;
	}
	if (p->tail_len < sizeof(f))
		return 0;
	memcpy(&f, p->tail, sizeof(f));
	return footer_is_fixed(&f, p->size) ? 100 : 0;
}

/* --- entries ---------------------------------------------------------------------------------- */

static bool vhd_decode(const struct bat *t, const uint8_t *raw, struct bat_entry *e)
{
	uint32_t v = get_be32(raw);

	if (v == VHD_FREE)
		return true;
	e->kind = BAT_PARTIAL;
	e->host = (uint64_t)v * BLK_SECTOR + t->lead;
	return true;
}

static void vhd_encode(const struct bat *t, const struct bat_entry *e, uint8_t *raw)
{
	put_be32(raw, e->kind == BAT_NONE ? VHD_FREE : (uint32_t)((e->host - t->lead) / BLK_SECTOR));
}

static uint64_t vhd_bits_at(struct bat *t, uint64_t block, const struct bat_entry *e)
{
	return e->host - t->lead;
}

int vhd_write_end(struct vhd *s)
{
	int r = blk_co_pwrite(s->t.file, s->t.alloc_end, &s->footer, sizeof(s->footer));

	s->footer_at = r ? 0 : s->t.alloc_end;
	return r;
}

static int vhd_commit(struct bat *t, struct bat_write *w, unsigned n)
{
	struct vhd *s = container_of(t, struct vhd, t);
	int r = bat_commit_grow(t);

	if (!r && s->footer_at != t->alloc_end)
		r = vhd_write_end(s);
	return r || !n ? r : bat_commit(t, w, n);
}

/* Children know this image by its UUID and the time of its last change. */
static int vhd_prepare(struct bat *t)
{
	struct vhd *s = container_of(t, struct vhd, t);

	if (s->type == VHD_FIXED || !s->is_copy_bad)
		return 0;
	s->is_copy_bad = false;
	return blk_co_pwrite(t->file, 0, &s->footer, sizeof(s->footer));
}

static const struct bat_format vhd_format = {
	.entry_size = 4, .is_msb_first = true, .decode = vhd_decode, .encode = vhd_encode, .bits_at = vhd_bits_at,
	.prepare = vhd_prepare, .commit = vhd_commit,
};

/* --- opening ---------------------------------------------------------------------------------- */

static int open_footer(struct blk *b, struct vhd *s, struct err *err)
{
	struct vhd_footer head, tail;
	uint64_t size = b->file->size;
	int r = size < sizeof(head) ? -EINVAL : blk_co_pread(b->file, 0, &head, sizeof(head));

	if (!r)
		r = blk_co_pread(b->file, size - sizeof(tail), &tail, sizeof(tail));
	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", b->name, strerror(-r));
	s->is_end_bad = !vhd_footer_is_good(&tail);
	s->is_copy_bad = !vhd_footer_is_good(&head) || be32_get(head.type) == VHD_FIXED;
	if (s->is_end_bad && s->is_copy_bad)
		return err_set(err, -EINVAL, "'%s' is not a VHD image, or both copies of its footer are damaged",
			       b->name);
	/* A fixed disk has no copy: what is at its beginning belongs to the guest. */
	s->footer = s->is_end_bad || (!s->is_copy_bad && be32_get(tail.type) != VHD_FIXED) ? head : tail;
	s->type = be32_get(s->footer.type);
	s->footer_at = s->is_end_bad ? 0 : size - sizeof(tail);
	if (be32_get(s->footer.version) >> 16 != 1)
		return err_set(err, -ENOTSUP, "'%s' is a VHD image of version %u.%u; 1.0 is known", b->name,
			       be32_get(s->footer.version) >> 16, be32_get(s->footer.version) & 0xffff);
	if (s->type < VHD_FIXED || s->type > VHD_DIFF)
		return err_set(err, -ENOTSUP, "'%s' is a VHD image of type %u; fixed, dynamic and differencing ones "
			       "are known",
			       b->name, s->type);
	return 0;
}

static int open_fixed(struct blk *b, struct vhd *s, struct err *err)
{
	uint64_t room = b->file->size - VHD_FOOTER_LEN;

	if (b->size > room)
		return err_set(err, -EINVAL, "'%s' is a disk of %" PRIu64 " bytes, and its file has %" PRIu64, b->name,
			       b->size,
			       room);
	b->file->may_grow = false;
	s->t.is_flat = true;
	s->t.size = b->size;
	return bat_init(&s->t, err);
}

/* What is in the file besides blocks: locators' texts. */
static void open_used(struct vhd *s)
{
	struct bat *t = &s->t;

	for (int i = 0; i < VHD_LOCATORS; i++) {
		const struct vhd_locator *l = &s->header.locator[i];
		uint64_t off = be64_get(l->off), len = be32_get(l->len);

		if (!get_be32(l->platform) || !len || len > VHD_LOCATOR_MAX || !range_fits(off, len, t->file->size))
			continue;
		s->used[t->n_used++] = (struct bat_used){ off, len };
	}
	t->used = s->used;
}

static int open_dynamic(struct blk *b, struct vhd *s, const struct blk_opts *opts, struct err *err)
{
	struct bat *t = &s->t;
	int r;

	s->header_off = be64_get(s->footer.data_off);
	if (s->header_off % BLK_SECTOR || s->header_off < VHD_FOOTER_LEN || s->header_off > INT64_MAX ||
	    !range_fits(s->header_off, VHD_HEADER_LEN, b->file->size))
		return err_set(err, -EINVAL, "the footer of '%s' is damaged: a header at byte %" PRIu64, b->name,
			       s->header_off);
	r = blk_co_pread(b->file, s->header_off, &s->header, sizeof(s->header));
	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", b->name, strerror(-r));
	r = vhd_header_check(s, err);
	if (r < 0)
		return r;
	uint64_t table = be64_get(s->header.table_off), n = be32_get(s->header.n_entries), end = vhd_table_end(table,
		n);
	uint64_t header_end = s->header_off + VHD_HEADER_LEN;

	t->size = b->size;
	t->block_size = be32_get(s->header.block_size);
	t->page_size = BAT_PAGE_MAX;
	t->bits_page = BLK_SECTOR;
	t->n_slots = n;
	t->table_off = table;
	t->data_off = end > header_end ? end : header_end;
	t->lead = vhd_bitmap_len(t->block_size);
	t->stride = t->unit = t->block_size + t->lead;
	t->tail = VHD_FOOTER_LEN;
	t->max_end = (uint64_t)VHD_FREE * BLK_SECTOR;
	t->alloc_end = align_up(b->file->size - (s->is_end_bad ? 0 : VHD_FOOTER_LEN), BLK_SECTOR);
	t->alloc_end = t->alloc_end < t->data_off ? t->data_off : t->alloc_end;
	t->cache_bytes = blk_opts_num(opts, "cache_size");
	b->cluster_size = t->block_size;
	open_used(s);
	return bat_init(t, err);
}

static int vhd_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	struct vhd *s = b->priv;

	s->t = (struct bat){ .f = &vhd_format, .b = b, .file = b->file };
	int r = open_footer(b, s, err);

	if (r < 0)
		return r;
	b->size = vhd_disk_size(&s->footer);
	if (!b->size || b->size > VHD_SIZE_MAX)
		return err_set(err, -EINVAL, "the footer of '%s' is damaged: a disk of %" PRIu64 " bytes", b->name,
			       b->size);
	b->can_discard = !b->is_readonly && b->file->can_discard;
	if (s->type == VHD_FIXED)
		return open_fixed(b, s, err);
	r = open_dynamic(b, s, opts, err);
	if (r < 0 || s->type != VHD_DIFF)
		return r;
	bool may_lack = b->opening->backing || b->opening->has_no_backing;

	r = vhd_parent_name(s, &b->backing_name, may_lack ? NULL : err);
	if (r < 0 && may_lack)
		r = (b->backing_name = strdup("?")) ? 0 : err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	b->backing_format = strdup("vpc");
	return b->backing_format ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int vhd_co_meet_backing(struct blk *b, struct err *err)
{
	const struct vhd *s = b->priv, *p = b->backing->priv;
	char want[BAT_UUID_TEXT], got[BAT_UUID_TEXT];

	if (s->type != VHD_DIFF || b->backing->drv != &blk_vhd || !memcmp(s->header.parent_uuid, p->footer.uuid, 16))
		return 0;
	return err_set(err, -EINVAL, "'%s' was made over the image %s, and '%s' is %s", b->name,
		       bat_uuid_text(s->header.parent_uuid, want), b->backing->name, bat_uuid_text(p->footer.uuid,
			       got));
}

static void vhd_co_close(struct blk *b)
{
	struct vhd *s = b->priv;

	bat_close(&s->t, b);
}

/* --- checking --------------------------------------------------------------------------------- */

static int check_footers(struct vhd *s, unsigned fix, struct blk_check *check)
{
	int r = 0;

	if (s->is_copy_bad && s->type != VHD_FIXED) {
		bat_finding(check, false, 1, fix & BLK_FIX_ERRORS, "the copy of the footer at the beginning is "
			    "damaged");
		if (fix & BLK_FIX_ERRORS) {
			r = blk_co_pwrite(s->t.file, 0, &s->footer, sizeof(s->footer));
			s->is_copy_bad = false;
		}
	}
	/* A power cut leaves this; the copy is what counts. */
	if (!r && s->is_end_bad && !s->footer_at) {
		bat_finding(check, true, 1, fix & BLK_FIX_LEAKS, "the footer at the end is missing");
		if (fix & BLK_FIX_LEAKS) {
			r = vhd_write_end(s);
			s->is_end_bad = !!r;
		}
	}
	return r;
}

static int vhd_co_check(struct blk *b, unsigned fix, struct blk_check *check, struct err *err)
{
	struct vhd *s = b->priv;
	struct bat_checking c = { .check = check, .fix = fix };
	int r = s->type == VHD_FIXED ? 0 : bat_check(&s->t, &c, err);

	if (r < 0)
		return r;
	if (s->type != VHD_FIXED && !s->footer_at && fix & BLK_FIX_LEAKS) {
		s->t.alloc_end = c.top;
		for (unsigned i = 0; i < s->t.n_used; i++)
			if (s->used[i].off + s->used[i].len > s->t.alloc_end)
				s->t.alloc_end = align_up(s->used[i].off + s->used[i].len, BLK_SECTOR);
		r = blk_co_truncate(b->file, s->t.alloc_end, BLK_PREALLOC_OFF, err);
		if (r < 0)
			return r;
	}
	r = check_footers(s, fix, check);
	if (!r && fix)
		r = blk_co_flush(b->file);
	return r < 0 ? err_set(err, r, "cannot repair '%s': %s", b->name, strerror(-r)) : 0;
}

static int vhd_co_info(struct blk *b, json_t *out, struct err *err)
{
	static const char *const types[] = { "", "", "fixed", "dynamic", "differencing" };
	const struct vhd *s = b->priv;
	char text[BAT_UUID_TEXT], creator[5] = "";

	for (int i = 0; i < 4; i++)
		creator[i] = s->footer.creator[i] >= ' ' && s->footer.creator[i] < 127 ? s->footer.creator[i] : '\0';
	json_object_set_new(out, "type", json_string(types[s->type]));
	json_object_set_new(out, "creator", json_string(creator));
	json_object_set_new(out, "uuid", json_string(bat_uuid_text(s->footer.uuid, text)));
	json_object_set_new(out, "size-in-footer", json_integer((json_int_t)be64_get(s->footer.current_size)));
	if (s->type == VHD_DIFF)
		json_object_set_new(out, "parent-uuid", json_string(bat_uuid_text(s->header.parent_uuid, text)));
	return 0;
}

const struct blk_driver blk_vhd = {
	.name = "vpc",
	.title = "Microsoft's VHD: fixed, dynamic and differencing",
	.flags = BLK_DRIVER_BACKING,
	.priv_size = sizeof(struct vhd),
	.open_opts = bat_open_opts,
	.create_opts = vhd_create_opts,
	.probe = vhd_probe,
	.co_open = vhd_co_open,
	.co_meet_backing = vhd_co_meet_backing,
	.co_close = vhd_co_close,
	.try_map = bat_drv_try_map,
	.co_preadv = bat_drv_preadv,
	.co_pwritev = bat_drv_pwritev,
	.co_flush = bat_drv_flush,
	.co_discard = bat_drv_discard,
	.co_zeroes = bat_drv_zeroes,
	.co_map = bat_drv_map,
	.co_truncate = vhd_co_truncate,
	.co_check = vhd_co_check,
	.co_info = vhd_co_info,
	.co_create = vhd_co_create,
	.measure = vhd_measure,
};
