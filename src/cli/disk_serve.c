/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk serve */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "blk/nbd_server.h"
#include "cli/disk.h"
#include "cli/output.h"
#include "util/checked.h"
#include "util/loop.h"

struct serve {
	struct loop *loop;
	struct blk *blk;
};

static void serve_end(void *arg, int signo)
{
	struct serve *s = arg;

	loop_stop(s->loop, 0);
}

static int serve_open(struct blk_options *o, void *arg, struct err *err)
{
	struct serve *s = arg;

	return blk_open(&s->blk, s->loop, o, err);
}

/* Where it is, in the form that clients take. */
static int serve_tell(const struct cli *c, struct err *err)
{
	const char *a = cli_str(c, "--nbd"), *name = cli_str(c, "--export");
	char uri[8192];

	if (!strncmp(a, "unix:", 5))
		snprintf(uri, sizeof(uri), "nbd+unix:///%s?socket=%s", name, a + 5);
	else
		snprintf(uri, sizeof(uri), "nbd://%s%s/%s", strchr(a + 4, ':') ? "" : "localhost:", a + 4, name);
	if (c->is_json)
		return output_json(json_pack("{s:s, s:s}", "uri", uri, "filename", cli_arg(c, 0)), err);
	if (!c->is_quiet)
		printf("%s: %s\n", cli_arg(c, 0), uri);
	return fflush(stdout) == EOF ? err_set(err, -errno, "cannot write to standard output: %s", strerror(errno)) : 0;
}

static int serve_loop(const struct cli *c, struct serve *s, struct err *err)
{
	AUTO(nbd_server_close) struct nbd_server *server = NULL;
	struct nbd_server_config config = {
		.loop = s->loop, .blk = s->blk, .address = cli_str(c, "--nbd"), .name = cli_str(c, "--export"),
		.bitmap = cli_str(c, "--bitmap"), .is_readonly = cli_flag(c, "--read-only"),
	};
	int r = nbd_server_open(&server, &config, err);

	if (!r)
		r = serve_tell(c, err);
	if (r < 0)
		return r;
	r = loop_run(s->loop);
	return r < 0 ? err_set(err, r, "the event loop failed: %s", strerror(-r)) : 0;
}

static int serve_run(struct cli *c, struct err *err)
{
	static const int ends[] = { SIGTERM, SIGINT, SIGHUP };
	struct blk_options o = { .path = cli_arg(c, 0), .fd = -1, .format = cli_str(c, "--format"),
				 .is_readonly = cli_flag(c, "--read-only"), .is_direct = cli_flag(c, "--direct") };
	AUTO(loop_free) struct loop *loop = NULL;
	struct serve s = { 0 };
	int r = 0;

	if (!cli_has(c, "--nbd"))
		return err_set(err, -EINVAL, "say where: --nbd unix:PATH or --nbd tcp:[HOST:]PORT");
	r = loop_new(&loop, err);
	s.loop = loop;
	for (size_t i = 0; !r && i < ARRAY_LEN(ends); i++)
		r = loop_signal_add(loop, ends[i], serve_end, &s);
	if (!r)
		r = disk_with_keys(c, &o, serve_open, &s, err);
	if (!r)
		r = serve_loop(c, &s, err);
	blk_close(s.blk);
	return r;
}

const struct cli_command disk_serve = {
	.path = "disk serve",
	.summary = "offer a disk to other programs over NBD",
	.about = "Serves until it is interrupted. Many clients, and many connections of one client, may use the disk "
		 "at once. There "
		 "is no encryption and no password: a Unix socket is for this user alone, and with tcp: everybody who "
			 "can reach the "
		 "port can use the disk.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image" }, { .name = NULL } },
	.options = (const struct cli_option[]){
		{ "--nbd", 0, CLI_STRING, .metavar = "unix:PATH|tcp:[HOST:]PORT",
		  .help = "where to listen; tcp without HOST: for this host alone" },
		{ "--export", 'x', CLI_STRING, .metavar = "NAME", .def = "", .help = "name of the export" },
		{ "--read-only", 'r', CLI_FLAG, .help = "clients cannot write; other readers may open the image "
		  "meanwhile" },
		{ "--bitmap", 'B', CLI_STRING, .metavar = "NAME",
		  .help = "offer this dirty bitmap, too; needs --read-only" },
		{ "--direct", 0, CLI_FLAG, .help = "bypass the page cache of this host" },
		DISK_OPTION_FORMAT,
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk serve --nbd unix:/run/user/1000/web1.nbd web1.qcow2", "for programs of this user" },
		{ "disk serve --nbd tcp:0.0.0.0:10809 --read-only --export debian debian.qcow2",
		  "for a network, by name" },
		{ .line = NULL },
	},
	.run = serve_run,
};
