/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <lzo/lzo1x.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "vm/unpack.h"

enum { PLAIN = 200000, CAP = 300000 };

static uint8_t plain[PLAIN], packed[CAP];

static void fill(void)
{
	uint32_t x = 1;

	for (size_t i = 0; i < PLAIN; i++) {
		x = x * 1664525 + 1013904223;
		plain[i] = (uint8_t)(i % 700 < 500 ? i >> 8 : x >> 24); /* packs to a half or so */
	}
}

/* Each packer fills packed[] and returns the length without the size word. */

static size_t pack_gzip(void)
{
	z_stream z = { .next_in = plain, .avail_in = PLAIN, .next_out = packed, .avail_out = CAP };

	CHECK_EQ(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 9, 0), Z_OK);
	CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return z.total_out;
}

static size_t pack_xz(void)
{
	size_t pos = 0;

	CHECK_EQ(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, plain, PLAIN, packed, &pos, CAP), LZMA_OK);
	return pos;
}

static size_t pack_lzma(void)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_options_lzma o;

	lzma_lzma_preset(&o, 6);
	CHECK_EQ(lzma_alone_encoder(&z, &o), LZMA_OK);
	z.next_in = plain;
	z.avail_in = PLAIN;
	z.next_out = packed;
	z.avail_out = CAP;
	CHECK_EQ(lzma_code(&z, LZMA_FINISH), LZMA_STREAM_END);
	size_t n = z.total_out;
	lzma_end(&z);
	return n;
}

static size_t pack_zstd(void)
{
	return ZSTD_compress(packed, CAP, plain, PLAIN, 19);
}

/* Two blocks in one legacy frame, and a third in a second frame. */
static size_t pack_lz4(void)
{
	static const size_t cuts[] = { 0, 60000, 130000, PLAIN };
	uint8_t *p = packed;

	for (int i = 0; i < 3; i++) {
		if (i != 1) {
			put_le32(p, 0x184c2102);
			p += 4;
		}
		int n = LZ4_compress_default((char *)plain + cuts[i], (char *)p + 4, (int)(cuts[i + 1] - cuts[i]), 100000);
		put_le32(p, (uint32_t)n);
		p += 4 + n;
	}
	return (size_t)(p - packed);
}

static void put_be(uint8_t **p, unsigned width, uint32_t v)
{
	for (unsigned i = 0; i < width; i++)
		*(*p)++ = (uint8_t)(v >> 8 * (width - 1 - i));
}

static size_t pack_lzo(void)
{
	static const uint8_t magic[] = { 0x89, 'L', 'Z', 'O', 0, 0x0d, 0x0a, 0x1a, 0x0a };
	static uint8_t work[LZO1X_1_MEM_COMPRESS], block[100000];
	uint8_t *p = packed;

	CHECK_EQ(lzo_init(), LZO_E_OK);
	memcpy(p, magic, sizeof(magic));
	p += sizeof(magic);
	put_be(&p, 2, 0x1030);          /* version, library, needed, method, level */
	put_be(&p, 2, 0x2080);
	put_be(&p, 2, 0x0940);
	put_be(&p, 2, 0x0105);
	put_be(&p, 4, 0x1);             /* flags: one checksum of the unpacked data */
	put_be(&p, 4, 0);               /* mode, time */
	put_be(&p, 4, 0);
	put_be(&p, 4, 0);
	put_be(&p, 1, 3);
	memcpy(p, "abc", 3);
	p += 3;
	put_be(&p, 4, 0);
	for (size_t at = 0; at < PLAIN; at += 50000) {
		lzo_uint n = sizeof(block);

		CHECK_EQ(lzo1x_1_compress(plain + at, 50000, block, &n, work), LZO_E_OK);
		put_be(&p, 4, 50000);
		put_be(&p, 4, (uint32_t)n);
		put_be(&p, 4, 0);
		memcpy(p, block, n);
		p += n;
	}
	put_be(&p, 4, 0);
	return (size_t)(p - packed);
}

