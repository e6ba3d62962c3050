/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_lanes.h - the connections of a source: the first, over which the two sides talk, and up to seven more that carry guest
 * memory only. All calls are the migration's thread's, except what says otherwise. */
#ifndef VM_MIGRATE_LANES_H
#define VM_MIGRATE_LANES_H

#include "util/err.h"
#include "vm/migrate_mem.h"

struct migrate_lanes {
	struct migrate_sender sender;
	struct migrate_link *first;     /* borrowed */
	struct migrate_link side[MIGRATE_STREAMS_MAX - 1];
	struct migrate_lane lane[MIGRATE_STREAMS_MAX];
	struct err why[MIGRATE_STREAMS_MAX];    /* how each ended; each is its lane's thread's during a round */
	bool is_first;                  /* round */
	unsigned n;
	struct migrate_plan plan;       /* as it was told */
};

struct migrate_lanes_config {
	struct gmem *mem;
	struct migrate_link *first;
	enum migrate_packing packing;
	uint64_t bandwidth;
	unsigned n;                     /* of all connections */
};

/* Loop thread. The sockets of the further connections are to be put in with migrate_lanes_take(). -ENOMEM;
 * migrate_lanes_fini() undoes it, also half. */
int migrate_lanes_init(struct migrate_lanes *l, const struct migrate_lanes_config *cfg, struct err *err);
void migrate_lanes_fini(struct migrate_lanes *l);
/* FD[0] is the first further connection's; they are taken. */
void migrate_lanes_take(struct migrate_lanes *l, const int *fd);
/* Any thread: all calls fail from now on. */
void migrate_lanes_cancel(struct migrate_lanes *l);
/* Any thread: bytes that all connections have sent. */
uint64_t migrate_lanes_sent(const struct migrate_lanes *l);

/* After HELLO: say how many there are, on the first and on each. Nothing is said if there is only one, and no FLAGS. */
int migrate_lanes_join(struct migrate_lanes *l, unsigned flags, struct err *err);
/* Say JOIN on L: it is connection N. */
int migrate_lanes_say_join(const struct migrate_lanes *lanes, struct migrate_link *l, unsigned n, struct err *err);
/* Say JOIN on the first N of the further connections, once more: they are new. */
int migrate_lanes_rejoin(struct migrate_lanes *l, unsigned n, struct err *err);
/* Send what the sender has taken, over all of them at once. */
int migrate_lanes_round(struct migrate_lanes *l, bool is_first, struct err *err);
/* No more memory comes over the further connections. */
int migrate_lanes_end(struct migrate_lanes *l, struct err *err);

#endif
