/* SPDX-License-Identifier: Apache-2.0 */
/* map.c - from the disk to the file: runs of blocks, the fast path, reading. */
#include "blk/bat/bat_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAP_BLOCKS_MAX = 1 << 16, FAST_BLOCKS_MAX = 64 };

/* What AT is, for at most LEN bytes of its block. */
static int block_run(struct bat *t, uint64_t at, uint64_t len, struct bat_run *out)
{
	uint64_t block = at / t->block_size, in_block = at % t->block_size, bits;
	struct bat_entry e;
	int r = bat_entry_get(t, block, &e);

	if (r < 0)
		return r;
	len = len < t->block_size - in_block ? len : t->block_size - in_block;
	*out = (struct bat_run){ .kind = e.kind, .len = len, .host = e.host };
	if (e.kind == BAT_DATA || e.kind == BAT_PARTIAL)
		out->host += in_block;
	if (e.kind != BAT_PARTIAL)
		return 0;
	bool is_set = false;
	uint32_t run = 0;

	r = bat_bits_of(t, block, &e, &bits);
	if (!r)
		r = bat_bits_run(t, bits, (uint32_t)(in_block / BLK_SECTOR), (uint32_t)(len / BLK_SECTOR), &is_set,
				 &run);
	out->kind = is_set ? BAT_DATA : BAT_NONE;
	out->len = (uint64_t)run * BLK_SECTOR;
	return r;
}

int bat_map_run(struct bat *t, uint64_t at, uint64_t len, struct bat_run *out)
{
	if (t->is_flat) {
		*out = (struct bat_run){ .kind = BAT_DATA, .len = len, .host = t->data_off + at };
		return 0;
	}
	int r = block_run(t, at, len, out);

	for (unsigned n = 0; !r && n < MAP_BLOCKS_MAX && out->len < len && out->kind != BAT_PACKED; n++) {
		struct bat_run next;

		if (block_run(t, at + out->len, len - out->len, &next) < 0 || next.kind != out->kind ||
		    (out->kind == BAT_DATA && next.host != out->host + out->len))
			break;
		out->len += next.len;
	}
	return r;
}

/* --- the fast path ---------------------------------------------------------------------------- */

static bool peek_is_there(struct bat *t, uint64_t block, const struct bat_entry *e, uint64_t in_block, uint64_t n)
{
	if (e->kind == BAT_DATA)
		return true;
	uint64_t bits = e->kind == BAT_PARTIAL ? t->f->bits_at(t, block, e) : 0;

	return bits && bat_bits_peek(t, bits, (uint32_t)(in_block / BLK_SECTOR), (uint32_t)(n / BLK_SECTOR));
}

struct blk *bat_try_map(struct bat *t, enum blk_op op, uint64_t at, uint64_t len, uint64_t *child_off)
{
	uint64_t end = at + len, host = 0;
	bool is_backing = false;

	if ((op != BLK_READ && op != BLK_WRITE) || (op == BLK_WRITE && (!t->is_prepared || t->is_damaged)) ||
	    (!t->is_flat && len / t->block_size > FAST_BLOCKS_MAX))
		return NULL;
	if (t->is_flat) {
		*child_off = t->data_off + at;
		return t->file;
	}
	for (uint64_t pos = at, n; pos < end; pos += n) {
		uint64_t block = pos / t->block_size, in_block = pos % t->block_size;
		struct bat_entry e = { .kind = BAT_NONE };
		uint8_t raw[8];

		n = end - pos < t->block_size - in_block ? end - pos : t->block_size - in_block;
		if (!bat_raw_peek(t, bat_slot(t, block), raw) || !t->f->decode(t, raw, &e) || !bat_entry_is_sane(t, &e))
			return NULL;
		if (op == BLK_READ && e.kind == BAT_NONE && t->b->backing && (pos == at || is_backing)) {
			is_backing = true;
			continue;
		}
		if (is_backing || !peek_is_there(t, block, &e, in_block, n))
			return NULL;
		if (pos == at)
			host = e.host + in_block;
		else if (e.host != host + (pos - at))
			return NULL;
	}
	*child_off = is_backing ? t->base + at : host;
	if (is_backing)
		return range_fits(*child_off, len, t->b->backing->size) ? t->b->backing : NULL;
	return t->file;
}

/* --- reading ---------------------------------------------------------------------------------- */

static int read_packed(struct bat *t, uint64_t at, uint64_t len, uint64_t host, struct blk_vec v)
{
	uint64_t block = at / t->block_size, skip = at % t->block_size;

	if (t->unpacked && t->unpacked_block == block + 1) {
		blk_vec_put(v, t->unpacked + skip, len);
		return 0;
	}
	AUTO(free) uint8_t *out = malloc(t->block_size);

	if (!out)
		return -ENOMEM;
	int r = t->f->unpack(t, block, host, out);

	if (r < 0)
		return r;
	blk_vec_put(v, out + skip, len);
	/* A guest reads a block in small pieces: keep the last. */
	free(t->unpacked);
	t->unpacked = take_ptr(&out);
	t->unpacked_block = block + 1;
	return 0;
}

static int read_run(struct bat *t, const struct bat_run *run, uint64_t at, struct blk_vec v)
{
	switch (run->kind) {
	case BAT_DATA:
		return blk_co_preadv(t->file, run->host, run->len, v);
	case BAT_PACKED:
		return read_packed(t, at, run->len, run->host, v);
	case BAT_NONE:
	case BAT_PARTIAL:
		if (t->b->backing)
			return blk_co_preadv(t->b->backing, t->base + at, run->len, v);
		break;
	case BAT_ZERO:
		break;
	}
	blk_vec_zero(v, run->len);
	return 0;
}

int bat_read(struct bat *t, uint64_t at, uint64_t len, struct blk_vec v)
{
	while (len) {
		struct bat_run run;
		int r = bat_map_run(t, at, len, &run);

		if (!r)
			r = read_run(t, &run, at, v);
		if (r < 0)
			return r;
		at += run.len;
		len -= run.len;
		v = blk_vec_at(v, run.len);
	}
	return 0;
}

int bat_map(struct bat *t, uint64_t at, uint64_t len, struct blk_extent *out)
{
	struct bat_run run;
	int r = bat_map_run(t, at, len, &run);

	if (r < 0)
		return r;
	out->len = run.len;
	out->flags = 0;
	if (run.kind == BAT_ZERO)
		out->flags = BLK_EXT_ZERO | BLK_EXT_ALLOCATED;
	if (run.kind == BAT_PACKED)
		out->flags = BLK_EXT_DATA | BLK_EXT_ALLOCATED | BLK_EXT_COMPRESSED;
	if (run.kind == BAT_DATA) {
		out->flags = BLK_EXT_DATA | BLK_EXT_ALLOCATED | BLK_EXT_HOST;
		out->host = t->file;
		out->host_off = run.host;
	}
	return 0;
}
