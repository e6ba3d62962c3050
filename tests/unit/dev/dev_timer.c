/* SPDX-License-Identifier: Apache-2.0 */
/* With the real event loop and clock. */
#include "dev/dev_timer.h"
#include <pthread.h>
#include <sched.h>
#include "bus/bus.h"
#include "test.h"

static struct source_host host;
static struct loop *loop;
static struct bus *bus;
static struct dev_timer t;
static atomic_uint fired;
static uint64_t fired_at;

static void on_fire(void *arg)
{
	fired_at = source_now_ns(&host.s);
	fired++;
}

static void setup(void)
{
	source_host_init(&host, 0);
	CHECK_EQ(loop_new(&loop, NULL), 0);
	CHECK_EQ(bus_new(&bus, NULL), 0);
	dev_timer_init(&t, loop, &host.s, bus, on_fire, NULL);
}

static void run_ms(uint64_t ms)
{
	uint64_t end = loop_now_ns() + ms * 1000000;

	while (loop_now_ns() < end)
		loop_run_once(loop, 1);
}

TEST(timer_fires_once_not_before_its_time)
{
	setup();
	uint64_t at = source_now_ns(&host.s) + 20000000;

	dev_timer_set(&t, at);
	run_ms(60);
	CHECK_EQ(fired, 1);
	CHECK(fired_at >= at);
}

TEST(later_deadline_replaces_and_cancel_silences)
{
	setup();
	dev_timer_set(&t, source_now_ns(&host.s) + 5000000);
	dev_timer_set(&t, source_now_ns(&host.s) + 60000000);
	run_ms(20);
	CHECK_EQ(fired, 0);
	dev_timer_set(&t, 0);                   /* in the past: at once */
	run_ms(5);
	CHECK_EQ(fired, 1);
	dev_timer_set(&t, source_now_ns(&host.s) + 5000000);
	dev_timer_cancel(&t);
	run_ms(20);
	CHECK_EQ(fired, 1);
}

static void *setter(void *arg)
{
	for (unsigned i = 0; i < 300; i++) {
		unsigned before = fired;

		bus_lock(bus);
		dev_timer_set(&t, source_now_ns(&host.s) + i % 7 * 10000);
		bus_unlock(bus);
		while (fired == before)
			sched_yield();
	}
	loop_stop(loop, 0);
	return NULL;
}

TEST(every_deadline_set_by_another_thread_is_kept)
{
	pthread_t th;

	setup();
	pthread_create(&th, NULL, setter, NULL);
	CHECK_EQ(loop_run(loop), 0);
	pthread_join(th, NULL);
	CHECK_EQ(fired, 300);
	dev_timer_fini(&t);
	loop_free(loop);
	bus_free(bus);
}
