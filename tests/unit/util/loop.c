/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
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

struct late {
	struct loop_timer t;
	uint64_t due_ns;
	unsigned *n_fired;
	uint64_t *last_ns;
};

static void late_fire(struct loop_timer *t)
{
	struct late *x = container_of(t, struct late, t);

	CHECK(x->due_ns >= *x->last_ns);
	*x->last_ns = x->due_ns;
	++*x->n_fired;
}

/* A sorted list would take hours. */
TEST(two_hundred_thousand_timers_are_armed_moved_and_fire_in_order)
{
	enum { N = 200000 };
	struct late *x = calloc(N, sizeof(*x));
	struct loop *l = fresh();
	uint64_t last_ns = 0, seed = 1;
	unsigned n_fired = 0;

	CHECK(x);
	for (int i = 0; i < N; i++) {
		x[i] = (struct late){ .n_fired = &n_fired, .last_ns = &last_ns };
		loop_timer_init(l, &x[i].t, late_fire);
		loop_timer_set(&x[i].t, loop_now_ns() + 3600000000000u + (uint64_t)i);
	}
	for (int i = 0; i < N; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		x[i].due_ns = 1 + (seed >> 44);
		loop_timer_set(&x[i].t, x[i].due_ns);
	}
	for (int i = 0; i < N; i += 4)
		loop_timer_cancel(&x[i].t);
	while (n_fired < N / 4 * 3)
		CHECK(loop_run_once(l, 1000) > 0);
	CHECK_EQ(loop_run_once(l, 0), 0);
	loop_free(l);
	free(x);
}

static void once(struct loop_fd *h, unsigned events)
{
	struct watched *w = container_of(h, struct watched, h);

	w->hits++;
	w->seen |= events;
	loop_fd_del(h);
}

TEST(a_descriptor_has_its_turn_while_thousands_of_timers_are_due)
{
	enum { N = 4000 };
	struct late *x = calloc(N, sizeof(*x));
	struct loop *l = fresh();
	struct watched w = { .hits = 0 };
	uint64_t last_ns = 0;
	unsigned n_fired = 0;
	int p[2];

	CHECK(x && !pipe(p));
	for (int i = 0; i < N; i++) {
		x[i] = (struct late){ .due_ns = (uint64_t)i + 1, .n_fired = &n_fired, .last_ns = &last_ns };
		loop_timer_init(l, &x[i].t, late_fire);
		loop_timer_set(&x[i].t, x[i].due_ns);
	}
	CHECK(loop_run_once(l, 1000) > 0);
	CHECK_EQ(loop_fd_add(l, &w.h, p[0], LOOP_IN, once), 0);
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK(loop_run_once(l, 1000) > 0);
	CHECK_EQ(w.hits, 1);
	CHECK(n_fired < 100);
	while (n_fired < N)
		CHECK(loop_run_once(l, 1000) > 0);
	loop_free(l);
	free(x);
}

TEST(a_deadline_of_many_seconds_is_as_far_away_as_it_says)
{
	uint64_t before = loop_now_ns(), at = loop_after_ms(3600 * 1000), after = loop_now_ns();

	CHECK(at >= before + 3600000000000u && at <= after + 3600000000000u);
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

/* Echoes bytes, and expects more at once. */
struct echo {
	struct loop_fd h;
	int out;
	unsigned n_bytes;
	bool is_dying;
};

static void echo_ready(struct loop_fd *h, unsigned events)
{
	struct echo *e = container_of(h, struct echo, h);
	uint8_t byte;

	if (read(h->fd, &byte, 1) != 1) {
		if (e->is_dying)
			loop_fd_del(h);
		return;
	}
	e->n_bytes++;
	CHECK_EQ(write(e->out, &byte, 1), 1);
	loop_linger(h);
}

struct asker {
	struct loop *l;
	int out, in;
	unsigned n;
};

static void *asker_main(void *arg)
{
	struct asker *a = arg;

	for (unsigned i = 0; i < a->n; i++) {
		uint8_t byte = (uint8_t)i, got = 0;

		CHECK_EQ(write(a->out, &byte, 1), 1);
		CHECK_EQ(read(a->in, &got, 1), 1);
		CHECK_EQ(got, byte);
	}
	loop_stop(a->l, 7);
	return NULL;
}

TEST(who_lingers_gets_every_byte_and_keeps_nobody_else_waiting)
{
	struct loop *l = fresh();
	struct echo e[2] = { 0 };
	struct asker a[2];
	pthread_t t[2];

	for (unsigned i = 0; i < 2; i++) {
		int to[2], from[2];

		CHECK(!pipe2(to, O_NONBLOCK) && !pipe(from));
		e[i].out = from[1];
		a[i] = (struct asker){ l, to[1], from[0], 20000 };
		CHECK_EQ(loop_fd_add(l, &e[i].h, to[0], LOOP_IN, echo_ready), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, asker_main, &a[i]), 0);
	while (e[0].n_bytes + e[1].n_bytes < 40000)
		CHECK_EQ(loop_run(l), 7);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(t[i], NULL);
		CHECK_EQ(e[i].n_bytes, 20000);
		loop_fd_del(&e[i].h);
	}
	loop_free(l);
}

TEST(who_lingers_may_go_away_while_it_is_looked_at)
{
	struct loop *l = fresh();
	struct echo e = { 0 };
	int to[2], from[2];

	CHECK(!pipe2(to, O_NONBLOCK) && !pipe(from));
	e.out = from[1];
	CHECK_EQ(loop_fd_add(l, &e.h, to[0], LOOP_IN, echo_ready), 0);
	/* Quick enough that looking is tried; then it takes itself away in a look, or at the latest when asked. */
	for (unsigned i = 0; i < 2000; i++) {
		uint8_t byte = 0;

		CHECK_EQ(write(to[1], &byte, 1), 1);
		CHECK(loop_run_once(l, 1000) > 0);
		CHECK_EQ(read(from[0], &byte, 1), 1);
	}
	e.is_dying = true;
	CHECK_EQ(loop_run_once(l, 0), 0);
	loop_fd_del(&e.h);
	CHECK_EQ(loop_run_once(l, 0), 0);
	CHECK_EQ(e.n_bytes, 2000);
	loop_free(l);
}
