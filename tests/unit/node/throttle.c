/* SPDX-License-Identifier: Apache-2.0 */
/* Who fails too often waits. */
#include "test.h"

#include <stdio.h>
#include <string.h>
#include "node/throttle.h"

static struct throttle t;

TEST(some_failures_cost_nothing_and_further_ones_twice_as_much_each)
{
	t = (struct throttle){ 0 };
	for (unsigned i = 0; i < 4; i++)
		throttle_fail(&t, "a", 100);
	CHECK_EQ(throttle_wait(&t, "a", 4, 100), 0);
	throttle_fail(&t, "a", 100);
	CHECK_EQ(throttle_wait(&t, "a", 4, 100), 1);
	CHECK_EQ(throttle_wait(&t, "a", 4, 101), 0);
	throttle_fail(&t, "a", 101);
	CHECK_EQ(throttle_wait(&t, "a", 4, 101), 2);
	for (unsigned i = 0; i < 100; i++)
		throttle_fail(&t, "a", 102);
	CHECK_EQ(throttle_wait(&t, "a", 4, 102), THROTTLE_WAIT_MAX_S);
	CHECK_EQ(throttle_wait(&t, "b", 4, 102), 0);
}

TEST(who_knows_the_password_or_waits_long_begins_anew)
{
	t = (struct throttle){ 0 };
	for (unsigned i = 0; i < 9; i++)
		throttle_fail(&t, "a", 1);
	CHECK_EQ(throttle_wait(&t, "a", 4, 1 + THROTTLE_FORGET_S), 0);
	throttle_fail(&t, "a", 1 + THROTTLE_FORGET_S);
	CHECK_EQ(throttle_wait(&t, "a", 0, 1 + THROTTLE_FORGET_S), 1);
	throttle_forget(&t, "a");
	CHECK_EQ(throttle_wait(&t, "a", 0, 1 + THROTTLE_FORGET_S), 0);
}

TEST(memory_is_bounded_and_the_quietest_is_forgotten)
{
	char name[16];

	t = (struct throttle){ 0 };
	for (unsigned i = 0; i < THROTTLE_ENTRIES + 1; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		throttle_fail(&t, name, 10 + i);
	}
	CHECK_EQ(throttle_wait(&t, "n0", 0, 10), 0);
	CHECK_EQ(throttle_wait(&t, name, 0, 10 + THROTTLE_ENTRIES), 1);
	CHECK_EQ(throttle_wait(&t, "n1", 0, 11), 1);
}

TEST(many_who_fail_once_do_not_make_it_forget_who_fails_often)
{
	char name[16];

	t = (struct throttle){ 0 };
	for (unsigned i = 0; i < 8; i++)
		throttle_fail(&t, "victim", 10);
	for (unsigned i = 0; i < 3 * THROTTLE_ENTRIES; i++) {
		snprintf(name, sizeof(name), "n%u", i);
		throttle_fail(&t, name, 11);
	}
	CHECK_EQ(throttle_wait(&t, "victim", 4, 11), 7);
	/* What is old makes room, however often it has failed. */
	for (unsigned i = 0; i < THROTTLE_ENTRIES; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		throttle_fail(&t, name, 11 + THROTTLE_FORGET_S);
		throttle_fail(&t, name, 11 + THROTTLE_FORGET_S);
	}
	CHECK_EQ(throttle_wait(&t, "m0", 1, 11 + THROTTLE_FORGET_S), 1);
	CHECK_EQ(throttle_wait(&t, name, 1, 11 + THROTTLE_FORGET_S), 1);
}

TEST(a_network_of_ipv6_fails_as_one)
{
	static const struct { const char *address, *network; } cases[] = {
		{ "192.0.2.1", "192.0.2.1" }, { "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::" }, { "2001:db8:1:2::ffff", "2001:db8:1:2::" },
		{ "::ffff:192.0.2.1", "::ffff:192.0.2.1" }, { "::1", "::" }, { "unix", "unix" },
	};
	char out[64];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		throttle_network(out, sizeof(out), cases[i].address);
		CHECK(!strcmp(out, cases[i].network));
	}
}
