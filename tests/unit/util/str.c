/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
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

TEST(texts_of_others_give_a_terminal_no_commands)
{
	static const struct { const char *text, *shown; } cases[] = {
		{ "plain", "plain" }, { "\033[2J", "?[2J" }, { "a\rb\nc\td\177", "a?b?c?d?" },
		{ "h\303\244l \344\270\255 \360\237\230\200", "h\303\244l \344\270\255 \360\237\230\200" },
		{ "\302\2332J", "??2J" }, { "\302\240", "\302\240" }, { "\2332J", "?2J" }, { "\303", "?" }, { "\344\270", "??" },
		{ "\303(", "?(" }, { "\300\233", "??" }, { "", "" },
	};
	char text[64];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		strcpy(text, cases[i].text);
		str_make_harmless(text);
		CHECK(!strcmp(text, cases[i].shown));
	}
}

TEST(a_line_of_the_log_is_one_line)
{
	char text[256] = "";
	int p[2];

	CHECK(!pipe(p));
	log_set_fd(p[1]);
	log_error("the name '%s' is wrong", "x'\nvivd: info: all is well\033[1A");
	log_set_fd(STDERR_FILENO);
	CHECK(read(p[0], text, sizeof(text) - 1) > 0);
	CHECK(strstr(text, "'x'?vivd: info: all is well?[1A' is wrong\n") && strchr(text, '\n') == strrchr(text, '\n'));
	CHECK(!close(p[0]) && !close(p[1]));
}
