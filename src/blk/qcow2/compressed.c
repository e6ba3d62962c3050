/* SPDX-License-Identifier: Apache-2.0 */
/* compressed.c - clusters that are kept compressed: section "Compressed Clusters Descriptor".
 *
 * zlib data is raw deflate with a window of 4 KiB, as the format has it. Packing and unpacking run on
 * other threads. Compressed clusters are laid one behind the other; each counts a reference to every
 * host cluster that it touches. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { ZLIB_WINDOW = -12 };

struct pack_job {
	uint8_t *in, *out;
	size_t in_len, out_len;         /* OUT_LEN: room, then what was used */
	uint8_t compression;
};

static int64_t pack_zlib(struct pack_job *j)
{
	z_stream z = { .next_in = j->in,
		       .avail_in = (uInt)j->in_len,
		       .next_out = j->out,
		       .avail_out = (uInt)j->out_len };

	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, ZLIB_WINDOW, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	int r = deflate(&z, Z_FINISH);

	j->out_len -= z.avail_out;
	deflateEnd(&z);
	return r == Z_STREAM_END ? 0 : -ENOSPC;
}

static int64_t pack_run(void *arg)
{
	struct pack_job *j = arg;

	if (j->compression == 0)
		return pack_zlib(j);
	size_t n = ZSTD_compress(j->out, j->out_len, j->in, j->in_len, 3);

	if (ZSTD_isError(n))
		return -ENOSPC;
	j->out_len = n;
	return 0;
}

static int64_t unpack_zlib(struct pack_job *j)
{
	z_stream z = { .next_in = j->in,
		       .avail_in = (uInt)j->in_len,
		       .next_out = j->out,
		       .avail_out = (uInt)j->out_len };

	if (inflateInit2(&z, ZLIB_WINDOW) != Z_OK)
		return -ENOMEM;
	int r = inflate(&z, Z_FINISH);
	size_t left = z.avail_out;

	inflateEnd(&z);
	/* Behind the end of the data there is more, which is not ours. */
	return (r == Z_STREAM_END || r == Z_OK || r == Z_BUF_ERROR) && !left ? 0 : -EIO;
}

/* The frame ends somewhere in the last sector: decompression "stops when it has produced a cluster". */
static int64_t unpack_run(void *arg)
{
	struct pack_job *j = arg;

	if (j->compression == 0)
		return unpack_zlib(j);
	ZSTD_DCtx *d = ZSTD_createDCtx();
	ZSTD_inBuffer in = { j->in, j->in_len, 0 };
	ZSTD_outBuffer out = { j->out, j->out_len, 0 };
	size_t r = 1;

	if (!d)
		return -ENOMEM;
	while (out.pos < out.size && !ZSTD_isError(r)) {
		size_t in_before = in.pos, out_before = out.pos;

		r = ZSTD_decompressStream(d, &out, &in);
		if (in.pos == in_before && out.pos == out_before)
			break;
	}
	ZSTD_freeDCtx(d);
	return !ZSTD_isError(r) && out.pos == out.size ? 0 : -EIO;
}

void q2_packed_range(const struct q2 *s, const struct q2_entry *e, uint64_t *off, uint64_t *len)
{
	*off = e->host & ~511ull;
	*len = (uint64_t)e->n_sectors * 512;
}

