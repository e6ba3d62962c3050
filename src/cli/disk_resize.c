/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk resize */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "cli/disk.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "util/checked.h"
#include "util/str.h"

/* "20G", "+5G" or "-1G" for a disk of OLD bytes. */
static int resize_parse(uint64_t *out, const char *text, uint64_t old, struct err *err)
{
	bool is_more = text[0] == '+', is_less = text[0] == '-';
	uint64_t v;
	int r = str_parse_size(&v, text + (is_more || is_less), err);

	if (r < 0)
		return r;
	if (is_less && v >= old)
		return err_set(err, -EINVAL, "the disk has %" PRIu64 " bytes, which is not more than %s", old,
			       text + 1);
	if (is_more && !u64_add(old, v, &v))
		return err_set(err, -ERANGE, "the disk would be too large");
	v = is_less ? old - v : v;
	if (!v || v > INT64_MAX - BLK_SECTOR)
		return err_set(err, -EINVAL, "a disk cannot have %" PRIu64 " bytes", v);
	*out = align_up(v, BLK_SECTOR);
	return 0;
}

static enum blk_prealloc resize_prealloc(const char *text)
{
	static const char *const names[] = { "off", "metadata", "falloc", "full" };
	unsigned i = 0;

	while (strcmp(names[i], text))
		i++;
	return (enum blk_prealloc)i;
}

static int resize_run(struct cli *c, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	char from[OUTPUT_SIZE_LEN], to[OUTPUT_SIZE_LEN];
	const char *path = cli_arg(c, 0);
	struct progress p;
	struct blk_progress progress = disk_progress(&p);
	uint64_t size = 0;
	int r = disk_open(&b, c, path, cli_str(c, "--format"), DISK_WRITABLE, err);

	if (!r)
		r = resize_parse(&size, cli_arg(c, 1), blk_size(b), err);
	if (r < 0)
		return r;
	uint64_t old = blk_size(b);

	if (size < old && !cli_flag(c, "--shrink"))
		return err_set(err, -EPERM, "that would cut off %" PRIu64 " bytes of '%s', and what is in them is "
			       "lost; shrink the "
			       "file system inside, then say --shrink", old - size, path);
	progress_start(&p, c, "reserving");
	r = blk_resize_watched(b, size, resize_prealloc(cli_str(c, "--preallocation")), &progress, err);
	progress_end(&p);
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_pack("{s:s, s:I}", "filename", path, "virtual-size", (json_int_t)size), err);
	if (!c->is_quiet)
		printf("%s: a disk of %s, was %s\n", path, output_size(to, size), output_size(from, old));
	return 0;
}

const struct cli_command disk_resize = {
	.path = "disk resize",
	.summary = "make a disk larger or smaller",
	.about = "New space reads as zeroes. What is on the disk - partitions, file systems - has to be changed "
		 "inside the "
		 "machine: after growing it, before shrinking it.",
	.args = (const struct cli_arg[]){
		{ "FILE", .help = "the image" },
		{ "SIZE", .help = "of the disk, or +SIZE for that much more; less, after '--', as -SIZE" },
		{ .name = NULL },
	},
	.options = (const struct cli_option[]){
		DISK_OPTION_FORMAT,
		{ "--shrink", 0, CLI_FLAG, .help = "cut off what is behind the new end" },
		{ "--preallocation", 0, CLI_CHOICE, .choices = "off metadata falloc full", .def = "off",
		  .help = "what new space is to be at once" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk resize root.qcow2 +10G", "10 GiB more" },
		{ "disk resize root.qcow2 --shrink 8G", "no more than 8 GiB" },
		{ .line = NULL },
	},
	.run = resize_run,
};
