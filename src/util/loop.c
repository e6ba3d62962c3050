/* SPDX-License-Identifier: Apache-2.0 */
#include "util/loop.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/linger.h"
#include "util/timer_heap.h"

enum {
	EVENTS_PER_ROUND = 64, N_SIGNALS = 65,
	TIMERS_PER_ROUND = 16,  /* before descriptors are looked at again */
	LOOKS_PER_POLL = 4,     /* at the one that lingers, before one at all */
	SERVED_PER_POLL = 16,   /* the same, when each of them found something */
};

/* One watched descriptor. The kernel hands back slot and generation, so an event that was
 * fetched before its handle went away finds another generation and is dropped. */
struct slot {
	struct loop_fd *h;      /* NULL: free */
	uint32_t gen;
};

struct call {
	void (*fn)(void *arg);
	void *arg;
	struct call *next;
};

struct signal_entry {
	void (*fn)(void *arg, int signo);
	void *arg;
};

struct loop {
	int epoll_fd;
	int wake_fd, timer_fd, signal_fd;               /* -1: not open yet */
	struct loop_fd wake, timer, signal;
	_Atomic(pthread_t) thread;                      /* the one in loop_run() */
	_Atomic bool is_stopping;                       /* any thread; published before the wake-up */
	_Atomic int code;

	struct slot *slots;
	unsigned n_slots;

	struct timer_heap timers;                       /* armed */
	uint64_t fired_ns;                              /* what is armed lies behind it */
	uint64_t armed_ns;                              /* what timer_fd is set to; 0: disarmed */

	bool can_linger;                                /* there is another processor */
	struct linger linger;
	struct loop_fd *lingering;                      /* who asked for it last; NULL: it is gone */
	bool is_expecting;                              /* since the last wait it has asked */
	unsigned n_served;                              /* in a row without asking epoll */

	pthread_mutex_t lock;                           /* guards calls, calls_tail */
	struct call *calls, **calls_tail;

	sigset_t signals;
	struct signal_entry signal_table[N_SIGNALS];
};

uint64_t loop_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

bool loop_is_own_thread(const struct loop *l)
{
	return pthread_equal(atomic_load_explicit(&l->thread, memory_order_relaxed), pthread_self());
}

