/* SPDX-License-Identifier: Apache-2.0 */
/* totp.h - codes that an authenticator shows: HOTP (RFC 4226) of the time (RFC 6238), with HMAC-SHA-1, 6 digits and steps
 * of 30 seconds, as every authenticator knows them. What is kept of them, and who has to show one, is factor.h's. Any
 * thread. */
#ifndef NODE_TOTP_H
#define NODE_TOTP_H

#include <stddef.h>
#include <stdint.h>

enum {
	TOTP_KEY_LEN = 20,              /* bytes: as long as the hash (RFC 4226 4, R6) */
	TOTP_DIGITS = 6,
	TOTP_STEP_S = 30,
	TOTP_WINDOW = 1,                /* steps that clocks may be apart, either way (RFC 6238 5.2) */
	TOTP_BASE32_LEN = 32,           /* characters of a key */
};

/* The code of COUNTER (RFC 4226 5.3): a number of at most DIGITS (1 to 9) decimal digits. */
uint32_t totp_code(const uint8_t *key, size_t len, uint64_t counter, unsigned digits);

/* The step of the time (in units of TOTP_STEP_S since 1970) to which CODE, TOTP_DIGITS digits, belongs, when it is within the
 * window around NOW_S. -ENOENT: to none; -EALREADY: to one that is not after LAST, the one that was used last (0: none). */
int64_t totp_find_step(const uint8_t key[TOTP_KEY_LEN], const char *code, uint64_t now_s, int64_t last);

/* The step that was used last, LAST, as totp_find_step() is to have it at NOW_S: 0 when it lies so far ahead that the clock must have been
 * wrong when it was used. *WHEN: until then no code is taken, as the clock has been set back by less than that; 0: it has not. */
int64_t totp_last_step(int64_t last, uint64_t now_s, uint64_t doubt_s, uint64_t *when);

/* LEN bytes, a multiple of 5, as base32 (RFC 4648 6): LEN / 5 * 8 characters and a NUL. */
void totp_base32(char *out, const uint8_t *in, size_t len);

#endif
