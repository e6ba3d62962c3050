/* SPDX-License-Identifier: Apache-2.0 */
/* core_priv.h - between the files of the core: graph.c, blk.c, ctx.c, sync.c, format.c, name.c. */
#ifndef BLK_CORE_PRIV_H
#define BLK_CORE_PRIV_H

#include "blk/blk_ops.h"

/* What the nodes of one disk share: a loop, a back end, and the event that says that it or a deferred
 * request is ready. Loop thread. */
struct blk_ctx {
	struct loop *loop;              /* NULL: only waiting calls */
	unsigned n_nodes;               /* that hold it */
	const struct aio_ops *aio_ops;
	struct aio *aio;
	struct aio *threads;            /* for what AIO cannot do; opened when needed */
	struct blk_watch event;         /* eventfd */
	struct blk_watch *watches;      /* EVENT and those of protocols */
	struct blk_req *deferred, **deferred_tail;      /* DONE is still owed */
	unsigned depth;                 /* of handlers of EVENT that are running */
	unsigned n_now;                 /* jobs done at once since the last event */
	const struct blk_progress *progress;    /* of a change of size that runs; NULL: nobody asks */
};

/* A context with one holder; AIO NULL: the best that works. */
int blk_ctx_new(struct blk_ctx **out, struct loop *loop, const struct aio_ops *aio, struct err *err);
void blk_ctx_put(struct blk_ctx *c);
const struct aio_ops *blk_aio_find(const char *name, struct err *err);
/* Wait for an event of C and handle it; at most TIMEOUT_MS, -1: for ever. */
void blk_ctx_poll(struct blk_ctx *c, int timeout_ms);
void blk_ctx_wait(struct blk_ctx *c);
/* blk_run() on a context. */
int blk_ctx_run(struct blk_ctx *c, int (*fn)(void *arg), void *arg);

/* A protocol node over a file that is there (o->path, or o->fd, which stays the caller's). */
int blk_co_open_protocol(struct blk **out, struct blk_ctx *c, const struct blk_options *o, struct err *err);
/* Over a file that is made if need be and emptied. IS_NEW: it must not be there. */
int blk_co_make_protocol(struct blk **out, struct blk_ctx *c, const char *path, bool is_new, struct err *err);

/* One image over FILE, without what is behind it. Takes FILE, on success or not. */
int blk_co_open_image(struct blk **out, struct blk *file, const struct blk_options *o, struct err *err);
/* blk_open() into a context, from a coroutine; o->fd stays the caller's. */
int blk_open_in(struct blk **out, struct blk_ctx *c, const struct blk_options *o, struct err *err);

/* file.c: open into a node that is made; whether two protocol nodes are the same file. */
struct blk_file_options {
	const char *path;       /* or NULL, and FD is duplicated */
	int fd;
	const char *name;       /* what FD is called; NULL: by its number */
	const int *direct_fd;   /* the same file with O_DIRECT, to be duplicated; NULL: it is opened if need be */
	bool is_readonly, is_direct, is_unlocked;
	bool is_inactive;       /* for reading and without a lock, until blk_file_activate() */
	bool is_emptied;        /* made if need be; with IS_NEW it must not be there */
	bool is_new;
};
int blk_file_open(struct blk *b, const struct blk_file_options *o, struct err *err);
bool blk_file_is_same(const struct blk *a, const struct blk *b);
int blk_file_fd(const struct blk *b);           /* its descriptor; -1: B is no file */
bool blk_file_is_device(const struct blk *b);
bool blk_fd_is_same(int a, int b);              /* two descriptors of one file */

/* A node without anything below it (graph.c). */
int blk_node_new(struct blk **out, struct blk_ctx *c, const struct blk_driver *drv, const char *name,
		 const struct blk_options *o, struct err *err);

/* front.c: blk_submit() and blk_in_flight() of a front; what stands behind one, or B itself. */
void blk_front_submit(struct blk *b, struct blk_req *r);
unsigned blk_front_in_flight(const struct blk *b);
static inline struct blk *blk_top(const struct blk *b) { return b->is_front ? b->file : (struct blk *)(uintptr_t)b; }

/* 0: R can be done by B; -errno (blk.c). */
int blk_req_check(const struct blk *b, const struct blk_req *r);

/* Lock FD for writing or reading, and let go (lock.c). */
int blk_lock(int fd, const char *name, bool is_readonly, struct err *err);
void blk_unlock(int fd);
/* image.c: can A be made by DRV? */
int blk_create_check(const struct blk_create *a, const struct blk_driver *drv, struct err *err);

/* file_open.c: take the lock of a node that was opened inactive or has been released, and learn its size
 * anew; drop the lock, and write no more. */
int blk_file_activate(struct blk *b, struct err *err);
void blk_file_release(struct blk *b);

/* graph.c: let the driver of B read its image; o->opts NULL: defaults. */
int blk_co_open_format(struct blk *b, const struct blk_options *o, struct err *err);
/* active.c: B has been opened for reading and is going to be activated. */
int blk_co_expect_active(struct blk *b, struct err *err);

/* Formats (format.c). */
const struct blk_driver *blk_format_find(const char *name, struct err *err);
const struct blk_driver *blk_probe_format(const struct blk_probe *p);
int blk_co_probe(struct blk *file, const struct blk_driver **drv, struct err *err);

/* The path of NAME, which stands in the image IMAGE (name.c); the caller frees *OUT. */
int blk_name_resolve(char **out, const char *image, const char *name, struct err *err);
/* Open NAME below the directory of IMAGE and nowhere else: a descriptor. */
int blk_name_open_confined(const char *image, const char *name, bool is_readonly, struct err *err);

/* OP on any node, from a coroutine; what a request that is not on the fast path does (co_io.c). */
int blk_co_do(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, struct blk_vec v, bool may_unmap);
/* Does an exclusive range touch [OFF, OFF+LEN)? */
bool blk_range_is_blocked(const struct blk *b, uint64_t off, uint64_t len);
#endif
