/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - `viv image` and `viv volume`. */
#include "cli/image.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/client.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resource.h"
#include "cli/table.h"
#include "cli/task.h"
#include "util/str.h"

#define LIST_OPTIONS (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define LIST_NAMES (const struct cli_arg[]){ \
	{ "NAME", .help = "what it is called", .is_repeated = true }, { .name = NULL } }

/* POST DOC (taken) and wait until it is ready. */
static int make(struct cli *c, const char *plural, const char *name, json_t *doc, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	json_t *made = NULL;
	struct progress p;
	char path[256];
	int r = client_open(&cl, c, err);

	progress_start(&p, c, "making");
	if (!r)
		r = client_call(cl, "POST", doc, NULL, err, "/v1/%s", plural);
	json_decref(doc);
	snprintf(path, sizeof(path), "/v1/%s/%s", plural, name);
	if (!r)
		r = client_wait(cl, path, "ready", &made, NULL, err);
	progress_end(&p);
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(made, err);
	json_decref(made);
	return 0;
}

/* The file of NAME, the first argument, to FILE, the second. */
static int download(struct cli *c, const char *plural, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct progress p;
	char path[256];
	int r = client_open(&cl, c, err);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/v1/%s/%s/content", plural, cli_arg(c, 0));
	progress_start(&p, c, "downloading");
	r = client_download(cl, path, cli_arg(c, 1), &p, err);
	progress_end(&p);
	return !r && c->is_json ? output_json(json_pack("{s:s}", "file", cli_arg(c, 1)), err) : r;
}

/* --- images ---------------------------------------------------- */

static const struct table_column image_columns[] = {
	{ "NAME", "name", NULL },
	{ "STATE", "status.state", NULL },
	{ "SIZE", "status.bytes", table_size },
	{ "DIRECT BOOT", "status.boots_directly", NULL },
	{ "CREATED", "created", NULL },
	{ "WHY", "status.reason", NULL },
	{ .title = NULL },
};

static int ls_images(struct cli *c, struct err *err) { return resource_ls(c, "images", image_columns, err); }
static int rm_images(struct cli *c, struct err *err) { return resource_rm(c, "images", err); }

const struct cli_command image_ls = {
	.path = "image ls", .summary = "list images", .about = "What machines can begin as.", .options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "image ls", "all of them" }, { .line = NULL } }, .run = ls_images,
};

const struct cli_command image_rm = {
	.path = "image rm",
	.summary = "delete images",
	.about = "An image is refused while machines stand on it.",
	.args = LIST_NAMES,
	.options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "image rm old", "one" }, { .line = NULL } },
	.run = rm_images,
};

static int import(struct cli *c, struct err *err)
{
	char path[PATH_MAX];

	if (!realpath(cli_arg(c, 0), path))
		return err_set(err, -errno, "cannot open '%s': %s", cli_arg(c, 0), strerror(errno));
	return make(c, "images", cli_arg(c, 1),
		    json_pack("{s:s, s:{s:{s:s}}}", "name", cli_arg(c, 1), "spec", "source", "path", path), err);
}

const struct cli_command image_import = {
	.path = "image import",
	.summary = "make an image from a disk image of any format",
	.about = "The file is copied, and not needed afterwards. The machine is started by firmware, which looks for "
		 "a boot loader.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "a disk image" },
					  { "NAME", .help = "of the new image" },
					  { .name = NULL } },
	.options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "image import win.vmdk windows", "a disk from elsewhere" },
						  { .line = NULL } },
	.run = import,
};

static int build(struct cli *c, struct err *err)
{
	const char *name = cli_str(c, "--name") ?: cli_arg(c, 0), *package;
	json_t *packages = json_array();

	for (unsigned i = 0; (package = cli_nth(c, "--package", i)) != NULL; i++)
		json_array_append_new(packages, json_string(package));
	return make(c, "images", name,
		    json_pack("{s:s, s:{s:{s:s, s:o}}}", "name", name, "spec", "source", "build", cli_arg(c, 0),
			      "packages", packages),
		    err);
}

