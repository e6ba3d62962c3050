/* SPDX-License-Identifier: Apache-2.0 */
/* instance_import.c - `viv import`. All of the archive is checked first; then all documents but the machine's are made, which reserves
 * names and quota, and the daemon is asked whether it would make the machine; then the disks are sent; the machine comes last, and
 * whole. Whatever fails takes away what was made. Killed, the same command goes on; the daemon deletes unfinished uploads by itself. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cli/archive.h"
#include "cli/client.h"
#include "cli/content.h"
#include "cli/disk.h"
#include "cli/instance.h"
#include "cli/output.h"
#include "cli/progress.h"

enum { NAME_CAP = 80, NAME_MAX_LEN = 63, KEEP_S = 3600, VOLUME_MIN = 1 << 20 };

/* On what is there before its machine: the archive that it is from. The daemon knows it, too. */
#define LABEL "viv-import"

struct import {
	struct client *cl;
	struct progress p;
	struct err *err;
	struct archive a;
	const char *name;               /* of the new machine, and of its image */
	const char *pool, *network;     /* NULL: as usual */
	json_t *machine;                /* the document to be made */
	char names[ARCHIVE_DISKS_MAX][NAME_CAP];
	json_t *specs[ARCHIVE_DISKS_MAX], *labels;
	bool is_made[ARCHIVE_DISKS_MAX];        /* for this machine, by this run or one that was killed */
};

/* --- what is to be made ---------------------------------------------------- */

static const char *plural_of(unsigned disk) { return disk ? "volumes" : "images"; }

static struct content_upload upload_of(struct import *im, unsigned i)
{
	const struct archive_disk *d = &im->a.disks[i];

	return (struct content_upload){ .plural = plural_of(i), .name = im->names[i], .fd = im->a.fd, .off = d->off, .size = d->len,
					.sum = d->sum, .format = "qcow2", .kernel_at = d->kernel_at, .spec = im->specs[i], .labels = im->labels,
					.keep_seconds = KEEP_S, .takes_ready = true };
}

/* Names from an archive become parts of requests. */
static bool is_name(const char *s)
{
	size_t len = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return len && !s[len] && len <= NAME_MAX_LEN && s[0] >= 'a' && s[0] <= 'z';
}

/* Networks of the platform are those of here. */
static int plug_in(struct import *im, json_t *spec)
{
	json_t *net;
	size_t i;

	json_array_foreach(json_object_get(spec, "networks"), i, net) {
		const char *kind = json_string_value(json_object_get(net, "kind")), *name = json_string_value(json_object_get(net, "network"));

		if (!kind || strcmp(kind, "network") != 0 || !name)
			continue;
		if (!is_name(name))
			return err_set(im->err, -EINVAL, "the archive has a network of an impossible name");
		if (im->network)
			json_object_set_new(net, "network", json_string(im->network));
		else if (client_call(im->cl, "GET", NULL, NULL, im->err, "/v1/networks/%s", name) < 0)
			return err_set(im->err, im->err->code, "the machine was on the network '%s', which is not here: make it first, or "
				       "choose one with --network", name);
	}
	return 0;
}

static int prepare_disk(struct import *im, json_t *disks, unsigned i)
{
	const struct archive_disk *d = &im->a.disks[i];

	if (i)
		snprintf(im->names[i], NAME_CAP, "%.60s-%u", im->name, i);
	else
		snprintf(im->names[i], NAME_CAP, "%.70s", im->name);
	im->specs[i] = i ? json_pack("{s:I, s:s*}", "size", (json_int_t)(d->size < VOLUME_MIN ? VOLUME_MIN : d->size), "pool", im->pool)
			 : json_object();
	if (!im->specs[i] || (i && json_array_append_new(disks, json_pack("{s:s, s:b}", "volume", im->names[i], "readonly", d->is_readonly)) < 0))
		return err_set(im->err, -ENOMEM, "out of memory");
	return 0;
}

static int prepare(struct import *im, const char *state)
{
	AUTO(json_decref) json_t *spec = archive_spec(json_object_get(im->a.machine, "spec"));
	/* What it was counts, whatever profiles there are here. */
	json_object_set_new(spec, "profiles", json_array());
	json_t *disks = json_array();
	int r = spec && disks ? plug_in(im, spec) : err_set(im->err, -ENOMEM, "out of memory");

	json_object_set_new(spec, "disks", disks);
	json_object_set_new(spec, "image", json_string(im->name));
	json_object_set_new(spec, "state", json_string(state));
	if (im->pool)
		json_object_set_new(spec, "pool", json_string(im->pool));
	for (unsigned i = 0; !r && i < im->a.n_disks; i++)
		r = prepare_disk(im, disks, i);
	im->labels = json_pack("{s:s}", LABEL, im->a.sum);
	im->machine = json_pack("{s:s, s:O, s:O}", "name", im->name, "labels", json_object_get(im->a.machine, "labels"), "spec", spec);
	return !r && (!im->machine || !im->labels) ? err_set(im->err, -ENOMEM, "out of memory") : r;
}

