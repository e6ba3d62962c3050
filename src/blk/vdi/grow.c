/* SPDX-License-Identifier: Apache-2.0 */
/* grow.c - a larger VDI disk.
 *
 * Where the map has room up to the data, new entries are written there and then the header has them. Else a new map is
 * written elsewhere: before the old one, where an earlier one was, or at the beginning of the data. Blocks that stand
 * there go behind the others first, one entry after the other as for any change; the new map then has all numbers less
 * the blocks that it took. One sector, the header, has the places of map and data, both counts and the size: a cut leaves
 * the old disk or the new one. Of a full image the blocks that have gone have numbers behind the last one meanwhile. */
#include "blk/vdi/vdi_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Where the map of N blocks will be, and how many blocks it takes the place of. */
struct grown { uint64_t n, map_off, shift; };

static void grown_place(const struct bat *t, struct grown *g)
{
	uint64_t len = g->n * 4;

	g->shift = 0;
	g->map_off = t->table_off;
	if (len <= t->data_off - t->table_off)
		return;
	g->map_off = VDI_HEADER_LEN;
	if (len <= t->table_off - VDI_HEADER_LEN)
		return;
	g->map_off = t->data_off;
	g->shift = (len + t->block_size - 1) / t->block_size;
}

/* What the last block has behind the old end of the disk is zero. */
static int clear_edge(struct bat *t)
{
	uint64_t old = t->size, edge = old % t->block_size ? t->block_size - old % t->block_size : 0;

	if (!edge)
		return 0;
	t->size = old + edge;
	int r = bat_zeroes(t, old, edge, false);

	t->size = old;
	return r;
}

/* The first blocks are elsewhere, durably. */
static int vacate(struct bat *t, const struct grown *g)
{
	t->max_end = 0;
	return bat_make_room(t, t->data_off + g->shift * t->block_size);
}

static int map_entry(struct bat *t, const struct grown *g, uint64_t block, uint8_t *out)
{
	put_le32(out, VDI_FREE);
	int r = block < t->n_blocks ? bat_raw_get(t, block, out) : 0;
	uint32_t v = get_le32(out);

	if (r < 0 || v >= VDI_ZERO)
		return r;
	put_le32(out, v - (uint32_t)g->shift);
	return v >= g->shift ? 0 : bat_damaged(t, "block %" PRIu64 " is where the map will be", block);
}

/* All entries at the new place. */
static int map_write(struct bat *t, const struct grown *g)
{
	AUTO(free) uint8_t *buf = malloc(VDI_MAP_CHUNK);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0, n; !r && at < g->n; at += n) {
		n = g->n - at < VDI_MAP_CHUNK / 4 ? g->n - at : VDI_MAP_CHUNK / 4;
		for (uint64_t i = 0; !r && i < n; i++)
			r = map_entry(t, g, at + i, buf + i * 4);
		if (!r)
			r = blk_co_pwrite(t->file, g->map_off + at * 4, buf, n * 4);
	}
	return r;
}

static int header_write(struct vdi *s, uint64_t size, const struct grown *g)
{
	const struct bat *t = &s->t;
	uint64_t data_off = t->data_off + g->shift * t->block_size;

	s->h.n_blocks = le32_of((uint32_t)g->n);
	s->h.disk_size = le64_of(size);
	s->h.map_off = le32_of((uint32_t)g->map_off);
	s->h.data_off = le32_of((uint32_t)data_off);
	s->h.n_allocated = le32_of((uint32_t)((t->alloc_end - data_off) / t->block_size));
	int r = vdi_write_header(s);

	return r ? r : blk_co_flush(t->file);
}

static int grow(struct vdi *s, uint64_t size, const struct grown *g)
{
	struct bat *t = &s->t;
	bool is_moving = g->map_off != t->table_off;
	int r = g->shift ? vacate(t, g) : 0;

	if (!r)
		r = clear_edge(t);
	if (!r)
		r = bat_flush(t);
	if (!r)
		r = is_moving ? map_write(t, g) : vdi_create_map(t->file, t->table_off, t->n_blocks, g->n, false);
	if (!r)
		r = bat_commit_grow(t);
	if (!r)
		r = blk_co_flush(t->file);
	if (r < 0)
		return r;
	r = header_write(s, size, g);
	/* Which header the file has now is not known: nothing may be written by either. */
	if (r < 0)
		return bat_damaged(t, "the header with the larger size could not be written: %s", strerror(-r));
	bat_pages_drop(t);
	t->table_off = g->map_off;
	t->data_off += g->shift * t->block_size;
	t->n_slots = t->n_blocks = g->n;
	t->size = t->b->size = size;
	return 0;
}

int vdi_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct vdi *s = b->priv;
	struct bat *t = &s->t;
	struct grown g = { .n = size / t->block_size + (size % t->block_size != 0) };
	struct blk_range range;
	uint64_t old = b->size;

	if (size < old)
		return err_set(err, -ENOTSUP, "a VDI image can grow, not shrink: '%s'", b->name);
	if (s->type == VDI_DIFF)
		return err_set(err, -ENOTSUP, "'%s' is a differencing VDI image and cannot grow; convert it", b->name);
	grown_place(t, &g);
	if (g.n > VDI_BLOCKS_MAX || t->data_off + g.shift * t->block_size > UINT32_MAX)
		return err_set(err, -EFBIG, "a VDI image has at most %u blocks, in the first 4 GiB their map: '%s' with "
			       "blocks of %u bytes cannot have a disk of %" PRIu64, VDI_BLOCKS_MAX, b->name,
			       t->block_size, size);
	blk_drain_begin(b, &range);
	int r = bat_prepare(t);

	if (!r)
		r = grow(s, size, &g);
	t->max_end = t->data_off + t->n_slots * t->block_size;
	if (!r && (prealloc != BLK_PREALLOC_OFF || s->type == VDI_FIXED))
		r = bat_preallocate(t, old, size - old, prealloc);
	blk_drain_end(b, &range);
	return r < 0 ? err_set(err, r, "cannot grow '%s': %s", b->name, strerror(-r)) : 0;
}
