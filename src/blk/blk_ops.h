/* SPDX-License-Identifier: Apache-2.0 */
/* blk_ops.h - for implementers of image formats and of asynchronous I/O back ends.
 *
 * blk.c owns the file, the lock and the checks of a request; a format (blk_ops) turns a
 * request that passed them into jobs; a back end (aio_ops) does jobs on host descriptors and
 * signals EVENT_FD when some are finished. Everything but the doing of a job happens on the
 * loop thread. */
#ifndef BLK_BLK_OPS_H
#define BLK_BLK_OPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "blk/blk.h"
#include "util/loop.h"

struct aio;

enum aio_op {
	AIO_READV, AIO_WRITEV,
	AIO_FDATASYNC,
	AIO_FALLOCATE,          /* MODE as in fallocate(2) */
	AIO_BLKDISCARD,         /* ioctl of a block device; only threads can do it */
};

/* One host operation. Owned by the format until submit, by the back end until DONE. */
struct aio_job {
	enum aio_op op;
	int fd;
	int mode;
	uint64_t off, len;
	const struct iovec *iov;        /* borrowed until DONE */
	int n_iov;                      /* at most IOV_MAX */
	/* RESULT as of the system call: bytes or 0, or -errno. Loop thread, from reap(). */
	void (*done)(struct aio_job *j, int64_t result);
	int64_t result;                 /* private to the back end, as is NEXT */
	struct aio_job *next;
};

struct aio_ops {
	const char *name;               /* as in blk_options.aio */
	bool can_ioctl;                 /* does AIO_BLKDISCARD */
	/* EVENT_FD (borrowed) is written to whenever jobs have finished. */
	int (*open)(struct aio **out, int event_fd, struct err *err);
	void (*submit)(struct aio *a, struct aio_job *j);       /* never calls DONE */
	void (*reap)(struct aio *a);    /* call DONE of what has finished */
	void (*close)(struct aio *a);   /* no job is in flight; NULL is fine */
};
extern const struct aio_ops aio_uring, aio_threads;

/* Do J now, in this thread; the result of the system call. For back ends made of threads. */
int64_t aio_do(const struct aio_job *j);

struct blk_ops {
	const char *name;               /* "raw": shown to users */
	/* b->fd is open and locked: find b->size and whatever else the format keeps. */
	int (*open)(struct blk *b, struct err *err);
	void (*submit)(struct blk *b, struct blk_req *r);       /* checked; ends in blk_finish() */
	void (*close)(struct blk *b);   /* frees b->priv; NULL: nothing to free */
};
extern const struct blk_ops blk_raw;

struct blk {
	const struct blk_ops *ops;
	void *priv;                     /* the format's */
	const struct aio_ops *aio_ops;
	struct aio *aio;
	struct aio *blocking;           /* aio_threads for what AIO cannot do; opened when needed */
	struct loop *loop;
	struct loop_fd event;           /* eventfd: back ends finished something, or DEFERRED is not empty */
	char *name;                     /* path, for sentences */
	int fd;                         /* the image; locked */
	int direct_fd;                  /* the same with O_DIRECT, or -1 */
	unsigned direct_align;          /* of offset, length and addresses on direct_fd */
	uint64_t size;
	unsigned block_size;
	unsigned in_flight;
	bool has_complained;            /* a failed request has been told of */
	bool is_readonly, is_device, can_discard;
	int flush_error;                /* of the first fdatasync that failed: sticky */
	struct blk_req *deferred;       /* finished without I/O: DONE is still owed; via priv[0] */
};

/* Give J to the image's back end. */
void blk_submit_job(struct blk *b, struct aio_job *j);
/* Call R's DONE and forget it. Loop thread, never from inside blk_submit(). */
void blk_finish(struct blk *b, struct blk_req *r, int result);
/* The same soon, for requests that end before any job was started. */
void blk_finish_later(struct blk *b, struct blk_req *r, int result);

/* blk_open() with a stated back end: tests put a fake one here. */
int blk_open_with(struct blk **out, struct loop *loop, const struct blk_options *o,
		  const struct aio_ops *aio, struct err *err);

#endif
