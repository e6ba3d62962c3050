/* SPDX-License-Identifier: Apache-2.0 */
/* throttle.h - let processors run only part of the time: all of them at once run for a slice, then rest. The
 * guest's clocks go on, as they do when the host gives it no time. Loop thread. */
#ifndef VM_THROTTLE_H
#define VM_THROTTLE_H

#include <stdbool.h>
#include "util/loop.h"

struct machine;

enum { THROTTLE_MAX = 99 };

struct throttle {
	struct machine *m;
	struct loop_timer timer;
	unsigned percent;               /* of the time that they rest; 0: never */
	bool is_resting;
};

void throttle_init(struct throttle *t, struct machine *m);
/* PERCENT: 0 to THROTTLE_MAX. */
void throttle_set(struct throttle *t, unsigned percent);

#endif
