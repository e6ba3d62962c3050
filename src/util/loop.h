/* SPDX-License-Identifier: Apache-2.0 */
/* loop.h - an event loop on epoll, timerfd, signalfd and eventfd.
 *
 * One thread runs the loop and all callbacks; only loop_call() and loop_stop() may come from
 * other threads. Handles (`loop_fd`, `loop_timer`) are embedded in their owner's struct and
 * must stay in place until removed. Removing any handle from inside any callback is safe:
 * a callback of a removed handle never runs. */
#ifndef UTIL_LOOP_H
#define UTIL_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include "util/cleanup.h"

struct loop;
struct err;

int loop_new(struct loop **out, struct err *err);
void loop_free(struct loop *l);         /* NULL is fine; handles must be gone */
DEFINE_AUTO(struct loop *, loop_free)

/* Run until loop_stop(). Returns the code given to it, or -errno when epoll itself fails. */
int loop_run(struct loop *l);
/* One round: handle what is ready, waiting at most TIMEOUT_MS (-1: for ever). For tests. */
int loop_run_once(struct loop *l, int timeout_ms);
void loop_stop(struct loop *l, int code);               /* any thread */
bool loop_is_own_thread(const struct loop *l);

/* Run FN(ARG) on the loop thread soon. Any thread; never blocks; calls keep their order per
 * caller. Returns -ENOMEM when it cannot be queued. */
int loop_call(struct loop *l, void (*fn)(void *arg), void *arg);

enum { LOOP_IN = 1, LOOP_OUT = 2, LOOP_HUP = 4 };       /* HUP: peer closed or error, always reported */

struct loop_fd {
	int fd;                                         /* borrowed: the owner closes it after removal */
	void (*fn)(struct loop_fd *h, unsigned events); /* mask of LOOP_* */
	unsigned events;                                /* what is watched */
	struct loop *loop;                              /* NULL: not added */
	unsigned slot;                                  /* private to the loop */
};

int loop_fd_add(struct loop *l, struct loop_fd *h, int fd, unsigned events,
		void (*fn)(struct loop_fd *h, unsigned events));
int loop_fd_mod(struct loop_fd *h, unsigned events);
void loop_fd_del(struct loop_fd *h);                    /* not added: nothing happens */
/* From inside of H's fn, which has just served H: more is likely to come within moments, as it is when somebody waits
 * for the answer to go on. Where that has proved worth it (util/linger.h), the loop looks for some tens of us before it
 * sleeps: it calls fn as though H were readable, which must bear that it is not, and takes it that something was there
 * if fn calls this again. Others are looked after meanwhile. Not on a host with one processor. */
void loop_linger(struct loop_fd *h);

struct loop_timer {
	void (*fn)(struct loop_timer *t);
	uint64_t deadline_ns;                           /* CLOCK_MONOTONIC; 0: not armed */
	struct loop *loop;
	uint64_t number;                                /* private from here: see timer_heap.h */
	struct loop_timer *child, *next, **at;
};

void loop_timer_init(struct loop *l, struct loop_timer *t, void (*fn)(struct loop_timer *t));
/* Arm (or move) the timer: one shot at DEADLINE_NS of CLOCK_MONOTONIC (loop_now_ns()). */
void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns);
void loop_timer_cancel(struct loop_timer *t);           /* not armed: nothing happens */
uint64_t loop_now_ns(void);
/* The deadline that is MS from now. */
static inline uint64_t loop_after_ms(uint64_t ms)
{
	return loop_now_ns() + ms * 1000000u;
}

/* Call FN(ARG, signo) on the loop thread for SIGNO; blocks the signal in this thread, so add
 * signals before starting other threads. */
int loop_signal_add(struct loop *l, int signo, void (*fn)(void *arg, int signo), void *arg);

#endif
