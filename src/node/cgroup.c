/* SPDX-License-Identifier: Apache-2.0 */
#include "node/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "node/cgroup_priv.h"
#include "node/doc.h"
#include "node/process.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/loop.h"

/* GRACE: for the process that removes sockets, and for those that end with the machine. PAUSES: between looks at what still ends. */
enum { GRACE_MS = 1000, PAUSE_MIN_MS = 20, PAUSE_MAX_MS = 2000, NAME_MAX_LEN = 64 };

/* A group whose machine has ended. */
struct leaving {
	struct leaving *next;
	char uid[DOC_UID_LEN + 1];
	uint64_t kill_ns;
	bool was_told;                  /* that it had to be killed */
};

struct cgroups {
	struct cgroup_place place[CGROUP_HIERARCHIES];
	unsigned n;
	char why[CGROUP_WHY_MAX];
	uint64_t daemon;                /* whose groups */
	struct leaving *first;
	struct loop_timer timer;        /* while there are some */
	unsigned pause_ms;
	bool was_told;                  /* that a group could not be made */
};

static const char prefix[] = "machine-";

/* --- names ---------------------------------------------------- */

/* FNV-1a: told apart must be the daemons of one host, which choose their directories themselves. */
static uint64_t add_bytes(uint64_t sum, const void *bytes, size_t n)
{
	const unsigned char *b = bytes;

	while (n--)
		sum = (sum ^ *b++) * 0x100000001b3;
	return sum;
}

/* One that has other sockets knows nothing of machines that run; and a copy of the directory, in a container of its own, is another's. */
static uint64_t daemon_of(const char *data_dir, const char *run_dir)
{
	const char *const dirs[] = { data_dir, run_dir };
	uint64_t sum = 0xcbf29ce484222325;
	struct stat st;

	for (unsigned k = 0; k < ARRAY_LEN(dirs); k++) {
		AUTO(free) char *real = realpath(dirs[k], NULL);
		const char *path = real ? real : dirs[k];

		sum = add_bytes(sum, path, strlen(path) + 1);
	}
	if (!stat(data_dir, &st)) {
		sum = add_bytes(sum, &st.st_dev, sizeof(st.st_dev));
		sum = add_bytes(sum, &st.st_ino, sizeof(st.st_ino));
	}
	return sum;
}

static void folder_of(const struct cgroups *c, unsigned k, const char *uid, char folder[CGROUP_PATH_MAX + NAME_MAX_LEN])
{
	snprintf(folder, CGROUP_PATH_MAX + NAME_MAX_LEN, "%s/%s%s.%016" PRIx64, c->place[k].folder, prefix, uid, c->daemon);
}

/* Is NAME that of a group of this daemon's? Of which machine? */
static bool read_name(const struct cgroups *c, const char *name, char uid[DOC_UID_LEN + 1])
{
	size_t n = strlen(prefix);
	char tail[32];

	snprintf(tail, sizeof(tail), ".%016" PRIx64, c->daemon);
	if (strncmp(name, prefix, n) != 0 || strlen(name) != n + DOC_UID_LEN + strlen(tail) || strcmp(name + n + DOC_UID_LEN, tail) != 0)
		return false;
	snprintf(uid, DOC_UID_LEN + 1, "%.*s", DOC_UID_LEN, name + n);
	return true;
}

/* --- the end ---------------------------------------------------- */

/* True: none of its groups is there. */
static bool remove_groups(const struct cgroups *c, const char *uid, bool kills)
{
	char folder[CGROUP_PATH_MAX + NAME_MAX_LEN];
	bool is_gone = true;

	for (unsigned k = 0; k < c->n; k++) {
		folder_of(c, k, uid, folder);
		if (!rmdir(folder) || errno == ENOENT)
			continue;
		is_gone = false;
		if (kills)
			cgroup_kill(folder);
	}
	return is_gone;
}

/* Where UID's entry hangs, or NULL would. */
static struct leaving **find_leaving(struct cgroups *c, const char *uid)
{
	struct leaving **at = &c->first;

	while (*at && strcmp((*at)->uid, uid) != 0)
		at = &(*at)->next;
	return at;
}

static void drop(struct leaving **at)
{
	struct leaving *v = *at;

	*at = v->next;
	free(v);
}

static void look(struct loop_timer *t)
{
	struct cgroups *c = container_of(t, struct cgroups, timer);
	uint64_t now = loop_now_ns();

	for (struct leaving **at = &c->first; *at;) {
		struct leaving *v = *at;
		bool kills = now >= v->kill_ns;

		if (remove_groups(c, v->uid, kills)) {
			drop(at);
			continue;
		}
		if (kills && !v->was_told)
			log_warn("processes that machine %s has left behind are killed", v->uid);
		v->was_told |= kills;
		at = &v->next;
	}
	c->pause_ms = c->pause_ms * 2 < PAUSE_MAX_MS ? c->pause_ms * 2 : PAUSE_MAX_MS;
	if (c->first)
		loop_timer_set(t, loop_after_ms(c->pause_ms));
}

