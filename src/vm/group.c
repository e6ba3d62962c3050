/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/group.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/log.h"
#include "vm/config.h"

/* Threads at most: of processors, of disks that there can be (those of their pool, and of io_uring some for each of the host's processors), and
 * with much room those that come for a while and the helpers'. NAMES: a number may have been another machine's, whose group nobody removed. */
enum { ROOM = 1024, DISK_POOL = 64, DISK_KERNELS = 4, NAMES = 16 };

static void group_bound(const char *folder)
{
	char text[16];

	snprintf(text, sizeof(text), "%ld", ROOM + CONFIG_CPUS_MAX + CONFIG_DISKS_MAX * (DISK_POOL + DISK_KERNELS * sysconf(_SC_NPROCESSORS_ONLN)));
	int r = cgroup_write(folder, "pids.max", text);
	if (r < 0 && r != -ENOENT)      /* the controller is not for it */
		log_info("the control group '%s' has no bound of threads: %s", folder, strerror(-r));
}

static int group_make_in(const char *above, char folder[GROUP_PATH_MAX])
{
	for (unsigned i = 0; i < NAMES; i++) {
		int len = snprintf(folder, GROUP_PATH_MAX, "%s/viv-vmm-%d", strcmp(above, "/") != 0 ? above : "", (int)getpid());

		if (i)
			snprintf(folder + len, GROUP_PATH_MAX - (size_t)len, ".%u", i);
		(void)rmdir(folder);    /* one that has been left, and is empty */
		if (!mkdir(folder, 0755))
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

void group_make(struct group *g)
{
	static const char *const controllers[GROUP_HIERARCHIES] = { "", "pids" };
	struct cgroup_self self;
	char above[CGROUP_PATH_MAX];

	g->n = 0;
	if (cgroup_self_read(&self) < 0)
		return;
	for (unsigned k = 0; k < GROUP_HIERARCHIES; k++) {
		if (!cgroup_folder(self.cgroup, self.mountinfo, controllers[k], above, sizeof(above)))
			continue;
		int r = cgroup_is_writable(above) ? group_make_in(above, g->folder[g->n]) : -EACCES;
		if (r < 0) {
			log_info("no control group of its own in '%s': %s", above, strerror(-r));
			continue;
		}
		group_bound(g->folder[g->n++]);
	}
	cgroup_self_free(&self);
}

void group_add(const struct group *g, pid_t pid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", (int)pid);
	for (unsigned k = 0; k < g->n; k++) {
		int r = cgroup_write(g->folder[k], "cgroup.procs", text);

		if (r < 0 && r != -ESRCH)
			log_info("a process stays outside of the control group '%s': %s", g->folder[k], strerror(-r));
	}
}

void group_remove(const struct group *g)
{
	for (unsigned k = 0; k < g->n; k++)
		(void)rmdir(g->folder[k]);
}
