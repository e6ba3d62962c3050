/* SPDX-License-Identifier: Apache-2.0 */
/* pidns.h - a machine in a PID namespace of its own (pid_namespaces(7)), and what stays outside of it.
 *
 * A process cannot enter a new PID namespace, its child can. So viv-vmm begins outside, starts there what outlives the machine or is
 * not its own - the janitor, the keeper of passt - and then makes a child: the machine, which is process 1 in there. When process 1
 * ends, the kernel ends whatever else is in the namespace. Main thread, before there are others.
 *
 * By hand the process that was started waits in front of the machine, in a jail of its own (PIDNS_FRONT): the child goes on where it
 * is. For a daemon the machine is the child of whoever started viv-vmm (PIDNS_DETACHED), which fork() cannot do: that child executes
 * the same program with the same arguments again, and finds those outside by what it inherits. */
#ifndef VM_PIDNS_H
#define VM_PIDNS_H

#include <stdbool.h>
#include <sys/types.h>
#include "net/keeper.h"

struct err;

enum pidns_mode {
	PIDNS_OFF,
	PIDNS_FRONT,
	PIDNS_DETACHED,
};

enum { PIDNS_BESIDE = 2 };

/* What the machine that is detached inherits. */
struct pidns {
	int janitor;                    /* -1: none */
	int keeper[NET_KEEPER_MAX];     /* by interface; -1: none */
	pid_t beside[PIDNS_BESIDE];     /* the numbers of those outside; 0: none. Whoever is inside is not told */
	bool is_inside;                 /* this is the machine's process */
};

/* Is this the process inside, and if so, with what? First thing of all; no descriptor but these and the standard ones is open afterwards then. */
void pidns_inherit(struct pidns *p);
/* Detached: start the machine by executing this program with ARGV again. 1: done, and P's descriptors are closed; this process has
 * nothing to do any more than to end. Its number is then the first line of the file that is standard input, the numbers of those
 * outside are those that follow. 0: there is no such namespace to be had (said), go on without. -errno: it should be there. */
int pidns_detach(const struct pidns *p, char **argv, struct err *err);
/* In front: 1 in the machine's process, which goes on in a child. The one that was started does not return: it passes signals on and ends as
 * the machine does; killed, so is the machine; stopped from a terminal, both stop. It calls STARTED with the number of the machine's process,
 * which goes on meanwhile. HAS_JAIL: after that it can do nothing else. 0: as above. -errno: nothing runs. */
int pidns_front(bool has_jail, void (*started)(void *arg, pid_t pid), void *arg, struct err *err);
/* In the machine's process, which is the first of a namespace: end as SIGNO would end it. A signal's handler may call it. */
void pidns_end_by(int signo) __attribute__((noreturn));
/* In the machine's process: the number of the one in front; 0: there is none. */
pid_t pidns_front_number(void);
/* Inside, when this process has changed its user: the kernel has forgotten that it is to die with the one in front (prctl(2),
 * PR_SET_PDEATHSIG). -ECHILD: that one has gone. */
int pidns_stay_bound(void);

#endif
