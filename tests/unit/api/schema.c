/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include "api/schema.h"
#include "util/err.h"

static const struct schema disk = {
	.name = "Disk", .help = "A disk.",
	.fields = (const struct schema_field[]){
		{ .name = "size", .type = SCHEMA_SIZE, .is_required = true, .min = 512, .max = 1ll << 50, .help = "its size" },
		{ .name = "format", .type = SCHEMA_STRING, .choices = "raw|qcow2", .dflt = "\"qcow2\"", .help = "its format" },
		{ .name = NULL },
	},
};
static const struct schema machine = {
	.name = "Machine", .help = "A machine.",
	.fields = (const struct schema_field[]){
		{ .name = "name", .type = SCHEMA_NAME, .is_required = true, .help = "its name" },
		{ .name = "cpus", .type = SCHEMA_INT, .min = 1, .max = 255, .dflt = "1", .help = "processors" },
		{ .name = "memory", .type = SCHEMA_SIZE, .dflt = "536870912", .help = "memory" },
		{ .name = "on", .type = SCHEMA_BOOL, .help = "runs" },
		{ .name = "disks", .type = SCHEMA_LIST, .sub = &disk, .max = 2, .help = "disks" },
		{ .name = "labels", .type = SCHEMA_MAP, .max = 2, .help = "labels" },
		{ .name = "kernel", .type = SCHEMA_PATH, .help = "kernel" },
		{ .name = "share", .type = SCHEMA_SHARE, .min = 10, .max = 64000, .help = "share" },
		{ .name = "since", .type = SCHEMA_TIME, .help = "time" },
		{ .name = NULL },
	},
};

static json_t *parse(const char *text)
{
	json_t *doc = json_loads(text, JSON_DECODE_ANY, NULL);

	CHECK(doc);
	return doc;
}

/* TEXT must be refused: at FIELD, with WORDS in the sentence. */
static void refused_as(const char *text, bool is_patch, const char *field, const char *words)
{
	json_t *doc = parse(text);
	struct err err = ERR_INIT;
	char where[64];

	CHECK_EQ(schema_check(&machine, doc, is_patch, where, sizeof(where), &err), -EINVAL);
	CHECK_STR(where, field);
	CHECK_HAS(err.msg, words);
	json_decref(doc);
}

static void refused(const char *text, const char *field, const char *words) { refused_as(text, false, field, words); }

static void share_is(const char *given, const char *kept)
{
	char text[64], where[64];

	snprintf(text, sizeof(text), "{\"name\": \"a\", \"share\": %s}", given);
	if (!kept) {
		refused(text, "share", "0.01 to 64");
		return;
	}
	json_t *doc = parse(text);
	CHECK_EQ(schema_check(&machine, doc, false, where, sizeof(where), NULL), 0);
	CHECK_STR(json_string_value(json_object_get(doc, "share")), kept);
	json_decref(doc);
}

TEST(shares_are_numbers_or_their_texts_and_become_texts)
{
	static const char *const bad[] = { "\"\"", "\".5\"", "\"1.\"", "\"0.5555\"", "\"1e0\"", "\"nan\"", "\" 1\"", "\"1 \"", "\"0x1\"", "\"-1\"",
					   "\"0.001\"", "\"64.001\"", "\"99999999999999999999\"", "0", "-1", "65", "1e300", "true", "[]" };

	share_is("\"0.5\"", "0.5");
	share_is("0.5", "0.5");
	share_is("2", "2");
	share_is("\"64\"", "64");
	share_is("\"01.250\"", "1.25");
	share_is("0.333333", "0.333");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		share_is(bad[i], NULL);
}

TEST(defaults_are_filled_in_and_sizes_become_numbers)
{
	json_t *doc = parse("{\"name\": \"web-1\", \"memory\": \"1G\", \"disks\": [{\"size\": \"10G\"}]}");
	char where[64];

	CHECK_EQ(schema_check(&machine, doc, false, where, sizeof(where), NULL), 0);
	CHECK_EQ(json_integer_value(json_object_get(doc, "memory")), 1 << 30);
	CHECK_EQ(json_integer_value(json_object_get(doc, "cpus")), 1);
	json_t *d = json_array_get(json_object_get(doc, "disks"), 0);

	CHECK_EQ(json_integer_value(json_object_get(d, "size")), 10ll << 30);
	CHECK_STR(json_string_value(json_object_get(d, "format")), "qcow2");
	CHECK(!json_object_get(doc, "on"));
	json_decref(doc);
}

