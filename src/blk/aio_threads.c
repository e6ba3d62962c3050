/* SPDX-License-Identifier: Apache-2.0 */
/* aio_threads.c - host I/O by a few threads that block, where io_uring is missing or forbidden,
 * and for the ioctls and calculations that io_uring cannot do.
 *
 * Threads are started when jobs wait and none is idle, up to AIO_THREADS_MAX, and stay. */
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

enum { AIO_THREADS_MAX = 4 };

struct aio {
	int event_fd;
	struct aio_now now;             /* loop thread */
	pthread_mutex_t lock;           /* all below */
	pthread_cond_t wake;
	struct aio_job *todo, **todo_tail;
	struct aio_job *finished, **finished_tail;
	bool must_stop;
	unsigned n_threads, n_idle;
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

static void *threads_main(void *arg)
{
	struct aio *a = arg;

	pthread_mutex_lock(&a->lock);
	for (;;) {
		while (!a->todo && !a->must_stop) {
			a->n_idle++;
			pthread_cond_wait(&a->wake, &a->lock);
			a->n_idle--;
		}
		struct aio_job *j = a->todo;

		if (!j)
			break;
		a->todo = j->next;
		if (!a->todo)
			a->todo_tail = &a->todo;
		pthread_mutex_unlock(&a->lock);
		j->result = aio_do(j);
		j->next = NULL;
		pthread_mutex_lock(&a->lock);
		*a->finished_tail = j;
		a->finished_tail = &j->next;
		uint64_t one = 1;

		/* Fails only when the counter is full, and then the loop wakes up anyway. */
		if (write(a->event_fd, &one, sizeof(one)) < 0)
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
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(&a->thread[a->n_threads], NULL, threads_main, a);

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!r)
		a->n_threads++;
	return -r;
}

static void threads_close(struct aio *a)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	a->must_stop = true;
	pthread_cond_broadcast(&a->wake);
	pthread_mutex_unlock(&a->lock);
	for (unsigned i = 0; i < a->n_threads; i++)
		pthread_join(a->thread[i], NULL);
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
	a->finished_tail = &a->finished;
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
	*a->todo_tail = j;
	a->todo_tail = &j->next;
	if (a->n_idle)
		pthread_cond_signal(&a->wake);
	else if (a->n_threads < AIO_THREADS_MAX)
		threads_start_locked(a);        /* refused: the others get to it */
	pthread_mutex_unlock(&a->lock);
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
