/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_loop.h"

#include <poll.h>
#include "fuzz.h"
#include "util/loop.h"

enum { TIMERS_MAX = 64, FDS_MAX = 64, CALLS_MAX = 4096, FIRES_MAX = 10000 };

/* One loop is enough for a target. */
static struct loop {
	uint64_t now_ns;
	struct loop_timer *timers[TIMERS_MAX];
	unsigned n_timers, n_calls, n_fds;
	struct loop_fd *fds[FDS_MAX];
	struct { void (*fn)(void *arg); void *arg; } calls[CALLS_MAX];
} the_loop;

void fake_loop_reset(void) { the_loop = (struct loop){ .now_ns = 1 }; }
void fake_loop_advance(uint64_t ns) { the_loop.now_ns += ns; }
uint64_t loop_now_ns(void) { return the_loop.now_ns; }

int loop_new(struct loop **out, struct err *err)
{
	*out = &the_loop;
	return 0;
}

void loop_free(struct loop *l)
{
	FUZZ_CHECK(!l->n_timers && !l->n_fds);  /* "handles must be gone" */
}

int loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
	if (l->n_calls == CALLS_MAX)
		return -12;             /* -ENOMEM, which callers must survive */
	l->calls[l->n_calls].fn = fn;
	l->calls[l->n_calls++].arg = arg;
	return 0;
}

void loop_timer_init(struct loop *l, struct loop_timer *t, void (*fn)(struct loop_timer *t))
{
	*t = (struct loop_timer){ .fn = fn, .loop = l };
}

void loop_timer_cancel(struct loop_timer *t)
{
	struct loop *l = t->loop;
	unsigned i = 0;

	if (!t->deadline_ns)
		return;
	t->deadline_ns = 0;
	while (i < l->n_timers && l->timers[i] != t)
		i++;
	FUZZ_CHECK(i < l->n_timers);
	l->timers[i] = l->timers[--l->n_timers];
}

void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns)
{
	struct loop *l = t->loop;

	FUZZ_CHECK(deadline_ns);
	if (!t->deadline_ns) {
		FUZZ_CHECK(l->n_timers < TIMERS_MAX);
		l->timers[l->n_timers++] = t;
	}
	t->deadline_ns = deadline_ns;
}

static struct loop_timer *loop_due(struct loop *l)
{
	struct loop_timer *t = NULL;

	for (unsigned i = 0; i < l->n_timers; i++)
		if (l->timers[i]->deadline_ns <= l->now_ns && (!t || l->timers[i]->deadline_ns < t->deadline_ns))
			t = l->timers[i];
	return t;
}

int loop_fd_add(struct loop *l, struct loop_fd *h, int fd, unsigned events, void (*fn)(struct loop_fd *h, unsigned events))
{
	FUZZ_CHECK(l->n_fds < FDS_MAX && fd >= 0);
	*h = (struct loop_fd){ .fd = fd, .fn = fn, .events = events, .loop = l };
	l->fds[l->n_fds++] = h;
	return 0;
}

void loop_fd_del(struct loop_fd *h)
{
	struct loop *l = h->loop;
	unsigned i = 0;

	if (!l)
		return;
	while (i < l->n_fds && l->fds[i] != h)
		i++;
	FUZZ_CHECK(i < l->n_fds);
	l->fds[i] = l->fds[--l->n_fds];
	h->loop = NULL;
}

/* Each of the descriptors that is ready, once; the order is that of the array, from its end, as one may go meanwhile. */
static void loop_look(struct loop *l)
{
	for (unsigned i = l->n_fds; i-- > 0;) {
		struct loop_fd *h = i < l->n_fds ? l->fds[i] : NULL;
		struct pollfd p = { h ? h->fd : -1, h ? (short)((h->events & LOOP_IN ? POLLIN : 0) | (h->events & LOOP_OUT ? POLLOUT : 0)) : 0, 0 };

		if (h && poll(&p, 1, 0) > 0)
			h->fn(h, (p.revents & POLLIN ? LOOP_IN : 0) | (p.revents & POLLOUT ? LOOP_OUT : 0) |
				 (p.revents & (POLLHUP | POLLERR) ? LOOP_HUP : 0));
	}
}

/* Everything that is due, timers that are set again included: time stands still meanwhile, so a
 * device that wants to be called for ever is found. */
int loop_run_once(struct loop *l, int timeout_ms)
{
	struct loop_timer *t;
	unsigned fires = 0;

	loop_look(l);
	do {
		for (unsigned i = 0; i < l->n_calls; i++)
			l->calls[i].fn(l->calls[i].arg);
		l->n_calls = 0;
		t = loop_due(l);
		if (t) {
			FUZZ_CHECK(fires++ < FIRES_MAX);
			loop_timer_cancel(t);
			t->fn(t);
		}
	} while (t || l->n_calls);
	return 0;
}
