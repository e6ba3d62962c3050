/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <pthread.h>
#include <stdlib.h>
#include "util/checked.h"
#include "util/co.h"

static char trace[256];

static void note(const char *text)
{
	strcat(trace, text);
}

static struct co *sleeper;

static void sleep_once(void *arg)
{
	note(arg);
	sleeper = co_self();
	co_yield();
	note(arg);
}

TEST(a_coroutine_runs_until_it_yields_and_goes_on_when_woken)
{
	CHECK(!co_self());
	CHECK_EQ(co_stack_left(), SIZE_MAX);
	CHECK_EQ(co_start(sleep_once, "a"), 0);
	CHECK(!co_self());
	note("|");
	co_wake(sleeper);
	CHECK_STR(trace, "a|a");
}

static void nested(void *arg)
{
	note("(");
	CHECK_EQ(co_start(sleep_once, "x"), 0);
	co_wake(sleeper);
	note("still)");
}

TEST(who_is_woken_by_a_coroutine_runs_after_it_and_before_the_thread)
{
	CHECK_EQ(co_start(nested, NULL), 0);
	note("|");
	CHECK_STR(trace, "(xstill)x|");
}

static void wake_self(void *arg)
{
	co_wake(co_self());
	note("1");
	co_yield();
	note("2");
}

TEST(a_wake_up_before_the_yield_is_kept)
{
	CHECK_EQ(co_start(wake_self, NULL), 0);
	CHECK_STR(trace, "12");
}

enum { MANY = 1000 };
static struct co *many[MANY];

struct numbered { unsigned i; uint64_t sum; };

static void count(void *arg)
{
	struct numbered *n = arg;
	volatile uint64_t local[200];           /* each has its own stack */

	CHECK(co_stack_left() > 100000);
	for (unsigned k = 0; k < 200; k++)
		local[k] = n->i * 1000 + k;
	many[n->i] = co_self();
	co_yield();
	for (unsigned k = 0; k < 200; k++)
		n->sum += local[k];
}

static void *count_many(void *arg)
{
	static struct numbered n[MANY];

	for (int round = 0; round < 3; round++) {
		for (unsigned i = 0; i < MANY; i++) {
			n[i] = (struct numbered){ .i = i };
			CHECK_EQ(co_start(count, &n[i]), 0);
		}
		for (unsigned i = MANY; i--;)
			co_wake(many[i]);
		for (unsigned i = 0; i < MANY; i++)
			CHECK_EQ(n[i].sum, (uint64_t)i * 200000 + 199 * 100);
	}
	return NULL;
}

TEST(a_thousand_have_a_stack_each) { count_many(NULL); }

TEST(each_thread_has_its_own_coroutines)
{
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, count_many, NULL), 0);
	CHECK_EQ(pthread_join(t, NULL), 0);
	count_many(NULL);
}

static struct co_mutex mutex;
static struct co_queue go;

static void with_mutex(void *arg)
{
	co_mutex_lock(&mutex);
	note(arg);
	co_queue_wait(&go);
	note(arg);
	co_mutex_unlock(&mutex);
}

TEST(a_mutex_lets_one_in_in_order_of_arrival)
{
	CHECK_EQ(co_start(with_mutex, "a"), 0);
	CHECK_EQ(co_start(with_mutex, "b"), 0);
	CHECK_EQ(co_start(with_mutex, "c"), 0);
	CHECK(!co_mutex_try(&mutex));
	CHECK_STR(trace, "a");
	while (co_queue_wake_one(&go))
		;
	CHECK_STR(trace, "aabbcc");
	CHECK(co_mutex_try(&mutex));
}

static struct co_rwlock rw;

static void reader(void *arg)
{
	co_rwlock_read(&rw);
	note(arg);
	co_queue_wait(&go);
	co_rwlock_unlock(&rw);
}

static void writer(void *arg)
{
	co_rwlock_write(&rw);
	note(arg);
	co_queue_wait(&go);
	co_rwlock_unlock(&rw);
}

TEST(readers_share_and_a_writer_is_alone_and_not_starved)
{
	static const struct { void (*fn)(void *arg); const char *name; } order[] = {
		{ reader, "r" }, { reader, "s" }, { writer, "W" }, { reader, "t" }, { reader, "u" }, { writer, "X" },
	};

	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		CHECK_EQ(co_start(order[i].fn, (void *)(uintptr_t)order[i].name), 0);
	CHECK_STR(trace, "rs");
	co_queue_wake_one(&go);
	CHECK_STR(trace, "rs");
	CHECK(!co_rwlock_try_read(&rw));        /* the writer that waits is before us */
	co_queue_wake_one(&go);
	CHECK_STR(trace, "rsW");
	co_queue_wake_one(&go);
	CHECK_STR(trace, "rsWtu");
	co_queue_wake_one(&go);
	co_queue_wake_one(&go);
	CHECK_STR(trace, "rsWtuX");
	co_queue_wake_one(&go);
	CHECK(co_rwlock_try_read(&rw));
	co_rwlock_unlock(&rw);
}

static void wait_twice(void *arg)
{
	co_queue_wait(&go);
	note(arg);
	co_queue_wait(&go);
	note("!");
}

TEST(waking_all_wakes_those_who_wait_now)
{
	CHECK_EQ(co_start(wait_twice, "a"), 0);
	CHECK_EQ(co_start(wait_twice, "b"), 0);
	co_queue_wake_all(&go);
	CHECK_STR(trace, "ab");
	CHECK(!co_queue_is_empty(&go));
	co_queue_wake_all(&go);
	CHECK_STR(trace, "ab!!");
	CHECK(co_queue_is_empty(&go));
}
