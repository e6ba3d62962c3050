/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk convert */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "blk/convert.h"
#include "blk/secret.h"
#include "cli/digest.h"
#include "cli/disk.h"
#include "cli/output.h"
#include "cli/progress.h"

static int convert_report(const struct cli *c, const struct blk_convert_file *f, struct err *err)
{
	char size[OUTPUT_SIZE_LEN], data[OUTPUT_SIZE_LEN];

	if (c->is_json)
		return output_json(json_pack("{s:s, s:s, s:I, s:I}", "filename", f->path, "format", f->format,
					     "virtual-size",
					     (json_int_t)f->size, "data-size", (json_int_t)f->how.n_data), err);
	if (!c->is_quiet)
		printf("%s: a disk of %s with %s of data, format %s\n", f->path, output_size(size, f->size),
		       output_size(data, f->how.n_data), f->format);
	return 0;
}

/* Is SRC what it shall be? */
static int convert_check(const struct cli *c, struct progress *p, struct err *err)
{
	struct blk_progress tell = disk_progress(p);
	const char *sum = cli_str(c, "--checksum"), *what = p->what;

	if (!sum)
		return 0;
	p->what = "checking";
	int r = digest_check(cli_arg(c, 0), sum, &tell, err);
	p->what = what;
	return r;
}

static int convert_with(struct blk_options *o, void *arg, struct err *err)
{
	return blk_convert_file(arg, err);
}

static int convert_run(struct cli *c, struct err *err)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	AUTO(blk_secret_wipe) struct blk_secret key = { 0 };
	struct progress progress;
	struct blk_options src = { .path = cli_arg(c, 0), .fd = -1, .format = cli_str(c, "--source-format"),
				   .is_readonly = true, .is_confined = cli_flag(c, "--confined"), .is_alone = cli_flag(c, "--alone") };
	struct blk_convert_file f = {
		.src = &src, .path = cli_arg(c, 1), .format = disk_new_format(cli_arg(c, 1), cli_str(c, "--format")),
		.opts = &opts, .is_forced = cli_flag(c, "--force"), .size_max = cli_num(c, "--max-size"),
		.how = { .is_compressed = cli_flag(c, "--compress"), .progress = disk_progress(&progress) },
	};
	int r = disk_create_opts(&opts, c, f.format, err);

	if (!r)
		r = disk_new_key(&key, c, f.path, f.format, &opts, err);
	if (r < 0)
		return r;
	f.secret = r ? &key : NULL;
	progress_start(&progress, c, "converting");
	r = cli_has(c, "--progress-file") ? progress_note_in(&progress, cli_str(c, "--progress-file"), err) : 0;
	if (!r)
		r = convert_check(c, &progress, err);
	if (!r && cli_has(c, "--kernel-at"))
		r = disk_take_kernel(cli_arg(c, 0), cli_num(c, "--kernel-at"), cli_arg(c, 1), err);
	if (!r)
		r = disk_with_keys(c, &src, convert_with, &f, err);
	progress_end(&progress);
	return r < 0 ? r : convert_report(c, &f, err);
}

const struct cli_command disk_convert = {
	.path = "disk convert",
	.summary = "copy a disk into a new image of any format",
	.about = "Reads the disk as a machine would see it, backing images included, and writes a new image that "
		 "needs none. "
		 "What reads as zeroes takes no space in it. The image appears under its name when it is whole and on "
			 "the "
		 "disk; if anything fails, the host included, there is none, and what --force was to replace is still there. A "
		 "block device is written in place instead, after it has been found to be large enough: raw, qcow2 and luks can be "
		 "there.",
	.args = (const struct cli_arg[]){
		{ "SRC", .help = "the image to read" },
		{ "DST", .help = "the new image, or with --force a block device" },
		{ .name = NULL },
	},
	.options = (const struct cli_option[]){
		{ "--format", 'f', CLI_STRING, .metavar = "FORMAT",
		  .help = "format of the new image; else its ending tells, else it is qcow2" },
		{ "--source-format", 0, CLI_STRING, .metavar = "FORMAT",
		  .help = "format of SRC; else its content tells" },
		DISK_OPTION_KEY,
		{ "--new-key-file", 0, CLI_STRING, .metavar = "FILE",
		  .help = "file with the passphrase of DST, if its options make it encrypted; else that of --key-file, "
		  "else the terminal is asked" },
		{ "-o", 'o', CLI_STRING, .is_repeatable = true, .metavar = "NAME=VALUE,...",
		  .help = "options of the new image's format; 'man viv-disk' lists them" },
		{ "--compress", 'c', CLI_FLAG, .help = "keep its clusters compressed; -o compression_type=zstd is the "
		  "faster kind" },
		{ "--confined", 0, CLI_FLAG, .help = "open no file that SRC names outside of its own folder",
		  .more = "For images of strangers: what an image names - backing images, extents, data files - may be any file "
		  "that you can read, and would be in the new image." },
		{ "--alone", 0, CLI_FLAG, .help = "open no other file that SRC names" },
		{ "--checksum", 0, CLI_STRING, .metavar = "KIND:DIGITS",
		  .help = "refuse SRC unless this is the checksum of its file: sha256:... or sha512:..." },
		{ "--max-size", 0, CLI_SIZE, .metavar = "SIZE", .help = "refuse a disk that is larger" },
		{ "--kernel-at", 0, CLI_SIZE, .metavar = "OFFSET",
		  .help = "behind the disk, from there on, SRC is a tar archive: 'vmlinuz' and 'initrd.img' of it go into the folder of DST" },
		{ "--progress-file", 0, CLI_STRING, .metavar = "FILE",
		  .help = "keep a line with what is being done, how much of it is, and of how much, in FILE" },
		{ "--force", 0, CLI_FLAG, .help = "replace DST if it exists",
		  .more = "Extents of what is replaced go when the new image is there, and those of the new one have other names "
		  "than they had. A data file keeps the name that it was given: name another one for the new image." },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk convert old.vmdk root.qcow2", "an image of another product" },
		{ "disk convert web1.qcow2 web1.img", "a raw image from a chain of images" },
		{ "disk convert root.qcow2 small.qcow2 --compress -o compression_type=zstd",
		  "one that takes less space" },
		{ "disk convert --confined download.vmdk root.qcow2", "an image that came from somewhere" },
		{ "disk convert root.vmdk /dev/vg0/root --format qcow2 --force", "onto a logical volume" },
		{ "disk convert root.qcow2 secret.qcow2 -o encrypt.format=luks --new-key-file passphrase",
		  "an encrypted copy" },
		{ .line = NULL },
	},
	.run = convert_run,
};
