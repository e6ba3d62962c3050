/* SPDX-License-Identifier: Apache-2.0 */
/* front.h - a disk that can be changed while it is used.
 *
 * A front is a node before the top node of a disk. Devices hold the front, so the images behind it can be exchanged
 * under them: blk_front_drain_begin() keeps new requests and waits for those under way, then the graph is anybody's.
 * A front passes requests on without a copy or a coroutine; only while there are limits does it make them wait, and
 * only while somebody guards the disk do changes (writes, discards, zeroes) run in coroutines. blk_*() calls that mean
 * an image (format, name, snapshots, ...) mean the top node. Loop thread. */
#ifndef BLK_FRONT_H
#define BLK_FRONT_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/blk_ops.h"
#include "blk/limit.h"

/* Put a front before TOP, the top node of a disk that nobody uses yet, and take it. -ENOMEM. */
int blk_front_new(struct blk **out, struct blk *top, struct err *err);
bool blk_is_front(const struct blk *b);
/* The top node behind a front, or B itself. */
struct blk *blk_front_top(struct blk *b);

/* What the disk may do from now on. -ENOTSUP without a loop, or what blk_limits_check() says. */
int blk_front_set_limits(struct blk *front, const struct blk_limits *limits, struct err *err);
void blk_front_get_limits(const struct blk *front, struct blk_limits *out);
/* Let go all that waits for its turn by the limits, now; it counts all the same. */
void blk_front_lift(struct blk *front);

/* From a coroutine: no request begins until the end, and none is under way on return. What waited for its turn by the
 * limits has gone through. Nests; several fronts may be drained by one coroutine. */
void blk_front_drain_begin(struct blk *front);
void blk_front_drain_end(struct blk *front);
/* Drained: TOP is the disk's top node from now on. Nothing is closed. */
void blk_front_set_top(struct blk *front, struct blk *top);
/* The size of the top node has changed. */
void blk_front_resized(struct blk *front);

/* Somebody who has to know of each change. Called in the coroutine of the change, so they may yield; ranges of the
 * front (blk_range_lock()) are locked shared by a change from before DONE until after it. */
struct blk_guard {
	void (*before)(struct blk_guard *g, uint64_t off, uint64_t len);        /* no range is locked; NULL: nothing */
	/* RESULT: 0, or what has failed: then any part of it may have been done. NULL: nothing. */
	void (*after)(struct blk_guard *g, enum blk_op op, uint64_t off, uint64_t len, struct blk_vec v, int result);
	struct blk_guard *next;
};
/* Drained. */
void blk_front_guard(struct blk *front, struct blk_guard *g);
void blk_front_unguard(struct blk *front, struct blk_guard *g); /* not there: nothing happens */

#endif
