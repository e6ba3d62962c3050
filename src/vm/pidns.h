/* SPDX-License-Identifier: Apache-2.0 */
/* pidns.h - a machine in a PID namespace of its own (pid_namespaces(7)), and what stays outside of it.
 *
 * A process cannot enter a new PID namespace, its child can. So viv-vmm begins outside, starts there what outlives the machine or is
 * not its own - the janitor, the keeper of passt - and then makes a child that executes the same program with the same arguments
 * again: the machine, which is process 1 in there and finds those two by what it inherits. When process 1 ends, the kernel ends
 * whatever else is in the namespace. Main thread, before there are others. */
#ifndef VM_PIDNS_H
#define VM_PIDNS_H

#include <stdbool.h>
#include <sys/types.h>
#include "net/keeper.h"

struct err;

enum pidns_mode {
	PIDNS_OFF,
	PIDNS_FRONT,            /* this process waits in front of the machine, passes signals on, and ends as it does; killed, so is the machine */
	PIDNS_DETACHED,         /* this process ends with 0, and the machine is a child of its parent; its number is then the first line of the
				 * file that is standard input, the numbers of those outside are those that follow */
};

enum { PIDNS_BESIDE = 2 };

/* What the machine inherits. */
struct pidns {
	int janitor;                    /* -1: none */
	int keeper[NET_KEEPER_MAX];     /* by interface; -1: none */
	pid_t beside[PIDNS_BESIDE];     /* the numbers of those outside; 0: none. Whoever is inside is not told */
	bool is_inside;                 /* this is the machine's process */
};

/* Is this the process inside, and if so, with what? First thing of all; no descriptor but these and the standard ones is open afterwards then. */
void pidns_inherit(struct pidns *p);
/* Start the machine by executing this program with ARGV again. 1: done, and P's descriptors are closed; this process has nothing
 * to do any more than to end with *STATUS. 0: there is no such namespace to be had (said), go on without. -errno: it should be there. */
int pidns_start(const struct pidns *p, enum pidns_mode mode, char **argv, int *status, struct err *err);
/* Inside, when this process has changed its user: the kernel has forgotten that it is to die with the one in front (prctl(2),
 * PR_SET_PDEATHSIG). -ECHILD: that one has gone. */
int pidns_stay_bound(void);
/* The number of this process where /proc is of: what others on the host know it by. Before the jail. */
pid_t pidns_number(void);

#endif
