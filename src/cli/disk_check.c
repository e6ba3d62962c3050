/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk check */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "cli/disk.h"
#include "cli/output.h"
#include "cli/progress.h"

static void check_line(void *arg, const char *line)
{
	const struct progress *p = arg;

	fprintf(stderr, "%s%s\n", p->is_shown ? "\r\033[K" : "", line);
}

static void check_print(const struct blk_check *k)
{
	if (k->n_errors_fixed || k->n_leaks_fixed)
		printf("repaired: %" PRIu64 " errors, %" PRIu64 " leaked clusters\n", k->n_errors_fixed,
		       k->n_leaks_fixed);
	if (k->n_errors)
		printf("%" PRIu64 " errors: data may be lost; viv disk check --repair makes the image usable again\n",
		       k->n_errors);
	if (k->n_leaks)
		printf("%" PRIu64 " leaked clusters: they take space and do no harm; viv disk check --repair frees "
		       "them\n",
		       k->n_leaks);
	if (!k->n_errors && !k->n_leaks)
		printf("nothing is wrong\n");
	if (k->n_clusters)
		printf("%" PRIu64 " of %" PRIu64 " clusters are allocated, %" PRIu64 " of them compressed, %" PRIu64
		       " out of order\n", k->n_allocated, k->n_clusters, k->n_compressed, k->n_fragmented);
}

static json_t *check_json(const char *path, const struct blk_check *k)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "filename", path,
			 "errors", (json_int_t)k->n_errors, "leaks", (json_int_t)k->n_leaks,
			 "errors-fixed", (json_int_t)k->n_errors_fixed, "leaks-fixed", (json_int_t)k->n_leaks_fixed,
			 "total-clusters", (json_int_t)k->n_clusters, "allocated-clusters", (json_int_t)k->n_allocated,
			 "compressed-clusters", (json_int_t)k->n_compressed,
			 "fragmented-clusters", (json_int_t)k->n_fragmented, "image-end-offset",
				 (json_int_t)k->image_end);
}

static int check_run(struct cli *c, struct err *err)
{
	static const struct { const char *name; unsigned fix; } kinds[] = {
		{ "all", BLK_FIX_ALL }, { "leaks", BLK_FIX_LEAKS },
	};
	const char *only = cli_str(c, "--repair-only"), *path = cli_arg(c, 0);
	bool is_fixing = cli_flag(c, "--repair") || only;
	AUTO(blk_close) struct blk *b = NULL;
	struct progress p;
	struct blk_check k = { .report = c->is_quiet ? NULL : check_line, .report_arg = &p, .progress = disk_progress(&p) };

	progress_start(&p, c, is_fixing ? "repairing" : "checking");
	int r = disk_open(&b, c, path, cli_str(c, "--format"),
			  DISK_NO_BACKING | DISK_NO_KEY | (is_fixing ? DISK_WRITABLE | DISK_REPAIRING : 0), err);

	if (!r)
		r = blk_check(b, is_fixing ? kinds[only != NULL].fix : BLK_FIX_NOTHING, &k, err);
	progress_end(&p);
	if (r < 0)
		return r;
	if (c->is_json)
		r = output_json(check_json(path, &k), err);
	else if (!c->is_quiet)
		check_print(&k);
	return r < 0 ? r : k.n_errors || k.n_leaks ? CLI_DIFFERENT : CLI_DONE;
}

const struct cli_command disk_check = {
	.path = "disk check",
	.summary = "find, and repair, what is wrong in an image",
	.about = "Compares the tables of the image with each other. Exit status 3 says that something is wrong, and "
		 "still is.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image; nobody may be writing it" }, { .name = NULL } },
	.options = (const struct cli_option[]){
		DISK_OPTION_FORMAT,
		{ "--repair", 0, CLI_FLAG, .help = "repair errors and free what is leaked; make a copy before",
		  .more = "Where two parts of the disk claim the same place, or a table is unreadable, what was there "
		  "is lost, and "
			  "the sentences on standard error tell where." },
		{ "--repair-only", 0, CLI_CHOICE, .choices = "leaks", .help = "repair only this" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk check root.qcow2", "look, and change nothing" },
		{ "disk check --repair root.qcow2", "make it whole" },
		{ .line = NULL },
	},
	.run = check_run,
};
