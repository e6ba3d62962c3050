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

/* Of zstd, level 2: of a disk with Debian it makes 1 % more than level 3, in four fifths of the time. */
enum { ZLIB_WINDOW = -12, ZSTD_LEVEL = 2 };

/* What packs or unpacks: setting it up costs as much as a small cluster. A job borrows the one that was used last,
 * whose tables are in the cache; so there are as many as threads work at once. Any thread. */
struct q2_codec {
	struct q2_codec *next;          /* free */
	ZSTD_CCtx *zstd;
	ZSTD_DCtx *unzstd;
	z_stream deflate, inflate;
	bool has_deflate, has_inflate;
};

/* Memory for one cluster in both forms. Loop thread. */
struct q2_packer {
	struct q2_packer *next;         /* free */
	uint8_t *raw, *packed;          /* PACKED and what of its first and last sector is not its own */
};

struct pack_job {
	struct q2 *s;
	const uint8_t *in;
	uint8_t *out;
	size_t in_len, out_len;         /* OUT_LEN: room, then what was used */
	int64_t (*run)(struct q2_codec *k, struct pack_job *j);
};

static void packer_free(struct q2_packer *p)
{
	free(p->raw);
	free(p->packed);
	free(p);
}

void q2_packers_free(struct q2 *s)
{
	struct q2_packer *p;
	struct q2_codec *k;

	while ((p = s->packers)) {
		s->packers = p->next;
		packer_free(p);
	}
	while ((k = s->codecs)) {
		s->codecs = k->next;
		if (k->has_deflate)
			deflateEnd(&k->deflate);
		if (k->has_inflate)
			inflateEnd(&k->inflate);
		ZSTD_freeCCtx(k->zstd);
		ZSTD_freeDCtx(k->unzstd);
		free(k);
	}
}

static struct q2_packer *packer_get(struct q2 *s)
{
	struct q2_packer *p = s->packers;

	if (p) {
		s->packers = p->next;
		return p;
	}
	p = calloc(1, sizeof(*p));
	if (p) {
		p->raw = malloc(s->cluster_size);
		p->packed = malloc((size_t)s->cluster_size * 2 + BLK_SECTOR);
	}
	if (p && (!p->raw || !p->packed)) {
		packer_free(p);
		p = NULL;
	}
	return p;
}

static void packer_put(struct q2 *s, struct q2_packer *p)
{
	p->next = s->packers;
	s->packers = p;
}

/* On another thread. */
static int64_t codec_run(void *arg)
{
	struct pack_job *j = arg;
	struct q2 *s = j->s;

	pthread_mutex_lock(&s->codec_lock);
	struct q2_codec *k = s->codecs;

	if (k)
		s->codecs = k->next;
	pthread_mutex_unlock(&s->codec_lock);
	if (!k)
		k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	int64_t r = j->run(k, j);

	pthread_mutex_lock(&s->codec_lock);
	k->next = s->codecs;
	s->codecs = k;
	pthread_mutex_unlock(&s->codec_lock);
	return r;
}

