/* SPDX-License-Identifier: Apache-2.0 */
/* codec.c - one cluster packed or unpacked. Any thread.
 *
 * zlib data is raw deflate with a window of 4 KiB, as QEMU writes it: there are readers that keep no more. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include "blk/qcow2/deflate.h"

/* The level of zstd is that of QEMU, so that images come out as large. */
enum { ZLIB_WINDOW = -12, ZSTD_LEVEL = 3 };

/* Setting it up costs as much as a small cluster. A job borrows the one that was used last, whose tables are in the
 * cache; so there are as many as threads work at once. */
struct q2_codec {
	struct q2_codec *next;          /* free */
	ZSTD_CCtx *zstd;
	ZSTD_DCtx *unzstd;
	struct q2_deflate *deflate;
	z_stream inflate;
	bool has_inflate;
};

struct q2_codec *q2_codec_get(struct q2 *s)
{
	pthread_mutex_lock(&s->codec_lock);
	struct q2_codec *k = s->codecs;

	if (k)
		s->codecs = k->next;
	pthread_mutex_unlock(&s->codec_lock);
	return k ? k : calloc(1, sizeof(*k));
}

void q2_codec_put(struct q2 *s, struct q2_codec *k)
{
	pthread_mutex_lock(&s->codec_lock);
	k->next = s->codecs;
	s->codecs = k;
	pthread_mutex_unlock(&s->codec_lock);
}

void q2_codecs_free(struct q2 *s)
{
	struct q2_codec *k;

	while ((k = s->codecs)) {
		s->codecs = k->next;
		q2_deflate_free(k->deflate);
		if (k->has_inflate)
			inflateEnd(&k->inflate);
		ZSTD_freeCCtx(k->zstd);
		ZSTD_freeDCtx(k->unzstd);
		free(k);
	}
}

/* --- packing: IN_LEN bytes to at most OUT_LEN, how many -------------------------------------------------- */

static int64_t pack_zlib(struct q2_codec *k, const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	if (!k->deflate)
		k->deflate = q2_deflate_new();
	if (!k->deflate)
		return -ENOMEM;
	size_t n = q2_deflate_pack(k->deflate, in, in_len, out, out_len);

	return n ? (int64_t)n : -ENOSPC;
}

static int64_t pack_zstd(struct q2_codec *k, const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	if (!k->zstd)
		k->zstd = ZSTD_createCCtx();
	if (!k->zstd)
		return -ENOMEM;
	size_t n = ZSTD_compressCCtx(k->zstd, out, out_len, in, in_len, ZSTD_LEVEL);

	return ZSTD_isError(n) ? -ENOSPC : (int64_t)n;
}

int64_t q2_codec_pack(const struct q2 *s, struct q2_codec *k, const uint8_t *in, uint8_t *out)
{
	return (s->compression ? pack_zstd : pack_zlib)(k, in, s->cluster_size, out, s->cluster_size - 1);
}

/* --- unpacking: exactly OUT_LEN bytes. Behind the end of the data there is more, which is not ours -------- */

static int unpack_zlib(struct q2_codec *k, const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	z_stream *z = &k->inflate;

	if (!k->has_inflate && inflateInit2(z, ZLIB_WINDOW) != Z_OK)
		return -ENOMEM;
	k->has_inflate = true;
	z->next_in = (Bytef *)(uintptr_t)in;
	z->avail_in = (uInt)in_len;
	z->next_out = out;
	z->avail_out = (uInt)out_len;
	int r = inflate(z, Z_FINISH);
	size_t left = z->avail_out;

	inflateReset(z);
	return (r == Z_STREAM_END || r == Z_OK || r == Z_BUF_ERROR) && !left ? 0 : -EIO;
}

/* The frame ends somewhere in the last sector: decompression "stops when it has produced a cluster". */
static int unpack_zstd(struct q2_codec *k, const uint8_t *in_data, size_t in_len, uint8_t *out_data, size_t out_len)
{
	if (!k->unzstd)
		k->unzstd = ZSTD_createDCtx();
	ZSTD_DCtx *d = k->unzstd;
	ZSTD_inBuffer in = { in_data, in_len, 0 };
	ZSTD_outBuffer out = { out_data, out_len, 0 };
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

int q2_codec_unpack(const struct q2 *s, struct q2_codec *k, const uint8_t *in, size_t in_len, uint8_t *out)
{
	return (s->compression ? unpack_zstd : unpack_zlib)(k, in, in_len, out, s->cluster_size);
}