const struct cli_command image_build = {
	.path = "image build",
	.summary = "make an image from a distribution's packages",
	.about = "Without root and without loop devices, by mmdebstrap. Takes minutes.",
	.args = (const struct cli_arg[]){ { "DISTRIBUTION", .help = "debian" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--name", 'n', CLI_STRING, .metavar = "NAME",
						  .help = "of the image; else that of the distribution" },
						{ "--package", 0, CLI_STRING, .is_repeatable = true,
						  .metavar = "NAME", .help = "a package to be in it" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "image build debian", "the plain one" },
						  { "image build debian --name web --package nginx",
						    "one with more in it" },
						  { .line = NULL } },
	.run = build,
};

static int download_image(struct cli *c, struct err *err) { return download(c, "images", err); }

const struct cli_command image_download = {
	.path = "image download",
	.summary = "save an image as a file",
	.about = "As it is on the node, most often qcow2. Interrupted, the same command goes on where it was.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the image" }, { "FILE", .help = "that is not there" }, { .name = NULL } },
	.options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "image download debian debian.qcow2", "one" }, { .line = NULL } },
	.run = download_image,
};

const struct cli_group image_group = {
	.path = "image",
	.summary = "what machines begin as",
	.about = "An image is a disk, and perhaps a kernel to start it with, which never changes: the disks of "
		 "machines are layers over it.",
	.see_also = ".BR mmdebstrap (1)",
};

/* --- volumes ---------------------------------------------------- */

static const struct table_column volume_columns[] = {
	{ "NAME", "name", NULL },       { "STATE", "status.state", NULL }, { "SIZE", "spec.size", table_size },
	{ "POOL", "spec.pool", NULL },  { "CREATED", "created", NULL },    { "WHY", "status.reason", NULL },
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
		     : make(c, "volumes", cli_arg(c, 0),
			    json_pack("{s:s, s:{s:I, s:s*}}", "name", cli_arg(c, 0), "spec", "size", (json_int_t)size,
				      "pool", cli_str(c, "--pool")),
			    err);
}

const struct cli_command volume_create = {
	.path = "volume create",
	.summary = "make a volume",
	.about = "It takes no space before it is written to.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the volume" },
					  { "SIZE", .help = "that guests see" },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--pool", 0, CLI_STRING, .metavar = "NAME", .help = "where it lives; else 'default'" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "volume create data 10G", "10 GiB" },
						  { "volume create data 10G --pool fast", "on other disks" },
						  { .line = NULL } },
	.run = create,
};

static int move(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *body = json_pack("{s:s}", "pool", cli_arg(c, 1)), *task = NULL;
	json_t *done = NULL;
	bool is_dry = cli_flag(c, "--dry-run");
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "POST", body, &task, err, "/v1/volumes/%s/move%s", cli_arg(c, 0), is_dry ? "?dry-run=1" : "");
	if (!r && is_dry)
		return output_json(json_incref(task), err);
	if (!r)
		r = task_follow(c, cl, task, "moving", &done, err);
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(done, err);
	json_decref(done);
	return 0;
}

const struct cli_command volume_move = {
	.path = "volume move",
	.summary = "move a volume to another pool",
	.about = "Also while a machine runs with it, which stands still for a moment in the end. Interrupted, the move goes on: 'viv task cancel' "
		 "ends it, and the volume is where it was. One with snapshots is moved while its machine is off.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the volume" }, { "POOL", .help = "where it shall go" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--dry-run", 0, CLI_FLAG, .help = "show the task, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "volume move data fast", "to the pool 'fast'" }, { .line = NULL } },
	.run = move,
};

static int download_volume(struct cli *c, struct err *err) { return download(c, "volumes", err); }

const struct cli_command volume_download = {
	.path = "volume download",
	.summary = "save a volume as a file",
	.about = "As a qcow2 image, while no machine runs with it. Interrupted, the same command goes on where it was, unless the volume has changed.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the volume" }, { "FILE", .help = "that is not there" }, { .name = NULL } },
	.options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "volume download data data.qcow2", "one" }, { .line = NULL } },
	.run = download_volume,
};

const struct cli_group volume_group = {
	.path = "volume", .summary = "disks with a life of their own",
	.about = "A volume is a disk that stays when the machine that has it goes.", .see_also = ".BR viv-disk (1)",
};
