/* SPDX-License-Identifier: Apache-2.0 */
/* blk_ops.h - the contract between the core and the drivers of formats and protocols.
 *
 * A node (struct blk) is a driver over child nodes. A *protocol* driver (file) is a leaf: it takes
 * requests and completes them later. A *format* driver is written as straight-line code: every
 * co_*() member runs in a coroutine (util/co.h) on the loop thread and may yield in any blk_co_*()
 * call; many run at once on one node. What an image contains is hostile: a driver checks each
 * field before it uses it, and no allocation is larger than a bound the driver states.
 *
 * docs/design/disks.md has the rules of the road: who checks what, the fast path, locking. */
#ifndef BLK_BLK_OPS_H
#define BLK_BLK_OPS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "blk/aio.h"
#include "blk/blk.h"
#include "blk/opts.h"
#include "util/co.h"
#include "util/err.h"
#include "util/loop.h"

/* --- vectors ------------------------------------------------------------------------------------ */

/* Memory of a transfer: IOV from byte SKIP on; how much of it is meant is said beside it. By value. */
struct blk_vec {
	const struct iovec *iov;
	int n;
	size_t skip;
};

/* The same from N bytes further on. */
struct blk_vec blk_vec_at(struct blk_vec v, uint64_t n);
void blk_vec_get(struct blk_vec v, void *buf, size_t len);              /* vector to BUF */
void blk_vec_put(struct blk_vec v, const void *buf, size_t len);        /* BUF to vector */
void blk_vec_zero(struct blk_vec v, uint64_t len);
bool blk_vec_is_zero(struct blk_vec v, uint64_t len);
/* Where its first LEN bytes are, if they lie in one piece; else NULL. */
uint8_t *blk_vec_memory(struct blk_vec v, uint64_t len);
/* One buffer as a vector: `struct iovec iov; struct blk_vec v = blk_vec_of(&iov, buf, len);` */
static inline struct blk_vec blk_vec_of(struct iovec *iov, const void *buf, size_t len)
{
	*iov = (struct iovec){ .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	return (struct blk_vec){ .iov = iov, .n = 1 };
}

/* --- drivers ------------------------------------------------------------------------------------ */

/* What probing looks at: the first and the last bytes of the file. */
enum { BLK_PROBE_HEAD = 4096, BLK_PROBE_TAIL = 512 };
struct blk_probe {
	const uint8_t *head, *tail;     /* HEAD: the first HEAD_LEN bytes; TAIL: the last TAIL_LEN */
	size_t head_len, tail_len;
	uint64_t size;                  /* of the file */
};

/* A bit for each 1 << GRANULARITY_BITS bytes of a disk. */
struct blk_bits { uint8_t *v; uint64_t n_bytes; unsigned granularity_bits; };

struct blk_creating {                   /* for co_create */
	const struct blk_create *args;
	const struct blk_opts *opts;    /* of the create table; never NULL */
	uint64_t size;                  /* resolved; multiple of BLK_SECTOR */
	const struct blk_secret *secret;        /* NULL: none was given */
	struct blk *file;               /* empty, open for writing; the core closes it */
	char **made;                    /* N_MADE further files that were not there before: the core's */
	unsigned n_made;
};

/* How large a new image is, all its files together: FIXED bytes, and EACH more for every UNIT of the disk that has
 * data. UNIT is not 0. */
struct blk_layout {
	uint64_t size;                  /* of the disk, as the format rounds it */
	uint64_t unit, fixed, each;
};

/* A cluster in both forms, for co_write_packed(). */
struct blk_packed {
	const uint8_t *raw;             /* cluster_size bytes; zeroes behind the end of the disk */
	const uint8_t *packed;
	uint32_t len;                   /* of PACKED; 0: that would not be smaller */
};

enum blk_driver_flag {
	BLK_DRIVER_PROTOCOL = 1,        /* a leaf: SUBMIT, no children, chosen by name and not by content */
	BLK_DRIVER_BACKING = 2,         /* create() takes a backing image */
	BLK_DRIVER_READONLY = 4,        /* cannot write: opening for writing is refused with that sentence */
	BLK_DRIVER_NOISE = 8,           /* what was never written reads as anything, not as zeroes */
	BLK_DRIVER_DEVICE = 16,         /* can be made on a block device, whatever is there: it knows where it ends */
};

/* Members may be NULL where it says so. OFF and LEN are inside the node's size and multiples of
 * BLK_SECTOR, LEN is not 0; WRITE, DISCARD and ZEROES come to writable nodes only. */
struct blk_driver {
	const char *name;               /* "qcow2": shown to users */
	const char *title;              /* one line for help */
	unsigned flags;
	size_t priv_size;               /* zeroed memory at b->priv; freed by the core */
	const struct blk_opt *open_opts, *create_opts;  /* NULL: none */

	/* 0: not mine; up to 100: how sure. Any bytes may come; pure. NULL: only by name. */
	int (*probe)(const struct blk_probe *p);

	/* b->file is open. Read and check the metadata; set b->size, and where they apply
	 * b->cluster_size, b->block_size, b->can_discard, b->backing_name (the core opens that chain
	 * afterwards, never the driver). On failure the core calls co_close. */
	int (*co_open)(struct blk *b, const struct blk_opts *opts, struct err *err);
	/* b->backing is open: is it what this image was made over? NULL: nothing tells. */
	int (*co_meet_backing)(struct blk *b, struct err *err);
	/* b->backing, open for writing, is about to be changed on purpose (commit): give its content another
	 * identity and note that one here, both durable. NULL: nothing tells. */
	int (*co_adopt_backing)(struct blk *b, struct err *err);
	/* Once, half-opened too; b->is_open tells. Write back what is held; free what hangs on b->priv. */
	void (*co_close)(struct blk *b);        /* NULL: nothing to do */

	/* The fast path: from any context, never yields. When OP needs nothing but the bytes at *CHILD_OFF
	 * of a child, and what is known in memory says which: that child; else NULL, and the co_*()
	 * below is called. NULL: never. See "the fast path" in the design page. */
	struct blk *(*try_map)(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off);

	int (*co_preadv)(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
	int (*co_pwritev)(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v); /* NULL: READONLY */
	int (*co_pwritev_compressed)(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v); /* may be NULL */
	/* The same in two steps, for who has many clusters; both may be NULL. PACK, on any thread: the cluster at IN to
	 * OUT, which has room for as much; how many bytes it makes, or -ENOSPC if that is not fewer. Then N clusters in a
	 * row, from OFF on; the last may end behind the end of the disk. */
	int64_t (*pack)(struct blk *b, const uint8_t *in, uint8_t *out);
	int (*co_write_packed)(struct blk *b, uint64_t off, const struct blk_packed *v, unsigned n);
	/* Bring what is held in memory to the children, in a crash-safe order; the core flushes b->file
	 * and b->data afterwards. NULL: nothing is ever held. */
	int (*co_flush)(struct blk *b);
	int (*co_discard)(struct blk *b, uint64_t off, uint64_t len);           /* NULL: advice not taken */
	/* -ENOTSUP or NULL: the core writes zeroes. */
	int (*co_zeroes)(struct blk *b, uint64_t off, uint64_t len, bool may_unmap);
	/* This image alone: what holds at OFF for how long. FLAGS, LEN (> 0, at most what was asked),
	 * HOST, HOST_OFF of *OUT; the core sets the rest. NULL: all is DATA|ALLOCATED. */
	int (*co_map)(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out);

	/* All below may be NULL: -ENOTSUP with a sentence. */
	int (*co_truncate)(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);
	int (*co_check)(struct blk *b, unsigned fix, struct blk_check *check, struct err *err);
	int (*co_info)(struct blk *b, struct json_t *out, struct err *err);     /* adds to OUT, an object */
	int (*co_snapshot_list)(struct blk *b, struct blk_snapshot **list, unsigned *n, struct err *err);
	int (*co_snapshot_create)(struct blk *b, struct blk_snapshot *s, struct err *err);
	int (*co_snapshot_apply)(struct blk *b, const char *which, struct err *err);
	int (*co_snapshot_delete)(struct blk *b, const char *which, struct err *err);
	int (*co_bitmap_read)(struct blk *b, const char *name, uint8_t **bits, uint32_t *granularity, struct err *err);
	int (*co_change_backing)(struct blk *b, const char *name, const char *format, struct err *err);
	int (*co_amend)(struct blk *b, const struct blk_opts *opts, struct err *err);
	int (*co_make_empty)(struct blk *b, struct err *err);
	int (*co_create)(struct blk_creating *c, struct err *err);
	/* What co_create would make of C, which has neither a path nor a file nor a backing image; refused as there.
	 * Outside of coroutines, pure. */
	int (*measure)(const struct blk_creating *c, struct blk_layout *out, struct err *err);

	/* Dirty bitmaps that the image keeps by name and that record what is written. TAKE: what it has recorded, to *OUT
	 * (V to be freed); it is empty then and records on. GIVE: add that again. Drained, but for GIVE. */
	int (*co_bitmap_add)(struct blk *b, const char *name, uint64_t granularity, struct err *err);
	int (*co_bitmap_remove)(struct blk *b, const char *name, struct err *err);
	int (*co_bitmap_take)(struct blk *b, const char *name, struct blk_bits *out, struct err *err);
	void (*co_bitmap_give)(struct blk *b, const char *name, const struct blk_bits *bits);

	/* Protocol only: start R, which is for byte r->at_off of this node, on r->len bytes of
	 * (r->iov, r->n_iov, r->skip); ends in blk_finish(b, r, result) from a later event. Any
	 * alignment; reading behind the end of the file gives zeroes when b->may_grow, and writing
	 * there makes it longer. */
	void (*submit)(struct blk *b, struct blk_req *r);
	/* Protocol only, may be NULL: do R at once if that costs less than waiting for it: 0, and R is over
	 * without blk_finish(). -EAGAIN: it needs submit(), whatever else may be wrong. */
	int (*now)(struct blk *b, const struct blk_req *r);
};

extern const struct blk_driver blk_file, blk_raw;

/* --- nodes ---------------------------------------------------------------------------------------- */

struct blk_ctx;
struct blk_range;
struct luks;

struct blk {
	const struct blk_driver *drv;
	void *priv;                     /* the driver's, priv_size bytes */
	struct blk_ctx *ctx;            /* shared by the nodes of one disk */
	char *name;                     /* path, for sentences */
	uint64_t size;                  /* bytes; of a protocol: the file's length now */
	unsigned block_size, cluster_size;
	unsigned io_align;              /* protocol of proto.h: unit of transfers in bytes, a power of two; 0: 1 */
	uint64_t io_max;                /* the most in one transfer; 0: no matter */
	bool is_open;                   /* co_open has succeeded */
	bool is_readonly, can_discard;
	bool is_inactive;               /* reading only, until blk_activate() */
	bool has_opts;                  /* opened with other options than the defaults */
	bool is_probed;                 /* the format was found by content */
	bool is_repairing;              /* as in blk_options */
	bool may_grow;                  /* protocol: belongs to a format that decides about its length */
	bool has_complained;            /* a failed request has been told of */
	bool is_front;                  /* front.h: FILE is the top node of a disk */

	struct blk *file;               /* what holds this image; NULL: a protocol */
	struct blk *backing;            /* what shows where this image has nothing; NULL: none */
	struct blk *data;               /* external data file; NULL: FILE */
	struct blk **extra;             /* further files, blk_co_open_extra(); owned */
	unsigned n_extra;
	char *backing_name, *backing_format;    /* as the image says; owned, NULL: none */
	const struct blk_options *opening;      /* while co_open runs, else NULL */
	struct luks *luks;              /* its encryption, the driver's (blk/luks/luks.h); NULL: none */
	struct luks *kept_luks;         /* with its key, while the image is another process's; owned, NULL: none */
	bool is_forgetting;             /* the driver closes, and the image will be opened again */

	unsigned in_flight;             /* requests from blk_submit() */
	struct co_queue idle;           /* to be told when there are none */
	struct blk_req *active;         /* those on the fast path through this node */
	struct co_queue active_ends;    /* to be told when one of them is over */
	struct blk_range *ranges;       /* locked, in order of arrival */
};

/* --- children, from coroutines -------------------------------------------------------------------- */

/* Bytes of a node, of any kind. Protocols take any offset; reading beyond the end of a format gives
 * zeroes, writing there is -EINVAL. 0 or -errno. */
int blk_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
int blk_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
int blk_co_pread(struct blk *b, uint64_t off, void *buf, size_t len);
int blk_co_pwrite(struct blk *b, uint64_t off, const void *buf, size_t len);
int blk_co_discard(struct blk *b, uint64_t off, uint64_t len);
int blk_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap);
int blk_co_flush(struct blk *b);                /* all that hangs below, too */
int blk_co_map(struct blk *b, uint64_t off, uint64_t len, bool is_chain, struct blk_extent *out);
/* Make the file of a protocol node SIZE bytes long. */
int blk_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);
/* In co_truncate: DONE of TOTAL bytes of space are reserved. 0, or what whoever watches ends it with. */
int blk_co_reserved(const struct blk *b, uint64_t done, uint64_t total);

