/* SPDX-License-Identifier: Apache-2.0 */
/* co.c - coroutines of one thread: stacks, who runs, who is to run.
 *
 * The books of a coroutine stand at the top of its own mapping:
 *
 *	low  | guard page | ... stack grows down ... | struct co | high
 *
 * The only state outside of them is what belongs to the thread as such, like errno: who runs, who
 * was woken, and the stacks that are free. It goes when the thread ends. */
#include "util/co.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "util/co_switch.h"

enum {
	CO_GUARD = 4096,
#ifdef CO_ASAN
	CO_STACK = 1 << 20,     /* red zones make frames several times as large */
#else
	CO_STACK = 256 << 10,   /* touched pages only cost */
#endif
	CO_POOL_MAX = 64,       /* free stacks that a thread keeps */
};

struct co {
	struct co_context context;
	struct co_context *caller;      /* who goes on when this one yields */
	struct co *caller_co;           /* the same as a coroutine, NULL: the thread */
	void (*fn)(void *arg);
	void *arg;
	struct co *next;                /* in the pool or among the woken */
	bool is_ended, is_queued, is_running;
};

struct co_thread {
	struct co *self;                /* runs now; NULL: the thread's own stack */
	struct co_context own;
	struct co *woken, **woken_tail; /* to run when SELF is NULL again */
	struct co *pool;
	unsigned n_pool;
};

static _Thread_local struct co_thread *co_thread;
static pthread_key_t co_key;
static pthread_once_t co_once = PTHREAD_ONCE_INIT;

static void co_unmap(struct co *co)
{
	co_context_free(&co->context);
	munmap((char *)(uintptr_t)co->context.stack - CO_GUARD, CO_GUARD + CO_STACK);
}

static void co_thread_end(void *arg)
{
	struct co_thread *t = arg;

	for (struct co *co = t->pool, *next; co; co = next) {
		next = co->next;
		co_unmap(co);
	}
	free(t);
	co_thread = NULL;
}

static void co_make_key(void)
{
	/* Without a key a thread's free stacks outlive it: nothing else goes wrong. */
	pthread_key_create(&co_key, co_thread_end);
}

/* ASan asks for the bounds of the stack that a switch leads to, the thread's own too. */
static void co_thread_bounds(struct co_context *own)
{
#ifdef CO_ASAN
	pthread_attr_t attr;
	void *stack;

	if (pthread_getattr_np(pthread_self(), &attr))
		return;
	pthread_attr_getstack(&attr, &stack, &own->size);
	own->stack = stack;
	pthread_attr_destroy(&attr);
#endif
	(void)own;
}

static struct co_thread *co_thread_get(void)
{
	if (co_thread)
		return co_thread;
	pthread_once(&co_once, co_make_key);
	co_thread = calloc(1, sizeof(*co_thread));
	if (co_thread) {
		co_thread_bounds(&co_thread->own);
		co_thread->woken_tail = &co_thread->woken;
		pthread_setspecific(co_key, co_thread);
	}
	return co_thread;
}

static void co_switch(struct co_context *from, struct co_context *to)
{
	co_context_leave(from, to);
	co_context_arrived(from);
}

/* Never returns: a stack in the pool stands at the switch below. */
static void co_entry(void)
{
	struct co *co = co_thread->self;

	co_context_arrived(&co->context);
	for (;;) {
		co->fn(co->arg);
		co->is_ended = true;
		/* A later start comes back here with another FN on the same stack. */
		co_switch(&co->context, co->caller);
	}
}

