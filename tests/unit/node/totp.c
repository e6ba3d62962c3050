/* SPDX-License-Identifier: Apache-2.0 */
/* Codes of authenticators, against the examples of the standards. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/totp.h"

/* The secret of the examples of both. */
static const uint8_t key[TOTP_KEY_LEN] = "12345678901234567890";

TEST(codes_of_counters_are_those_of_rfc_4226_appendix_d)
{
	static const uint32_t codes[] = { 755224, 287082, 359152, 969429, 338314, 254676, 287922, 162583, 399871, 520489 };

	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		CHECK_EQ(totp_code(key, sizeof(key), i, 6), codes[i]);
}

TEST(codes_of_times_are_those_of_rfc_6238_appendix_b)
{
	static const struct { uint64_t time; uint32_t code; } cases[] = {
		{ 59, 94287082 }, { 1111111109, 7081804 }, { 1111111111, 14050471 }, { 1234567890, 89005924 },
		{ 2000000000, 69279037 }, { 20000000000, 65353130 },
	};
	char text[16];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK_EQ(totp_code(key, sizeof(key), cases[i].time / TOTP_STEP_S, 8), cases[i].code);
		snprintf(text, sizeof(text), "%06u", cases[i].code % 1000000);
		CHECK_EQ(totp_find_step(key, text, cases[i].time, 0), (int64_t)(cases[i].time / TOTP_STEP_S));
	}
}

TEST(a_code_is_good_one_step_earlier_and_later_and_no_further)
{
	const uint64_t now = 1234567890, step = now / TOTP_STEP_S;
	char text[16];

	for (int off = -3; off <= 3; off++) {
		int64_t of = (int64_t)step + off;

		snprintf(text, sizeof(text), "%06u", totp_code(key, sizeof(key), (uint64_t)of, 6));
		CHECK_EQ(totp_find_step(key, text, now, 0), off >= -1 && off <= 1 ? of : -ENOENT);
	}
}

TEST(a_code_is_taken_once_and_no_earlier_one_after_it)
{
	const uint64_t now = 1111111111, step = now / TOTP_STEP_S;
	char before[16], same[16], after[16];

	snprintf(before, sizeof(before), "%06u", totp_code(key, sizeof(key), step - 1, 6));
	snprintf(same, sizeof(same), "%06u", totp_code(key, sizeof(key), step, 6));
	snprintf(after, sizeof(after), "%06u", totp_code(key, sizeof(key), step + 1, 6));
	CHECK_EQ(totp_find_step(key, same, now, (int64_t)step - 1), (int64_t)step);
	CHECK_EQ(totp_find_step(key, same, now, (int64_t)step), -EALREADY);
	CHECK_EQ(totp_find_step(key, before, now, (int64_t)step), -EALREADY);
	CHECK_EQ(totp_find_step(key, after, now, (int64_t)step), (int64_t)step + 1);
	CHECK_EQ(totp_find_step(key, same, now + TOTP_STEP_S, (int64_t)step), -EALREADY);
}

TEST(a_clock_that_was_years_ahead_locks_nobody_out)
{
	const uint64_t now = 1111111111, step = now / TOTP_STEP_S, day = 86400;
	uint64_t when = 1;

	CHECK_EQ(totp_last_step((int64_t)step + 1, now, day, &when), (int64_t)step + 1);
	CHECK_EQ(when, 0);
	/* An hour: what was used may have been seen by others, and is not taken again. */
	CHECK_EQ(totp_last_step((int64_t)step + 120, now, day, &when), (int64_t)step + 120);
	CHECK_EQ(when, (step + 121) * TOTP_STEP_S);
	CHECK_EQ(totp_last_step((int64_t)step + 10000000, now, day, &when), 0);
	CHECK_EQ(when, 0);
}

TEST(what_is_no_code_is_none)
{
	static const char *const bad[] = { "", "0", "05047", "0504711", "05047x", "-50471", " 50471", "050471 " };

	CHECK_EQ(totp_find_step(key, "050471", 1111111111, 0), 1111111111 / TOTP_STEP_S);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(totp_find_step(key, bad[i], 1111111111, 0), -ENOENT);
}

TEST(base32_is_that_of_rfc_4648_section_10)
{
	char out[TOTP_BASE32_LEN + 1];

	totp_base32(out, (const uint8_t *)"fooba", 5);
	CHECK(!strcmp(out, "MZXW6YTB"));
	totp_base32(out, key, sizeof(key));
	CHECK(!strcmp(out, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"));
	totp_base32(out, key, 0);
	CHECK(!out[0]);
}