/* Run CALL(ARG) on another thread, yield until it has returned; for calculations of more than some
 * 50 us. What it touches is nobody else's meanwhile. Without threads it runs here. */
int64_t blk_co_call(struct blk *b, int64_t (*call)(void *arg), void *arg);

/* Open another file for B, from co_open: NAME as an image gives it (relative to the directory of B, with
 * blk_options.is_confined nowhere else); a protocol node if FORMAT is NULL, else a format over one.
 * It is opened like B itself (read-only, direct, ...). */
int blk_co_open_file(struct blk *b, const char *name, const char *format, struct blk **out, struct err *err);
/* The same, appended to b->extra, which owns it; e.g. the extents of a split image. */
int blk_co_open_extra(struct blk *b, const char *name, const char *format, struct blk **out, struct err *err);
/* LEN bytes of b->file from OFF on as an image of their own, of whatever format, for reading; it may not need
 * another file. Its owner closes it before B is. */
int blk_co_open_window(struct blk *b, uint64_t off, uint64_t len, const char *name, struct blk **out, struct err *err);
/* Outside of co_open. Can files be made in the folder of B, which was opened by name? -ENOTSUP. */
int blk_co_can_rewrite(struct blk *b, struct err *err);
/* Make a file NAME, which must not be there (-EEXIST), for B; appended to b->extra. That it is there is durable. */
int blk_co_make_extra(struct blk *b, const char *name, struct blk **out, struct err *err);
/* DATA instead of what is in b->file: another file takes its name, in one moment and durably. *IS_DONE: it has, and
 * b->file is that one; what failed after that is only that it might not be durable. */
