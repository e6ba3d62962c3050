/* SPDX-License-Identifier: Apache-2.0 */
/* af.c - the anti-forensic splitter (LUKS1 specification, section 2.4 "AF-Splitter").
 *
 * A key becomes STRIPES blocks of its length; all but the last are random, and only all of them give it back. So
 * a slot is destroyed for certain when any part of it was overwritten in fact. */
#include "blk/luks/luks_priv.h"

#include <errno.h>
#include <string.h>

/* Replace each piece of digest size by the digest of its number and itself. */
static int af_diffuse(const char *hash, uint8_t *block, size_t len)
{
	size_t size = luks_hash_size(hash);
	uint8_t digest[LUKS_DIGEST_MAX];
	int r = size ? 0 : -ENOTSUP;

	for (size_t at = 0, i = 0; !r && at < len; at += size, i++) {
		size_t n = len - at < size ? len - at : size;
		be32 number = be32_of((uint32_t)i);

		r = luks_hash(hash, &number, sizeof(number), block + at, n, digest);
		memcpy(block + at, digest, n);
	}
	explicit_bzero(digest, sizeof(digest));
	return r;
}

static void af_xor(uint8_t *to, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] ^= from[i];
}

int luks_af_split(const char *hash, const uint8_t *key, size_t len, unsigned stripes, uint8_t *out)
{
	uint8_t block[LUKS_KEY_MAX] = { 0 };
	int r = luks_random(out, len * (stripes - 1));

	for (unsigned i = 0; !r && i < stripes - 1; i++) {
		af_xor(block, out + i * len, len);
		r = af_diffuse(hash, block, len);
	}
	af_xor(block, key, len);
	memcpy(out + (stripes - 1) * len, block, len);
	explicit_bzero(block, sizeof(block));
	return r;
}

int luks_af_merge(const char *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *key)
{
	uint8_t block[LUKS_KEY_MAX] = { 0 };
	int r = 0;

	for (unsigned i = 0; !r && i < stripes - 1; i++) {
		af_xor(block, in + i * len, len);
		r = af_diffuse(hash, block, len);
	}
	af_xor(block, in + (stripes - 1) * len, len);
	memcpy(key, block, len);
	explicit_bzero(block, sizeof(block));
	return r;
}
