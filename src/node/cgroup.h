/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.h - a control group for each machine's processes, below the daemon's own (cgroups(7)): what a machine has started does not outlive
 * it, and it has no more processes and threads than it can need.
 *
 * A group is made in the unified hierarchy (version 2) and, of version 1, in that of 'pids', as far as they are mounted and the daemon
 * may: its own group is writable and, where systemd runs, delegated to it. Its name tells the machine and the daemon, so whoever comes
 * after a crash finds all of them. Where there is none, machines run without. Loop thread. */
#ifndef NODE_CGROUP_H
#define NODE_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include "util/cleanup.h"

struct cgroups;
struct err;
struct loop;

enum { CGROUP_HIERARCHIES = 2 };

/* The way into a group: who writes "0" to each of these descriptors is in it. */
struct cgroup_entry {
	int fd[CGROUP_HIERARCHIES];
	unsigned n;                     /* 0: there is no group */
};

/* Of the daemon with these directories. Groups of its machines that run no more are ended. -ENOMEM. */
int cgroups_open(struct cgroups **out, struct loop *l, const char *data_dir, const char *run_dir, struct err *err);
/* What is there stays for the next daemon. NULL is fine. */
void cgroups_close(struct cgroups *c);
/* Why machines run without, as a sentence; "": they have groups. */
const char *cgroups_reason(const struct cgroups *c);

/* The group of machine UID, for at most TASKS threads of all its processes, and the way into it, to be closed by
 * cgroup_entry_close(). -EBUSY: what the machine that had that uid has left is not gone yet; try again soon. What else fails is told in
 * the log, and the machine runs without. */
int cgroup_make(struct cgroups *c, const char *uid, unsigned tasks, struct cgroup_entry *e, struct err *err);
void cgroup_entry_close(struct cgroup_entry *e);
static inline void auto_cgroup_entry_close(struct cgroup_entry *e)
{
	cgroup_entry_close(e);
}
/* The bound of a machine that has run since before this daemon, if it has a group. */
void cgroup_bound(struct cgroups *c, const char *uid, unsigned tasks);
/* The machine has ended. What is left of it has a second to end by itself, as the process that removes its sockets does, and is killed
 * then; the group goes with the last. True: nothing is left, or there never was a group. */
bool cgroup_end(struct cgroups *c, const char *uid);

#endif
