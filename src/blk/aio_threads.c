/* SPDX-License-Identifier: Apache-2.0 */
/* aio_threads.c - host I/O by a few threads that block, where io_uring is missing or forbidden,
 * and for the ioctls and calculations that io_uring cannot do.
 *
 * Threads are started when jobs wait and none is idle, up to the number of processors and at least
 * AIO_THREADS_MIN, and stay. No more calculations run at once than there are processors. */
#include "blk/aio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "util/err.h"
#include "util/fatal.h"

enum { AIO_THREADS_MIN = 4, AIO_THREADS_MAX = 64 };

struct aio {
	int event_fd;
	struct aio_now now;             /* loop thread */
	pthread_mutex_t lock;           /* all below */
	pthread_cond_t wake;
	struct aio_job *todo, **todo_tail;
	struct aio_job *calls, **calls_tail;    /* AIO_CALL */
	struct aio_job *finished, **finished_tail;
	bool must_stop;
	unsigned n_threads, n_idle, n_calling;
	unsigned n_cores, max_threads;  /* as set when it was opened */
	pthread_t thread[AIO_THREADS_MAX];
};

int64_t aio_do(const struct aio_job *j)
{
	int64_t r = -1;

	switch (j->op) {
	case AIO_READV:
		r = preadv(j->fd, j->iov, j->n_iov, (off_t)j->off);
		break;
	case AIO_WRITEV:
		r = pwritev(j->fd, j->iov, j->n_iov, (off_t)j->off);
		break;
	case AIO_FDATASYNC:
		r = fdatasync(j->fd);
		break;
	case AIO_FALLOCATE:
		r = fallocate(j->fd, j->mode, (off_t)j->off, (off_t)j->len);
		break;
	case AIO_BLKDISCARD: {
		uint64_t range[2] = { j->off, j->len };

		r = ioctl(j->fd, BLKDISCARD, range);
		break;
	}
	case AIO_CALL:
		return j->call(j->call_arg);
	}
	return r < 0 ? -errno : r;
}

/* The next job that may run now, out of its list. */
static struct aio_job *threads_take_locked(struct aio *a)
{
	struct aio_job *j = a->calls;

	if (j && (a->n_calling < a->n_cores || a->must_stop)) {
		a->calls = j->next;
		if (!a->calls)
			a->calls_tail = &a->calls;
		a->n_calling++;
		return j;
	}
	j = a->todo;
	if (j) {
		a->todo = j->next;
		if (!a->todo)
			a->todo_tail = &a->todo;
	}
	return j;
}

static void *threads_main(void *arg)
{
	struct aio *a = arg;

	pthread_mutex_lock(&a->lock);
	for (;;) {
		struct aio_job *j;

		while (!(j = threads_take_locked(a)) && !a->must_stop) {
			a->n_idle++;
			pthread_cond_wait(&a->wake, &a->lock);
			a->n_idle--;
		}
		if (!j)
			break;
		pthread_mutex_unlock(&a->lock);
		j->result = aio_do(j);
		j->next = NULL;
		pthread_mutex_lock(&a->lock);
		a->n_calling -= j->op == AIO_CALL;
		bool is_known = a->finished;    /* who reaps goes on until nothing is left */
		uint64_t one = 1;

		*a->finished_tail = j;
		a->finished_tail = &j->next;
		/* Fails only when the counter is full, and then the loop wakes up anyway. */
		if (!is_known && write(a->event_fd, &one, sizeof(one)) < 0)
			continue;
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

/* Signals are for the loop and the vcpus: a worker takes none. */
static int threads_start_locked(struct aio *a)
{
	sigset_t all, old;

	sigfillset(&all);
	fatal_unblock(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&a->thread[a->n_threads], NULL, threads_main, a);

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!r)
		a->n_threads++;
	return -r;
}

void aio_threads_rest(struct aio *a)
{
	pthread_mutex_lock(&a->lock);
	a->must_stop = true;
	pthread_cond_broadcast(&a->wake);
	pthread_mutex_unlock(&a->lock);
	for (unsigned i = 0; i < a->n_threads; i++)
		pthread_join(a->thread[i], NULL);
	a->n_threads = 0;
	a->must_stop = false;
}

static void threads_close(struct aio *a)
{
	if (!a)
		return;
	aio_threads_rest(a);
	pthread_cond_destroy(&a->wake);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static int threads_open(struct aio **out, int event_fd, struct err *err)
{
	struct aio *a = calloc(1, sizeof(*a));

	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	a->event_fd = event_fd;
	a->todo_tail = &a->todo;
	a->calls_tail = &a->calls;
	a->finished_tail = &a->finished;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	a->n_cores = cores < 1 ? 1 : cores > AIO_THREADS_MAX ? AIO_THREADS_MAX : (unsigned)cores;
	a->max_threads = a->n_cores > AIO_THREADS_MIN ? a->n_cores : AIO_THREADS_MIN;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->wake, NULL);
	/* One from the start, so that submit() cannot be left with nobody to do the work. */
	int r = threads_start_locked(a);

	if (r < 0) {
		threads_close(a);
		return err_set(err, r, "cannot start an I/O thread: %s", strerror(-r));
	}
	*out = a;
	return 0;
}

static void threads_submit(struct aio *a, struct aio_job *j)
{
	pthread_mutex_lock(&a->lock);
	j->next = NULL;
	if (j->op == AIO_CALL) {
		*a->calls_tail = j;
		a->calls_tail = &j->next;
	} else {
		*a->todo_tail = j;
		a->todo_tail = &j->next;
	}
	bool must_wake = false;

	if (j->op == AIO_CALL && a->n_calling >= a->n_cores)
		;                       /* who is done with one takes the next */
	else if (a->n_idle)
		must_wake = true;
	else if (a->n_threads < a->max_threads)
		threads_start_locked(a);        /* refused: the others get to it */
	pthread_mutex_unlock(&a->lock);
	if (must_wake)                  /* not into a lock that we hold */
		pthread_cond_signal(&a->wake);
}

static int64_t threads_now(struct aio *a, const struct aio_job *j)
{
	return aio_now(&a->now, j);
}

/* One at a time: DONE may wait for another job, which must then not be in a list of ours. */
static void threads_reap(struct aio *a)
{
	for (;;) {
		pthread_mutex_lock(&a->lock);
		struct aio_job *j = a->finished;

		if (j)
			a->finished = j->next;
		if (!a->finished)
			a->finished_tail = &a->finished;
		pthread_mutex_unlock(&a->lock);
		if (!j)
			return;
		j->done(j, j->result);
	}
}

const struct aio_ops aio_threads = {
	.name = "threads",
	.has_threads = true,
	.open = threads_open,
	.submit = threads_submit,
	.now = threads_now,
	.reap = threads_reap,
	.close = threads_close,
};