static int64_t pack_zlib(struct q2_codec *k, struct pack_job *j)
{
	z_stream *z = &k->deflate;

	if (!k->has_deflate &&
	    deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, ZLIB_WINDOW, 9, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	k->has_deflate = true;
	z->next_in = (Bytef *)(uintptr_t)j->in;
	z->avail_in = (uInt)j->in_len;
	z->next_out = j->out;
	z->avail_out = (uInt)j->out_len;
	int r = deflate(z, Z_FINISH);

	j->out_len -= z->avail_out;
	deflateReset(z);
	return r == Z_STREAM_END ? 0 : -ENOSPC;
}

static int64_t pack_zstd(struct q2_codec *k, struct pack_job *j)
{
	if (!k->zstd)
		k->zstd = ZSTD_createCCtx();
	if (!k->zstd)
		return -ENOMEM;
	size_t n = ZSTD_compressCCtx(k->zstd, j->out, j->out_len, j->in, j->in_len, ZSTD_LEVEL);

	if (ZSTD_isError(n))
		return -ENOSPC;
	j->out_len = n;
	return 0;
}

static int64_t unpack_zlib(struct q2_codec *k, struct pack_job *j)
{
	z_stream *z = &k->inflate;

	if (!k->has_inflate && inflateInit2(z, ZLIB_WINDOW) != Z_OK)
		return -ENOMEM;
	k->has_inflate = true;
	z->next_in = (Bytef *)(uintptr_t)j->in;
	z->avail_in = (uInt)j->in_len;
	z->next_out = j->out;
	z->avail_out = (uInt)j->out_len;
	int r = inflate(z, Z_FINISH);
	size_t left = z->avail_out;

	inflateReset(z);
	/* Behind the end of the data there is more, which is not ours. */
	return (r == Z_STREAM_END || r == Z_OK || r == Z_BUF_ERROR) && !left ? 0 : -EIO;
}

/* The frame ends somewhere in the last sector: decompression "stops when it has produced a cluster". */
static int64_t unpack_zstd(struct q2_codec *k, struct pack_job *j)
{
	if (!k->unzstd)
		k->unzstd = ZSTD_createDCtx();
	ZSTD_DCtx *d = k->unzstd;
	ZSTD_inBuffer in = { j->in, j->in_len, 0 };
	ZSTD_outBuffer out = { j->out, j->out_len, 0 };
	size_t r = 1;

	if (!d)
		return -ENOMEM;
	ZSTD_DCtx_reset(d, ZSTD_reset_session_only);
	while (out.pos < out.size && !ZSTD_isError(r)) {
		size_t in_before = in.pos, out_before = out.pos;

		r = ZSTD_decompressStream(d, &out, &in);
		if (in.pos == in_before && out.pos == out_before)
			break;
	}
	return !ZSTD_isError(r) && out.pos == out.size ? 0 : -EIO;
}

void q2_packed_range(const struct q2 *s, const struct q2_entry *e, uint64_t *off, uint64_t *len)
{
	*off = e->host & ~511ull;
	*len = (uint64_t)e->n_sectors * 512;
}

/* A vector that is one piece of memory: that; else NULL. */
static uint8_t *vec_memory(struct blk_vec v, uint64_t len)
{
	return v.n > 0 && v.iov->iov_len > v.skip && v.iov->iov_len - v.skip >= len ?
		(uint8_t *)v.iov->iov_base + v.skip : NULL;
}

static int inflate_with(struct q2 *s, struct q2_packer *p, const struct q2_entry *e, uint64_t skip, uint64_t len,
			struct blk_vec v)
{
	uint8_t *direct = !skip && len == s->cluster_size ? vec_memory(v, len) : NULL;
	struct pack_job j = { .s = s, .run = s->compression ? unpack_zstd : unpack_zlib, .in = p->packed,
			      .out = direct ? direct : p->raw,
			      .in_len = (size_t)e->n_sectors * BLK_SECTOR - (e->host & (BLK_SECTOR - 1)),
			      .out_len = s->cluster_size };
	int r = blk_co_pread(s->b->file, e->host, p->packed, j.in_len);

	if (!r)
		r = (int)blk_co_call(s->b, codec_run, &j);
	if (r < 0 || direct)
		return r;
	blk_vec_put(v, p->raw + skip, len);
	if (len < s->cluster_size) {
		uint8_t *last = s->inflated;

		s->inflated = p->raw;
		s->inflated_host = e->host;
		p->raw = last ? last : malloc(s->cluster_size);
	}
	return 0;
}

int q2_inflate(struct q2 *s, const struct q2_entry *e, uint64_t skip, uint64_t len, struct blk_vec v)
{
	/* The last one again: a guest reads a cluster in small pieces. */
	if (s->inflated_host == e->host && s->inflated) {
		blk_vec_put(v, s->inflated + skip, len);
		return 0;
	}
	struct q2_packer *p = packer_get(s);

	if (!p)
		return -ENOMEM;
	int r = inflate_with(s, p, e, skip, len, v);

	if (p->raw)
		packer_put(s, p);
	else
		packer_free(p);
	return r;
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

static int pack_write(struct q2 *s, struct q2_packer *p, uint64_t off, uint64_t len, struct blk_vec v)
{
	const uint8_t *direct = len == s->cluster_size ? vec_memory(v, len) : NULL;
	struct pack_job j = { .s = s, .run = s->compression ? pack_zstd : pack_zlib, .in = direct ? direct : p->raw,
			      .in_len = s->cluster_size, .out = p->packed, .out_len = s->cluster_size - 1 };
	struct blk *b = s->b;
	struct blk_range range;

	if (!direct) {
		memset(p->raw, 0, s->cluster_size);
		blk_vec_get(v, p->raw, len);
	}
	int r = (int)blk_co_call(b, codec_run, &j);

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

int q2_co_pwritev_compressed(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct q2 *s = b->priv;

	if (off & (s->cluster_size - 1) || len > s->cluster_size || (len < s->cluster_size && off + len != b->size))
		return -EINVAL;
	if (b->data || s->luks)
		return -ENOTSUP;
	struct q2_packer *p = packer_get(s);

	if (!p)
		return -ENOMEM;
	int r = pack_write(s, p, off, len, v);

	packer_put(s, p);
	return r;
}