int blk_co_rewrite_file(struct blk *b, const void *data, size_t len, bool *is_done, struct err *err);
/* In co_create: make (or empty) and open another file beside c->args->path; the caller closes it with
 * blk_co_close(). */
int blk_co_create_file(struct blk_creating *c, const char *name, struct blk **out, struct err *err);
/* In co_create: an image that is there, named as C would name it, without its own backing image, for reading:
 * what the new image has to know about the one behind it. The caller closes it. */
int blk_co_open_beside(struct blk_creating *c, const char *name, const char *format, struct blk **out, struct err *err);
/* In co_create: the image that C has written, opened for writing without its backing image; e.g. to
 * preallocate. */
int blk_co_open_new(struct blk_creating *c, struct blk **out, struct err *err);
void blk_co_close(struct blk *b);               /* NULL is fine */

/* --- ranges --------------------------------------------------------------------------------------- */

/* A part of the disk that is being used, by a coroutine; on its stack. Shared ranges may overlap each
 * other and requests on the fast path; an exclusive one waits until it is alone, and what comes
 * after waits for it. A driver takes exclusive what changes where bytes are (allocating, discarding),
 * shared what only moves bytes; always before it looks at its tables, one at a time. */
struct blk_range {
	uint64_t off, end;
	bool is_exclusive;
	struct co_queue waiting;        /* for this one to end */
	struct blk_range *next, **prev;
};
void blk_range_lock(struct blk *b, struct blk_range *r, uint64_t off, uint64_t len, bool is_exclusive);
void blk_range_unlock(struct blk *b, struct blk_range *r);
/* Wait until no request is on the fast path through B; new ones are kept off it until the end. For what
 * changes everything: snapshots, resizing. Not nested. */
