/* SPDX-License-Identifier: Apache-2.0 */
/* co.h - coroutines: straight-line code that waits without blocking its thread.
 *
 * A coroutine has a stack of its own (CO_STACK bytes with a guard page, taken from a pool of the
 * thread) and runs until it yields; whoever woke or started it goes on then. Everything here
 * belongs to one thread: a coroutine is started, woken and ends on the thread that made it, and
 * between two yields nothing else runs there. So plain fields need no lock against other
 * coroutines, only invariants that span a yield do: for those are the mutex, the
 * reader-writer lock and the queue below. All of them are first come, first served. */
#ifndef UTIL_CO_H
#define UTIL_CO_H

#include <stdbool.h>
#include <stddef.h>

struct co;

/* Run FN(ARG) in a new coroutine, now, until it yields or ends. May be called from a coroutine.
 * -ENOMEM: there is no stack to be had, and FN was not called. */
int co_start(void (*fn)(void *arg), void *arg);

/* The coroutine that runs, NULL outside of any. */
struct co *co_self(void);

/* Give up the thread until co_wake(). In a coroutine only. Whoever yields says in its own data
 * what it waits for, and looks again when it is woken unless it has one waker only. */
void co_yield(void);

/* Continue CO, which has yielded (or is about to: a wake-up is kept when CO is the one that
 * calls). From outside of coroutines it runs before co_wake() returns; from a coroutine it is
 * queued and runs when the thread is out of coroutines, before whoever entered them goes on. */
void co_wake(struct co *co);

/* Bytes of stack that are left to the running coroutine; SIZE_MAX outside. */
size_t co_stack_left(void);

/* --- waiting -------------------------------------------------------------------------------- */

/* A place in a queue; on the stack of the one that waits. */
struct co_waiter {
	struct co *co;
	struct co_waiter *next;
	bool is_writer;         /* co_rwlock */
};

/* Coroutines that wait for something to change. Zeroed: empty. */
struct co_queue { struct co_waiter *first, *last; };

void co_queue_wait(struct co_queue *q);         /* yields */
bool co_queue_wake_one(struct co_queue *q);     /* false: nobody waited */
void co_queue_wake_all(struct co_queue *q);
static inline bool co_queue_is_empty(const struct co_queue *q) { return !q->first; }

/* Zeroed: unlocked. Not recursive. Unlocking hands over to the first that waits. */
struct co_mutex {
	bool is_locked;
	struct co_queue waiting;
};

void co_mutex_lock(struct co_mutex *m);
bool co_mutex_try(struct co_mutex *m);          /* any context: never yields */
void co_mutex_unlock(struct co_mutex *m);

/* Zeroed: unlocked. Many readers or one writer; a reader that comes after a waiting writer waits
 * behind it. Not recursive. */
struct co_rwlock {
	unsigned n_readers;
	bool has_writer;
	struct co_queue waiting;
};

void co_rwlock_read(struct co_rwlock *l);
void co_rwlock_write(struct co_rwlock *l);
bool co_rwlock_try_read(struct co_rwlock *l);   /* any context: never yields */
void co_rwlock_unlock(struct co_rwlock *l);     /* either kind */

#endif
