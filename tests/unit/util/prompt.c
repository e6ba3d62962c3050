/* SPDX-License-Identifier: Apache-2.0 */
/* Short turns are asked for and given back; share and policy stay. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "util/prompt.h"

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static struct attr look(void)
{
	struct attr a = { .size = sizeof(a) };

	CHECK_EQ(syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0), 0);
	return a;
}

TEST(a_prompt_thread_has_short_turns_and_the_same_share)
{
	struct attr before = look(), during, after;

	thread_be_prompt(true);
	during = look();
	thread_be_prompt(false);
	after = look();
	CHECK(during.policy == before.policy && during.nice == before.nice);
	CHECK(during.runtime == 100000 || during.runtime == before.runtime);    /* the latter: an old kernel, or another policy */
	CHECK(after.policy == before.policy && after.nice == before.nice && after.runtime == before.runtime);
}

static void *batch(void *arg)
{
	(void)arg;
	CHECK_EQ(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 }), 0);
	thread_be_prompt(true);
	CHECK_EQ(look().policy, SCHED_BATCH);
	return NULL;
}

TEST(another_policy_is_left_alone)
{
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, batch, NULL), 0);
	pthread_join(t, NULL);
}
