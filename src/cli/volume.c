/* SPDX-License-Identifier: Apache-2.0 */
/* volume.c - `viv volume`. */
#include "cli/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "blk/blk.h"
#include "cli/client.h"
#include "cli/content.h"
#include "cli/output.h"
#include "cli/resource.h"
#include "cli/table.h"
#include "cli/task.h"
#include "util/str.h"

#define FORMAT_OPTION(help_) { "--format", 0, CLI_STRING, .metavar = "qcow2|raw", .help = help_ }

enum { SIZE_MIN = 1 << 20 /* of a volume */, POLL_MS = 50 };

#define LIST_OPTIONS (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define LIST_NAMES (const struct cli_arg[]){ \
	{ "NAME", .help = "what it is called", .is_repeated = true }, { .name = NULL } }

static const struct table_column volume_columns[] = {
	{ "NAME", "name", NULL },       { "STATE", "status.state", NULL }, { "SIZE", "spec.size", table_size },
	{ "TAKES", "status.allocated", table_size },
	{ "POOL", "spec.pool", NULL },  { "FORMAT", "spec.format", NULL }, { "CREATED", "created", NULL },    { "WHY", "status.reason", NULL },
	{ .title = NULL },
};

static int ls_volumes(struct cli *c, struct err *err) { return resource_ls(c, "volumes", volume_columns, err); }
static int rm_volumes(struct cli *c, struct err *err) { return resource_rm(c, "volumes", err); }

const struct cli_command volume_ls = {
	.path = "volume ls",
	.summary = "list volumes",
	.about = "Disks with a life of their own.",
	.options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "volume ls", "all of them" }, { .line = NULL } },
	.run = ls_volumes,
};

static int show_volume(struct cli *c, struct err *err) { return resource_show_disk(c, "volumes", err); }

const struct cli_command volume_show = {
	.path = "volume show",
	.summary = "show all about a volume",
	.about = "As JSON: what is wanted ('spec') and what is seen ('status'); and of its disk the format, the size that guests see, what it takes "
		 "('allocated'), the files below it ('chain'), snapshots in it, and which machines have it.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the volume" }, { .name = NULL } },
	.options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "volume show data", "one" }, { .line = NULL } },
	.run = show_volume,
};

const struct cli_command volume_rm = {
	.path = "volume rm",
	.summary = "delete volumes",
	.about = "What is on them is lost. One that a machine has is refused.",
	.args = LIST_NAMES,
	.options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "volume rm data", "one" }, { .line = NULL } },
	.run = rm_volumes,
};

static int create(struct cli *c, struct err *err)
{
	uint64_t size;
	int r = str_parse_size(&size, cli_arg(c, 1), err);

	return r < 0 ? r
		     : content_make(c, "volumes", cli_arg(c, 0),
			    json_pack("{s:s, s:{s:I, s:s*, s:s*}}", "name", cli_arg(c, 0), "spec", "size", (json_int_t)size,
				      "pool", cli_str(c, "--pool"), "format", cli_str(c, "--format")),
			    err);
}

const struct cli_command volume_create = {
	.path = "volume create",
	.summary = "make a volume",
	.about = "It takes no space before it is written to. A raw one is the bytes that the guest sees: other programs can read its file, and it has "
		 "snapshots only where the file system shares blocks between files (btrfs, XFS).",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the volume" },
					  { "SIZE", .help = "that guests see" },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--pool", 0, CLI_STRING, .metavar = "NAME", .help = "where it lives; else 'default'" },
						FORMAT_OPTION("of its file; else what its pool says"),
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "volume create data 10G", "10 GiB" },
						  { "volume create data 10G --pool fast", "on other disks" },
						  { .line = NULL } },
	.run = create,
};

/* Until it is as large as that, or says why it is not. */
static int wait_for_size(struct client *cl, const char *name, uint64_t size, json_t **out, struct err *err)
{
	for (;;) {
		AUTO(json_decref) json_t *doc = NULL;
		int r = client_call(cl, "GET", NULL, &doc, err, "/v1/volumes/%s", name);
		const char *state = json_string_value(table_at(doc, "status.state")), *reason = json_string_value(table_at(doc, "status.reason"));

		if (r < 0)
			return r;
		if ((uint64_t)json_integer_value(table_at(doc, "status.size")) >= size) {
			*out = json_incref(doc);
			return 0;
		}
		if (state && !strcmp(state, "failed"))
			return err_set(err, -EAGAIN, "%s", reason ? reason : "it cannot grow now");
		usleep(POLL_MS * 1000);
	}
}

static int grow(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *doc = NULL;
	uint64_t size = 0;
	int r = str_parse_size(&size, cli_arg(c, 1), err);
	AUTO(json_decref) json_t *body = json_pack("{s:{s:I}}", "spec", "size", (json_int_t)size);

	if (!r)
		r = client_open(&cl, c, err);
	if (!r)
		r = client_call(cl, "PATCH", body, NULL, err, "/v1/volumes/%s", cli_arg(c, 0));
	if (!r)
		r = wait_for_size(cl, cli_arg(c, 0), size, &doc, err);
	return r < 0 || !c->is_json ? r : output_json(json_incref(doc), err);
}

