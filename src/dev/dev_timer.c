/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/dev_timer.h"

#include "bus/bus.h"
#include "util/checked.h"

/* Loop thread: wait for what is wanted now. ARMED_NS is published first, so that a thread that
 * sets an earlier deadline in between sees that it has to call again; sequential consistency
 * pairs the two (here: store armed, load deadline; there: store deadline, load armed). */
static void dev_timer_arm(void *arg)
{
	struct dev_timer *t = arg;
	uint64_t want = atomic_load(&t->deadline_ns), seen;

	do {
		seen = want;
		atomic_store(&t->armed_ns, seen);
		want = atomic_load(&t->deadline_ns);
	} while (want != seen);

	if (want == DEV_TIMER_OFF) {
		loop_timer_cancel(&t->timer);
		return;
	}
	uint64_t now = source_now_ns(t->source), host = loop_now_ns(), at;

	if (!u64_add(host, want > now ? want - now : 0, &at))
		at = UINT64_MAX - 1;
	loop_timer_set(&t->timer, at ? at : 1);
}

static void dev_timer_fired(struct loop_timer *lt)
{
	struct dev_timer *t = container_of(lt, struct dev_timer, timer);

	if (t->bus)
		bus_lock(t->bus);

	uint64_t want = atomic_load(&t->deadline_ns);

	/* moved to later since, or guest time has stood still: wait again. The exchange fails
	 * when another thread sets a new deadline at this moment, which then stands. */
	if (want != DEV_TIMER_OFF && want <= source_now_ns(t->source) &&
	    atomic_compare_exchange_strong(&t->deadline_ns, &want, DEV_TIMER_OFF))
		t->fn(t->arg);
	if (t->bus)
		bus_unlock(t->bus);
	dev_timer_arm(t);
}

void dev_timer_init(struct dev_timer *t, struct loop *loop, struct source *source, struct bus *bus,
		    void (*fn)(void *arg), void *arg)
{
	t->loop = loop;
	t->source = source;
	t->bus = bus;
	t->fn = fn;
	t->arg = arg;
	atomic_init(&t->deadline_ns, DEV_TIMER_OFF);
	atomic_init(&t->armed_ns, DEV_TIMER_OFF);
	loop_timer_init(loop, &t->timer, dev_timer_fired);
}

void dev_timer_fini(struct dev_timer *t)
{
	atomic_store(&t->deadline_ns, DEV_TIMER_OFF);
	if (t->loop)
		loop_timer_cancel(&t->timer);
}

void dev_timer_set(struct dev_timer *t, uint64_t guest_ns)
{
	atomic_store(&t->deadline_ns, guest_ns);

	/* The loop is told only when it would wake too late. Whoever lowers armed_ns makes the
	 * call; a call that cannot be queued is tried again by the next set. */
	uint64_t armed = atomic_load(&t->armed_ns);

	while (guest_ns < armed) {
		if (!atomic_compare_exchange_weak(&t->armed_ns, &armed, guest_ns))
			continue;
		if (loop_call(t->loop, dev_timer_arm, t) < 0)
			atomic_store(&t->armed_ns, armed);
		return;
	}
}

void dev_timer_cancel(struct dev_timer *t)
{
	atomic_store(&t->deadline_ns, DEV_TIMER_OFF);
}
