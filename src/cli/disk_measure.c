/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk measure */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include "blk/measure.h"
#include "cli/disk.h"
#include "cli/output.h"
#include "cli/progress.h"

static int measure_run(struct cli *c, struct err *err)
{
	const char *path = cli_arg(c, 0), *format = cli_str(c, "--format");
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	AUTO(blk_close) struct blk *b = NULL;
	char need[OUTPUT_SIZE_LEN], all[OUTPUT_SIZE_LEN];
	struct blk_measure m;
	struct progress p;
	struct blk_progress progress = disk_progress(&p);
	int r = 0;

	if (!path && !cli_has(c, "--size"))
		return err_set(err, -EINVAL, "name an image, or say how large the disk is with --size");
	if (path)
		r = disk_open(&b, c, path, cli_str(c, "--source-format"), 0, err);
	if (!r)
		r = disk_create_opts(&opts, c, format, err);
	progress_start(&p, c, "measuring");
	if (!r)
		r = blk_measure(b, cli_num(c, "--size"), format, &opts, &progress, &m, err);
	progress_end(&p);
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_pack("{s:I, s:I}", "required", (json_int_t)m.required, "fully-allocated",
					     (json_int_t)m.fully_allocated), err);
	printf("a %s image of it takes %s, and %s when all of the disk is written\n", format,
	       output_size(need, m.required),
	       output_size(all, m.fully_allocated));
	return 0;
}

const struct cli_command disk_measure = {
	.path = "disk measure",
	.summary = "tell how large a new image would be",
	.about = "For a conversion, or with --size for a new disk. Compression is not foreseen, nor zeroes that are "
		 "stored as data. All files of an image count, and of a fixed one the blocks that it has from the "
		 "beginning.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image to convert", .is_optional = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){
		{ "--format", 'f', CLI_STRING, .metavar = "FORMAT", .def = "qcow2", .help = "format of the new image" },
		DISK_OPTION_KEY,
		{ "--source-format", 0, CLI_STRING, .metavar = "FORMAT",
		  .help = "format of FILE; else its content tells" },
		{ "--size", 0, CLI_SIZE, .metavar = "SIZE", .help = "of an empty disk, without FILE" },
		{ "-o", 'o', CLI_STRING, .is_repeatable = true, .metavar = "NAME=VALUE,...",
		  .help = "options of the new image's format" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk measure root.vmdk", "before it is converted to qcow2" },
		{ "disk measure --size 1T --format qcow2", "what a new disk may come to" },
		{ .line = NULL },
	},
	.run = measure_run,
};
