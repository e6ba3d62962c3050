/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/loop.h"

static struct loop *fresh(void)
{
	struct loop *l = NULL;

	CHECK_EQ(loop_new(&l, NULL), 0);
	return l;
}

struct watched {
	struct loop_fd h;
	struct watched *other;
	int hits;
	unsigned seen;
};

static void remove_both(struct loop_fd *h, unsigned events)
{
	struct watched *w = container_of(h, struct watched, h);

	w->hits++;
	w->seen |= events;
	loop_fd_del(&w->other->h);
	loop_fd_del(h);
}

TEST(a_handle_removed_in_the_same_round_never_runs)
{
	struct loop *l = fresh();
	struct watched a = { .hits = 0 }, b = { .other = &a };
	int pa[2], pb[2];

	a.other = &b;
	CHECK(!pipe(pa) && !pipe(pb));
	CHECK_EQ(loop_fd_add(l, &a.h, pa[0], LOOP_IN, remove_both), 0);
	CHECK_EQ(loop_fd_add(l, &b.h, pb[0], LOOP_IN, remove_both), 0);
	CHECK(write(pa[1], "x", 1) == 1 && write(pb[1], "x", 1) == 1);
	CHECK(loop_run_once(l, 1000) > 0);
	CHECK_EQ(a.hits + b.hits, 1);
	CHECK_EQ(loop_run_once(l, 0), 0);
	loop_free(l);
}

static void add_in_place(struct loop_fd *h, unsigned events)
{
	struct watched *w = container_of(h, struct watched, h);
	struct loop *l = h->loop;

	w->hits++;
	/* The other one's event is already fetched; its slot is given to a quiet descriptor. */
	loop_fd_del(&w->other->h);
	CHECK_EQ(loop_fd_add(l, &w->other->h, w->other->hits, LOOP_IN, add_in_place), 0);
}

TEST(a_reused_slot_does_not_inherit_an_old_event)
{
	struct loop *l = fresh();
	int pa[2], pb[2], quiet_a[2], quiet_b[2];
	struct watched a, b;

	CHECK(!pipe(pa) && !pipe(pb) && !pipe(quiet_a) && !pipe(quiet_b));
	a = (struct watched){ .other = &b, .hits = quiet_a[0] };
	b = (struct watched){ .other = &a, .hits = quiet_b[0] };
	CHECK_EQ(loop_fd_add(l, &a.h, pa[0], LOOP_IN, add_in_place), 0);
	CHECK_EQ(loop_fd_add(l, &b.h, pb[0], LOOP_IN, add_in_place), 0);
	CHECK(write(pa[1], "x", 1) == 1 && write(pb[1], "x", 1) == 1);
	CHECK(loop_run_once(l, 1000) > 0);
	CHECK_EQ(a.hits - quiet_a[0] + b.hits - quiet_b[0], 1);
	loop_free(l);
}

TEST(a_closed_peer_is_reported_without_asking)
{
	struct loop *l = fresh();
	struct watched a = { .hits = 0 }, b = { .hits = 0 };
	int p[2];

	a.other = &b;
	CHECK(!pipe(p));
	CHECK_EQ(loop_fd_add(l, &a.h, p[0], 0, remove_both), 0);
	close(p[1]);
	CHECK(loop_run_once(l, 1000) > 0);
	CHECK_EQ(a.seen, LOOP_HUP);
	loop_free(l);
}

struct timed {
	struct loop_timer t;
	int *order, id;
	struct timed *victim;
};
static int order_next;

static void timed_fire(struct loop_timer *t)
{
	struct timed *x = container_of(t, struct timed, t);

	x->order[order_next++] = x->id;
	if (x->victim)
		loop_timer_cancel(&x->victim->t);
}

TEST(timers_fire_in_order_and_can_be_moved_and_cancelled)
{
	struct loop *l = fresh();
	enum { N = 40 };
	struct timed t[N];
	int order[N];
	uint64_t now = loop_now_ns();

	for (int i = 0; i < N; i++) {
		t[i] = (struct timed){ .order = order, .id = i };
		loop_timer_init(l, &t[i].t, timed_fire);
		loop_timer_set(&t[i].t, now + 1000 + (uint64_t)((i * 17) % N) * 1000);
	}
	for (int i = 0; i < N; i++) /* by number now */
		loop_timer_set(&t[i].t, now + 1000000 + (uint64_t)i * 1000);
	t[0].victim = &t[39];           /* cancelled by the first callback of the round */
	loop_timer_cancel(&t[20].t);
	loop_timer_cancel(&t[20].t);
	usleep(5000);
	for (int i = 0; i < 3 && order_next < N - 2; i++)
		loop_run_once(l, 1000);
	CHECK_EQ(order_next, N - 2);
	for (int i = 1; i < order_next; i++)
		CHECK(order[i - 1] < order[i]);
	loop_free(l);
}

static void rearm_in_the_past(struct loop_timer *t)
{
	container_of(t, struct timed, t)->id++;
	loop_timer_set(t, 1);
}

TEST(a_timer_that_is_always_late_does_not_starve_the_loop)
{
	struct loop *l = fresh();
	struct timed t = { .id = 0 }, other = { .id = 0 };

	loop_timer_init(l, &t.t, rearm_in_the_past);
	loop_timer_init(l, &other.t, rearm_in_the_past);
	loop_timer_set(&t.t, 0);
	loop_timer_set(&other.t, 5);
	for (int i = 1; i <= 5; i++) {
		CHECK(loop_run_once(l, 1000) > 0);
		CHECK_EQ(t.id, i);
		CHECK_EQ(other.id, i);
	}
	loop_timer_cancel(&other.t);
	loop_timer_cancel(&t.t);
	loop_free(l);
}

struct counter {
	struct loop *l;
	int next, is_ordered;
};
struct message {
	struct counter *c;
	int n;
};

static void count(void *arg)
{
	struct message *m = arg;

	if (m->n != m->c->next++)
		m->c->is_ordered = 0;
	CHECK(loop_is_own_thread(m->c->l));
	if (m->n == 999)
		loop_stop(m->c->l, 42);
	free(m);
}

static void *caller(void *arg)
{
	struct counter *c = arg;

	CHECK(!loop_is_own_thread(c->l));
	for (int i = 0; i < 1000; i++) {
		struct message *m = malloc(sizeof(*m));

		*m = (struct message){ c, i };
		CHECK_EQ(loop_call(c->l, count, m), 0);
	}
	return NULL;
}

TEST(calls_from_another_thread_keep_their_order_and_stop_gives_the_code)
{
	struct counter c = { fresh(), 0, 1 };
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, caller, &c), 0);
	CHECK_EQ(loop_run(c.l), 42);
	pthread_join(t, NULL);
	CHECK_EQ(c.next, 1000);
	CHECK(c.is_ordered);
	loop_free(c.l);
}

static void on_signal(void *arg, int signo)
{
	*(int *)arg = signo;
}

TEST(signals_arrive_as_callbacks)
{
	struct loop *l = fresh();
	int got = 0;

	CHECK_EQ(loop_signal_add(l, SIGUSR1, on_signal, &got), 0);
	CHECK_EQ(loop_signal_add(l, SIGTERM, on_signal, &got), 0);
	CHECK_EQ(loop_signal_add(l, 0, on_signal, &got), -EINVAL);
	kill(getpid(), SIGTERM);
	CHECK(loop_run_once(l, 1000) > 0);
	CHECK_EQ(got, SIGTERM);
	kill(getpid(), SIGUSR1);
	CHECK(loop_run_once(l, 1000) > 0);
	CHECK_EQ(got, SIGUSR1);
	loop_free(l);
}
