/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk bitmap list */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include "cli/disk.h"
#include "cli/output.h"

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
	int r = disk_open(&b, c, cli_arg(c, 0), cli_str(c, "--format"), DISK_UNLOCKED | DISK_NO_BACKING | DISK_NO_KEY, err);

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

const struct cli_command disk_bitmap_list = {
	.path = "disk bitmap list",
	.summary = "list the dirty bitmaps in an image",
	.about = "A bitmap remembers which parts of the disk were written since it was made; incremental backups need it. One "
		 "with the flag 'auto' goes on recording, one that is 'in-use' was not closed and nobody trusts it.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image" }, { .name = NULL } },
	.options = (const struct cli_option[]){ DISK_OPTION_FORMAT, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "disk bitmap list root.qcow2", "what there is" }, { .line = NULL } },
	.run = bitmap_list,
};