int q2_inflate(struct q2 *s, const struct q2_entry *e, uint64_t skip, uint64_t len, struct blk_vec v)
{
	struct pack_job j = { .out_len = s->cluster_size, .compression = s->compression };
	uint64_t in_len = (uint64_t)e->n_sectors * 512 - (e->host & 511);

	/* The last one again: a guest reads a cluster in small pieces. */
	if (s->inflated_host == e->host && s->inflated) {
		blk_vec_put(v, s->inflated + skip, len);
		return 0;
	}
	AUTO(free) uint8_t *in = malloc(in_len), *out = malloc(s->cluster_size);

	if (!in || !out)
		return -ENOMEM;
	int r = blk_co_pread(s->b->file, e->host, in, in_len);

	if (r < 0)
		return r;
	j.in = in;
	j.in_len = in_len;
	j.out = out;
	r = (int)blk_co_call(s->b, unpack_run, &j);
	if (r < 0)
		return r;
	blk_vec_put(v, out + skip, len);
	if (len < s->cluster_size) {
		free(s->inflated);
		s->inflated = take_ptr(&out);
		s->inflated_host = e->host;
	}
	return 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Room for LEN bytes behind the last compressed cluster, or in new clusters. A reference to each host
 * cluster that they touch is counted. */
static int pack_place(struct q2 *s, uint64_t len, uint64_t *off)
{
	uint64_t at = s->compressed_at, in_cluster = at & (s->cluster_size - 1), got, fresh_off;
	uint64_t room = at && in_cluster ? s->cluster_size - in_cluster : 0;
	bool is_fresh;
	int r;

	if (room >= len) {
		r = q2_ref_add(s, at, 1, 1);
		if (!r) {
			*off = at;
			s->compressed_at = at + len;
			return 0;
		}
		if (r != -E2BIG)
			return r;
		room = 0;
	}
	r = q2_alloc(s, 1, false, &fresh_off, &got, &is_fresh);
	if (r < 0)
		return r;
	if (room && fresh_off == at + room) {
		r = q2_ref_add(s, at, 1, 1);
		if (r < 0 && r != -E2BIG)
			return r;
		if (!r) {
			*off = at;
			s->compressed_at = at + len;
			return 0;
		}
	}
	*off = fresh_off;
	s->compressed_at = fresh_off + len;
	return 0;
}

static int pack_store(struct q2 *s, uint64_t guest, const struct pack_job *j)
{
	struct q2_entry old, e = { .is_compressed = true, .has_host = true, .alloc = q2_all_subs(s) };
	uint64_t off = 0;
	int r = q2_entry_get(s, guest, &old);

	if (r < 0)
		return r;
	if (old.has_host)
		return -EEXIST;
	r = q2_l2_make(s, guest);
	if (r < 0)
		return r;
	co_mutex_lock(&s->compress_lock);
	r = pack_place(s, j->out_len, &off);
	co_mutex_unlock(&s->compress_lock);
	if (r < 0)
		return r;
	e.host = off;
	e.n_sectors = (uint32_t)((off + j->out_len - 1) / 512 - off / 512 + 1);
	r = blk_co_pwrite(s->b->file, off, j->out, j->out_len);
	if (r < 0) {
		q2_free_now(s, off, j->out_len);
		return r;
	}
	return q2_entry_set(s, guest, &e);
}

int q2_co_pwritev_compressed(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct q2 *s = b->priv;
	struct pack_job j = { .in_len = s->cluster_size,
			      .out_len = s->cluster_size - 1,
			      .compression = s->compression };
	struct blk_range range;

	if (off & (s->cluster_size - 1) || len > s->cluster_size || (len < s->cluster_size && off + len != b->size))
		return -EINVAL;
	if (b->data || s->luks)
		return -ENOTSUP;
	AUTO(free) uint8_t *in = calloc(1, s->cluster_size), *out = malloc(s->cluster_size);

	if (!in || !out)
		return -ENOMEM;
	blk_vec_get(v, in, len);
	j.in = in;
	j.out = out;
	int r = (int)blk_co_call(b, pack_run, &j);

	if (r < 0)
		return r == -ENOSPC ? q2_co_pwritev(b, off, len, v) : r;
	blk_range_lock(b, &range, off, s->cluster_size, true);
	r = q2_prepare(s);
	q2_bitmaps_mark(s, off, len);
	if (!r)
		r = pack_store(s, off, &j);
	blk_range_unlock(b, &range);
	return r == -EEXIST ? q2_co_pwritev(b, off, len, v) : r;
}
