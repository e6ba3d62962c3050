/* SPDX-License-Identifier: Apache-2.0 */
/* aio.h - for implementers of asynchronous I/O back ends and of protocols on host descriptors.
 *
 * A back end (aio_ops) does jobs on host descriptors and signals EVENT_FD when some are finished.
 * Everything but the doing of a job happens on the loop thread. */
#ifndef BLK_AIO_H
#define BLK_AIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct aio;
struct err;

enum aio_op {
	AIO_READV, AIO_WRITEV,
	AIO_FDATASYNC,
	AIO_FALLOCATE,          /* MODE as in fallocate(2) */
	AIO_BLKDISCARD,         /* ioctl of a block device; only threads can do it */
	AIO_CALL,               /* CALL(CALL_ARG) on another thread; only threads can do it */
};

/* One host operation. Owned by who submits it until then, by the back end until DONE. */
struct aio_job {
	enum aio_op op;
	int fd;
	int mode;
	uint64_t off, len;
	const struct iovec *iov;        /* borrowed until DONE */
	int n_iov;                      /* at most IOV_MAX */
	int64_t (*call)(void *arg);     /* AIO_CALL; what it returns is the result */
	void *call_arg;
	/* RESULT as of the system call: bytes or 0, or -errno. Loop thread, from reap(). */
	void (*done)(struct aio_job *j, int64_t result);
	int64_t result;                 /* private to the back end, as is NEXT */
	struct aio_job *next;
};

struct aio_ops {
	const char *name;               /* as in blk_options.aio */
	bool has_threads;               /* does AIO_BLKDISCARD and AIO_CALL */
	/* EVENT_FD (borrowed) is written to whenever jobs have finished. */
	int (*open)(struct aio **out, int event_fd, struct err *err);
	void (*submit)(struct aio *a, struct aio_job *j);       /* never calls DONE */
	/* Do J, a small transfer to or from the page cache, now, unless it would wait: the result as of the
	 * system call, DONE is not called. -EAGAIN: submit it. NULL: always that. */
	int64_t (*now)(struct aio *a, const struct aio_job *j);
	/* Call DONE of what has finished. DONE may submit and, in nested calls, reap. */
	void (*reap)(struct aio *a);
	void (*close)(struct aio *a);   /* no job is in flight; NULL is fine */
};
extern const struct aio_ops aio_uring, aio_threads;

/* Of aio_threads: end all threads, while no job is in flight; they are started again when there is something to do. */
void aio_threads_rest(struct aio *a);

/* Do J now, in this thread; the result of the system call. For back ends made of threads. */
int64_t aio_do(const struct aio_job *j);

/* What back ends on descriptors have in common of now() (aio_now.c). Zeroed: nothing is known yet. */
struct aio_now {
	uint64_t paused_until_ns;       /* writing waited: not before this */
	bool has_no_nowait;             /* the file system cannot say what is in memory */
};
int64_t aio_now(struct aio_now *n, const struct aio_job *j);

#endif
