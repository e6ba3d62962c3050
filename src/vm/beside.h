/* SPDX-License-Identifier: Apache-2.0 */
/* beside.h - who is there besides a machine's process, and where that is: the janitor, passt's keeper, a PID namespace (pidns.h) and
 * a control group (group.h) of its own. Main thread, before there are others. */
#ifndef VM_BESIDE_H
#define VM_BESIDE_H

#include "net/keeper.h"
#include "vm/group.h"
#include "vm/janitor.h"
#include "vm/pidns.h"

struct config;
struct err;
struct incoming;

struct beside {
	struct net_keeper keeper;
	struct janitor janitor;
	struct janitor group_janitor;   /* when the other one is that of the machine's last process, in another group */
	struct group group;
};

/* What C asks for. By itself a machine of root gets one if it gets a jail. */
enum pidns_mode beside_pidns_mode(const struct config *c);

void beside_init(struct beside *b);
/* Start them. 0: this is the machine's process now; it may be another one than the caller's, and C says so (is_inside). 1: the machine's is
 * a child of this one's parent, and this one ends. -errno: beside_end() ends those that have been started. IN: where the machine comes from;
 * NULL: from nowhere. OUTSIDE: what this process has inherited. ARGV: to execute this program again. */
int beside_start(struct beside *b, struct config *c, const struct incoming *in, struct pidns *outside, char **argv, struct err *err);
/* What they keep goes, unless it is another process's by now. */
void beside_end(struct beside *b, struct config *c);

#endif
