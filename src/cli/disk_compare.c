/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk compare */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include "blk/compare.h"
#include "cli/disk.h"
#include "cli/output.h"

static int compare_result(const struct cli *c, int differs, uint64_t where, struct err *err)
{
	int r = 0;

	if (c->is_json) {
		json_t *o = json_pack("{s:b}", "identical", !differs);

		if (differs)
			json_object_set_new(o, "offset", json_integer((json_int_t)where));
		r = output_json(o, err);
	} else if (!c->is_quiet && differs) {
		printf("the disks differ at byte %" PRIu64 "\n", where);
	} else if (!c->is_quiet) {
		printf("the disks are the same\n");
	}
	return r < 0 ? r : differs ? CLI_DIFFERENT : CLI_DONE;
}

static int compare_run(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *a = NULL, *b = NULL;
	struct progress progress;
	uint64_t where = 0;
	int r = disk_open(&a, c, cli_arg(c, 0), cli_str(c, "--format"), 0, err);

	if (!r)
		r = disk_open(&b, c, cli_arg(c, 1), cli_str(c, "--other-format"), 0, err);
	if (r < 0)
		return r;
	progress_start(&progress, c, "comparing");
	const struct blk_progress p = disk_progress(&progress);

	r = blk_compare(a, b, &p, &where, err);
	progress_end(&progress);
	return r < 0 ? r : compare_result(c, r, where, err);
}

const struct cli_command disk_compare = {
	.path = "disk compare",
	.summary = "tell whether two images hold the same disk",
	.about = "Compares what a machine would see, whatever the formats. Where one disk is larger, the rest of it "
		 "has to be "
		 "zeroes. Exit status 3 says that they differ.",
	.args = (const struct cli_arg[]){ { "A", .help = "an image" }, { "B", .help = "another one" },
					  { .name = NULL } },
	.options = (const struct cli_option[]){
		{ "--format", 'f', CLI_STRING, .metavar = "FORMAT", .help = "format of A; else its content tells" },
		DISK_OPTION_KEY,
		{ "--other-format", 'F', CLI_STRING, .metavar = "FORMAT",
		  .help = "format of B; else its content tells" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){ { "disk compare old.vmdk new.qcow2", "after a conversion" },
						  { .line = NULL } },
	.run = compare_run,
};
