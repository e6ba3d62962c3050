/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk info */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "cli/disk.h"
#include "cli/output.h"

enum { INFO_COLUMN = 18 };

static void info_row(const char *name, const char *value)
{
	printf("%-*s", INFO_COLUMN, name);
	output_text(stdout, value);
	putchar('\n');
}

static void info_size(const json_t *o, const char *key, const char *name)
{
	const json_t *v = json_object_get(o, key);
	char text[OUTPUT_SIZE_LEN], row[80];
	uint64_t n = (uint64_t)json_integer_value(v);

	if (!v)
		return;
	output_size(text, n);
	if (n < 1024)
		snprintf(row, sizeof(row), "%s", text);
	else
		snprintf(row, sizeof(row), "%s (%" PRIu64 " bytes)", text, n);
	info_row(name, row);
}

static void info_string(const json_t *o, const char *key, const char *name)
{
	const char *v = json_string_value(json_object_get(o, key));

	if (v)
		info_row(name, v);
}

static void info_value(const char *key, const json_t *v)
{
	char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);

	if (json_is_string(v))
		info_row(key, json_string_value(v));
	else if (json_is_boolean(v))
		info_row(key, json_is_true(v) ? "yes" : "no");
	else if (text)
		info_row(key, text);
	free(text);
}

static void info_special(const json_t *o)
{
	const char *key;
	const json_t *v;

	/* The iterator does not change what it walks. */
	json_object_foreach((json_t *)(uintptr_t)o, key, v) {
		const char *name;
		size_t i;
		json_t *m;

		if (strcmp(key, "bitmaps")) {
			info_value(key, v);
			continue;
		}
		json_array_foreach((json_t *)(uintptr_t)v, i, m) {
			name = json_string_value(json_object_get(m, "name"));
			info_row(i ? "" : "bitmaps", name ? name : "?");
		}
	}
}

static void info_snapshots(const json_t *list)
{
	size_t i;
	json_t *s;

	json_array_foreach((json_t *)(uintptr_t)list, i, s) {
		time_t when = (time_t)json_integer_value(json_object_get(s, "date-sec"));
		char text[400], date[32] = "";
		struct tm tm;

		if (localtime_r(&when, &tm))
			strftime(date, sizeof(date), "%F %T", &tm);
		snprintf(text, sizeof(text), "%s  %s  %s", json_string_value(json_object_get(s, "id")), date,
			 json_string_value(json_object_get(s, "name")));
		info_row(i ? "" : "snapshots", text);
	}
}

static void info_print(const json_t *o)
{
	info_string(o, "filename", "image");
	info_string(o, "format", "format");
	info_size(o, "virtual-size", "disk size");
	info_size(o, "actual-size", "space taken");
	info_size(o, "cluster-size", "cluster size");
	info_string(o, "backing-filename", "backing image");
	info_string(o, "backing-format", "backing format");
	info_special(json_object_get(o, "format-specific"));
	info_snapshots(json_object_get(o, "snapshots"));
	if (json_object_get(o, "backing")) {
		putchar('\n');
		info_print(json_object_get(o, "backing"));
	}
}

static int info_run(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	bool is_chain = cli_flag(c, "--chain");
	json_t *o = NULL;
	int r = disk_open(&b, c, cli_arg(c, 0), cli_str(c, "--format"),
			  DISK_UNLOCKED | DISK_NO_KEY | (is_chain ? 0 : DISK_NO_BACKING), err);

	if (!r)
		r = blk_info(b, is_chain, &o, err);
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(o, err);
	info_print(o);
	json_decref(o);
	return 0;
}

const struct cli_command disk_info = {
	.path = "disk info",
	.summary = "tell what an image is",
	.about = "Format, sizes, backing image, snapshots, and what else the format knows about itself. The image may "
		 "be in "
		 "use; what is told can then be old.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image" }, { .name = NULL } },
	.options = (const struct cli_option[]){
		DISK_OPTION_FORMAT,
		{ "--chain", 0, CLI_FLAG, .help = "tell of the backing images, too" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk info root.qcow2", "what it is" },
		{ "disk info --chain --json web1.qcow2", "all images that it is made of, for a program" },
		{ .line = NULL },
	},
	.run = info_run,
};
