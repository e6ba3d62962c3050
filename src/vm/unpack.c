/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/unpack.h"

#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <lzma.h>
#include <lzo/lzo1x.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/reader.h"

enum { SIZE_WORD = 4 };
#define LZMA_MEMORY_LIMIT (256ull << 20)

/* Each decoder writes at most CAP bytes and returns how many, or -1: damaged, or more output
 * than CAP. */

static long long unpack_none(struct reader in, uint8_t *out, size_t cap)
{
	if (in.left > cap)
		return -1;
	memcpy(out, in.p, in.left);
	return (long long)in.left;
}

static long long unpack_gzip(struct reader in, uint8_t *out, size_t cap)
{
	z_stream z = {
		.next_in = (Bytef *)in.p, .avail_in = (uInt)in.left,
		.next_out = out, .avail_out = (uInt)cap,
	};

	if (in.left > UINT_MAX || cap > UINT_MAX || inflateInit2(&z, 15 + 16) != Z_OK)
		return -1;
	int r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return r == Z_STREAM_END ? (long long)z.total_out : -1;
}

static long long unpack_lzma_stream(lzma_stream *z, struct reader in, uint8_t *out, size_t cap)
{
	z->next_in = in.p;
	z->avail_in = in.left;
	z->next_out = out;
	z->avail_out = cap;
	lzma_ret r = lzma_code(z, LZMA_FINISH);
	long long n = (long long)z->total_out;
	lzma_end(z);
	return r == LZMA_STREAM_END ? n : -1;
}

static long long unpack_xz(struct reader in, uint8_t *out, size_t cap)
{
	lzma_stream z = LZMA_STREAM_INIT;

	if (lzma_stream_decoder(&z, LZMA_MEMORY_LIMIT, 0) != LZMA_OK)
		return -1;
	return unpack_lzma_stream(&z, in, out, cap);
}

static long long unpack_lzma(struct reader in, uint8_t *out, size_t cap)
{
	lzma_stream z = LZMA_STREAM_INIT;

	if (lzma_alone_decoder(&z, LZMA_MEMORY_LIMIT) != LZMA_OK)
		return -1;
	return unpack_lzma_stream(&z, in, out, cap);
}

/* LZ4 legacy frame (LZ4 frame format description, "Legacy frame"): magic, then blocks of a
 * 32-bit size and data, each unpacking to at most 8 MiB. */