bool cgroup_end(struct cgroups *c, const char *uid)
{
	struct leaving **at = find_leaving(c, uid);

	if (remove_groups(c, uid, false)) {
		if (*at)
			drop(at);
		return true;
	}
	if (*at)
		return false;
	/* Without memory the next daemon does it. */
	struct leaving *v = calloc(1, sizeof(*v));
	if (v) {
		snprintf(v->uid, sizeof(v->uid), "%s", uid);
		v->kill_ns = loop_after_ms(GRACE_MS);
		*at = v;
		c->pause_ms = PAUSE_MIN_MS;
		loop_timer_set(&c->timer, loop_after_ms(c->pause_ms));
	}
	return false;
}

/* --- the beginning ---------------------------------------------------- */

static int bound(struct cgroups *c, unsigned k, const char *folder, unsigned tasks)
{
	char text[16];

	cgroup_place_enable(&c->place[k]);
	snprintf(text, sizeof(text), "%u", tasks);
	return c->place[k].has_pids ? cgroup_write(folder, "pids.max", text) : 0;
}

/* The way into the group of hierarchy K, or -errno. */
static int make(struct cgroups *c, unsigned k, const char *uid, unsigned tasks)
{
	char folder[CGROUP_PATH_MAX + NAME_MAX_LEN], procs[CGROUP_PATH_MAX + NAME_MAX_LEN + 16];

	folder_of(c, k, uid, folder);
	if (mkdir(folder, 0755) < 0)
		return -errno;
	int r = bound(c, k, folder, tasks);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", folder);
	int fd = r < 0 ? r : open(procs, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		r = r < 0 ? r : -errno;
		rmdir(folder);
		return r;
	}
	return fd;
}

int cgroup_make(struct cgroups *c, const char *uid, unsigned tasks, struct cgroup_entry *e, struct err *err)
{
	e->n = 0;
	if (!cgroup_end(c, uid))
		return err_set(err, -EBUSY, "what its process has left behind is not gone yet");
	for (unsigned k = 0; k < c->n; k++) {
		int fd = make(c, k, uid, tasks);

		if (fd >= 0) {
			e->fd[e->n++] = fd;
		} else if (!c->was_told) {
			c->was_told = true;
			log_warn("machines run without a control group in '%s': %s", c->place[k].folder, strerror(-fd));
		}
	}
	return 0;
}

void cgroup_entry_close(struct cgroup_entry *e)
{
	while (e->n)
		close(e->fd[--e->n]);
}

void cgroup_bound(struct cgroups *c, const char *uid, unsigned tasks)
{
	char folder[CGROUP_PATH_MAX + NAME_MAX_LEN];

	for (unsigned k = 0; k < c->n; k++) {
		folder_of(c, k, uid, folder);
		int r = access(folder, F_OK) < 0 ? 0 : bound(c, k, folder, tasks);

		if (r < 0)
			log_warn("cannot bound the processes of machine %s: %s", uid, strerror(-r));
	}
}

/* --- all ---------------------------------------------------- */

/* Those of machines from before that run no more. The others' are noted when they end. */
static void end_old(struct cgroups *c, const char *run_dir)
{
	char uid[DOC_UID_LEN + 1], lock[PATH_MAX];

	for (unsigned k = 0; k < c->n; k++) {
		DIR *d = opendir(c->place[k].folder);
		const struct dirent *e;

		while (d && (e = readdir(d)) != NULL) {
			if (!read_name(c, e->d_name, uid))
				continue;
			snprintf(lock, sizeof(lock), "%s/i/%s/lock", run_dir, uid);
			if (!process_is_there(lock))
				(void)cgroup_end(c, uid);
		}
		if (d)
			closedir(d);
	}
}

int cgroups_open(struct cgroups **out, struct loop *l, const char *data_dir, const char *run_dir, struct err *err)
{
	struct cgroups *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->daemon = daemon_of(data_dir, run_dir);
	loop_timer_init(l, &c->timer, look);
	c->n = cgroup_places_find(c->place, c->why);
	if (c->n)
		c->why[0] = 0;
	else
		log_info("machines have no control groups of their own: %s", c->why);
	end_old(c, run_dir);
	*out = c;
	return 0;
}

void cgroups_close(struct cgroups *c)
{
	if (!c)
		return;
	loop_timer_cancel(&c->timer);
	while (c->first)
		drop(&c->first);
	free(c);
}

const char *cgroups_reason(const struct cgroups *c)
{
	return c->why;
}
