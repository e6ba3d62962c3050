/* SPDX-License-Identifier: Apache-2.0 */
/* blk.h - open a disk image and move bytes through it, whatever its format.
 *
 * Asynchronous: requests are submitted and their completion callback runs later on the loop
 * thread that the image was opened with (never from inside blk_submit). All calls come from
 * that thread. One image is used by one device at a time; a writable image is locked against
 * any other process (OFD lock, exclusive; read-only takes a shared one). */
#ifndef BLK_BLK_H
#define BLK_BLK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "util/cleanup.h"

struct blk;
struct err;
struct loop;

enum { BLK_SECTOR = 512 };

struct blk_options {
	const char *path;       /* file or block device; or NULL and FD >= 0 */
	int fd;                 /* an open descriptor instead of a path (taken on success), else -1 */
	const char *format;     /* "raw"; NULL: raw */
	bool is_readonly;
	bool is_direct;         /* O_DIRECT: bypass the page cache */
	const char *aio;        /* "io_uring", "threads"; NULL: io_uring where it works */
};

/* Open an image. On success *OUT owns the file until blk_close(); on failure *OUT is untouched.
 * -ENOENT, -EACCES, -EBUSY (locked by someone else), -EINVAL (not a multiple of 512 bytes,
 * unknown format), each with its sentence. */
int blk_open(struct blk **out, struct loop *loop, const struct blk_options *o, struct err *err);
/* Waits for requests in flight, flushes nothing. NULL is fine. */
void blk_close(struct blk *b);
DEFINE_AUTO(struct blk *, blk_close)

uint64_t blk_size(const struct blk *b);         /* bytes; multiple of BLK_SECTOR */
bool blk_is_readonly(const struct blk *b);
unsigned blk_block_size(const struct blk *b);   /* preferred I/O size, e.g. 4096 */
bool blk_can_discard(const struct blk *b);

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_ZEROES };

/* One request; owned by the caller, must stay in place until DONE. */
struct blk_req {
	enum blk_op op;
	bool may_unmap;                 /* BLK_ZEROES: holes are welcome */
	uint64_t off, len;              /* bytes; READ and WRITE: LEN is the sum of IOV */
	const struct iovec *iov;        /* borrowed until DONE */
	int n_iov;
	/* RESULT: 0, or -errno. After a successful BLK_FLUSH every write that was DONE before it
	 * was submitted is durable. */
	void (*done)(struct blk_req *r, int result);
	void *arg;                      /* the caller's */
	struct blk *blk;                /* private from here: set by blk_submit */
	uint64_t priv[4];
};

/* Start a request. Always ends in one call of DONE (out of range: -EINVAL; writing to a
 * read-only image: -EROFS; the host's error otherwise). Requests may complete in any order. */
void blk_submit(struct blk *b, struct blk_req *r);
unsigned blk_in_flight(const struct blk *b);

#endif
