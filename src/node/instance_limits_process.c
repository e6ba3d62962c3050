/* SPDX-License-Identifier: Apache-2.0 */
/* instance_limits_process.c - limits that the host's kernel keeps, of each thread of a machine's processes. They are attributes of threads and
 * not a control group, as a daemon of any user may set them, and nothing is left behind when it is killed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "node/instance_limits.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/cpu_list.h"
#include "util/err.h"

enum { DEPTH = 4, CHILDREN_MAX = 256, OOM_FIRST = 500, OOM_LAST = -500, IO_LEVEL = 4, IO_LEVELS = 8 };

struct wanted {
	cpu_set_t cpus;
	int nice, io_level, oom;
};

/* Each step of niceness is a quarter more or less (sched(7)); 100 is 0. */
static int nice_of(json_int_t weight)
{
	double share = 100;
	int nice = 0;

	for (; nice > -20 && (double)weight >= share * 1.118; nice--)
		share *= 1.25;
	for (; nice < 19 && (double)weight < share / 1.118; nice++)
		share /= 1.25;
	return nice;
}

/* Eight levels, 4 is the usual one, 0 the first to be served; each is twice the share. */
static int io_level_of(json_int_t weight)
{
	int level = IO_LEVEL;

	for (json_int_t w = 142; level > 0 && weight >= w; w *= 2)
		level--;
	for (json_int_t w = 71; level < IO_LEVELS - 1 && weight < w; w /= 2)
		level++;
	return level;
}

static int read_number(pid_t pid, const char *name)
{
	char path[64];
	int value = 0;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	FILE *f = fopen(path, "re");
	if (f && fscanf(f, "%d", &value) != 1)
		value = 0;
	if (f)
		fclose(f);
	return value;
}

static int clamp(int v, int least, int most)
{
	return v < least ? least : v > most ? most : v;
}

static void read_wanted(struct wanted *w, const json_t *spec)
{
	const json_t *limits = json_object_get(spec, "limits");
	const json_t *weight = json_object_get(limits, "cpu_weight"), *io = json_object_get(limits, "io_weight");
	const char *cpus = json_string_value(json_object_get(limits, "cpus"));
	const char *oom = json_string_value(json_object_get(limits, "oom"));

	/* What is not said is as for this daemon, and what is, is relative to it: somebody may have made it so. */
	if ((!cpus || cpu_list_parse(&w->cpus, cpus, NULL) < 0) && sched_getaffinity(0, sizeof(w->cpus), &w->cpus) < 0)
		memset(&w->cpus, 0xff, sizeof(w->cpus));
	w->nice = clamp(getpriority(PRIO_PROCESS, 0) + (weight ? nice_of(json_integer_value(weight)) : 0), -20, 19);
	w->io_level = io ? io_level_of(json_integer_value(io)) : IO_LEVEL;
	w->oom = clamp(read_number(getpid(), "oom_score_adj") +
		       (!oom || !strcmp(oom, "normal") ? 0 : !strcmp(oom, "first") ? OOM_FIRST : OOM_LAST), -1000, 1000);
}

/* The first failure counts; a thread that has ended meanwhile is none. */
static void note(int *r, struct err *err, int error, const char *what)
{
	if (!*r && error != ESRCH)
		*r = err_set(err, -error, "%s: %s", what, strerror(error));
}

static void apply_thread(pid_t tid, const struct wanted *w, int *r, struct err *err)
{
	/* The usual one is none of its own: then niceness decides. */
	int io = w->io_level == IO_LEVEL ? IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 0) : IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, w->io_level);
	/* Asked for first: to lower it again takes a right that private daemons do not have. */
	int nice = (errno = 0, getpriority(PRIO_PROCESS, (id_t)tid));

	if (sched_setaffinity(tid, sizeof(w->cpus), &w->cpus) < 0)
		note(r, err, errno, errno == EINVAL ? "limits.cpus: the host has none of these processors" : "limits.cpus");
	if (nice != w->nice && setpriority(PRIO_PROCESS, (id_t)tid, w->nice) < 0)
		note(r, err, errno, "limits.cpu_weight: this daemon may not raise it again");
	if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, tid, io) < 0)
		note(r, err, errno, "limits.io_weight");
}

/* 0, or errno. */
static int write_number(pid_t pid, const char *name, int value)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	AUTO_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || dprintf(fd, "%d", value) < 0 ? errno : 0;
}

static void apply_process(pid_t pid, const struct wanted *w, int *r, struct err *err)
{
	char path[64];
	const struct dirent *e;
	int error = read_number(pid, "oom_score_adj") != w->oom ? write_number(pid, "oom_score_adj", w->oom) : 0;

	if (error && error != ENOENT)
		note(r, err, error, "limits.oom: this daemon may not put it there");
	/* Where sessions have groups of their own (sched(7)), niceness within one says nothing to others. */
	(void)write_number(pid, "autogroup", w->nice);
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *d = opendir(path);
	while (d && (e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			apply_thread((pid_t)atoi(e->d_name), w, r, err);
	if (d)
		closedir(d);
}

static void apply_tree(pid_t pid, const struct wanted *w, unsigned depth, int *r, struct err *err)
{
	char path[64];
	int child;

	apply_process(pid, w, r, err);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	FILE *f = depth ? fopen(path, "re") : NULL;
	for (unsigned k = 0; f && k < CHILDREN_MAX && fscanf(f, "%d", &child) == 1; k++)
		apply_tree(child, w, depth - 1, r, err);
	if (f)
		fclose(f);
}

int limits_apply(const struct process *p, const json_t *spec, struct err *err)
{
	struct wanted w;
	int r = 0;

	if (p->pid <= 0)
		return err_set(err, -ESRCH, "it has no process");
	read_wanted(&w, spec);
	apply_tree(p->pid, &w, DEPTH, &r, err);
	for (unsigned i = 0; i < PROCESS_BESIDE; i++) {
		pid_t beside = process_beside(p, i);

		if (beside)
			apply_tree(beside, &w, DEPTH, &r, err);
	}
	return r;
}
