/* SPDX-License-Identifier: Apache-2.0 */
/* With SSE4.2 by the instruction, eight bytes at a time, else bit by bit from a table of bytes. */
#include "util/crc32c.h"

#include <nmmintrin.h>
#include <string.h>

#define POLY 0x82f63b78u        /* reflected */

static uint32_t crc32c_bits(uint32_t c)
{
	for (int bit = 0; bit < 8; bit++)
		c = c >> 1 ^ (c & 1 ? POLY : 0);
	return c;
}

static uint32_t crc32c_plain(uint32_t c, const uint8_t *p, size_t len)
{
	uint32_t table[256];

	for (uint32_t i = 0; len >= 256 && i < 256; i++)
		table[i] = crc32c_bits(i);
	for (size_t i = 0; i < len; i++)
		c = len >= 256 ? c >> 8 ^ table[(c ^ p[i]) & 255] : crc32c_bits(c ^ p[i]);
	return c;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t c, const uint8_t *p, size_t len)
{
	uint64_t wide = c;

	for (; len >= 8; p += 8, len -= 8) {
		uint64_t v;

		memcpy(&v, p, 8);
		wide = _mm_crc32_u64(wide, v);
	}
	c = (uint32_t)wide;
	for (; len; p++, len--)
		c = _mm_crc32_u8(c, *p);
	return c;
}

uint32_t crc32c(uint32_t sum, const void *buf, size_t len)
{
	return ~(__builtin_cpu_supports("sse4.2") ? crc32c_sse42(~sum, buf, len) : crc32c_plain(~sum, buf, len));
}
