/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/migrate_lanes.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
	ALIVE_S = 10,
	ALONE_PAGES = 256,              /* so few are sent sooner than threads are started */
};

int migrate_lanes_init(struct migrate_lanes *l, const struct migrate_lanes_config *cfg, struct err *err)
{
	int r;

	*l = (struct migrate_lanes){ .first = cfg->first, .n = cfg->n };
	for (unsigned i = 1; i < MIGRATE_STREAMS_MAX; i++)
		migrate_link_init(&l->side[i - 1], -1);
	r = migrate_sender_init(&l->sender, cfg->mem, cfg->packing, cfg->bandwidth, err);
	for (unsigned i = 0; !r && i < l->n; i++)
		r = migrate_lane_init(&l->lane[i], &l->sender, i ? &l->side[i - 1] : l->first, i, l->n, err);
	return r;
}

void migrate_lanes_fini(struct migrate_lanes *l)
{
	for (unsigned i = 0; i < l->n; i++)
		migrate_lane_fini(&l->lane[i]);
	for (unsigned i = 1; i < l->n; i++)
		migrate_link_fini(&l->side[i - 1]);
	migrate_sender_fini(&l->sender);
	l->n = 0;
}

void migrate_lanes_take(struct migrate_lanes *l, const int *fd)
{
	for (unsigned i = 1; i < l->n; i++)
		l->side[i - 1].fd = fd[i - 1];
}

void migrate_lanes_cancel(struct migrate_lanes *l)
{
	atomic_store(&l->sender.is_over, true);
	for (unsigned i = 1; i < l->n; i++)
		migrate_link_cancel(&l->side[i - 1]);
}

uint64_t migrate_lanes_sent(const struct migrate_lanes *l)
{
	uint64_t n = atomic_load(&l->first->sent);

	for (unsigned i = 1; i < l->n; i++)
		n += atomic_load(&l->side[i - 1].sent);
	return n;
}

int migrate_lanes_say_join(const struct migrate_lanes *lanes, struct migrate_link *l, unsigned n, struct err *err)
{
	struct migrate_join join = { .n = le32_of(n) };

	memcpy(join.token, lanes->plan.token, sizeof(join.token));
	return migrate_send(l, MIGRATE_JOIN, &join, sizeof(join), NULL, 0, err);
}

int migrate_lanes_rejoin(struct migrate_lanes *l, unsigned n, struct err *err)
{
	int r = 0;

	for (unsigned i = 1; !r && i <= n; i++)
		r = migrate_lanes_say_join(l, &l->side[i - 1], i, err);
	return r;
}

int migrate_lanes_join(struct migrate_lanes *l, unsigned flags, struct err *err)
{
	l->plan = (struct migrate_plan){ .n_streams = le32_of(l->n), .flags = le32_of(flags) };
	if (l->n < 2 && !flags)
		return 0;
	if (getrandom(l->plan.token, sizeof(l->plan.token), 0) != sizeof(l->plan.token))
		return err_set(err, -errno, "the host has no random numbers: %s", strerror(errno));
	int r = migrate_send(l->first, MIGRATE_PLAN, &l->plan, sizeof(l->plan), NULL, 0, err);
	return r ? r : migrate_lanes_rejoin(l, l->n - 1, err);
}

/* --- a round --- */

/* One has failed: the others need not go on. */
static void lanes_give_up(struct migrate_lanes *l)
{
	atomic_store(&l->sender.is_over, true);
	for (unsigned i = 0; i < l->n; i++)
		atomic_store(&l->lane[i].link->gives_up, true);
}

static void lanes_run(struct migrate_lanes *l, unsigned i)
{
	l->why[i] = (struct err)ERR_INIT;
	if (migrate_lane_round(&l->lane[i], l->is_first, &l->why[i]) == 0)
		return;
	lanes_give_up(l);
	if (i)          /* the first connection's end is seen to by who talks there */
		migrate_recv_why(l->lane[i].link, &l->why[i]);
}

struct lanes_thread {
	struct migrate_lanes *l;
	unsigned i;
	pthread_t thread;
};

static void *lanes_main(void *arg)
{
	struct lanes_thread *t = arg;

	pthread_setname_np(pthread_self(), "migrate-lane");
	lanes_run(t->l, t->i);
	return NULL;
}

/* The first that failed by itself, not because another had. */
static int lanes_result(const struct migrate_lanes *l, struct err *err)
{
	const struct err *why = NULL;

	for (unsigned i = 0; i < l->n; i++) {
		if (l->why[i].code && (!why || why->code == -ECANCELED))
			why = &l->why[i];
	}
	return why ? err_set(err, why->code, "%s", why->msg) : 0;
}

/* Until THREAD has ended; the other side is not to think meanwhile that nobody is here. */
static void lanes_wait(struct migrate_lanes *l, pthread_t thread, bool says_so)
{
	struct timespec until;

	do {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += ALIVE_S;
		if (says_so && !l->why[0].code)
			(void)migrate_send(l->first, MIGRATE_ALIVE, NULL, 0, NULL, 0, NULL);
	} while (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) == ETIMEDOUT);
}

static int lanes_round_alone(struct migrate_lanes *l, struct err *err)
{
	for (unsigned i = 0; i < l->n; i++)
		lanes_run(l, i);
	return lanes_result(l, err);
}

int migrate_lanes_round(struct migrate_lanes *l, bool is_first, struct err *err)
{
	struct lanes_thread t[MIGRATE_STREAMS_MAX];
	unsigned n = 1;
	int r = 0;

	l->is_first = is_first;
	if (l->n == 1 || atomic_load(&l->sender.pages_left) <= ALONE_PAGES)
		return lanes_round_alone(l, err);
	while (!r && n < l->n) {
		t[n] = (struct lanes_thread){ .l = l, .i = n };
		r = -pthread_create(&t[n].thread, NULL, lanes_main, &t[n]);
		n += !r;
	}
	if (r < 0)
		lanes_give_up(l);
	else
		lanes_run(l, 0);
	while (n > 1)
		lanes_wait(l, t[--n].thread, r == 0);
	return r < 0 ? err_set(err, r, "cannot start a thread: %s", strerror(-r)) : lanes_result(l, err);
}

int migrate_lanes_end(struct migrate_lanes *l, struct err *err)
{
	int r = 0;

	for (unsigned i = 1; !r && i < l->n; i++)
		r = migrate_send(&l->side[i - 1], MIGRATE_END, NULL, 0, NULL, 0, err);
	return r;
}