void blk_drain_begin(struct blk *b, struct blk_range *r);
void blk_drain_end(struct blk *b, struct blk_range *r);

/* --- for protocols and the core ------------------------------------------------------------------- */

/* R, done by protocol node AT, is over. Loop thread, never from inside submit(). */
void blk_finish(struct blk *at, struct blk_req *r, int result);
/* The same soon, for requests that end before anything was started. */
void blk_finish_later(struct blk *at, struct blk_req *r, int result);
/* Give J to the disk's back end. */
void blk_submit_job(struct blk *b, struct aio_job *j);
/* aio_ops.now() of it, a bounded number of times before the disk's events have had their turn. */
int64_t blk_job_now(struct blk *b, const struct aio_job *j);

/* A descriptor that a protocol waits for; served by the loop, and by calls that wait. Owned by the
 * protocol. The loop_fd's fn runs on the loop thread, outside of coroutines. */
struct blk_watch {
	struct loop_fd h;
	struct blk_watch *next;
};
int blk_watch_add(struct blk *b, struct blk_watch *w, int fd, unsigned events,
		  void (*fn)(struct loop_fd *h, unsigned events));
int blk_watch_mod(struct blk *b, struct blk_watch *w, unsigned events);
void blk_watch_del(struct blk *b, struct blk_watch *w);

/* blk_open() with a stated back end: tests put a fake one here. */
int blk_open_with(struct blk **out, struct loop *loop, const struct blk_options *o,
		  const struct aio_ops *aio, struct err *err);

#endif
