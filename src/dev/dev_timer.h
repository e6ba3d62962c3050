/* SPDX-License-Identifier: Apache-2.0 */
/* dev_timer.h - a wake-up of a device, in guest time, that any thread may set.
 *
 * Loop timers belong to the loop thread and run on the host's clock; a device is programmed by
 * vCPU threads and counts guest time (source_now_ns()). This object stands between: it keeps
 * the wanted deadline in an atomic and tells the loop only when that is earlier than what the
 * loop already waits for. FN runs on the loop thread once guest time has reached the
 * deadline, inside bus_lock when the timer was given a bus. A timer that was moved or
 * cancelled by a thread holding the same lock as FN does not fire; others must expect a
 * late call and look at their own state. */
#ifndef DEV_DEV_TIMER_H
#define DEV_DEV_TIMER_H

#include <stdatomic.h>
#include <stdint.h>
#include "util/loop.h"
#include "util/source.h"

struct bus;

#define DEV_TIMER_OFF UINT64_MAX

struct dev_timer {
	_Atomic uint64_t deadline_ns;   /* guest time wanted; DEV_TIMER_OFF: none */
	_Atomic uint64_t armed_ns;      /* what the loop waits for, or is about to be told */
	struct loop_timer timer;        /* loop thread only */
	struct loop *loop;
	struct source *source;
	struct bus *bus;                /* NULL: FN does its own locking */
	void (*fn)(void *arg);
	void *arg;
};

/* LOOP and SOURCE are borrowed for the timer's life. */
void dev_timer_init(struct dev_timer *t, struct loop *loop, struct source *source, struct bus *bus,
		    void (*fn)(void *arg), void *arg);
/* Loop thread, no vCPU running; calls already queued on the loop must not run any more. */
void dev_timer_fini(struct dev_timer *t);

void dev_timer_set(struct dev_timer *t, uint64_t guest_ns);     /* any thread; past: fires at once */
void dev_timer_cancel(struct dev_timer *t);                     /* any thread */

#endif
