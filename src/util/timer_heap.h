/* SPDX-License-Identifier: Apache-2.0 */
/* timer_heap.h - a loop's armed timers by deadline: a pairing heap, as a machine arms one of a few thousands of times a
 * second and a daemon has one for each of ten thousands of things. Those of the same deadline keep the order in which
 * they came. Private to the loop; one thread. */
#ifndef UTIL_TIMER_HEAP_H
#define UTIL_TIMER_HEAP_H

#include "util/loop.h"

struct timer_heap {
	struct loop_timer *first;       /* the earliest; NULL: none */
	uint64_t n_added;               /* ever */
};

/* By its deadline, which stays while it is in it. Constant time. */
void timer_heap_add(struct timer_heap *h, struct loop_timer *t);
/* In it: any, the first too. Logarithmic on average. */
void timer_heap_remove(struct timer_heap *h, struct loop_timer *t);

#endif