static long long unpack_lz4(struct reader in, uint8_t *out, size_t cap)
{
	enum { BLOCK = 8 << 20 };
	static const uint8_t magic[4] = { 0x02, 0x21, 0x4c, 0x18 };
	size_t done = 0;

	reader_take(&in, sizeof(magic));
	while (in.left) {
		const uint8_t *head = reader_take(&in, 4);

		if (!head)
			return -1;
		if (!memcmp(head, magic, sizeof(magic))) /* a second frame */
			continue;
		size_t size = get_le32(head), room = cap - done < BLOCK ? cap - done : BLOCK;
		const uint8_t *data = size <= INT_MAX ? reader_take(&in, size) : NULL;
		int n = data ? LZ4_decompress_safe((const char *)data, (char *)out + done, (int)size, (int)room) : -1;

		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	return (long long)done;
}

static long long unpack_zstd(struct reader in, uint8_t *out, size_t cap)
{
	ZSTD_inBuffer ib = { in.p, in.left, 0 };
	ZSTD_outBuffer ob = { out, cap, 0 };
	ZSTD_DStream *z = ZSTD_createDStream();
	size_t r = 1;

	if (!z)
		return -1;
	while (r && !ZSTD_isError(r)) {
		size_t in_before = ib.pos, out_before = ob.pos;

		r = ZSTD_decompressStream(z, &ob, &ib);
		if (r && ib.pos == in_before && ob.pos == out_before)
			break; /* wants what there is not */
	}
	ZSTD_freeDStream(z);
	return r ? -1 : (long long)ob.pos;
}

/* The header of an lzop file, which has no description but its source: see the Linux boot
 * code, lib/decompress_unlzo.c, for the fields used here. */
static bool unpack_lzop_header(struct reader *in, uint32_t *flags)
{
	enum { MAGIC_LEN = 9, HAS_FILTER = 0x800, VERSION_LEVEL = 0x0940 };
	const uint8_t *p;

	if (!reader_take(in, MAGIC_LEN) || !(p = reader_take(in, 4)))
		return false;
	bool has_level = get_be16(p) >= VERSION_LEVEL;
	/* version needed, method, level */
	if (!reader_take(in, has_level ? 4 : 1) || !(p = reader_take(in, 4)))
		return false;
	*flags = get_be32(p);
	/* filter, mode, modification time */
	if (!reader_take(in, (*flags & HAS_FILTER ? 4 : 0) + (has_level ? 12 : 8)))
		return false;
	p = reader_take(in, 1);
	return p && reader_take(in, (size_t)*p + 4); /* file name, checksum */
}

static long long unpack_lzo(struct reader in, uint8_t *out, size_t cap)
{
	enum { SUM_OUT = 0x101, SUM_IN = 0x202, MAX_BLOCK = 64 << 20 };
	uint32_t flags = 0;
	size_t done = 0;

	if (lzo_init() != LZO_E_OK || !unpack_lzop_header(&in, &flags))
		return -1;
	for (;;) {
		const uint8_t *p = reader_take(&in, 4);
		uint32_t out_len = p ? get_be32(p) : 0;

		if (!p)
			return -1;
		if (!out_len)
			return (long long)done;
		p = reader_take(&in, 4);
		uint32_t in_len = p ? get_be32(p) : UINT32_MAX;
		if (in_len > out_len || out_len > MAX_BLOCK || out_len > cap - done)
			return -1;
		size_t sums = (size_t)__builtin_popcount(flags & SUM_OUT) * 4;
		if (in_len < out_len)
			sums += (size_t)__builtin_popcount(flags & SUM_IN) * 4;
		if (!reader_take(&in, sums) || !(p = reader_take(&in, in_len)))
			return -1;
		lzo_uint n = out_len;
		if (in_len == out_len)
			memcpy(out + done, p, n);
		else if (lzo1x_decompress_safe(p, in_len, out + done, &n, NULL) != LZO_E_OK || n != out_len)
			return -1;
		done += n;
	}
}

static const struct format {
	const char *name;
	uint8_t magic[6];
	uint8_t magic_len;
	bool has_size_word;     /* the size is appended; gzip ends with it by itself */
	long long (*unpack)(struct reader in, uint8_t *out, size_t cap); /* NULL: not supported */
} formats[] = {
	{ "gzip", { 0x1f, 0x8b }, 2, false, unpack_gzip },
	{ "xz", { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, true, unpack_xz },
	{ "lzma", { 0x5d, 0, 0 }, 3, true, unpack_lzma },
	{ "lz4", { 0x02, 0x21, 0x4c, 0x18 }, 4, true, unpack_lz4 },
	{ "zstd", { 0x28, 0xb5, 0x2f, 0xfd }, 4, true, unpack_zstd },
	{ "lzo", { 0x89, 'L', 'Z', 'O', 0, 0x0d }, 6, true, unpack_lzo },
	{ "bzip2", { 'B', 'Z', 'h' }, 3, true, NULL },
	{ "none", { 0x7f, 'E', 'L', 'F' }, 4, true, unpack_none },
};

static const struct format *unpack_find(const uint8_t *in, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		if (len >= formats[i].magic_len && !memcmp(in, formats[i].magic, formats[i].magic_len))
			return &formats[i];
	}
	return NULL;
}

void *unpack_buffer(size_t size)
{
	enum { HUGE_PAGE = 2 << 20 };
	size_t room = align_up(size ? size : 1, HUGE_PAGE);
	void *p = room < size ? NULL : aligned_alloc(HUGE_PAGE, room);

	if (p)
		madvise(p, room, MADV_HUGEPAGE);        /* a hint: refusal costs only speed */
	return p;
}

const char *unpack_format(const uint8_t *in, size_t len)
{
	const struct format *f = unpack_find(in, len);

	return f ? f->name : NULL;
}

int unpack_payload(uint8_t **out, size_t *out_len, const uint8_t *in, size_t len, uint64_t limit, struct err *err)
{
	const struct format *f = unpack_find(in, len);

	if (!f || len < f->magic_len + (size_t)SIZE_WORD)
		return err_set(err, -EINVAL, "its payload is in no compression format that Linux uses");
	if (!f->unpack)
		return err_set(err, -EINVAL, "its payload is packed with %s, which is not supported; "
			       "build the kernel with gzip, xz, lz4 or zstd", f->name);
	uint32_t size = get_le32(in + len - SIZE_WORD);
	if (size > limit)
		return err_set(err, -EFBIG, "it unpacks to %u MiB, which does not fit in the guest's memory", size >> 20);
	AUTO(free) uint8_t *buf = unpack_buffer(size);
	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	struct reader s = { in, f->has_size_word ? len - SIZE_WORD : len };
	if (f->unpack(s, buf, size) != (long long)size)
		return err_set(err, -EINVAL, "its %s payload is damaged or cut short", f->name);
	*out = take_ptr(&buf);
	*out_len = size;
	return 0;
}
