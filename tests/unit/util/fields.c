/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/fields.h"

struct inner {
	uint16_t a;
	uint64_t b;
};
struct outer {
	uint8_t mode;
	uint32_t table[3];
	struct inner in[2];
	uint8_t raw[5];
	uint32_t late;          /* since version 2 */
};

static const struct field inner_fields[] = { FIELD(struct inner, a, 1), FIELD(struct inner, b, 1) };
static const struct state_desc inner_desc = {
	"inner", 1, sizeof(struct inner), ARRAY_LEN(inner_fields), inner_fields, NULL
};

static int outer_check(void *state, struct err *err)
{
	struct outer *o = state;

	return o->mode > 3 ? err_set(err, -EPROTO, "mode %u cannot be", o->mode) : 0;
}

static const struct field outer_fields[] = {
	FIELD(struct outer, mode, 1), FIELD_ARRAY(struct outer, table, 1),
	FIELD_SUBS(struct outer, in, 1, &inner_desc), FIELD_RAW(struct outer, raw, 1),
	FIELD(struct outer, late, 2),
};
static const struct state_desc outer_v1 = { "outer", 1, sizeof(struct outer), 4, outer_fields, outer_check };
static const struct state_desc outer_v2 = { "outer", 2, sizeof(struct outer), 5, outer_fields, outer_check };

static const struct outer sample = {
	2, { 1, 0xffffffff, 3 }, { { 7, UINT64_MAX }, { 8, 9 } }, { 'h', 'e', 'l', 'l', 'o' }, 77
};

TEST(what_is_saved_comes_back)
{
	uint8_t buf[512];
	struct outer o = { 0 };
	long n = fields_save(&outer_v2, &sample, buf, sizeof(buf));

	CHECK_EQ(n, fields_saved_size(&outer_v2));
	CHECK_EQ(fields_load(&outer_v2, &o, buf, sizeof(buf), NULL), n);
	CHECK_EQ(o.table[1], 0xffffffff);
	CHECK_EQ(o.in[0].b, UINT64_MAX);
	CHECK_EQ(o.in[1].a, 8);
	CHECK_MEM(o.raw, "hello", 5);
	CHECK_EQ(o.late, 77);
	CHECK_EQ(fields_save(&outer_v2, &sample, buf, (size_t)n - 1), -ENOSPC);
}

TEST(fields_newer_than_the_saved_version_keep_their_value)
{
	uint8_t buf[512];
	struct outer o = { .late = 5 };
	long n = fields_save(&outer_v1, &sample, buf, sizeof(buf));

	CHECK_EQ(fields_load(&outer_v2, &o, buf, (size_t)n, NULL), n);
	CHECK_EQ(o.mode, 2);
	CHECK_EQ(o.late, 5);
}

TEST(a_newer_version_is_refused)
{
	uint8_t buf[512];
	struct outer o = { 0 };
	struct err e = ERR_INIT;
	long n = fields_save(&outer_v2, &sample, buf, sizeof(buf));

	CHECK_EQ(fields_load(&outer_v1, &o, buf, (size_t)n, &e), -EPROTO);
	CHECK_HAS(e.msg, "has version 2");
}

TEST(every_truncation_is_refused_and_changes_nothing)
{
	uint8_t buf[512];
	struct outer o = { 0 }, zero = { 0 };
	long n = fields_save(&outer_v2, &sample, buf, sizeof(buf));

	for (long len = 0; len < n; len++) {
		uint8_t *exact = malloc((size_t)len + 1); /* so that a sanitizer sees an overread */

		memcpy(exact, buf, (size_t)len);
		CHECK_EQ(fields_load(&outer_v2, &o, exact, (size_t)len, NULL), -EPROTO);
		CHECK_MEM(&o, &zero, sizeof(o));
		free(exact);
	}
}

TEST(every_damaged_header_byte_is_refused_or_harmless)
{
	uint8_t buf[512], bad[512];
	struct outer o;
	long n = fields_save(&outer_v2, &sample, buf, sizeof(buf));

	for (long i = 0; i < n; i++) {
		for (int bit = 0; bit < 8; bit++) {
			memcpy(bad, buf, (size_t)n);
			bad[i] ^= (uint8_t)(1 << bit);
			memset(&o, 0, sizeof(o));
			long r = fields_load(&outer_v2, &o, bad, (size_t)n, NULL);
			CHECK(r == n || r == -EPROTO);
		}
	}
}

TEST(impossible_values_are_refused_by_the_check)
{
	uint8_t buf[512];
	struct outer bad = sample, o = { 0 };
	struct err e = ERR_INIT;

	bad.mode = 9;
	long n = fields_save(&outer_v2, &bad, buf, sizeof(buf));
	CHECK_EQ(fields_load(&outer_v2, &o, buf, (size_t)n, &e), -EPROTO);
	CHECK_HAS(e.msg, "mode 9");
	CHECK_EQ(o.mode, 0);
}

static void collect(void *arg, const char *line)
{
	strcat(strcat(arg, line), "\n");
}

TEST(printing_names_every_field)
{
	char text[1024] = "";

	fields_print(&outer_v2, &sample, collect, text);
	CHECK_STR(text, "mode: 0x2\n"
			"table[0]: 0x1 0xffffffff 0x3\n"
			"in[0].a: 0x7\nin[0].b: 0xffffffffffffffff\nin[1].a: 0x8\nin[1].b: 0x9\n"
			"raw[0]: 68 65 6c 6c 6f\n"
			"late: 0x4d\n");
}
