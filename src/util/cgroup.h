/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.h - control groups in the file system (cgroups(7)): where they are, their files, and the end of their processes. Any thread. */
#ifndef UTIL_CGROUP_H
#define UTIL_CGROUP_H

#include <stdbool.h>
#include <stddef.h>

enum { CGROUP_PATH_MAX = 1024 };

/* The folder of a process's group in the hierarchy of CONTROLLER ("pids", "name=systemd"; "": the unified one), from the texts of its
 * /proc/PID/cgroup and /proc/PID/mountinfo. False: that is not mounted, or the group is outside of what is. */
bool cgroup_folder(const char *cgroup, const char *mountinfo, const char *controller, char *folder, size_t cap);

/* What that takes, of this process: its two texts. */
struct cgroup_self {
	char *cgroup, *mountinfo;
};

/* 0 or -ENOMEM; what cannot be read is "". */
int cgroup_self_read(struct cgroup_self *s);
void cgroup_self_free(struct cgroup_self *s);

/* May groups be made in FOLDER, and processes moved from it? */
bool cgroup_is_writable(const char *folder);
/* Write TEXT to the file NAME of FOLDER. 0 or -errno. */
int cgroup_write(const char *folder, const char *name, const char *text);
/* Its text, cut off at CAP; "": it cannot be read. */
void cgroup_read(const char *folder, const char *name, char *text, size_t cap);
/* Kill all processes of the group FOLDER. They need a moment to go, so this is repeated until the group can be removed. */
void cgroup_kill(const char *folder);

#endif
