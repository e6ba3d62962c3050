/* SPDX-License-Identifier: Apache-2.0 */
/* grow.c - a larger disk: more grain tables, or a longer flat extent.
 *
 * All that is new is written behind what the image has and made durable. Then one sector makes the image the larger
 * one: the header of a sparse extent, which has the number of sectors and the places of the directories, or the
 * descriptor of a flat one. A cut before leaves the old image and a longer file. The descriptor inside a sparse extent
 * is written before the header; nobody goes by its number of sectors, and growing again sets it right. */
#include "blk/vmdk/vmdk_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* What takes the place of the directories: entries and bytes. */
struct grown {
	uint32_t n_gd, *gd, *rgd;
	uint64_t gd_off, rgd_off, end;
};

/* --- sparse extents --------------------------------------------------------------------------- */

/* OLD with more entries, at byte *AT, and empty tables for them behind it. *AT goes to the end of those. */
static int directory_write(const struct vmdk_extent *x, const uint32_t *old, uint32_t n, uint64_t *at, uint32_t **out)
{
	uint64_t len = align_up((uint64_t)n * 4, BLK_SECTOR), tables = *at + len;
	uint64_t tables_len = (uint64_t)(n - x->n_gd) * x->gt_bytes;
	AUTO(free) uint8_t *raw = calloc(1, len);
	uint32_t *gd = calloc(n, sizeof(*gd));

	*out = gd;
	if (!raw || !gd)
		return -ENOMEM;
	if (tables + tables_len > x->t.max_end)
		return -EFBIG;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t table = tables + (uint64_t)(i - x->n_gd) * x->gt_bytes;

		gd[i] = i < x->n_gd ? old[i] : (uint32_t)(table / BLK_SECTOR);
		put_le32(raw + (size_t)i * 4, gd[i]);
	}
	int r = blk_co_pwrite(x->file, *at, raw, len);

	*at = tables + tables_len;
	return r ? r : blk_co_zeroes(x->file, tables, tables_len, false);
}

/* The directories of G, behind everything; durable. */
static int directories_write(const struct vmdk_extent *x, struct grown *g)
{
	uint64_t at = x->t.alloc_end;
	int r = 0;

	g->rgd_off = x->rgd ? at : 0;
	if (x->rgd)
		r = directory_write(x, x->rgd, g->n_gd, &at, &g->rgd);
	g->gd_off = at;
	if (!r)
		r = directory_write(x, x->gd, g->n_gd, &at, &g->gd);
	g->end = at;
	if (!r && x->file->size < at)
		r = blk_co_truncate(x->file, at, BLK_PREALLOC_OFF, NULL);
	return r ? r : blk_co_flush(x->file);
}

/* Nothing is where the disk will be and is not: in the rest of its last grain, and in entries behind the last one. */
static int sparse_clear(struct vmdk_extent *x, uint64_t n_blocks)
{
	struct bat *t = &x->t;
	uint64_t old = t->size, edge = old % t->block_size, per_table = x->gt_bytes / 4;
	int r = 0;

	if (edge) {
		t->size = old - edge + t->block_size;
		r = bat_zeroes(t, old, t->size - old, false);
		t->size = old;
	}
	for (uint64_t block = t->n_blocks; !r && block < n_blocks && block < t->n_slots; block++)
		if (x->gd[block / per_table])
			r = bat_entry_set(t, block, &(struct bat_entry){ .kind = BAT_NONE });
	if (!r)
		r = bat_flush(t);
	return r ? r : blk_co_flush(x->file);
}

static int header_write(const struct vmdk_extent *x, uint64_t size, const struct grown *g)
{
	struct vmdk_header h;
	int r = blk_co_pread(x->file, 0, &h, sizeof(h));

	if (r < 0)
		return r;
	h.capacity = le64_of(size / BLK_SECTOR);
	h.gd_off = le64_of(g->gd_off / BLK_SECTOR);
	if (x->rgd)
		h.rgd_off = le64_of(g->rgd_off / BLK_SECTOR);
	r = blk_co_pwrite(x->file, 0, &h, sizeof(h));
	return r ? r : blk_co_flush(x->file);
}

/* Which of the two headers the file has now is not known: nothing may be written by the old one. */
static int header_failed(struct vmdk_extent *x, int r)
{
	bat_damaged(&x->t, "the header with the larger size could not be written: %s", strerror(-r));
	return r;
}

/* The file has it: so has the memory. */
static void sparse_take(struct vmdk_extent *x, struct grown *g, uint64_t size)
{
	struct bat *t = &x->t;

	bat_pages_drop(t);
	if (g->gd) {
		free(x->gd);
		free(x->rgd);
		x->gd = take_ptr(&g->gd);
		x->rgd = take_ptr(&g->rgd);
		x->n_gd = g->n_gd;
		t->alloc_end = g->end;
		t->unit = 0;            /* as for a table among the grains (sparse.c) */
	}
	x->gd_off = g->gd_off;
	x->rgd_off = g->rgd_off;
	t->n_slots = (uint64_t)x->n_gd * (x->gt_bytes / 4);
	t->n_blocks = size / t->block_size + (size % t->block_size != 0);
	t->size = size;
}