/* --- making ---------------------------------------------------- */

static int check_free(struct import *im)
{
	if (!is_name(im->name))
		return err_set(im->err, -EINVAL, "a machine cannot be called like that: a name is of a-z, 0-9 and '-', with a letter first, and "
			       "has at most %d of them", NAME_MAX_LEN);
	int r = client_call(im->cl, "GET", NULL, NULL, im->err, "/v1/instances/%s", im->name);

	if (!r)
		return err_set(im->err, -EEXIST, "there is a machine '%s' already; choose another name: 'viv import FILE NAME'", im->name);
	if (r != -ENOENT)
		return r;
	*im->err = (struct err)ERR_INIT;
	return 0;
}

static int reserve(struct import *im)
{
	int r = 0;

	for (unsigned i = 0; !r && i < im->a.n_disks; i++) {
		struct content_upload u = upload_of(im, i);

		r = content_post(im->cl, &u, im->err);
		im->is_made[i] = !r;
	}
	return r < 0 ? r : client_call(im->cl, "POST", im->machine, NULL, im->err, "/v1/instances?dry-run=1");
}

static int send_all(struct import *im)
{
	int r = 0;

	for (unsigned i = 0; !r && i < im->a.n_disks; i++) {
		struct content_upload u = upload_of(im, i);
		json_t *made = NULL;

		r = content_send(im->cl, &im->p, &u, &made, im->err);
		json_decref(made);
	}
	return r;
}

/* What was made for a machine that is not. */
static void remove_all(struct import *im)
{
	for (unsigned i = 0; i < im->a.n_disks; i++)
		if (im->is_made[i])
			content_remove(im->cl, plural_of(i), im->names[i]);
}

static int make(struct import *im, const char *state, json_t **out)
{
	int r = check_free(im);

	if (!r)
		r = prepare(im, state);
	if (!r)
		r = reserve(im);
	if (!r)
		r = send_all(im);
	/* That takes the labels away as well: a volume may be written to then, and is no longer what the archive has. */
	if (!r)
		r = client_call(im->cl, "POST", im->machine, out, im->err, "/v1/instances");
	if (r < 0)
		remove_all(im);
	return r == -EINTR ? err_set(im->err, r, "interrupted; nothing was made") : r;
}

static int wait_running(struct import *im)
{
	char path[NAME_CAP + 32];

	snprintf(path, sizeof(path), "/v1/instances/%s", im->name);
	return client_wait(im->cl, path, "running", NULL, NULL, im->err);
}

static void done(struct import *im)
{
	for (unsigned i = 0; i < ARCHIVE_DISKS_MAX; i++)
		json_decref(im->specs[i]);
	json_decref(im->labels);
	json_decref(im->machine);
	archive_close(&im->a);
}

static int import(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *made = NULL;
	struct import im = { .err = err, .pool = cli_str(c, "--pool"), .network = cli_str(c, "--network") };
	struct blk_progress tell = disk_progress(&im.p);
	bool starts = cli_flag(c, "--start");

	progress_start(&im.p, c, "checking");
	int r = archive_open(&im.a, cli_arg(c, 0), &tell, err);
	if (!r)
		r = client_open(&cl, c, err);
	im.cl = cl;
	im.name = cli_arg(c, 1) ?: json_string_value(json_object_get(im.a.machine, "name"));
	if (!r)
		r = make(&im, starts ? "running" : "stopped", &made);
	if (!r && starts)
		r = wait_running(&im);
	progress_end(&im.p);
	if (!r && c->is_json)
		r = output_json(json_incref(made), err);
	else if (!r)
		printf("%s\n", im.name);
	done(&im);
	return r;
}

const struct cli_command instance_import = {
	.path = "import",
	.summary = "make a machine from a file that 'viv export' has made",
	.about = "All of FILE is checked before anything is made. The machine gets an image of its own, called as itself, for its first disk, and "
		 "volumes NAME-1, NAME-2 and so on for the others; addresses of its own; and it is off. When something fails nothing stays; killed, "
		 "the same command goes on with what was sent, and the daemon deletes after an hour what was not sent whole.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the archive" },
					  { "NAME", .help = "of the machine; else as it was called", .is_optional = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--start", 0, CLI_FLAG, .help = "and start it" },
						{ "--pool", 0, CLI_STRING, .metavar = "NAME", .help = "where its disks live; else 'default'" },
						{ "--network", 0, CLI_STRING, .metavar = "NAME",
						  .help = "instead of the networks of the platform that it was on" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "import web.viv", "as it was" },
						  { "import web.viv web2 --start", "as another" },
						  { .line = NULL } },
	.run = import,
};
