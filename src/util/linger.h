/* SPDX-License-Identifier: Apache-2.0 */
/* linger.h - is it worth looking for a moment before going to sleep?
 *
 * Who is asked a thing, answers, and is asked the next one 20 us later may spend most of its time falling asleep and
 * being woken: on a processor that sleeps, too, that is an interrupt, in a virtual machine several exits. Looking
 * without sleeping saves them, at the price of a processor for as long as nothing comes. But on a busy host, where
 * both share a processor, it takes from the other side the time that it needs to ask. Nothing tells which it is, so
 * both ways are tried, some requests in a row each, and the time from one request to the next is compared. Looking
 * has to be clearly better; where it is not it is tried ever more seldom. Who is asked seldom always sleeps.
 *
 * Plain arithmetic: the owner looks, sleeps and reads the clock. One thread. */
#ifndef UTIL_LINGER_H
#define UTIL_LINGER_H

#include <stdbool.h>
#include <stdint.h>

enum {
	LINGER_NS = 50000,              /* the longest look */
	LINGER_CYCLE_MAX_NS = 200000,   /* more between two requests says no more than this */
	LINGER_SELDOM_NS = 120000,      /* with more between them on average nothing is tried */
	LINGER_ROUND = 64,              /* requests before it is decided anew */
	LINGER_MISSES_MAX = 8,          /* looks of a round that were in vain */
	LINGER_ROUNDS_MAX = 256,        /* before what was decided is questioned */
};

struct linger {
	bool is_on;                     /* look before sleeping */
	unsigned n, n_missed;           /* requests and misses of this round */
	uint64_t sum_ns, last_ns;       /* from request to request; when the last one was */
	uint64_t slept_ns;              /* SUM_NS of the last round with sleep alone */
	unsigned n_rounds, n_wanted;    /* in this way; with sleep before looking is tried */
};

#define LINGER_INIT ((struct linger){ .n_wanted = 1 })

/* A request has been served, and another one is expected. NOW_NS: of a monotonic clock. */
void linger_served(struct linger *g, uint64_t now_ns);
/* A look found nothing. */
void linger_missed(struct linger *g);

#endif
