/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/str.h"

TEST(sizes_have_suffixes)
{
	static const struct { const char *text; uint64_t v; } good[] = {
		{ "0", 0 }, { "1048576", 1 << 20 }, { "512M", 512ull << 20 }, { "512m", 512ull << 20 },
		{ "4GiB", 4ull << 30 }, { "4gb", 4ull << 30 }, { "1T", 1ull << 40 }, { "0x10k", 16 << 10 },
		{ "16777215T", 16777215ull << 40 },
	};
	static const char *const bad[] = {
		"", "M", "-1", "+1", " 1", "1 ", "1.5G", "1X", "1MM", "1MiBs", "0x", "16777216T",
		"18446744073709551616",
	};
	uint64_t v;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		CHECK_EQ(str_parse_size(&v, good[i].text, NULL), 0);
		CHECK_EQ(v, good[i].v);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		v = 99;
		CHECK(str_parse_size(&v, bad[i], NULL) < 0);
		CHECK_EQ(v, 99);
	}
}

TEST(numbers_take_nothing_around_them)
{
	uint64_t v;

	CHECK_EQ(str_parse_u64(&v, "010", NULL), 0);
	CHECK_EQ(v, 10);
	CHECK_EQ(str_parse_u64(&v, "0xff", NULL), 0);
	CHECK_EQ(v, 255);
	CHECK_EQ(str_parse_u64(&v, "12a", NULL), -EINVAL);
	CHECK_EQ(str_parse_u64(&v, "99999999999999999999", NULL), -ERANGE);
}

static int next(const char **p, char *k, char *v, bool *has)
{
	return str_next_pair(p, k, 16, v, 16, has, NULL);
}

TEST(pair_lists_split_at_commas_and_keep_doubled_ones)
{
	const char *p = "user,path=a,,b=c,,,readonly=,x=1";
	char k[16], v[16];
	bool has;

	CHECK_EQ(next(&p, k, v, &has), 1);
	CHECK_STR(k, "user");
	CHECK(!has);
	CHECK_EQ(next(&p, k, v, &has), 1);
	CHECK_STR(k, "path");
	CHECK_STR(v, "a,b=c,");
	CHECK_EQ(next(&p, k, v, &has), 1);
	CHECK_STR(k, "readonly");
	CHECK(has);
	CHECK_STR(v, "");
	CHECK_EQ(next(&p, k, v, &has), 1);
	CHECK_STR(v, "1");
	CHECK_EQ(next(&p, k, v, &has), 0);
}

TEST(malformed_pair_lists_are_refused)
{
	static const char *const bad[] = {
		",a=b", "=b", "a,", "a=b,", "averyveryverylongkey=1", "a=averyveryverylongvalue",
	};
	char k[16], v[16];
	bool has;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const char *p = bad[i];

		CHECK_EQ(next(&p, k, v, &has), -EINVAL);
	}
}

TEST(distance_counts_edits)
{
	CHECK_EQ(str_distance("memory", "memory"), 0);
	CHECK_EQ(str_distance("memroy", "memory"), 1);
	CHECK_EQ(str_distance("cpu", "cpus"), 1);
	CHECK_EQ(str_distance("", "abc"), 3);
	CHECK_EQ(str_distance("kernel", "initrd"), 6);
}
