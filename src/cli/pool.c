/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c - `viv pool`. */
#include "cli/pool.h"

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

#define ONLY_CLIENT (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }

static const struct table_column columns[] = {
	{ "NAME", "name", NULL },
	{ "STATE", "status.state", NULL },
	{ "SIZE", "status.size", table_size },
	{ "USED", "status.used", table_size },
	{ "FREE", "status.free", table_size },
	{ "DRIVER", "status.driver", NULL },
	{ "PATH", "status.path", NULL },
	{ "WHY", "status.reason", NULL },
	{ .title = NULL },
};

static int ls(struct cli *c, struct err *err) { return resource_ls(c, "pools", columns, err); }
static int show(struct cli *c, struct err *err) { return resource_show(c, "pools", err); }
static int set(struct cli *c, struct err *err) { return resource_set(c, "pools", NULL, err); }
static int rm(struct cli *c, struct err *err) { return resource_rm(c, "pools", err); }

static json_t *document(const struct cli *c, const char *path)
{
	json_t *spec = json_pack("{s:s}", "path", path);

	if (cli_has(c, "--warn"))
		json_object_set_new(spec, "warn_percent", json_integer((json_int_t)cli_num(c, "--warn")));
	if (cli_has(c, "--limit"))
		json_object_set_new(spec, "limit_percent", json_integer((json_int_t)cli_num(c, "--limit")));
	if (cli_has(c, "--format"))
		json_object_set_new(spec, "format", json_string(cli_str(c, "--format")));
	if (cli_has(c, "--driver"))
		json_object_set_new(spec, "driver", json_string(cli_str(c, "--driver")));
	return json_pack("{s:s, s:o}", "name", cli_arg(c, 0), "spec", spec);
}

static int create(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	char path[PATH_MAX], url[256];
	bool is_dry = cli_flag(c, "--dry-run");
	json_t *made = NULL;
	int r = cli_str(c, "--path") ? client_open(&cl, c, err) : err_set(err, -EINVAL, "--path DIR says where it shall be");

	if (r < 0)
		return r;
	/* On another machine it is what that one makes of it. */
	bool is_here = !client_is_remote(cl) && realpath(cli_str(c, "--path"), path);
	AUTO(json_decref) json_t *doc = document(c, is_here ? path : cli_str(c, "--path"));
	r = client_call(cl, "POST", doc, is_dry ? &made : NULL, err, "/v1/pools%s", is_dry ? "?dry-run=1" : "");
	snprintf(url, sizeof(url), "/v1/pools/%s", cli_arg(c, 0));
	if (!r && !is_dry)
		r = client_wait(cl, url, "ready warning full", &made, NULL, err);
	if (r < 0)
		return r;
	if (c->is_json || is_dry)
		return output_json(made, err);
	json_decref(made);
	return 0;
}

const struct cli_command pool_ls = {
	.path = "pool ls", .summary = "list pools", .about = "Where disks may live, and how much room there is.", .options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "pool ls", "all of them" }, { .line = NULL } }, .run = ls,
};

const struct cli_command pool_create = {
	.path = "pool create",
	.summary = "make a directory a pool",
	.about = "The directory is there already, on any file system that has locks: a disk of its own, NFS, CIFS. It belongs to who runs "
		 "vivd, and nobody else may write there. A file in it, .viv-pool, tells it from an empty mount point. A pool whose state is "
		 "'failed' says why, and is tried again.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the pool" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--path", 0, CLI_STRING, .metavar = "DIR", .help = "where it is" },
						{ "--warn", 0, CLI_UINT, .metavar = "PERCENT", .help = "warn when so much is taken; else 90" },
						{ "--limit", 0, CLI_UINT, .metavar = "PERCENT",
						  .help = "put nothing new there when so much is taken; else 98" },
						{ "--format", 0, CLI_STRING, .metavar = "qcow2|raw",
						  .help = "of new volumes that name none; else qcow2" },
						{ "--driver", 0, CLI_STRING, .metavar = "dir|btrfs",
						  .help = "files in directories, or each disk in a subvolume; else what fits to the file system" },
						{ "--dry-run", 0, CLI_FLAG, .help = "show what it would be, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "pool create fast --path /srv/nvme", "on a disk that is mounted there" },
						  { "pool create share --path /mnt/nfs/viv --warn 80 --limit 95", "on a file server" },
						  { .line = NULL } },
	.run = create,
};

const struct cli_command pool_show = {
	.path = "pool show", .summary = "show a pool", .about = "Its document, with what is seen of it.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the pool" }, { .name = NULL } }, .options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "pool show default", "the one that is always there" }, { .line = NULL } }, .run = show,
};

const struct cli_command pool_set = {
	.path = "pool set",
	.summary = "change from when on a pool warns, and takes nothing new",
	.about = "Fields are warn_percent, limit_percent and format, and labels.NAME.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the pool" },
					  { "FIELD=VALUE", .help = "what shall be different", .is_repeated = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--dry-run", 0, CLI_FLAG, .help = "show what it would be, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "pool set default warn_percent=80", "warn earlier" }, { .line = NULL } },
	.run = set,
};

const struct cli_command pool_rm = {
	.path = "pool rm",
	.summary = "take pools away",
	.about = "Only when nothing is in them. The directory stays.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the pool", .is_repeated = true }, { .name = NULL } },
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "pool rm old", "one" }, { .line = NULL } },
	.run = rm,
};

const struct cli_group pool_group = {
	.path = "pool", .summary = "where disks live",
	.about = "A pool is a directory for disks. One called 'default' is always there. When a pool is not mounted, what has disks there waits "
		 "for it, and nothing is made in the empty directory.",
	.see_also = ".BR viv-volume (1)",
};
