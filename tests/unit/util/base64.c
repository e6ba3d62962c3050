/* SPDX-License-Identifier: Apache-2.0 */
#include "util/base64.h"

#include <errno.h>
#include "test.h"

TEST(bytes_become_text_and_bytes_again)
{
	static const char *const text[] = { "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };  /* RFC 4648, section 10 */
	char out[BASE64_LEN(256) + 1];
	uint8_t in[256], back[sizeof(out)];

	for (size_t n = 0; n < 7; n++) {
		base64_encode(out, "foobar", n);
		CHECK_STR(out, text[n]);
		CHECK_EQ(base64_decode(back, text[n], strlen(text[n])), n);
		CHECK_MEM(back, "foobar", n);
	}
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 7);
	for (size_t n = 0; n <= sizeof(in); n++) {
		base64_encode(out, in, n);
		CHECK_EQ(base64_decode(back, out, strlen(out)), n);
		CHECK_MEM(back, in, n);
	}
}

TEST(what_is_not_base64_is_refused)
{
	static const char *const bad[] = { "Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9 ", "Zm9\n", "Z*9v", "Zm=v", "Zm9vZ" };
	uint8_t out[16];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(base64_decode(out, bad[i], strlen(bad[i])), -EINVAL);
}