const struct cli_command volume_grow = {
	.path = "volume grow",
	.summary = "make a volume larger",
	.about = "Also while a machine runs with it, whose guest is told at once; the partitions and file systems on it are the guest's to enlarge. "
		 "A volume does not shrink.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the volume" }, { "SIZE", .help = "that guests see from then on" }, { .name = NULL } },
	.options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "volume grow data 20G", "20 GiB in all" }, { .line = NULL } },
	.run = grow,
};

static int move(struct cli *c, struct err *err)
{
	json_t *body = json_pack("{s:s, s:s*}", "pool", cli_arg(c, 1), "format", cli_str(c, "--format"));

	return task_run(c, "volumes", "move", body, cli_flag(c, "--dry-run"), "moving", err);
}

const struct cli_command volume_move = {
	.path = "volume move",
	.summary = "move a volume to another pool",
	.about = "Also while a machine runs with it, which stands still for a moment in the end. Interrupted, the move goes on: 'viv task cancel' "
		 "ends it, and the volume is where it was. One with snapshots is moved while its machine is off, a raw one without any. With --format its "
		 "file becomes one of that format, also in the pool that it is in.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the volume" }, { "POOL", .help = "where it shall go" }, { .name = NULL } },
	.options = (const struct cli_option[]){ FORMAT_OPTION("of its file from then on; else it stays what it is"),
						{ "--dry-run", 0, CLI_FLAG, .help = "show the task, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "volume move data fast", "to the pool 'fast'" },
						  { "volume move data fast --format raw", "and as a raw file" },
						  { .line = NULL } },
	.run = move,
};

static int clone(struct cli *c, struct err *err)
{
	json_t *body = json_pack("{s:s, s:s*, s:s*}", "name", cli_arg(c, 1), "pool", cli_str(c, "--pool"), "format", cli_str(c, "--format"));

	return task_run(c, "volumes", "clone", body, cli_flag(c, "--dry-run"), "copying", err);
}

const struct cli_command volume_clone = {
	.path = "volume clone",
	.summary = "make another volume that begins as one is now",
	.about = "Also while a machine runs with it: the copy is what its disk would be after a power cut at that moment. It takes no room before one of the "
		 "two is written to, where the file system shares blocks between files (btrfs, XFS) and both are in one pool; a qcow2 one that a "
		 "machine writes is copied. Snapshots stay with the original.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the volume" }, { "NEW", .help = "the other" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--pool", 0, CLI_STRING, .metavar = "NAME", .help = "where it shall live; else where the original does" },
						FORMAT_OPTION("of its file; else that of the original"),
						{ "--dry-run", 0, CLI_FLAG, .help = "show the task, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "volume clone data test", "in the same pool" },
						  { "volume clone data test --pool fast", "in another" },
						  { .line = NULL } },
	.run = clone,
};

static int download_volume(struct cli *c, struct err *err) { return content_download(c, "volumes", err); }

const struct cli_command volume_download = {
	.path = "volume download",
	.summary = "save a volume as a file",
	.about = "As an image of its format, while no machine runs with it. Interrupted, the same command goes on where it was, unless the volume has changed.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the volume" }, { "FILE", .help = "that is not there" }, { .name = NULL } },
	.options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "volume download data data.qcow2", "one" }, { .line = NULL } },
	.run = download_volume,
};

/* What a guest would see of the disk in FILE. */
static int size_of(const char *file, const char *format, uint64_t *size, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = { .path = file, .fd = -1, .format = format, .is_readonly = true, .is_unlocked = true, .is_alone = true,
				 .has_no_key = true };
	int r = blk_open(&b, NULL, &o, err);

	if (!r)
		*size = blk_size(b) < SIZE_MIN ? SIZE_MIN : blk_size(b);
	return r;
}

static int upload_volume(struct cli *c, struct err *err)
{
	uint64_t size = cli_num(c, "--size");
	int r = size ? 0 : size_of(cli_arg(c, 1), cli_str(c, "--format"), &size, err);

	return r < 0 ? r : content_upload(c, "volumes", json_pack("{s:I, s:s*, s:s*}", "size", (json_int_t)size, "pool", cli_str(c, "--pool"), "format",
							       cli_str(c, "--as")), err);
}

const struct cli_command volume_upload = {
	.path = "volume upload",
	.summary = "make a volume from a disk image that is sent to the daemon",
	.about = "Of any format, to a daemon anywhere; the volume is as large as the disk, or larger. Its checksum is sent before it, and compared. A "
		 "connection that breaks is made anew, and the upload goes on; interrupted, the same command does that. What is not finished is kept "
		 "for a day.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the new volume" }, { "FILE", .help = "a disk image" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CONTENT_OPTIONS,
						{ "--size", 0, CLI_SIZE, .metavar = "SIZE", .help = "that guests see; else that of the disk" },
						{ "--pool", 0, CLI_STRING, .metavar = "NAME", .help = "where it lives; else 'default'" },
						{ "--as", 0, CLI_STRING, .metavar = "qcow2|raw", .help = "format of the volume; else what its pool says" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "volume upload data data.qcow2", "as large as it is" },
						  { "volume upload data data.img --size 100G --pool fast", "with room to grow" },
						  { .line = NULL } },
	.run = upload_volume,
};

const struct cli_group volume_group = {
	.path = "volume", .summary = "disks with a life of their own",
	.about = "A volume is a disk that stays when the machine that has it goes.", .see_also = ".BR viv-disk (1)",
};
