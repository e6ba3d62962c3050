/* SPDX-License-Identifier: Apache-2.0 */
#include "node/import.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "node/files.h"
#include "node/node.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { PATH_CAP = STORE_KEY_MAX + 32, ARGS_MAX = 24 };

/* What the program that builds images says when it comes to something new, and how much of its time has gone by then, in percent:
 * mmdebstrap's lines, and our own. */
static const struct { const char *line, *what; unsigned percent; } phases[] = {
	{ "I: running apt-get update", "fetching lists", 2 },
	{ "I: downloading packages", "fetching", 10 },
	{ "I: extracting archives", "unpacking", 30 },
	{ "I: installing essential", "installing", 40 },
	{ "I: installing remaining", "installing", 50 },
	{ "I: running --customize-hook", "setting up", 80 },
	{ "I: cleaning", "packing", 85 },
	{ "I: creating tarball", "packing", 88 },
	{ "I: done", "making the disk", 94 },
	{ "I: success", "making the disk", 95 },
};

static void path_of(const struct import *im, const char *name, char *path)
{
	snprintf(path, PATH_CAP, "%s/%s", im->dir, name);
}

int import_run(struct import *im, struct node *n, char *const *argv, struct err *err)
{
	char lock_path[PATH_CAP], log_path[PATH_CAP], progress[PATH_CAP];
	struct process_spec spec = { .lock_path = lock_path, .log_path = log_path, .argv = argv };

	path_of(im, "process", lock_path);
	path_of(im, "log", log_path);
	path_of(im, "progress", progress);
	int r = files_make_dir(im->dir, err);
	if (!r)
		r = files_remove(log_path, err);
	if (!r)
		r = files_remove(progress, err);
	im->seen[0] = 0;
	return r < 0 ? r : process_start(&im->proc, n->loop, &spec, err);
}

int import_start(struct import *im, struct node *n, const struct import_source *s, struct err *err)
{
	char progress[PATH_CAP + 32], format[64], sum[96], size[48], to_format[32], kernel[48];
	char *argv[ARGS_MAX] = { n->viv, (char[]){ "disk" }, (char[]){ "convert" }, (char[]){ "--quiet" }, (char[]){ "--force" },
				 to_format };
	char confined[] = "--confined", alone[] = "--alone", end[] = "--";
	unsigned at = 6;

	snprintf(to_format, sizeof(to_format), "--format=%s", s->to_format ? s->to_format : "qcow2");
	if (!n->viv)
		return err_set(err, -ENOENT, "the program 'viv' is not installed beside vivd");
	snprintf(progress, sizeof(progress), "--progress-file=%s/progress", im->dir);
	argv[at++] = progress;
	/* Machines of others will read all of it. */
	if (!s->is_own)
		argv[at++] = confined;
	if (snprintf(size, sizeof(size), "--max-size=%" PRIu64, s->size_max) > 0 && s->size_max)
		argv[at++] = size;
	if (s->kernel_at && snprintf(kernel, sizeof(kernel), "--kernel-at=%" PRIu64, s->kernel_at) > 0)
		argv[at++] = kernel;
	if (s->format && snprintf(format, sizeof(format), "--source-format=%s", s->format) > 0)
		argv[at++] = format;
	if (s->sha256 && snprintf(sum, sizeof(sum), "--checksum=sha256:%s", s->sha256) > 0)
		argv[at++] = sum;
	if (s->is_alone)
		argv[at++] = alone;
	AUTO(free) char *from = strdup(s->from), *to = strdup(s->to);
	if (!from || !to)
		return err_set(err, -ENOMEM, "out of memory");
	argv[at++] = end;
	argv[at++] = from;
	argv[at++] = to;
	return import_run(im, n, argv, err);
}

int import_find(struct import *im, struct node *n, struct err *err)
{
	char lock_path[PATH_CAP];

	path_of(im, "process", lock_path);
	return process_find(&im->proc, n->loop, lock_path, err);
}

/* The last phase whose line is in the builder's messages. */
static void look_at_messages(const struct import *im, char *seen, size_t cap)
{
	char line[200];

	process_last_words(im->dir, "image.log", line, sizeof(line));
	for (unsigned i = 0; i < ARRAY_LEN(phases); i++)
		if (!strncmp(line, phases[i].line, strlen(phases[i].line)))
			snprintf(seen, cap, "%-15s %u %u", phases[i].what, phases[i].percent, 100);
}

bool import_look(struct import *im)
{
	char path[PATH_CAP], seen[sizeof(im->seen)] = "";

	path_of(im, "progress", path);
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t len = fd < 0 ? 0 : pread(fd, seen, sizeof(seen) - 1, 0);

	seen[len > 0 ? len : 0] = 0;
	if (!seen[0])
		look_at_messages(im, seen, sizeof(seen));
	if (!seen[0] || !strcmp(seen, im->seen))
		return false;
	memcpy(im->seen, seen, sizeof(seen));
	return true;
}

json_t *import_progress(const struct import *im)
{
	char what[16];
	unsigned long long done, total;

	if (strlen(im->seen) < sizeof(what) || sscanf(im->seen + sizeof(what) - 1, "%llu %llu", &done, &total) != 2)
		return NULL;
	snprintf(what, sizeof(what), "%.15s", im->seen);
	for (size_t len = strlen(what); len && what[len - 1] == ' ';)
		what[--len] = 0;
	return json_pack("{s:s, s:I, s:I}", "what", what, "done", (json_int_t)done, "total", (json_int_t)total);
}

bool import_words(const struct import *im, char *buf, size_t cap)
{
	process_last_words(im->dir, "log", buf, cap);
	if (buf[0])
		return true;
	snprintf(buf, cap, "the program has ended without a word");
	return false;
}