/* EDIT: of the descriptor inside; NULL: there is none. */
static int grow_sparse(struct vmdk *s, struct vmdk_extent *x, uint64_t size, const struct vmdk_edit *edit)
{
	uint64_t per_table = (uint64_t)x->t.block_size * (x->gt_bytes / 4);
	struct grown g = { .n_gd = (uint32_t)((size - 1) / per_table + 1), .gd_off = x->gd_off,
			   .rgd_off = x->rgd_off };
	int r = sparse_clear(x, size / x->t.block_size + (size % x->t.block_size != 0));

	if (!r && g.n_gd > x->n_gd)
		r = directories_write(x, &g);
	if (!r && edit)
		r = vmdk_desc_write(s, edit);
	if (!r) {
		r = header_write(x, size, &g);
		r = r < 0 ? header_failed(x, r) : 0;
	}
	if (!r)
		sparse_take(x, &g, size);
	free(g.gd);
	free(g.rgd);
	return r;
}

/* --- flat extents ----------------------------------------------------------------------------- */

static int grow_flat(struct vmdk *s, struct vmdk_extent *x, uint64_t size, enum blk_prealloc prealloc,
		     const struct vmdk_edit *edit)
{
	struct bat *t = &x->t;
	uint64_t old_end = t->data_off + t->size, end = t->data_off + size, there = t->file->size;
	int r = 0;

	there = there < end ? there : end;
	if (there > old_end)
		r = blk_co_zeroes(t->file, old_end, there - old_end, false);
	if (!r && t->file->size < end)
		r = blk_co_truncate(t->file, end, prealloc == BLK_PREALLOC_METADATA ? BLK_PREALLOC_OFF : prealloc,
				    NULL);
	if (!r)
		r = blk_co_flush(t->file);
	if (!r && edit)
		r = vmdk_desc_write(s, edit);
	if (!r)
		t->size = size;
	return r;
}

/* The descriptor follows (grow_split.c). */
int vmdk_last_grow(struct vmdk_extent *x, uint64_t size, enum blk_prealloc prealloc)
{
	struct vmdk *s = x->t.b->priv;

	if (size == x->t.size)
		return 0;
	return x->t.is_flat ? grow_flat(s, x, size, prealloc, NULL) : grow_sparse(s, x, size, NULL);
}

/* --- both ------------------------------------------------------------------------------------- */

static int grow_check_sparse(const struct vmdk_extent *x, uint64_t size, struct err *err)
{
	uint64_t per_table = (uint64_t)x->t.block_size * (x->gt_bytes / 4), n = (size - 1) / per_table + 1;
	uint64_t each = align_up(n * 4, BLK_SECTOR) + (n > x->n_gd ? n - x->n_gd : 0) * x->gt_bytes;

	if (n >= VMDK_GD_MAX || each * 2 > x->t.max_end || x->t.alloc_end > x->t.max_end - each * 2)
		return err_set(err, -EFBIG, "'%s' has no room for the tables of a disk of %" PRIu64 " bytes",
			       x->file->name, size);
	return 0;
}

static int grow_check(const struct vmdk *s, uint64_t size, struct err *err)
{
	const struct blk *b = s->b;
	const struct vmdk_extent *x = &s->ext[0];
	bool is_own = x->kind == VMDK_SPARSE && x->file == b->file;

	if (size < b->size)
		return err_set(err, -ENOTSUP, "a VMDK image can grow, not shrink: '%s'", b->name);
	if (s->is_stream)
		return err_set(err, -ENOTSUP, "'%s' is a streamOptimized VMDK image, which cannot grow; convert it",
			       b->name);
	if (b->backing_name && (!b->backing || b->backing->size > b->size))
		return err_set(err, -ENOTSUP, "'%s' cannot grow: its parent image is larger, and would show there",
			       b->name);
	return is_own ? grow_check_sparse(x, size, err) : 0;
}

/* One extent, and the descriptor can be edited where it stands. */
static int grow_one(struct vmdk *s, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct blk *b = s->b;
	struct bat *t = &s->ext[0].t;
	struct vmdk_edit edit = { .text = NULL };
	int r = bat_prepare(t);         /* writes another CID: before the edit is made */

	if (!r)
		r = vmdk_desc_edit(s, size / BLK_SECTOR, &edit);
	bool has_no_room = r == -ENOTSUP;

	if (!r)
		r = t->is_flat ? grow_flat(s, &s->ext[0], size, prealloc, &edit) : grow_sparse(s, &s->ext[0], size, &edit);
	if (!r)
		b->size = size;
	if (!r && prealloc != BLK_PREALLOC_OFF)
		r = bat_preallocate(t, 0, size, prealloc);
	free(edit.text);
	if (has_no_room)
		return err_set(err, r, "the descriptor of '%s' has no room for another number of sectors; convert it",
			       b->name);
	return r < 0 ? err_set(err, r, "cannot grow '%s': %s", b->name, strerror(-r)) : 0;
}

/* Disks in files of 2 GiB at most go on so; one file that has the descriptor beside it is a disk of one file. */
static bool is_split(const struct vmdk *s)
{
	return s->n_ext > 1 || !strncasecmp(s->type, "twoGb", 5) || (s->ext[0].kind != VMDK_FLAT && s->b->n_extra);
}

int vmdk_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct vmdk *s = b->priv;
	struct blk_range range;
	int r = grow_check(s, size, err);

	if (r < 0)
		return r;
	blk_drain_begin(b, &range);
	r = is_split(s) ? vmdk_split_truncate(s, size, prealloc, err) : grow_one(s, size, prealloc, err);
	blk_drain_end(b, &range);
	return r;
}