TEST(what_is_wrong_is_named_with_its_place)
{
	refused("{}", "name", "required");
	refused("[]", "", "object");
	refused("{\"name\": \"Web\"}", "name", "lower-case");
	refused("{\"name\": \"a-\"}", "name", "cannot be a name");
	refused("{\"name\": \"a\", \"cpu\": 1}", "cpu", "did you mean 'cpus'");
	refused("{\"name\": \"a\", \"zzzzzzzz\": 1}", "zzzzzzzz", "no field");
	refused("{\"name\": \"a\", \"cpus\": 256}", "cpus", "between 1 and 255");
	refused("{\"name\": \"a\", \"cpus\": 1.5}", "cpus", "whole number");
	refused("{\"name\": \"a\", \"memory\": \"much\"}", "memory", "much");
	refused("{\"name\": \"a\", \"on\": 1}", "on", "true or false");
	refused("{\"name\": \"a\", \"disks\": [{\"size\": 512}, {\"size\": 1}]}", "disks[1].size", "between");
	refused("{\"name\": \"a\", \"disks\": [{}]}", "disks[0].size", "required");
	refused("{\"name\": \"a\", \"disks\": [{\"size\": 512, \"format\": \"vmdk\"}]}", "disks[0].format", "not one of raw|qcow2");
	refused("{\"name\": \"a\", \"disks\": [{\"size\": 512, \"format\": \"raw|qcow2\"}]}", "disks[0].format", "not one of");
	refused("{\"name\": \"a\", \"disks\": [1]}", "disks[0]", "object");
	refused("{\"name\": \"a\", \"labels\": {\"x\": 1}}", "labels.x", "string");
	refused("{\"name\": \"a\", \"labels\": {\"x\": \"\", \"y\": \"\", \"z\": \"\"}}", "labels", "3 elements");
	refused("{\"name\": \"a\", \"kernel\": \"boot/vmlinuz\"}", "kernel", "absolute");
	refused("{\"name\": \"a\", \"since\": \"yesterday\"}", "since", "2026-01-31");
}

TEST(a_patch_requires_nothing_and_takes_away_with_null)
{
	json_t *doc = parse("{\"name\": \"a\", \"cpus\": 2, \"labels\": {\"x\": \"1\", \"y\": \"2\"}}");
	json_t *patch = parse("{\"cpus\": null, \"labels\": {\"x\": null, \"z\": \"3\"}}");
	char where[64];

	CHECK_EQ(schema_check(&machine, patch, true, where, sizeof(where), NULL), 0);
	json_t *merged = schema_merge(doc, patch), *want = parse("{\"name\": \"a\", \"labels\": {\"y\": \"2\", \"z\": \"3\"}}");

	CHECK(json_equal(merged, want));
	CHECK_EQ(json_integer_value(json_object_get(doc, "cpus")), 2);
	json_decref(doc);
	json_decref(patch);
	json_decref(merged);
	json_decref(want);
	refused_as("{\"name\": null}", true, "name", "taken away");
	refused_as("{\"disks\": [{}]}", true, "disks[0].size", "required");
}

TEST(openapi_says_what_the_table_says)
{
	json_t *map = json_object();

	schema_collect(&machine, map);
	CHECK_EQ(json_object_size(map), 2);
	json_t *m = json_object_get(map, "Machine"), *p = json_object_get(m, "properties");

	CHECK_STR(json_string_value(json_array_get(json_object_get(m, "required"), 0)), "name");
	CHECK_EQ(json_integer_value(json_object_get(json_object_get(p, "cpus"), "maximum")), 255);
	CHECK_STR(json_string_value(json_object_get(json_object_get(json_object_get(p, "disks"), "items"), "$ref")),
		  "#/components/schemas/Disk");
	json_t *choices = json_object_get(json_object_get(json_object_get(json_object_get(map, "Disk"), "properties"), "format"), "enum");

	CHECK_EQ(json_array_size(choices), 2);
	json_decref(map);
}
