/* SPDX-License-Identifier: Apache-2.0 */
/* group.h - a control group of a machine's own, below that of who started it (cgroups(7)): whatever bounds, accounts for or ends those
 * holds for the machine, and what the machine has can be told from them, and be ended as a whole.
 *
 * In it are the machine's process, passt with its keeper, and who speaks TLS for it; outside are who waits in front of it (pidns.h) and
 * the janitor, which removes the group when the others have gone. It is made in the unified hierarchy and, of version 1, in that of
 * 'pids', as far as they are mounted and may be written; where the group has the controller it bounds processes and threads. No other
 * controller is switched on there, as that would be for whoever owns the group above. Main thread, before there are others. */
#ifndef VM_GROUP_H
#define VM_GROUP_H

#include <sys/types.h>
#include "util/cgroup.h"

enum { GROUP_HIERARCHIES = 2, GROUP_PATH_MAX = CGROUP_PATH_MAX + 48 };

struct group {
	unsigned n;                     /* of how many hierarchies; 0: there is none */
	char folder[GROUP_HIERARCHIES][GROUP_PATH_MAX];
};

/* Where none is to be had the log says so, and N is 0. */
void group_make(struct group *g);
/* PID, 0: this process, and what it starts from now on, is in it. That takes some ten milliseconds. What does not work is told. */
void group_add(const struct group *g, pid_t pid);
/* Of what has no janitor, and is empty. */
void group_remove(const struct group *g);

#endif
