/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk commit, rebase, flatten: images and what is behind them */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "blk/commit.h"
#include "cli/disk.h"
#include "cli/output.h"

static int chain_say(const struct cli *c, const char *backing, const char *sentence, struct err *err)
{
	if (c->is_json)
		return output_json(json_pack("{s:s, s:s?}", "filename", cli_arg(c, 0), "backing-filename", backing),
				   err);
	if (!c->is_quiet)
		printf("%s: %s%s\n", cli_arg(c, 0), sentence, backing ? backing : "");
	return 0;
}

/* --- commit --------------------------------------------------------------------------------------- */

static int commit_open(struct blk_options *o, void *arg, struct err *err)
{
	return blk_open(arg, NULL, o, err);
}

static int commit_run(struct cli *c, struct err *err)
{
	struct blk_options o = { .path = cli_arg(c, 0), .fd = -1, .format = cli_str(c, "--format"),
				 .is_backing_writable = true };
	AUTO(blk_close) struct blk *b = NULL;
	struct err why = ERR_INIT;      /* of formats that cannot be emptied: nothing is wrong then */
	struct progress progress;
	int r = disk_with_keys(c, &o, commit_open, &b, err);

	if (r < 0)
		return r;
	progress_start(&progress, c, "committing");
	const struct blk_progress p = disk_progress(&progress);

	r = blk_commit(b, &p, err);
	progress_end(&progress);
	if (r < 0)
		return r;
	if (!cli_flag(c, "--keep"))
		r = blk_make_empty(b, &why);
	if (r < 0 && r != -ENOTSUP)
		return err_set(err, r, "%s", why.msg);
	return chain_say(c, blk_name(blk_backing(b)),
			 r < 0 ? "it keeps a copy of its data, which is now in " : "its data is now in ", err);
}

const struct cli_command disk_commit = {
	.path = "disk commit",
	.summary = "write what an image has over its backing image into that",
	.about = "Afterwards the image is empty and shows its backing image alone. Other images that have the same "
		 "backing image "
		 "would show other data than before: make sure that there are none.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image" }, { .name = NULL } },
	.options = (const struct cli_option[]){
		DISK_OPTION_FORMAT,
		{ "--keep", 0, CLI_FLAG, .help = "do not empty the image" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){ { "disk commit web1.qcow2", "make the changes part of the base" },
						  { .line = NULL } },
	.run = commit_run,
};

/* --- rebase, flatten -------------------------------------------------------------------------------- */

/* NAME as it will stand in IMAGE, opened. */
static int rebase_open_base(struct blk **out, const struct cli *c, const char *image, const char *name,
			    const char *format, struct err *err)
{
	const char *slash = strrchr(image, '/');
	char path[4096];

	snprintf(path, sizeof(path), "%.*s%s", name[0] == '/' || !slash ? 0 : (int)(slash - image + 1), image, name);
	int r = disk_open(out, c, path, format, 0, err);

	if (r == -EBUSY)
		return err_set(err, r, "'%s' is in use, or has '%s' behind it: an image cannot be behind itself", path,
			       image);
	return r < 0 ? err_wrap(err, r, "backing image '%s'", name) : 0;
}

static int rebase_data(struct cli *c, struct blk *b, const char *name, const char *format, struct err *err)
{
	AUTO(blk_close) struct blk *base = NULL;
	struct progress progress;
	int r = name ? rebase_open_base(&base, c, cli_arg(c, 0), name, format, err) : 0;

	if (r < 0)
		return r;
	progress_start(&progress, c, name ? "rebasing" : "flattening");
	const struct blk_progress p = disk_progress(&progress);

	r = blk_rebase(b, base, &p, err);
	progress_end(&progress);
	return r;
}

static int rebase_to(struct cli *c, const char *name, const char *format, bool is_unsafe, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	int r = 0;

	if (name)
		r = disk_backing_format(&format, cli_arg(c, 0), name, format, err);
	if (!r)
		r = disk_open(&b, c, cli_arg(c, 0), cli_str(c, "--format"),
			      DISK_WRITABLE | (is_unsafe ? DISK_NO_BACKING : 0), err);
	/* Asked before anything is copied. */
	if (!r)
		r = blk_can_change_backing(b, err);
	if (!r && !is_unsafe)
		r = rebase_data(c, b, name, format, err);
	if (!r)
		r = blk_change_backing(b, name, name ? format : NULL, err);
	return r < 0 ? r : chain_say(c, name, name ? "its backing image is now " :
				     "it needs no backing image any more", err);
}

static int rebase_run(struct cli *c, struct err *err)
{
	return rebase_to(c, cli_arg(c, 1), cli_str(c, "--backing-format"), cli_flag(c, "--unsafe"), err);
}

static int flatten_run(struct cli *c, struct err *err)
{
	return rebase_to(c, NULL, NULL, false, err);
}

const struct cli_command disk_rebase = {
	.path = "disk rebase",
	.summary = "give an image another backing image",
	.about = "The disk does not change: where the new backing image differs from what the disk shows, that is "
		 "copied into "
		 "the image before.",
	.args = (const struct cli_arg[]){
		{ "FILE", .help = "the image" },
		{ "BACKING", .help = "the new backing image, relative to the directory of FILE" },
		{ .name = NULL },
	},
	.options = (const struct cli_option[]){
		DISK_OPTION_FORMAT,
		{ "--backing-format", 'F', CLI_STRING, .metavar = "FORMAT",
		  .help = "format of BACKING; it goes into FILE" },
		{ "--unsafe", 'u', CLI_FLAG, .help = "change the name alone, as for a backing image that was moved",
		  .more = "If it holds other data than the old one, the disk is damaged." },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk rebase web1.qcow2 debian-12.8.qcow2", "onto a newer base" },
		{ "disk rebase -u web1.qcow2 /srv/base/debian.qcow2", "after the base was moved" },
		{ .line = NULL },
	},
	.run = rebase_run,
};

const struct cli_command disk_flatten = {
	.path = "disk flatten",
	.summary = "copy into an image all that it shows of others",
	.about = "Afterwards it needs no backing image, and the disk is what it was.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image" }, { .name = NULL } },
	.options = (const struct cli_option[]){ DISK_OPTION_FORMAT, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "disk flatten web1.qcow2", "make a linked clone stand alone" },
						  { .line = NULL } },
	.run = flatten_run,
};
