/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk map */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/disk.h"
#include "cli/output.h"
#include "cli/progress.h"

static json_t *map_json(const struct blk_extent *e)
{
	json_t *o = json_pack("{s:I, s:I, s:i, s:b, s:b, s:b, s:b}", "start", (json_int_t)e->off, "length",
			      (json_int_t)e->len,
			      "depth", (int)e->depth, "data", !!(e->flags & BLK_EXT_DATA), "zero",
			      !!(e->flags & BLK_EXT_ZERO), "allocated", !!(e->flags & BLK_EXT_ALLOCATED), "compressed",
			      !!(e->flags & BLK_EXT_COMPRESSED));

	if (o && e->flags & BLK_EXT_HOST && e->flags & BLK_EXT_DATA) {
		json_object_set_new(o, "offset", json_integer((json_int_t)e->host_off));
		json_object_set_new(o, "filename", json_string(blk_name(e->host)));
	}
	return o;
}

static void map_print(const struct blk_extent *e)
{
	const char *what = e->flags & BLK_EXT_COMPRESSED ? "compressed" : e->flags & BLK_EXT_DATA ? "data" : "zeroes";

	printf("%16" PRIu64 " %16" PRIu64 " %5u  %s", e->off, e->len, e->depth, what);
	if (e->flags & BLK_EXT_HOST && e->flags & BLK_EXT_DATA) {
		printf(" at %" PRIu64 " of ", e->host_off);
		output_text(stdout, blk_name(e->host));
	}
	putchar('\n');
}

static bool map_continues(const struct blk_extent *a, const struct blk_extent *b)
{
	return a->flags == b->flags && a->depth == b->depth && a->host == b->host &&
	       (!(a->flags & BLK_EXT_HOST) || !(a->flags & BLK_EXT_DATA) || a->host_off + a->len == b->host_off);
}

static void map_tell(const struct cli *c, const struct blk_extent *e, json_t *list)
{
	if (!e->len)
		return;
	if (c->is_json)
		json_array_append_new(list, map_json(e));
	else
		map_print(e);
}

static int map_all(const struct cli *c, struct blk *b, json_t *list, struct progress *p, struct err *err)
{
	struct blk_extent last = { .len = 0 }, e;

	for (uint64_t off = 0; off < blk_size(b); off += e.len) {
		int r = blk_map(b, off, blk_size(b) - off, true, &e);

		if (r < 0)
			return err_set(err, r, "cannot examine '%s' at byte %" PRIu64 ": %s", blk_name(b), off,
				       strerror(-r));
		r = progress_update(p, off + e.len, blk_size(b));
		if (r < 0)
			return err_set(err, r, "interrupted");
		if (last.len && map_continues(&last, &e)) {
			last.len += e.len;
			continue;
		}
		map_tell(c, &last, list);
		last = e;
	}
	map_tell(c, &last, list);
	return 0;
}

static int map_run(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	json_t *list = json_array();
	struct progress p;
	int r = disk_open(&b, c, cli_arg(c, 0), cli_str(c, "--format"), DISK_UNLOCKED, err);

	if (!r && !c->is_json)
		printf("%16s %16s %5s  %s\n", "offset", "length", "depth", "what");
	progress_start(&p, c, "looking");
	p.is_shown &= !isatty(STDOUT_FILENO);   /* the list itself shows how far it is */
	if (!r)
		r = map_all(c, b, list, &p, err);
	progress_end(&p);
	if (r < 0 || !c->is_json) {
		json_decref(list);
		return r;
	}
	return output_json(list, err);
}

const struct cli_command disk_map = {
	.path = "disk map",
	.summary = "tell what is where in an image",
	.about = "Lists the ranges of the disk: where data is stored, in which image of the chain (depth 0 is FILE "
		 "itself), "
		 "and what reads as zeroes.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image" }, { .name = NULL } },
	.options = (const struct cli_option[]){ DISK_OPTION_FORMAT, { .name = NULL } },
	.examples = (const struct cli_example[]){
		{ "disk map web1.qcow2", "ranges of a disk" },
		{ "disk map --json web1.qcow2", "the same for a program" },
		{ .line = NULL },
	},
	.run = map_run,
};
