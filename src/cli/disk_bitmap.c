/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk bitmap add, rm, clear, list */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include "cli/disk.h"
#include "cli/output.h"

static int bitmap_say(const struct cli *c, const char *what, struct err *err)
{
	if (c->is_json)
		return output_json(json_pack("{s:s, s:s}", "filename", cli_arg(c, 0), "bitmap", cli_arg(c, 1)), err);
	if (!c->is_quiet)
		printf("%s: bitmap '%s' %s\n", cli_arg(c, 0), cli_arg(c, 1), what);
	return 0;
}

static int bitmap_add(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	int r = disk_open(&b, c, cli_arg(c, 0), cli_str(c, "--format"), DISK_WRITABLE, err);

	if (!r)
		r = blk_bitmap_add(b, cli_arg(c, 1), cli_num(c, "--granularity"), err);
	return r < 0 ? r : bitmap_say(c, "records from now on", err);
}

static int bitmap_rm(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	int r = disk_open(&b, c, cli_arg(c, 0), cli_str(c, "--format"), DISK_WRITABLE, err);

	if (!r)
		r = blk_bitmap_remove(b, cli_arg(c, 1), err);
	return r < 0 ? r : bitmap_say(c, "removed", err);
}

static int bitmap_clear(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	int r = disk_open(&b, c, cli_arg(c, 0), cli_str(c, "--format"), DISK_WRITABLE, err);

	if (!r)
		r = blk_bitmap_clear(b, cli_arg(c, 1), err);
	return r < 0 ? r : bitmap_say(c, "emptied", err);
}

static void bitmap_print(const json_t *m)
{
	char size[OUTPUT_SIZE_LEN];
	size_t i;
	json_t *flag;

	printf("%-12s", output_size(size, (uint64_t)json_integer_value(json_object_get(m, "granularity"))));
	output_text(stdout, json_string_value(json_object_get(m, "name")));
	json_array_foreach(json_object_get(m, "flags"), i, flag)
		printf("%s%s", i ? ", " : "  ", json_string_value(flag));
	putchar('\n');
}

static int bitmap_list(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	json_t *o = NULL, *m;
	size_t i;
	int r = disk_open(&b, c, cli_arg(c, 0), cli_str(c, "--format"), DISK_UNLOCKED | DISK_NO_BACKING | DISK_NO_KEY,
			  err);

	if (!r)
		r = blk_info(b, false, &o, err);
	if (r < 0)
		return r;
	json_t *list = json_object_get(json_object_get(o, "format-specific"), "bitmaps");

	if (c->is_json) {
		r = output_json(list ? json_incref(list) : json_array(), err);
	} else {
		printf("%-12s%s\n", "granularity", "name");
		json_array_foreach(list, i, m)
			bitmap_print(m);
	}
	json_decref(o);
	return r;
}

static const struct cli_arg bitmap_args[] = {
	{ "FILE", .help = "the image" }, { "NAME", .help = "of the bitmap" }, { .name = NULL },
};

const struct cli_command disk_bitmap_add = {
	.path = "disk bitmap add",
	.summary = "begin to remember which parts of a disk are written",
	.about = "The bitmap is kept in the image and records whenever the image is written, until it is removed.",
	.args = bitmap_args,
	.options = (const struct cli_option[]){
		DISK_OPTION_FORMAT,
		{ "--granularity", 'g', CLI_SIZE, .metavar = "SIZE", .def = "64K",
		  .help = "how large the parts are; a power of two" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){ { "disk bitmap add root.qcow2 daily", "before the first backup" },
						  { .line = NULL } },
	.run = bitmap_add,
};

const struct cli_command disk_bitmap_rm = {
	.path = "disk bitmap rm",
	.summary = "forget a dirty bitmap",
	.about = "Backups that go by it have to be complete the next time.",
	.args = bitmap_args,
	.options = (const struct cli_option[]){ DISK_OPTION_FORMAT, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "disk bitmap rm root.qcow2 daily", "when it is not needed" },
						  { .line = NULL } },
	.run = bitmap_rm,
};

const struct cli_command disk_bitmap_clear = {
	.path = "disk bitmap clear",
	.summary = "empty a dirty bitmap",
	.about = "It records on, from now.",
	.args = bitmap_args,
	.options = (const struct cli_option[]){ DISK_OPTION_FORMAT, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "disk bitmap clear root.qcow2 daily", "after a backup" },
						  { .line = NULL } },
	.run = bitmap_clear,
};

const struct cli_command disk_bitmap_list = {
	.path = "disk bitmap list",
	.summary = "list the dirty bitmaps in an image",
	.about = "A bitmap remembers which parts of the disk were written since it was made; incremental backups need "
		 "it. One "
		 "with the flag 'auto' goes on recording, one that is 'in-use' was not closed and nobody trusts it.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image" }, { .name = NULL } },
	.options = (const struct cli_option[]){ DISK_OPTION_FORMAT, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "disk bitmap list root.qcow2", "what there is" },
						  { .line = NULL } },
	.run = bitmap_list,
};
