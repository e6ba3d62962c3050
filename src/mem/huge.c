/* SPDX-License-Identifier: Apache-2.0 */
#include "mem/huge.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/err.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

enum {
	FIRST_MS = 1000,        /* what runs for less is not worth it */
	BUSY_MS = 100, BUSY_MAX_MS = 1000, IDLE_MS = 2000,
	SHARE = 50,             /* of a processor that it takes at most: one part in so many */
	BATCH = 1,              /* collapsed at a time, at one to four milliseconds each */
	MAX_LOOKS = 256,        /* parts looked at at a time */
	PATIENCE = 4,           /* refusals in a row after which it rests */
};

struct huge {
	struct gmem *m;
	uint64_t n, next;               /* whole parts; where to look next */
	uint64_t *done;                 /* a bit for each */
	uint64_t n_done;
	unsigned n_refused;
	bool has_found;                 /* something, since the first part was looked at */
	bool has_thread, is_ending;     /* the latter under LOCK */
	pthread_t thread;
	pthread_mutex_t lock, step_lock;        /* the latter is held while something is collapsed; guards is_held */
	bool is_held;
	pthread_cond_t wake;
};

int huge_new(struct huge **out, struct gmem *m, struct err *err)
{
	AUTO(huge_free) struct huge *h = calloc(1, sizeof(*h));
	pthread_condattr_t attr;

	if (!h)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&h->lock, NULL);
	pthread_mutex_init(&h->step_lock, NULL);
	pthread_cond_init(&h->wake, &attr);
	pthread_condattr_destroy(&attr);
	h->m = m;
	/* A private mapping of a file has small pages of its own; and the mapping may lie askew. */
	if (m->fd >= 0 && !((uintptr_t)m->host % HUGE_SIZE))
		h->n = m->size / HUGE_SIZE;
	h->done = calloc(h->n / 64 + 1, sizeof(h->done[0]));
	if (!h->done)
		return err_set(err, -ENOMEM, "out of memory");
	*out = take_ptr(&h);
	return 0;
}

void huge_free(struct huge *h)
{
	if (!h)
		return;
	if (h->has_thread) {
		pthread_mutex_lock(&h->lock);
		h->is_ending = true;
		pthread_cond_signal(&h->wake);
		pthread_mutex_unlock(&h->lock);
		pthread_join(h->thread, NULL);
	}
	pthread_cond_destroy(&h->wake);
	pthread_mutex_destroy(&h->lock);
	pthread_mutex_destroy(&h->step_lock);
	free(h->done);
	free(h);
}

/* --- looking ----------------------------------------------------------------------------------- */

/* The next data or hole of memory at or after AT, at most LIMIT. */
static uint64_t huge_seek(const struct huge *h, uint64_t at, int whence, uint64_t limit)
{
	off_t to = lseek(h->m->fd, (off_t)at, whence);

	return to < 0 || (uint64_t)to > limit ? limit : (uint64_t)to;
}

/* Is nearly all there of the part at AT? */
static bool huge_is_filled(const struct huge *h, uint64_t at)
{
	uint64_t end = at + HUGE_SIZE, missing = 0, max = (uint64_t)HUGE_MAX_HOLES << GMEM_PAGE_SHIFT;

	while (at < end && missing <= max) {
		uint64_t data = huge_seek(h, at, SEEK_DATA, end);

		missing += data - at;
		at = data < end ? huge_seek(h, data, SEEK_HOLE, end) : end;
	}
	return missing <= max;
}

/* Collapse part N. True: that is settled, or will never be. */
static bool huge_collapse(struct huge *h, uint64_t n)
{
	if (!madvise(h->m->host + n * HUGE_SIZE, HUGE_SIZE, MADV_COLLAPSE)) {
		h->n_refused = 0;
		h->n_done++;
		return true;
	}
	/* EINVAL: not with this kernel, or not these pages. Else no memory, or pages in use, which may pass. */
	bool is_final = errno == EINVAL;

	if (++h->n_refused >= PATIENCE && is_final && !h->n_done)
		h->n = 0;
	return is_final;
}

/* The first part from N on in which there is anything. */
static uint64_t huge_next(const struct huge *h, uint64_t n)
{
	while (n < h->n && h->done[n / 64] >> (n % 64) & 1)
		n++;
	return n < h->n ? huge_seek(h, n * HUGE_SIZE, SEEK_DATA, h->n * HUGE_SIZE) / HUGE_SIZE : n;
}

/* Milliseconds of processor time that the calling thread has used. */
static uint64_t huge_cpu_ms(void)
{
	struct timespec t = { 0 };

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static unsigned huge_step_locked(struct huge *h)
{
	uint64_t before = huge_cpu_ms();
	unsigned n_found = 0;

	for (unsigned looks = 0; looks < MAX_LOOKS && n_found < BATCH; looks++) {
		uint64_t n = huge_next(h, h->next);

		h->next = n + 1;
		if (n >= h->n)
			break;
		if (h->done[n / 64] >> (n % 64) & 1 || !huge_is_filled(h, n * HUGE_SIZE))
			continue;
		n_found++;
		if (huge_collapse(h, n))
			h->done[n / 64] |= 1ull << (n % 64);
	}
	h->has_found |= n_found > 0;
	if (!h->n)
		return 0;
	uint64_t cost = (huge_cpu_ms() - before) * SHARE;
	unsigned rest = cost < BUSY_MS ? BUSY_MS : cost < BUSY_MAX_MS ? (unsigned)cost : BUSY_MAX_MS;

	if (h->next < h->n && h->n_refused < PATIENCE)
		return rest;
	bool again = h->has_found && !h->n_refused;

	h->next = 0;
	h->n_refused = 0;
	h->has_found = false;
	return again ? rest : IDLE_MS;
}

unsigned huge_step(struct huge *h)
{
	pthread_mutex_lock(&h->step_lock);
	unsigned ms = h->is_held ? IDLE_MS : huge_step_locked(h);

	pthread_mutex_unlock(&h->step_lock);
	return ms;
}

void huge_hold(struct huge *h, bool on)
{
	pthread_mutex_lock(&h->step_lock);
	h->is_held = on;
	pthread_mutex_unlock(&h->step_lock);
}

uint64_t huge_count(const struct huge *h)
{
	return h->n_done;
}

/* --- the thread -------------------------------------------------------------------------------- */

/* Wait for MS milliseconds; false: it is to end. */
static bool huge_wait(struct huge *h, unsigned ms)
{
	struct timespec until;
	bool is_ending;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&h->lock);
	while (!h->is_ending && pthread_cond_timedwait(&h->wake, &h->lock, &until) != ETIMEDOUT)
		;
	is_ending = h->is_ending;
	pthread_mutex_unlock(&h->lock);
	return !is_ending;
}

static void *huge_thread(void *arg)
{
	struct huge *h = arg;
	unsigned ms = FIRST_MS;

	pthread_setname_np(pthread_self(), "large-pages");
	while (ms && huge_wait(h, ms))
		ms = huge_step(h);
	return NULL;
}

int huge_start(struct huge *h, struct err *err)
{
	int r = h->n ? pthread_create(&h->thread, NULL, huge_thread, h) : 0;

	if (r)
		return err_set(err, -r, "cannot start a thread: %s", strerror(r));
	h->has_thread = h->n > 0;
	return 0;
}
