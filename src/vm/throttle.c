/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/throttle.h"

#include <stdint.h>
#include "util/checked.h"
#include "vm/machine_priv.h"

#define SLICE_NS 10000000u      /* that they run */

static void throttle_rest(struct throttle *t, bool on)
{
	vcpus_rest(t->m->vcpus, VCPUS_REST_MIGRATION, on);
	t->is_resting = on;
}

static void throttle_turn(struct loop_timer *timer)
{
	struct throttle *t = container_of(timer, struct throttle, timer);
	uint64_t rest = (uint64_t)SLICE_NS * t->percent / (100 - t->percent);

	if (t->is_resting || t->m->state != MACHINE_RUNNING) {
		throttle_rest(t, false);
		loop_timer_set(timer, loop_now_ns() + SLICE_NS);
		return;
	}
	throttle_rest(t, true);
	loop_timer_set(timer, loop_now_ns() + rest);
}

void throttle_init(struct throttle *t, struct machine *m)
{
	*t = (struct throttle){ .m = m };
	loop_timer_init(m->loop, &t->timer, throttle_turn);
}

void throttle_set(struct throttle *t, unsigned percent)
{
	t->percent = percent < THROTTLE_MAX ? percent : THROTTLE_MAX;
	if (percent && !t->timer.deadline_ns)
		loop_timer_set(&t->timer, loop_now_ns() + SLICE_NS);
	if (percent)
		return;
	loop_timer_cancel(&t->timer);
	throttle_rest(t, false);
}
