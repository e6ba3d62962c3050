/* SPDX-License-Identifier: Apache-2.0 */
/* When looking is tried, kept and given up; time is what the test says. */
#include "test.h"

#include "util/linger.h"

/* A round of requests with NS between them; NOW goes on. */
static void pass(struct linger *g, uint64_t *now, unsigned ns)
{
	for (unsigned i = 0; i < LINGER_ROUND; i++)
		linger_served(g, *now += ns);
}

TEST(looking_that_helps_is_kept_and_questioned_now_and_then)
{
	struct linger g = LINGER_INIT;
	uint64_t now = 1;
	unsigned n_looking = 0, n = 4 * LINGER_ROUNDS_MAX;

	pass(&g, &now, 60000);
	CHECK(g.is_on);
	for (unsigned i = 0; i < n; i++) {
		n_looking += g.is_on;
		pass(&g, &now, g.is_on ? 20000 : 60000);
	}
	CHECK(n_looking < n);
	CHECK(n_looking >= n - n / LINGER_ROUNDS_MAX - 1);
}

TEST(looking_that_does_not_help_is_tried_ever_more_seldom)
{
	struct linger g = LINGER_INIT;
	uint64_t now = 1;
	unsigned n_looking = 0, n = 4 * LINGER_ROUNDS_MAX;

	for (unsigned i = 0; i < n; i++) {
		n_looking += g.is_on;
		pass(&g, &now, g.is_on ? 28000 : 30000);
	}
	CHECK(n_looking >= 1);
	CHECK(n_looking < 16);
	/* The host has time again: it is found out. */
	for (unsigned i = 0; i <= LINGER_ROUNDS_MAX && !g.is_on; i++)
		pass(&g, &now, 60000);
	CHECK(g.is_on);
	pass(&g, &now, 20000);
	CHECK(g.is_on);
	CHECK_EQ(g.n_wanted, 1);
}

TEST(who_is_asked_seldom_does_not_look)
{
	struct linger g = LINGER_INIT;
	uint64_t now = 1;

	for (unsigned i = 0; i < 100; i++) {
		pass(&g, &now, LINGER_SELDOM_NS);
		CHECK(!g.is_on);
	}
	/* One long pause does not hide that requests come quickly. */
	now += 1000000000000;
	pass(&g, &now, 50000);
	CHECK(g.is_on);
}

TEST(looks_in_vain_end_it_within_the_round)
{
	struct linger g = LINGER_INIT;
	uint64_t now = 1;

	pass(&g, &now, 50000);
	CHECK(g.is_on);
	for (unsigned i = 1; i < LINGER_MISSES_MAX; i++)
		linger_missed(&g);
	CHECK(g.is_on);
	linger_missed(&g);
	CHECK(!g.is_on);
	CHECK_EQ(g.n, 0);
	pass(&g, &now, 50000);
	CHECK(!g.is_on);
	pass(&g, &now, 50000);
	CHECK(g.is_on);
}
