/* SPDX-License-Identifier: Apache-2.0 */
#include "node/work.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include "util/loop.h"

struct work {
	struct works *ws;
	struct work *next;
	int (*run)(void *arg, struct err *err);
	void (*done)(void *arg, int r, const struct err *err);
	void *arg;
	int result;
	struct err err;
};

struct works {
	struct loop *loop;
	pthread_mutex_t lock;
	pthread_cond_t more;
	pthread_t thread[WORK_THREADS];
	unsigned n_threads;
	/* guarded by the lock: */
	struct work *first, **last;
	bool is_closing;
	/* loop thread: */
	unsigned n_open;                /* begun or in line */
};

static void work_end(void *arg)
{
	struct work *w = arg;

	w->ws->n_open--;
	w->done(w->arg, w->result, &w->err);
	free(w);
}

static struct work *works_next(struct works *ws)
{
	pthread_mutex_lock(&ws->lock);
	while (!ws->first && !ws->is_closing)
		pthread_cond_wait(&ws->more, &ws->lock);
	struct work *w = ws->first;
	if (w) {
		ws->first = w->next;
		if (!ws->first)
			ws->last = &ws->first;
		if (ws->is_closing)
			w->result = err_set(&w->err, -ECANCELED, "the daemon ends");
	}
	pthread_mutex_unlock(&ws->lock);
	return w;
}

static void *works_thread(void *arg)
{
	struct works *ws = arg;
	struct work *w;

	while ((w = works_next(ws)) != NULL) {
		if (!w->result)
			w->result = w->run(w->arg, &w->err);
		/* Without memory for the call there is nobody to tell; try until there is. */
		while (loop_call(ws->loop, work_end, w) < 0)
			usleep(1000);
	}
	return NULL;
}

int works_new(struct works **out, struct loop *l, unsigned threads, struct err *err)
{
	AUTO(works_free) struct works *ws = calloc(1, sizeof(*ws));
	sigset_t all, before;
	int r = 0;

	if (!ws)
		return err_set(err, -ENOMEM, "out of memory");
	ws->loop = l;
	ws->last = &ws->first;
	pthread_mutex_init(&ws->lock, NULL);
	pthread_cond_init(&ws->more, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (!r && ws->n_threads < threads) {
		r = pthread_create(&ws->thread[ws->n_threads], NULL, works_thread, ws);
		ws->n_threads += !r;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return err_set(err, -r, "cannot start a thread: %s", strerror(r));
	*out = take_ptr(&ws);
	return 0;
}

void works_drain(struct works *ws)
{
	while (ws && ws->n_open)
		(void)loop_run_once(ws->loop, -1);
}

static void begin_closing(struct works *ws)
{
	pthread_mutex_lock(&ws->lock);
	ws->is_closing = true;
	pthread_cond_broadcast(&ws->more);
	pthread_mutex_unlock(&ws->lock);
}

bool works_stop(struct works *ws, unsigned patience_ms)
{
	struct timespec until;

	if (!ws)
		return true;
	begin_closing(ws);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += patience_ms / 1000;
	for (; ws->n_threads; ws->n_threads--)
		if (pthread_clockjoin_np(ws->thread[ws->n_threads - 1], NULL, CLOCK_MONOTONIC, &until))
			return false;
	return true;
}

void works_free(struct works *ws)
{
	if (!ws)
		return;
	begin_closing(ws);
	for (unsigned i = 0; i < ws->n_threads; i++)
		pthread_join(ws->thread[i], NULL);
	while (ws->n_open)
		(void)loop_run_once(ws->loop, 0);
	pthread_cond_destroy(&ws->more);
	pthread_mutex_destroy(&ws->lock);
	free(ws);
}

int work_start(struct works *ws, int (*run)(void *arg, struct err *err),
	       void (*done)(void *arg, int r, const struct err *err), void *arg)
{
	struct work *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	*w = (struct work){ .ws = ws, .run = run, .done = done, .arg = arg };
	pthread_mutex_lock(&ws->lock);
	bool is_closing = ws->is_closing;
	if (!is_closing) {
		ws->n_open++;
		*ws->last = w;
		ws->last = &w->next;
		pthread_cond_signal(&ws->more);
	}
	pthread_mutex_unlock(&ws->lock);
	/* What ends because the daemon ends may want something more done; nobody is left to do it. */
	if (is_closing)
		free(w);
	return is_closing ? -ECANCELED : 0;
}
