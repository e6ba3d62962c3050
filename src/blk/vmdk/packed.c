/* SPDX-License-Identifier: Apache-2.0 */
/* packed.c - grains of streamOptimized extents: a marker with the grain's place and the length of its data, the
 * data (RFC 1950), padding to a sector. "Virtual Disk Format 5.0", section "Stream-Optimized Compressed Sparse
 * Extents". A grain that is written again goes behind the end; its old place is lost. */
#include "blk/vmdk/vmdk_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { MARKER_LEN = 12 };

struct pack_job { uint8_t *in, *out; size_t in_len, out_len; };

static int64_t unpack_run(void *arg)
{
	struct pack_job *j = arg;
	uLongf len = j->out_len;
	int r = uncompress(j->out, &len, j->in, j->in_len);

	if (r != Z_OK)
		return -EIO;
	memset(j->out + len, 0, j->out_len - len);      /* the last grain of a disk may be short */
	return 0;
}

static int64_t pack_run(void *arg)
{
	struct pack_job *j = arg;
	uLongf len = j->out_len;

	if (compress2(j->out, &len, j->in, j->in_len, Z_DEFAULT_COMPRESSION) != Z_OK)
		return -EIO;
	j->out_len = len;
	return 0;
}

size_t vmdk_packed_max(uint32_t grain)
{
	return align_up(MARKER_LEN + compressBound(grain), BLK_SECTOR);
}

int vmdk_unpack(struct bat *t, uint64_t block, uint64_t host, uint8_t *out)
{
	const struct vmdk_extent *e = t->arg;
	uint32_t skip = e->flags & VMDK_FLAG_MARKERS ? MARKER_LEN : 0, max = 2 * t->block_size;
	AUTO(free) uint8_t *in = malloc(max + MARKER_LEN);
	int r = in ? blk_co_pread(t->file, host, in, max + skip) : -ENOMEM;
	uint32_t len = max;

	if (r < 0)
		return r;
	if (skip) {
		uint64_t lba = get_le64(in);

		len = get_le32(in + 8);
		if (!len || len > max || lba != block * (t->block_size / BLK_SECTOR))
			return bat_damaged(t, "grain %" PRIu64 " has the marker of sector %" PRIu64 ", %u bytes",
					   block, lba,
					   len);
	}
	struct pack_job j = { .in = in + skip, .in_len = len, .out = out, .out_len = t->block_size };

	r = (int)blk_co_call(t->b, unpack_run, &j);
	return r < 0 ? bat_damaged(t, "grain %" PRIu64 " at byte %" PRIu64 " cannot be unpacked", block, host) : 0;
}

/* GRAIN to a new place behind the end. */
static int packed_append(struct vmdk *s, struct vmdk_extent *e, uint64_t block, uint8_t *grain)
{
	struct bat *t = &e->t;
	size_t room = vmdk_packed_max(t->block_size);
	AUTO(free) uint8_t *out = calloc(1, room);
	struct pack_job j = { .in = grain, .in_len = t->block_size, .out = out + MARKER_LEN,
			      .out_len = room - MARKER_LEN };
	int r = out ? (int)blk_co_call(t->b, pack_run, &j) : -ENOMEM;

	if (r < 0)
		return r;
	struct bat_entry entry = { .kind = BAT_PACKED, .host = t->alloc_end };
	size_t len = align_up(MARKER_LEN + j.out_len, BLK_SECTOR);

	if (entry.host + len > t->max_end)
		return -EFBIG;
	t->alloc_end += len;
	put_le64(out, block * (t->block_size / BLK_SECTOR));
	put_le32(out + 8, (uint32_t)j.out_len);
	r = blk_co_pwrite(t->file, entry.host, out, len);
	if (!r)
		r = bat_entry_set(t, block, &entry);
	t->unpacked_block = 0;
	return r;
}

int vmdk_write_packed(struct vmdk *s, struct vmdk_extent *e, uint64_t at, uint64_t len, struct blk_vec v)
{
	struct bat *t = &e->t;
	AUTO(free) uint8_t *grain = malloc(t->block_size);
	int r = grain ? bat_prepare(t) : -ENOMEM;

	for (uint64_t n; !r && len; at += n, len -= n) {
		uint64_t in_block = at % t->block_size, start = at - in_block;
		uint64_t shown = t->size - start < t->block_size ? t->size - start : t->block_size;
		struct iovec iov;

		n = t->block_size - in_block < len ? t->block_size - in_block : len;
		memset(grain + shown, 0, t->block_size - shown);
		if (n < shown)
			r = bat_read(t, start, shown, blk_vec_of(&iov, grain, shown));
		if (r < 0)
			break;
		blk_vec_get(v, grain + in_block, n);
		r = packed_append(s, e, start / t->block_size, grain);
		v = blk_vec_at(v, n);
	}
	return r;
}
