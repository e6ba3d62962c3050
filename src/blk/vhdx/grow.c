/* SPDX-License-Identifier: Apache-2.0 */
/* grow.c - a larger VHDX disk.
 *
 * Entries first, then the size, which stands in the metadata and goes through the log. Where the region of the table is
 * too small, all of a larger table is written behind the blocks and made durable; one entry of the log then has both
 * region tables and the size (2.2.3: the region tables change through the log), so a cut leaves the old disk or the new
 * one. The old region is space that nothing uses, which new blocks fill. */
#include "blk/vhdx/vhdx_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	TABLE_CHUNK = 64 << 10,
	REGION_PAGES = VHDX_REGIONS_LEN / VHDX_LOG_SECTOR,
	SWITCH_PAGES = 2 * REGION_PAGES + 2,    /* both region tables; the size, which may stand in two pages */
};

/* What new entries of payload blocks are: nothing of a parent shows there. */
static struct bat_entry entry_fresh(const struct vhdx *s)
{
	return (struct bat_entry){ .kind = s->has_parent ? BAT_ZERO : BAT_NONE };
}

/* What the last block has behind the old end of the disk is zero. */
static int clear_edge(struct bat *t)
{
	uint64_t old = t->size, edge = old % t->block_size;
	int r = 0;

	if (edge) {
		t->size = old - edge + t->block_size;
		r = bat_zeroes(t, old, t->size - old, false);
		t->size = old;
	}
	return r ? r : bat_flush(t);
}

/* --- a table with room ------------------------------------------------------------------------ */

static int grow_in_place(struct vhdx *s, uint64_t size, uint64_t n)
{
	struct bat *t = &s->t;
	struct bat_entry fresh = entry_fresh(s);
	uint8_t raw[8];
	int r = 0;

	bat_pages_drop(t);
	t->n_slots = align_up(vhdx_n_entries(n, s->chunk, s->has_parent), BAT_PAGE_MAX / 8);
	for (uint64_t block = t->n_blocks; !r && block < n; block++)
		r = bat_entry_set(t, block, &fresh);
	if (!r)
		r = bat_flush(t);
	put_le64(raw, size);
	return r ? r : vhdx_meta_write(s, s->meta_off + s->size_item, raw, sizeof(raw));
}

/* --- a table elsewhere ------------------------------------------------------------------------ */

/* Entry SLOT of the new table. */
static int table_entry(struct vhdx *s, uint64_t slot, uint64_t n_old, uint8_t *raw)
{
	struct bat *t = &s->t;
	bool is_bits = slot % (s->chunk + 1) == s->chunk;
	uint64_t block = slot - slot / (s->chunk + 1);
	struct bat_entry fresh = entry_fresh(s);

	memset(raw, 0, 8);
	if (slot < n_old && (is_bits || block < t->n_blocks))
		return bat_raw_get(t, slot, raw);
	if (!is_bits)
		t->f->encode(t, &fresh, raw);
	return 0;
}

/* All entries, and the rest of the region, at OFF. */
static int table_write(struct vhdx *s, uint64_t off, uint64_t len)
{
	uint64_t n_old = vhdx_n_entries(s->t.n_blocks, s->chunk, s->has_parent);
	AUTO(free) uint8_t *buf = malloc(TABLE_CHUNK);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0; !r && at < len; at += TABLE_CHUNK) {
		for (uint64_t i = 0; !r && i < TABLE_CHUNK / 8; i++)
			r = table_entry(s, at / 8 + i, n_old, buf + i * 8);
		if (!r)
			r = blk_co_pwrite(s->t.file, off + at, buf, TABLE_CHUNK);
	}
	return r;
}

