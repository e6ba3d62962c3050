/* SPDX-License-Identifier: Apache-2.0 */
/* deflate.c - what is packed is read by zlib with a window of 4 KiB, a little at a time. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "blk/qcow2/deflate.h"
#include "test.h"
#include "util/cleanup.h"

enum { MAX = 2 << 20, STEP = 1000 };

DEFINE_AUTO(struct q2_deflate *, q2_deflate_free)

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* In steps, so that what is behind the window is out of zlib's reach. */
static void check_stream(const uint8_t *packed, size_t n, const uint8_t *want, size_t len)
{
	z_stream z = { .next_in = (Bytef *)(uintptr_t)packed, .avail_in = (uInt)n };
	uint8_t part[STEP + 1];
	size_t done = 0;
	int r = Z_OK;

	CHECK_EQ(inflateInit2(&z, -12), Z_OK);
	while (r == Z_OK) {
		z.next_out = part;
		z.avail_out = STEP;
		r = inflate(&z, Z_NO_FLUSH);
		CHECK(r == Z_OK || r == Z_STREAM_END);
		size_t got = STEP - z.avail_out;

		CHECK(done + got <= len && !memcmp(part, want + done, got));
		done += got;
	}
	CHECK_EQ(done, len);
	CHECK_EQ(z.avail_in, 0);
	inflateEnd(&z);
}

static size_t pack_and_check(struct q2_deflate *d, const uint8_t *in, size_t len)
{
	AUTO(free) uint8_t *out = malloc(len * 2 + 64);

	CHECK(out);
	size_t n = q2_deflate_pack(d, in, len, out, len * 2 + 64);

	CHECK(n);
	check_stream(out, n, in, len);
	return n;
}

/* Of LEN bytes: the same one, noise, few values, words, repetitions just within and just beyond the window. */
static void fill(uint8_t *v, size_t len, unsigned kind, uint64_t *x)
{
	static const char words[] = "the quick brown fox jumps over a lazy dog 0123456789 and again ";
	size_t period = kind == 4 ? 4096 : 4097;

	for (size_t i = 0; i < len; i++) {
		uint64_t r = next_random(x) >> 20;

		switch (kind) {
		case 0: v[i] = 7; break;
		case 1: v[i] = (uint8_t)r; break;
		case 2: v[i] = (uint8_t)(r % 3); break;
		case 3: v[i] = i && r % 9 ? (uint8_t)words[(size_t)(strchr(words, v[i - 1]) - words + 1) % (sizeof(words) - 1)]
					  : (uint8_t)words[r % (sizeof(words) - 1)]; break;
		default: v[i] = i >= period ? v[i - period] : (uint8_t)r; break;
		}
	}
}

TEST(zlib_reads_it_with_a_small_window)
{
	static const size_t sizes[] = { 1, 2, 3, 4, 258, 259, 512, 513, 4096, 5000, 65536, 70000, MAX };
	AUTO(q2_deflate_free) struct q2_deflate *d = q2_deflate_new();
	AUTO(free) uint8_t *in = malloc(MAX);
	uint64_t x = 99;

	CHECK(d && in);
	for (unsigned kind = 0; kind < 6; kind++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			fill(in, sizes[i], kind, &x);
			size_t n = pack_and_check(d, in, sizes[i]);

			if (kind == 0 && sizes[i] > 1000)
				CHECK(n < sizes[i] / 100);
			if (kind == 4 && sizes[i] == MAX)
				CHECK(n < MAX / 20);
		}
	}
}

/* Each value half as often as the next: a tree deeper than codes may be long. */
TEST(rare_bytes_have_codes_that_are_not_too_long)
{
	AUTO(q2_deflate_free) struct q2_deflate *d = q2_deflate_new();
	AUTO(free) uint8_t *in = malloc(MAX);
	uint64_t x = 5;

	CHECK(d && in);
	for (size_t i = 0; i < MAX; i++)
		in[i] = (uint8_t)__builtin_ctzll(next_random(&x) | 1ull << 40);
	pack_and_check(d, in, MAX);
	for (size_t i = 0; i < 16000; i++)      /* and in one block without matches */
		in[i] = i < 200 ? (uint8_t)i : (uint8_t)(200 + __builtin_ctzll(next_random(&x) | 1ull << 30));
	pack_and_check(d, in, 16000);
}

TEST(it_never_writes_more_than_there_is_room_for)
{
	AUTO(q2_deflate_free) struct q2_deflate *d = q2_deflate_new();
	uint8_t in[3000], out[3500];
	uint64_t x = 12;

	CHECK(d);
	for (unsigned kind = 1; kind < 4; kind++) {
		fill(in, sizeof(in), kind, &x);
		size_t n = pack_and_check(d, in, sizeof(in));

		for (size_t cap = 0; cap <= n + 8; cap++) {
			memset(out, 0xa5, sizeof(out));
			size_t got = q2_deflate_pack(d, in, sizeof(in), out, cap);

			CHECK_EQ(got, cap < n ? 0 : n);
			CHECK(out[cap] == 0xa5 && out[cap + 1] == 0xa5);
		}
	}
}
