/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - `viv image`. */
#include "cli/image.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/client.h"
#include "cli/content.h"
#include "cli/resource.h"
#include "cli/table.h"
#include "cli/task.h"

#define LIST_OPTIONS (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define LIST_NAMES (const struct cli_arg[]){ \
	{ "NAME", .help = "what it is called", .is_repeated = true }, { .name = NULL } }

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

static int show_image(struct cli *c, struct err *err) { return resource_show_disk(c, "images", err); }

const struct cli_command image_show = {
	.path = "image show", .summary = "show an image", .about = "Its document, with the templates of it that are kept warm, and what its disk is made of: format, sizes, and which machines began as it.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the image" }, { .name = NULL } }, .options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "image show debian", "one" }, { .line = NULL } }, .run = show_image,
};

static int warm(struct cli *c, struct err *err)
{
	json_t *body = json_pack("{s:I, s:I, s:s}", "cpus", (json_int_t)cli_num(c, "--cpus"), "memory", (json_int_t)cli_num(c, "--memory"),
				 "engine", cli_str(c, "--engine"));

	if (cli_has(c, "--disk-size"))
		json_object_set_new(body, "disk_size", json_integer((json_int_t)cli_num(c, "--disk-size")));
	return task_run(c, "images", "warm", body, false, "warming", err);
}

const struct cli_command image_warm = {
	.path = "image warm",
	.summary = "keep a machine of an image warm",
	.about = "It boots, comes to rest, and is kept with its memory: what 'viv run' makes of the image in the same shape begins as that, at "
		 "its prompt within a second or so, as a machine of its own. The image needs what those of 'viv image build' have: the guest agent "
		 "and guest-init. 'viv run' does the same by itself after the first of a kind. The daemon keeps so many, and the rarely used "
		 "ones go first ('vivd --templates').",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the image" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--cpus", 'c', CLI_UINT, .metavar = "N", .def = "1", .help = "processors" },
						{ "--memory", 'm', CLI_SIZE, .metavar = "SIZE", .def = "512M", .help = "memory" },
						{ "--disk-size", 0, CLI_SIZE, .metavar = "SIZE", .help = "of the disk; else that of the image" },
						{ "--engine", 0, CLI_CHOICE, .choices = "auto kvm bt interp", .def = "auto",
						  .help = "what executes it" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "image warm debian", "for 'viv run debian'" },
						  { "image warm -m 1G -c 2 debian", "for larger ones" },
						  { .line = NULL } },
	.run = warm,
};

static int cool(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	const char *name;
	int r = client_open(&cl, c, err);

	for (unsigned i = 0; !r && (name = cli_arg(c, i)) != NULL; i++)
		r = client_call(cl, "POST", NULL, NULL, err, "/v1/images/%s/cool", name);
	return r;
}

const struct cli_command image_cool = {
	.path = "image cool", .summary = "take the templates of images away",
	.about = "Machines that began as one stay; the next ones boot.",
	.args = LIST_NAMES, .options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "image cool debian", "all of its templates" }, { .line = NULL } }, .run = cool,
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

/* The source of what WORD, an address, names, with the checksum that was given. NULL: that is none. */
static json_t *download_of(const struct cli *c, const char *word, struct err *err)
{
	const char *sum = cli_str(c, "--checksum"), *colon = sum ? strchr(sum, ':') : NULL;
	json_t *download = json_pack("{s:s}", "url", word);

	if (!sum)
		return download;
	if (colon && (!strncmp(sum, "sha256:", 7) || !strncmp(sum, "sha512:", 7))) {
		json_object_set_new(download, strncmp(sum, "sha256:", 7) ? "sha512" : "sha256", json_string(colon + 1));
		return download;
	}
	err_set(err, -EINVAL, "'%.150s' is no checksum: write 'sha256:' or 'sha512:' and its digits", sum);
	json_decref(download);
	return NULL;
}

static int import(struct cli *c, struct err *err)
{
	char path[PATH_MAX];

	if (strstr(cli_arg(c, 0), "://")) {
		json_t *download = download_of(c, cli_arg(c, 0), err);

		return !download ? -EINVAL : content_make(c, "images", cli_arg(c, 1),
			    json_pack("{s:s, s:{s:{s:o}}}", "name", cli_arg(c, 1), "spec", "source", "download", download), err);
	}
	if (cli_has(c, "--checksum"))
		return err_set(err, -EINVAL, "--checksum is for what is downloaded; 'sha256sum' tells that of a file");
	if (!realpath(cli_arg(c, 0), path))
		return err_set(err, -errno, "cannot open '%s': %s", cli_arg(c, 0), strerror(errno));
	return content_make(c, "images", cli_arg(c, 1),
		    json_pack("{s:s, s:{s:{s:s}}}", "name", cli_arg(c, 1), "spec", "source", "path", path), err);
}

const struct cli_command image_import = {
	.path = "image import",
	.summary = "make an image from a disk image of any format",
	.about = "The file is copied, and not needed afterwards. The machine is started by firmware, which looks for "
		 "a boot loader. From a web server it is downloaded by the daemon, which goes on with that after interruptions, and takes it only "
		 "from addresses of the Internet, unless its administrator has allowed others by 'vivd --fetch-from'.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "a disk image, or its address: https://..., or http://... with a checksum" },
					  { "NAME", .help = "of the new image" },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--checksum", 0, CLI_STRING, .metavar = "KIND:DIGITS",
						  .help = "refuse a download that has another: sha256:... or sha512:..." },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "image import win.vmdk windows", "a disk from elsewhere" },
						  { "image import https://cloud.example/debian-12.qcow2 debian12", "one that is published" },
						  { .line = NULL } },
	.run = import,
};

static int build(struct cli *c, struct err *err)
{
	const char *name = cli_str(c, "--name") ?: cli_arg(c, 0), *package;
	json_t *packages = json_array();

	for (unsigned i = 0; (package = cli_nth(c, "--package", i)) != NULL; i++)
		json_array_append_new(packages, json_string(package));
	return content_make(c, "images", name,
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

static int download_image(struct cli *c, struct err *err) { return content_download(c, "images", err); }

const struct cli_command image_download = {
	.path = "image download",
	.summary = "save an image as a file",
	.about = "As it is on the node, most often qcow2. Interrupted, the same command goes on where it was.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the image" }, { "FILE", .help = "that is not there" }, { .name = NULL } },
	.options = LIST_OPTIONS,
	.examples = (const struct cli_example[]){ { "image download debian debian.qcow2", "one" }, { .line = NULL } },
	.run = download_image,
};

static int upload_image(struct cli *c, struct err *err)
{
	return content_upload(c, "images", json_object(), err);
}

const struct cli_command image_upload = {
	.path = "image upload",
	.summary = "make an image from a disk image that is sent to the daemon",
	.about = "Of any format, to a daemon anywhere. Its checksum is sent before it, and compared. A connection that breaks is made anew, and the "
		 "upload goes on; interrupted, the same command does that. What is not finished is kept for a day.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the new image" }, { "FILE", .help = "a disk image" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CONTENT_OPTIONS, CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "image upload windows win.vmdk", "a disk from elsewhere" }, { .line = NULL } },
	.run = upload_image,
};

const struct cli_group image_group = {
	.path = "image",
	.summary = "what machines begin as",
	.about = "An image is a disk, and perhaps a kernel to start it with, which never changes: the disks of "
		 "machines are layers over it.",
	.see_also = ".BR mmdebstrap (1)",
};