/* Both region tables name the table at OFF, and the disk has SIZE bytes: at one moment. */
static int table_switch(struct vhdx *s, uint64_t off, uint32_t len, uint64_t size)
{
	AUTO(free) uint8_t *buf = malloc(VHDX_REGIONS_LEN + 2 * VHDX_LOG_SECTOR);
	struct bat_write w[SWITCH_PAGES];
	uint64_t size_at = s->meta_off + s->size_item, page = size_at / VHDX_LOG_SECTOR * VHDX_LOG_SECTOR;
	int r = buf ? vhdx_regions_move_bat(s, off, len, buf) : -ENOMEM;

	uint8_t *item = buf + VHDX_REGIONS_LEN;

	if (!r)
		r = blk_co_pread(s->t.file, page, item, 2 * VHDX_LOG_SECTOR);
	if (r < 0)
		return r;
	put_le64(item + (size_at - page), size);
	for (unsigned i = 0; i < 2 * REGION_PAGES; i++)
		w[i] = (struct bat_write){ .off = VHDX_REGIONS_OFF + (uint64_t)i * VHDX_LOG_SECTOR,
					   .data = buf + (size_t)(i % REGION_PAGES) * VHDX_LOG_SECTOR };
	w[SWITCH_PAGES - 2] = (struct bat_write){ .off = page, .data = item };
	w[SWITCH_PAGES - 1] = (struct bat_write){ .off = page + VHDX_LOG_SECTOR, .data = item + VHDX_LOG_SECTOR };
	co_mutex_lock(&s->t.commit_lock);
	r = vhdx_log_write(s, w, size_at - page > VHDX_LOG_SECTOR - 8 ? SWITCH_PAGES : SWITCH_PAGES - 1);
	if (!r)
		r = blk_co_flush(s->t.file);
	co_mutex_unlock(&s->t.commit_lock);
	/* Which of the two the file has now is not known: nothing may be written by either. */
	return r ? bat_damaged(&s->t, "the log with the larger table could not be written: %s", strerror(-r)) : 0;
}

static int grow_elsewhere(struct vhdx *s, uint64_t size, uint64_t n)
{
	struct bat *t = &s->t;
	uint64_t entries = vhdx_n_entries(n, s->chunk, s->has_parent), off = t->alloc_end;
	uint64_t len = align_up(entries * 8, VHDX_MB);
	int r = table_write(s, off, len);

	if (!r && t->file->size < off + len)
		r = blk_co_truncate(t->file, off + len, BLK_PREALLOC_OFF, NULL);
	if (!r)
		r = blk_co_flush(t->file);
	if (!r)
		r = table_switch(s, off, (uint32_t)len, size);
	if (r < 0)
		return r;
	bat_pages_drop(t);
	s->bat_off = t->table_off = off;
	s->bat_len = (uint32_t)len;
	s->used[0] = (struct bat_used){ off, len };
	t->n_slots = align_up(entries, BAT_PAGE_MAX / 8);
	t->alloc_end = off + len;
	return 0;
}

/* --- both ------------------------------------------------------------------------------------- */

static int grow(struct vhdx *s, uint64_t size)
{
	struct bat *t = &s->t;
	uint64_t n = size / t->block_size + (size % t->block_size != 0);
	bool has_room = vhdx_n_entries(n, s->chunk, s->has_parent) * 8 <= s->bat_len;
	int r = bat_prepare(t);

	if (!r)
		r = clear_edge(t);
	if (!r)
		r = has_room ? grow_in_place(s, size, n) : grow_elsewhere(s, size, n);
	if (r < 0)
		return r;
	t->n_blocks = n;
	t->size = t->b->size = size;
	return 0;
}

int vhdx_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct vhdx *s = b->priv;
	struct bat *t = &s->t;
	uint64_t old = b->size;
	struct blk_range range;

	if (size < b->size)
		return err_set(err, -ENOTSUP, "a VHDX image can grow, not shrink: '%s'", b->name);
	if (size % s->sector_size)
		return err_set(err, -EINVAL, "'%s' has sectors of %u bytes", b->name, s->sector_size);
	if (size > VHDX_SIZE_MAX)
		return err_set(err, -EFBIG, "a VHDX image is at most 64 TiB large");
	blk_drain_begin(b, &range);
	int r = grow(s, size);

	if (!r && (prealloc != BLK_PREALLOC_OFF || s->leaves_blocks))
		r = bat_preallocate(t, old, size - old, prealloc);
	blk_drain_end(b, &range);
	return r < 0 ? err_set(err, r, "cannot grow '%s': %s", b->name, strerror(-r)) : 0;
}
