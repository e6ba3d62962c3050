/* SPDX-License-Identifier: Apache-2.0 */
#include "util/linger.h"

static void linger_switch(struct linger *g, bool is_on)
{
	g->is_on = is_on;
	g->n_rounds = 0;
}

static void linger_give_up(struct linger *g)
{
	g->n_wanted = 2 * g->n_wanted < LINGER_ROUNDS_MAX ? 2 * g->n_wanted : LINGER_ROUNDS_MAX;
	linger_switch(g, false);
}

static void linger_begin_round(struct linger *g)
{
	g->n = g->n_missed = 0;
	g->sum_ns = 0;
}

static void linger_judge(struct linger *g)
{
	g->n_rounds++;
	if (!g->is_on) {
		g->slept_ns = g->sum_ns;
		if (g->sum_ns < (uint64_t)LINGER_ROUND * LINGER_SELDOM_NS && g->n_rounds >= g->n_wanted)
			linger_switch(g, true);
	} else if (10 * g->sum_ns >= 9 * g->slept_ns) {
		linger_give_up(g);
	} else {
		g->n_wanted = 1;
		if (g->n_rounds >= LINGER_ROUNDS_MAX)
			linger_switch(g, false);
	}
}

void linger_served(struct linger *g, uint64_t now_ns)
{
	uint64_t ns = now_ns - g->last_ns;

	g->last_ns = now_ns;
	g->sum_ns += ns < LINGER_CYCLE_MAX_NS ? ns : LINGER_CYCLE_MAX_NS;
	if (++g->n < LINGER_ROUND)
		return;
	linger_judge(g);
	linger_begin_round(g);
}

void linger_missed(struct linger *g)
{
	if (++g->n_missed < LINGER_MISSES_MAX)
		return;
	linger_give_up(g);
	linger_begin_round(g);
}