static size_t pack_none(void)
{
	memcpy(plain, "\x7f" "ELF", 4);
	memcpy(packed, plain, PLAIN);
	return PLAIN;
}

static const struct { const char *name; size_t (*pack)(void); } packers[] = {
	{ "gzip", pack_gzip }, { "xz", pack_xz }, { "lzma", pack_lzma }, { "zstd", pack_zstd },
	{ "lz4", pack_lz4 }, { "lzo", pack_lzo }, { "none", pack_none },
};

/* The payload of a kernel packed so; *LEN gets its length. */
static void make(size_t i, size_t *len)
{
	fill();
	*len = packers[i].pack();
	if (strcmp(packers[i].name, "gzip")) {
		put_le32(packed + *len, PLAIN);
		*len += 4;
	}
}

TEST(every_format_unpacks_to_what_was_packed)
{
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		uint8_t *out = NULL;
		size_t len, out_len = 0;

		make(i, &len);
		CHECK_STR(unpack_format(packed, len), packers[i].name);
		CHECK_EQ(unpack_payload(&out, &out_len, packed, len, PLAIN, NULL), 0);
		CHECK_EQ(out_len, PLAIN);
		CHECK_MEM(out, plain, PLAIN);
		free(out);
	}
}

TEST(output_beyond_the_limit_is_refused)
{
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		struct err e = ERR_INIT;
		uint8_t *out = NULL;
		size_t len, out_len;

		make(i, &len);
		CHECK_EQ(unpack_payload(&out, &out_len, packed, len, PLAIN - 1, &e), -EFBIG);
		/* A payload that holds more than it claims, or less. */
		put_le32(packed + len - 4, PLAIN - 1);
		CHECK_EQ(unpack_payload(&out, &out_len, packed, len, PLAIN, &e), -EINVAL);
		put_le32(packed + len - 4, PLAIN + 1);
		CHECK_EQ(unpack_payload(&out, &out_len, packed, len, 2 * PLAIN, &e), -EINVAL);
		CHECK(!out);
	}
}

TEST_SLOW(truncated_payloads_are_refused)
{
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		size_t len, out_len;

		make(i, &len);
		for (size_t n = 0; n + 4 < len; n += n < 100 || n + 100 > len ? 1 : 4999) {
			uint8_t *cut = malloc(n + 4), *out = NULL;

			memcpy(cut, packed, n);
			put_le32(cut + n, PLAIN);
			CHECK(unpack_payload(&out, &out_len, cut, n + 4, PLAIN, NULL) < 0 || n + 8 == len);
			free(out);
			free(cut);
		}
	}
}

TEST_SLOW(damaged_payloads_end_without_harm)
{
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		size_t len, out_len;

		make(i, &len);
		for (size_t at = 0; at < len; at += at < 64 ? 1 : 3001) {
			uint8_t *out = NULL;

			packed[at] ^= 0x55;
			(void)unpack_payload(&out, &out_len, packed, len, PLAIN, NULL);
			packed[at] ^= 0x55;
			free(out);
		}
	}
}

TEST(unknown_and_unsupported_formats_are_said)
{
	struct err e = ERR_INIT;
	uint8_t *out;
	size_t n;

	CHECK_EQ(unpack_payload(&out, &n, (const uint8_t *)"BZh91AY&SY\0\0\0\0", 14, 100, &e), -EINVAL);
	CHECK_HAS(e.msg, "bzip2");
	CHECK_EQ(unpack_payload(&out, &n, (const uint8_t *)"what is this?", 13, 100, &e), -EINVAL);
	CHECK_HAS(e.msg, "no compression format");
	CHECK_EQ(unpack_payload(&out, &n, (const uint8_t *)"", 0, 100, &e), -EINVAL);
	CHECK(!unpack_format((const uint8_t *)"\x1f", 1));
}
