/* SPDX-License-Identifier: Apache-2.0 */
#include "node/totp.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include "util/endian.h"

uint32_t totp_code(const uint8_t *key, size_t len, uint64_t counter, unsigned digits)
{
	uint8_t digest[EVP_MAX_MD_SIZE] = { 0 };
	uint32_t modulus = 1;
	be64 message = be64_of(counter);

	HMAC(EVP_sha1(), key, (int)len, message.b, sizeof(message.b), digest, NULL);
	/* Four bytes, from where the last four bits of the 20 say; without their sign. */
	const uint8_t *at = digest + (digest[19] & 15);
	uint32_t word = (uint32_t)(at[0] & 0x7f) << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];

	while (digits--)
		modulus *= 10;
	OPENSSL_cleanse(digest, sizeof(digest));
	return word % modulus;
}

int64_t totp_last_step(int64_t last, uint64_t now_s, uint64_t doubt_s, uint64_t *when)
{
	int64_t newest = (int64_t)(now_s / TOTP_STEP_S) + TOTP_WINDOW;

	*when = 0;
	if (last <= newest)
		return last;
	if (last - newest > (int64_t)(doubt_s / TOTP_STEP_S))
		return 0;
	*when = (uint64_t)(last + 1) * TOTP_STEP_S;
	return last;
}

/* All steps are looked at, so the time that it takes tells nothing. */
int64_t totp_find_step(const uint8_t key[TOTP_KEY_LEN], const char *code, uint64_t now_s, int64_t last)
{
	int64_t now = (int64_t)(now_s / TOTP_STEP_S), found = -ENOENT;
	char text[16];

	if (strlen(code) != TOTP_DIGITS)
		return -ENOENT;
	for (int64_t step = now - TOTP_WINDOW; step <= now + TOTP_WINDOW; step++) {
		snprintf(text, sizeof(text), "%0*u", TOTP_DIGITS, totp_code(key, TOTP_KEY_LEN, (uint64_t)step, TOTP_DIGITS));
		if (!CRYPTO_memcmp(text, code, TOTP_DIGITS))
			found = step > last ? step : found > 0 ? found : -EALREADY;
	}
	OPENSSL_cleanse(text, sizeof(text));
	return found;
}

void totp_base32(char *out, const uint8_t *in, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

	for (; len >= 5; len -= 5, in += 5) {
		uint64_t bits = 0;

		for (unsigned i = 0; i < 5; i++)
			bits = bits << 8 | in[i];
		for (int shift = 35; shift >= 0; shift -= 5)
			*out++ = digits[bits >> shift & 31];
	}
	*out = 0;
}
