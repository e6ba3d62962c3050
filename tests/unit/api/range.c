/* SPDX-License-Identifier: Apache-2.0 */
/* Which part of a file the header Range asks for. */
#include "test.h"

#include <errno.h>
#include "api/range.h"

static uint64_t off, len;

TEST(a_part_is_what_was_asked_for)
{
	CHECK_EQ(http_range("bytes=0-99", 1000, &off, &len), 1);
	CHECK(off == 0 && len == 100);
	CHECK_EQ(http_range("bytes=100-", 1000, &off, &len), 1);
	CHECK(off == 100 && len == 900);
	CHECK_EQ(http_range("bytes=-100", 1000, &off, &len), 1);
	CHECK(off == 900 && len == 100);
	CHECK_EQ(http_range("bytes=999-999", 1000, &off, &len), 1);
	CHECK(off == 999 && len == 1);
}

TEST(a_part_ends_where_the_file_does)
{
	CHECK_EQ(http_range("bytes=990-5000", 1000, &off, &len), 1);
	CHECK(off == 990 && len == 10);
	CHECK_EQ(http_range("bytes=0-9223372036854775800", 1000, &off, &len), 1);
	CHECK(off == 0 && len == 1000);
	CHECK_EQ(http_range("bytes=-5000", 1000, &off, &len), 1);
	CHECK(off == 0 && len == 1000);
}

TEST(what_is_not_there_is_refused)
{
	CHECK_EQ(http_range("bytes=1000-", 1000, &off, &len), -ERANGE);
	CHECK_EQ(http_range("bytes=1000-1001", 1000, &off, &len), -ERANGE);
	CHECK_EQ(http_range("bytes=-0", 1000, &off, &len), -ERANGE);
	CHECK_EQ(http_range("bytes=0-", 0, &off, &len), -ERANGE);
	CHECK_EQ(http_range("bytes=-1", 0, &off, &len), -ERANGE);
}

TEST(what_is_not_understood_is_all)
{
	static const char *const odd[] = { "", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=a-b", "bytes=0-1,5-6", "bytes=0-1 ", "items=0-1",
					   "bytes=99999999999999999999-", "bytes= 1-2", "bytes=+1-2", "bytes=1-2-3" };

	CHECK_EQ(http_range(NULL, 10, &off, &len), 0);
	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		CHECK_EQ(http_range(odd[i], 10, &off, &len), 0);
		CHECK(off == 0 && len == 10);
	}
}

TEST(a_part_that_is_sent_says_which_it_is)
{
	static const char *const odd[] = { "", "bytes", "bytes ", "bytes 0-9", "bytes 0-9/", "bytes 0-9/*", "bytes */10", "bytes 5-4/10", "bytes 0-10/10",
					   "bytes 0-9/10 ", "bytes=0-9/10", "bytes -9/10", "bytes 0-99999999999999999999/10", "items 0-9/10" };
	uint64_t size;

	CHECK_EQ(http_content_range("bytes 10-19/30", &off, &len, &size), 0);
	CHECK(off == 10 && len == 10 && size == 30);
	for (unsigned i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		CHECK_EQ(http_content_range(odd[i], &off, &len, &size), -EINVAL);
}