static void loop_wake(struct loop *l)
{
	uint64_t one = 1;

	/* EAGAIN means that the counter is full: the loop is awake anyway. */
	while (write(l->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void loop_drain(int fd)
{
	uint64_t n;

	while (read(fd, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

/* --- descriptors --- */

static uint32_t loop_epoll_mask(unsigned events)
{
	return (events & LOOP_IN ? EPOLLIN : 0u) | (events & LOOP_OUT ? EPOLLOUT : 0u);
}

static int loop_slot_new(struct loop *l, unsigned *out)
{
	for (unsigned i = 0; i < l->n_slots; i++) {
		if (!l->slots[i].h) {
			*out = i;
			return 0;
		}
	}
	unsigned n = l->n_slots ? l->n_slots * 2 : 16;
	struct slot *s = realloc(l->slots, n * sizeof(*s));

	if (!s)
		return -ENOMEM;
	memset(s + l->n_slots, 0, (n - l->n_slots) * sizeof(*s));
	*out = l->n_slots;
	l->slots = s;
	l->n_slots = n;
	return 0;
}

static struct epoll_event loop_epoll_event(const struct loop *l, unsigned slot, unsigned events)
{
	return (struct epoll_event){
		.events = loop_epoll_mask(events),
		.data.u64 = (uint64_t)l->slots[slot].gen << 32 | slot,
	};
}

int loop_fd_add(struct loop *l, struct loop_fd *h, int fd, unsigned events,
		void (*fn)(struct loop_fd *h, unsigned events))
{
	unsigned slot = 0;
	int r = loop_slot_new(l, &slot);

	if (r < 0)
		return r;
	struct epoll_event ev = loop_epoll_event(l, slot, events);
	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	l->slots[slot].h = h;
	*h = (struct loop_fd){ .fd = fd, .fn = fn, .events = events, .loop = l, .slot = slot };
	return 0;
}

int loop_fd_mod(struct loop_fd *h, unsigned events)
{
	if (!h->loop)
		return -EINVAL;
	if (events == h->events)
		return 0;
	struct epoll_event ev = loop_epoll_event(h->loop, h->slot, events);
	if (epoll_ctl(h->loop->epoll_fd, EPOLL_CTL_MOD, h->fd, &ev) < 0)
		return -errno;
	h->events = events;
	return 0;
}

void loop_fd_del(struct loop_fd *h)
{
	if (!h->loop)
		return;
	struct slot *s = &h->loop->slots[h->slot];

	if (h->loop->lingering == h)
		h->loop->lingering = NULL;
	/* Fails only when the owner has closed the descriptor already, which removed it. */
	(void)epoll_ctl(h->loop->epoll_fd, EPOLL_CTL_DEL, h->fd, NULL);
	s->h = NULL;
	s->gen++;
	h->loop = NULL;
}

/* --- timers --- */

void loop_timer_init(struct loop *l, struct loop_timer *t, void (*fn)(struct loop_timer *t))
{
	*t = (struct loop_timer){ .fn = fn, .loop = l };
}

void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns)
{
	loop_timer_cancel(t);
	/* What is late already goes behind all that are due in this round. */
	t->deadline_ns = deadline_ns > t->loop->fired_ns ? deadline_ns : t->loop->fired_ns + 1;
	timer_heap_add(&t->loop->timers, t);
}

void loop_timer_cancel(struct loop_timer *t)
{
	if (!t->deadline_ns)
		return;
	timer_heap_remove(&t->loop->timers, t);
	t->deadline_ns = 0;
}

/* What callbacks arm lies behind fired_ns. When thousands are due at once, descriptors have their turn in between. */
static void loop_fire_timers(struct loop *l)
{
	l->fired_ns = loop_now_ns();
	for (unsigned n = 0; n < TIMERS_PER_ROUND && l->timers.first && l->timers.first->deadline_ns <= l->fired_ns; n++) {
		struct loop_timer *t = l->timers.first;

		loop_timer_cancel(t);
		t->fn(t);
	}
}

static int loop_arm(struct loop *l)
{
	uint64_t next = l->timers.first ? l->timers.first->deadline_ns : 0;
	struct itimerspec its = {
		.it_value = { .tv_sec = (time_t)(next / 1000000000u), .tv_nsec = (long)(next % 1000000000u) },
	};

	if (next == l->armed_ns)
		return 0;
	if (next / 1000000000u > INT_MAX) /* centuries ahead; the kernel caps at some years */
		its.it_value.tv_sec = INT_MAX;
	if (timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &its, NULL) < 0)
		return -errno;
	l->armed_ns = next;
	return 0;
}

static void loop_timer_ready(struct loop_fd *h, unsigned events)
{
	struct loop *l = container_of(h, struct loop, timer);

	loop_drain(l->timer_fd);
	l->armed_ns = 0;
	loop_fire_timers(l);
}

/* --- calls from other threads --- */

int loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct call *c = malloc(sizeof(*c));

	if (!c)
		return -ENOMEM;
	*c = (struct call){ .fn = fn, .arg = arg };
	pthread_mutex_lock(&l->lock);
	bool was_empty = !l->calls;
	*l->calls_tail = c;
	l->calls_tail = &c->next;
	pthread_mutex_unlock(&l->lock);
	if (was_empty)
		loop_wake(l);
	return 0;
}

static void loop_wake_ready(struct loop_fd *h, unsigned events)
{
	struct loop *l = container_of(h, struct loop, wake);

	loop_drain(l->wake_fd); /* before the list is taken: a later call writes again */
	pthread_mutex_lock(&l->lock);
	struct call *c = l->calls;
	l->calls = NULL;
	l->calls_tail = &l->calls;
	pthread_mutex_unlock(&l->lock);
	while (c) {
		struct call *next = c->next;

		c->fn(c->arg);
		free(c);
		c = next;
	}
}

/* --- signals --- */

static void loop_signal_ready(struct loop_fd *h, unsigned events)
{
	struct loop *l = container_of(h, struct loop, signal);
	struct signalfd_siginfo si;

	if (read(l->signal_fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return;
	if (si.ssi_signo < N_SIGNALS && l->signal_table[si.ssi_signo].fn)
		l->signal_table[si.ssi_signo].fn(l->signal_table[si.ssi_signo].arg, (int)si.ssi_signo);
}

int loop_signal_add(struct loop *l, int signo, void (*fn)(void *arg, int signo), void *arg)
{
	sigset_t mask = l->signals, one;

	if (signo <= 0 || signo >= N_SIGNALS || sigaddset(&mask, signo) < 0)
		return -EINVAL;
	sigemptyset(&one);
	sigaddset(&one, signo);
	int r = pthread_sigmask(SIG_BLOCK, &one, NULL);
	if (r)
		return -r;
	int fd = signalfd(l->signal_fd, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	l->signal_table[signo] = (struct signal_entry){ fn, arg };
	l->signals = mask;
	if (l->signal_fd >= 0)
		return 0;
	l->signal_fd = fd;
	return loop_fd_add(l, &l->signal, fd, LOOP_IN, loop_signal_ready);
}

/* --- looking before sleeping --- */

void loop_linger(struct loop_fd *h)
{
	struct loop *l = h->loop;

	if (!l || !l->can_linger)
		return;
	l->lingering = h;
	l->is_expecting = true;
	linger_served(&l->linger, loop_now_ns());
}

/* Look for some tens of microseconds: events in EV, or who lingers has found something, or nothing came (0). */
static int loop_look(struct loop *l, struct epoll_event *ev, bool *has_served)
{
	uint64_t end = loop_now_ns() + LINGER_NS;

	for (unsigned i = 1; l->lingering; i++) {
		int n = 0;

		if (l->n_served < SERVED_PER_POLL && i % LOOKS_PER_POLL) {
			l->is_expecting = false;
			l->lingering->fn(l->lingering, LOOP_IN);        /* which may be the end of it */
			*has_served = l->is_expecting;
			l->n_served += *has_served;
		} else {
			n = epoll_wait(l->epoll_fd, ev, EVENTS_PER_ROUND, 0);
			l->n_served = 0;
		}
		if (n > 0 || *has_served)
			return n;
		if (loop_now_ns() >= end)
			break;
	}
	linger_missed(&l->linger);
	return 0;
}

/* Events in EV. *HAS_SERVED: who lingers had something, instead. */
static int loop_wait(struct loop *l, struct epoll_event *ev, int timeout_ms, bool *has_served)
{
	int n = 0;

	*has_served = false;
	if (l->is_expecting && l->linger.is_on)
		n = loop_look(l, ev, has_served);
	if (n > 0 || *has_served)
		return n;
	l->is_expecting = false;
	do {
		n = epoll_wait(l->epoll_fd, ev, EVENTS_PER_ROUND, timeout_ms);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* --- life --- */

/* May this thread run beside another one? */
static bool loop_has_processors(void)
{
	cpu_set_t set;

	/* More than the set can hold is an error; and several. */
	return sched_getaffinity(0, sizeof(set), &set) < 0 || CPU_COUNT(&set) > 1;
}

int loop_new(struct loop **out, struct err *err)
{
	AUTO(loop_free) struct loop *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->wake_fd = l->timer_fd = l->signal_fd = -1;
	l->calls_tail = &l->calls;
	l->can_linger = loop_has_processors();
	l->linger = LINGER_INIT;
	sigemptyset(&l->signals);
	pthread_mutex_init(&l->lock, NULL);
	atomic_init(&l->thread, pthread_self());
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0)
		return err_set(err, -errno, "cannot create an epoll instance: %s", strerror(errno));
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->wake_fd < 0 || l->timer_fd < 0)
		return err_set(err, -errno, "cannot create the event loop's descriptors: %s", strerror(errno));
	r = loop_fd_add(l, &l->wake, l->wake_fd, LOOP_IN, loop_wake_ready);
	if (!r)
		r = loop_fd_add(l, &l->timer, l->timer_fd, LOOP_IN, loop_timer_ready);
	if (r < 0)
		return err_set(err, r, "cannot watch the event loop's descriptors: %s", strerror(-r));
	*out = take_ptr(&l);
	return 0;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	for (struct call *c = l->calls, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	auto_fd(&l->signal_fd);
	auto_fd(&l->timer_fd);
	auto_fd(&l->wake_fd);
	auto_fd(&l->epoll_fd);
	pthread_mutex_destroy(&l->lock);
	free(l->slots);
	free(l);
}

int loop_run_once(struct loop *l, int timeout_ms)
{
	struct epoll_event ev[EVENTS_PER_ROUND];
	bool has_served;
	int n, r;

	atomic_store_explicit(&l->thread, pthread_self(), memory_order_relaxed);
	r = loop_arm(l);
	if (r < 0)
		return r;
	n = loop_wait(l, ev, timeout_ms, &has_served);
	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		struct slot *s = &l->slots[(uint32_t)ev[i].data.u64];
		unsigned events = (ev[i].events & EPOLLIN ? LOOP_IN : 0u) |
				  (ev[i].events & EPOLLOUT ? LOOP_OUT : 0u) |
				  (ev[i].events & (EPOLLHUP | EPOLLERR) ? LOOP_HUP : 0u);

		if (s->h && s->gen == ev[i].data.u64 >> 32)
			s->h->fn(s->h, events);
	}
	return n + has_served;
}

int loop_run(struct loop *l)
{
	/* Pairs with the release in loop_stop(): the code is visible with the flag. */
	while (!atomic_load_explicit(&l->is_stopping, memory_order_acquire)) {
		int r = loop_run_once(l, -1);

		if (r < 0)
			return r;
	}
	atomic_store_explicit(&l->is_stopping, false, memory_order_relaxed);
	return atomic_load_explicit(&l->code, memory_order_relaxed);
}

void loop_stop(struct loop *l, int code)
{
	atomic_store_explicit(&l->code, code, memory_order_relaxed);
	atomic_store_explicit(&l->is_stopping, true, memory_order_release);
	loop_wake(l);
}
