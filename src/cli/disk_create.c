/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk create */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "blk/secret.h"
#include "cli/disk.h"
#include "cli/output.h"
#include "util/str.h"

static int create_report(const struct cli *c, const char *path, const char *format, struct err *err)
{
	char size[OUTPUT_SIZE_LEN];
	struct blk *b = NULL;

	if (c->is_quiet && !c->is_json)
		return 0;
	int r = disk_open(&b, c, path, format, DISK_NO_BACKING | DISK_UNLOCKED | DISK_NO_KEY, err);

	if (r < 0)
		return r;
	uint64_t bytes = blk_size(b);

	blk_close(b);
	if (c->is_json)
		return output_json(json_pack("{s:s, s:s, s:I}", "filename", path, "format", format, "virtual-size",
					     (json_int_t)bytes), err);
	printf("%s: a disk of %s, format %s\n", path, output_size(size, bytes), format);
	return 0;
}

/* The passphrase of a new encrypted image: --key-file, else the terminal is asked, if it turns out that one is needed. */
static int create_with_key(const struct cli *c, struct blk_create *a, struct err *err)
{
	AUTO(blk_secret_wipe) struct blk_secret key = { 0 };
	const char *path = cli_nth(c, "--key-file", 0);
	struct err why = ERR_INIT;
	int r = path ? blk_secret_read_file(&key, path, &why) : 0;

	a->secret = path ? &key : NULL;
	if (!r)
		r = blk_create(a, &why);
	if (r == -ENOKEY && !path && isatty(STDIN_FILENO)) {
		why.code = 0;
		r = disk_ask_new_key(&key, a->path, &why);
		a->secret = &key;
		if (!r)
			r = blk_create(a, &why);
	}
	a->secret = NULL;
	return r < 0 ? err_set(err, r, "%s%s", why.msg, r == -ENOKEY ? "; or name one with --key-file" : "") : 0;
}

static int create_run(struct cli *c, struct err *err)
{
	const char *path = cli_arg(c, 0), *size = cli_arg(c, 1);
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct blk_create a = { .path = path, .format = disk_new_format(path, cli_str(c, "--format")),
				.backing = cli_str(c, "--backing"), .is_new = !cli_flag(c, "--force"), .opts = &opts };
	int r = size ? str_parse_size(&a.size, size, err) : 0;

	if (!r && !size && !a.backing)
		r = err_set(err, -EINVAL, "say how large the disk is to be: viv disk create %s SIZE", path);
	if (!r && size && !a.size)
		r = err_set(err, -EINVAL, "a disk has at least 512 bytes");
	if (!r)
		r = disk_check_new(c, path, err);
	if (!r)
		r = disk_create_opts(&opts, c, a.format, err);
	if (!r && a.backing)
		r = disk_backing_format(&a.backing_format, path, a.backing, cli_str(c, "--backing-format"), err);
	if (r < 0)
		return r;
	bool is_there = !access(path, F_OK);

	r = create_with_key(c, &a, err);
	if (r < 0) {
		if (!is_there && !a.is_new)
			unlink(path);
		return r;
	}
	return create_report(c, path, a.format, err);
}

const struct cli_command disk_create = {
	.path = "disk create",
	.summary = "make a new disk image",
	.about = "The disk reads as zeroes, or as its backing image. It takes no space before it is written to, unless "
		 "preallocation is asked for.",
	.args = (const struct cli_arg[]){
		{ "FILE", .help = "the new image" },
		{ "SIZE", "of the disk; default: that of the backing image", .is_optional = true },
		{ .name = NULL },
	},
	.options = (const struct cli_option[]){
		{ "--format", 'f', CLI_STRING, .metavar = "FORMAT",
		  .help = "format of the image; else its ending tells, else it is qcow2" },
		{ "--backing", 'b', CLI_STRING, .metavar = "IMAGE",
		  .help = "show what is in this image until it is overwritten",
		  .more = "The name goes into the new image as it stands, and is relative to the directory of that. "
		  "The backing "
			  "image must not be written to any more." },
		{ "--backing-format", 'F', CLI_STRING, .metavar = "FORMAT",
		  .help = "its format; it goes into the new image" },
		{ "-o", 'o', CLI_STRING, .is_repeatable = true, .metavar = "NAME=VALUE,...",
		  .help = "options of the format; 'man viv-disk' lists them" },
		DISK_OPTION_KEY,
		{ "--force", 0, CLI_FLAG, .help = "overwrite a file that exists" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk create root.qcow2 20G", "an empty disk of 20 GiB" },
		{ "disk create web1.qcow2 --backing debian.qcow2", "a disk that begins as a copy of another, at once" },
		{ "disk create secret.qcow2 20G -o encrypt.format=luks --key-file passphrase", "an encrypted disk" },
		{ "disk create fast.qcow2 100G -o extended_l2=on,cluster_size=128K",
		  "a disk with options of its format" },
		{ .line = NULL },
	},
	.run = create_run,
};