static struct co *co_map(void)
{
	char *p = mmap(NULL, CO_GUARD + CO_STACK, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (mprotect(p, CO_GUARD, PROT_NONE) < 0) {
		munmap(p, CO_GUARD + CO_STACK);
		return NULL;
	}
	size_t books = (sizeof(struct co) + 63) & ~(size_t)63;
	struct co *co = (struct co *)(void *)(p + CO_GUARD + CO_STACK - books);

	co->context.stack = p + CO_GUARD;
	co->context.size = CO_STACK - books;
	co_context_make(&co->context, co_entry);
	return co;
}

/* Run CO until it yields or ends. */
static void co_enter(struct co_thread *t, struct co *co)
{
	co->caller_co = t->self;
	co->caller = t->self ? &t->self->context : &t->own;
	co->is_running = true;
	t->self = co;
	co_switch(co->caller, &co->context);
	t->self = co->caller_co;
	co->is_running = false;
	if (!co->is_ended)
		return;
	if (t->n_pool < CO_POOL_MAX) {
		co->next = t->pool;
		t->pool = co;
		t->n_pool++;
	} else {
		co_unmap(co);
	}
}

static void co_run_woken(struct co_thread *t)
{
	while (!t->self && t->woken) {
		struct co *co = t->woken;

		t->woken = co->next;
		if (!t->woken)
			t->woken_tail = &t->woken;
		co->is_queued = false;
		co_enter(t, co);
	}
}

int co_start(void (*fn)(void *arg), void *arg)
{
	struct co_thread *t = co_thread_get();
	struct co *co = t ? t->pool : NULL;

	if (!t)
		return -ENOMEM;
	if (co) {
		t->pool = co->next;
		t->n_pool--;
	} else {
		co = co_map();
		if (!co)
			return -ENOMEM;
	}
	co->fn = fn;
	co->arg = arg;
	co->is_ended = false;
	co_enter(t, co);
	co_run_woken(t);
	return 0;
}

struct co *co_self(void)
{
	return co_thread ? co_thread->self : NULL;
}

void co_yield(void)
{
	struct co *co = co_self();

	assert(co);
	co_switch(&co->context, co->caller);
}

void co_wake(struct co *co)
{
	struct co_thread *t = co_thread;

	assert(t && !co->is_queued && !co->is_ended);
	if (!t->self) {
		assert(!co->is_running);
		co_enter(t, co);
		co_run_woken(t);
		return;
	}
	co->next = NULL;
	co->is_queued = true;
	*t->woken_tail = co;
	t->woken_tail = &co->next;
}

size_t co_stack_left(void)
{
	struct co *co = co_self();
	char here;

	return co ? (size_t)((uintptr_t)&here - (uintptr_t)co->context.stack) : SIZE_MAX;
}

/* --- waiting -------------------------------------------------------------------------------- */

static void co_queue_wait_as(struct co_queue *q, bool is_writer)
{
	struct co_waiter w = { .co = co_self(), .is_writer = is_writer };

	*(q->last ? &q->last->next : &q->first) = &w;
	q->last = &w;
	co_yield();
}

void co_queue_wait(struct co_queue *q)
{
	co_queue_wait_as(q, false);
}

/* W's memory may be gone as soon as it runs: out of the list first. */
bool co_queue_wake_one(struct co_queue *q)
{
	struct co_waiter *w = q->first;

	if (!w)
		return false;
	q->first = w->next;
	if (!q->first)
		q->last = NULL;
	co_wake(w->co);
	return true;
}

/* Those who wait now, not those who come back to wait while we wake. */
void co_queue_wake_all(struct co_queue *q)
{
	struct co_queue now = *q;

	*q = (struct co_queue){ NULL, NULL };
	while (co_queue_wake_one(&now))
		;
}

bool co_mutex_try(struct co_mutex *m)
{
	if (m->is_locked)
		return false;
	m->is_locked = true;
	return true;
}

void co_mutex_lock(struct co_mutex *m)
{
	if (!co_mutex_try(m))
		co_queue_wait(&m->waiting);     /* the lock is ours when we wake */
}

void co_mutex_unlock(struct co_mutex *m)
{
	assert(m->is_locked);
	if (!co_queue_wake_one(&m->waiting))
		m->is_locked = false;
}

bool co_rwlock_try_read(struct co_rwlock *l)
{
	if (l->has_writer || l->waiting.first)
		return false;
	l->n_readers++;
	return true;
}

void co_rwlock_read(struct co_rwlock *l)
{
	if (!co_rwlock_try_read(l))
		co_queue_wait_as(&l->waiting, false);
}

void co_rwlock_write(struct co_rwlock *l)
{
	if (l->has_writer || l->n_readers || l->waiting.first)
		co_queue_wait_as(&l->waiting, true);
	else
		l->has_writer = true;
}

/* Hand over to who is first: one writer, or all readers up to the next writer. The books are
 * written before anyone runs. */
void co_rwlock_unlock(struct co_rwlock *l)
{
	assert(l->has_writer || l->n_readers);
	if (l->has_writer)
		l->has_writer = false;
	else
		l->n_readers--;
	if (l->n_readers || !l->waiting.first)
		return;
	if (l->waiting.first->is_writer) {
		l->has_writer = true;
		co_queue_wake_one(&l->waiting);
		return;
	}
	struct co_queue now = { l->waiting.first, l->waiting.first };

	for (l->n_readers = 1; now.last->next && !now.last->next->is_writer; now.last = now.last->next)
		l->n_readers++;
	l->waiting.first = now.last->next;
	if (!l->waiting.first)
		l->waiting.last = NULL;
	now.last->next = NULL;
	while (co_queue_wake_one(&now))
		;
}
