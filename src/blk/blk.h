/* SPDX-License-Identifier: Apache-2.0 */
/* blk.h - disks: open, create and inspect an image of any format, and move bytes through it.
 *
 * A disk is a tree of nodes: a format (raw, qcow2, ...) over the protocol that holds its file,
 * and over its backing image and external data file if it has them. Who uses a disk holds its top
 * node and sees one flat array of bytes. docs/design/disks.md draws the picture.
 *
 * Two ways to use it, both from the thread of the loop that it was opened with:
 *  - blk_submit() is asynchronous; its completion callback runs later on the loop thread, never
 *    from inside blk_submit(). For devices and whatever wants many requests in flight.
 *  - all others return when they are done. Outside of a coroutine they wait and serve this disk's
 *    events alone meanwhile (callbacks of requests in flight run, nothing else of the loop does);
 *    in a coroutine (util/co.h) they yield. For tools, and for starting and stopping.
 *
 * A writable image is locked against any other process (OFD lock, exclusive); a read-only one and
 * a backing image take a shared lock. */
#ifndef BLK_BLK_H
#define BLK_BLK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "blk/progress.h"
#include "util/cleanup.h"

struct blk;
struct blk_opt;
struct blk_opts;
struct blk_secret;
struct luks;
struct err;
struct json_t;
struct loop;
struct stat;

enum { BLK_SECTOR = 512, BLK_DEPTH_MAX = 128 /* images in a chain */ };

/* A file that is open already, for who may open none. */
struct blk_handed {
	const char *name;       /* as blk_name() of the image in it */
	int fd;
};

struct blk_options {
	/* File or block device, or an address ("nbd://host/export", see docs/guide/disks.md; "file:NAME" is a file
	 * whose name looks like one); or NULL and FD >= 0. */
	const char *path;
	int fd;                 /* an open descriptor instead of a path (taken on success), else -1 */
	const char *name;       /* with FD: what it is called; NULL: by its number */
	/* "raw", "qcow2", ...; NULL: by content. A writable image that was taken for raw by its
	 * content refuses (-EPERM) writes that would make it look like another format, so that a
	 * guest cannot choose what the next opening makes of it. */
	const char *format;
	const struct blk_opts *opts;    /* of that format's open table; NULL: defaults. Needs FORMAT. */
	bool is_readonly;
	bool is_direct;         /* O_DIRECT: bypass the page cache */
	bool is_unlocked;       /* read-only: look at an image that another process may be writing */
	/* Writable, but another process still uses it: it is opened for reading, without a lock, to learn what it
	 * is, and takes no request until blk_activate(). */
	bool is_inactive;
	bool is_repairing;      /* open what needs repair: blk_check() comes next, nothing else */
	bool is_confined;       /* backing and data files must lie below the image's own directory */
	bool is_alone;          /* it must not need any other file */
	bool has_remote_names;  /* backing and data files may be addresses: else an image cannot make us connect */
	bool has_no_backing;    /* do not open the backing image: what it holds reads as zeroes */
	bool is_backing_writable;       /* the image's own backing image is opened for writing: commit */
	const char *backing;    /* this instead of the backing name in the image */
	const char *backing_format;
	const char *aio;        /* "io_uring", "threads"; NULL: io_uring where it works */
	/* Passphrases of encrypted images, tried in this order on each of the chain; borrowed during the call.
	 * The option key-file or key-fd of OPTS, where the format has it, comes before them (blk/secret.h). */
	const struct blk_secret *secrets;
	unsigned n_secrets;
	const struct luks *unlocked;    /* of another opening of the same image: its key instead; borrowed, NULL: none */
	bool has_no_key;        /* open encrypted images to look at what they are: their bytes are -ENOKEY */
	/* Looked up by name instead of opened, for backing and data files; with IS_DIRECT each, and FD's by NAME, once more with O_DIRECT.
	 * Borrowed during the call. */
	const struct blk_handed *handed;
	unsigned n_handed;
};

/* Open an image. LOOP NULL: nobody runs one, only the calls that wait may be used. On success *OUT
 * owns the file until blk_close(); on failure *OUT is untouched. -ENOENT, -EACCES, -EBUSY (locked by
 * someone else), -EINVAL (not a multiple of 512 bytes, unknown format, damaged), -ENOTSUP (a feature
 * that we do not have, by its name), -ELOOP (backing), -ENOKEY (encrypted, and no passphrase was given),
 * -EKEYREJECTED (none of them is the right one), each with its sentence. */
int blk_open(struct blk **out, struct loop *loop, const struct blk_options *o, struct err *err);
/* Hand a writable disk over to another process. blk_deactivate(): nothing is in flight; what the format holds
 * is written back, and no request is taken any more. The lock stays until blk_release(). blk_activate() takes
 * the lock (-EBUSY) and reads the format's metadata anew: at the other process, or here if nothing came of it.
 * Twice is once; nothing happens to a readonly disk. -ENOTSUP: the image consists of several files. */
int blk_deactivate(struct blk *b, struct err *err);
void blk_release(struct blk *b);
int blk_activate(struct blk *b, struct err *err);

/* Waits for requests in flight, writes back what the format holds, flushes. NULL is fine. What fails
 * then is logged; who has to know calls blk_flush() before. */
void blk_close(struct blk *b);
/* Its threads end, while nothing is in flight, until they are needed again; NULL is fine. */
void blk_rest(struct blk *b);
DEFINE_AUTO(struct blk *, blk_close)

uint64_t blk_size(const struct blk *b);         /* bytes; multiple of BLK_SECTOR */
bool blk_is_readonly(const struct blk *b);
unsigned blk_block_size(const struct blk *b);   /* preferred I/O size, e.g. 4096 */
unsigned blk_cluster_size(const struct blk *b); /* unit of allocation of the format; raw: 0 */
bool blk_can_discard(const struct blk *b);
bool blk_is_zero_when_new(const struct blk *b); /* what was never written reads as zeroes */
bool blk_is_encrypted(const struct blk *b);
const char *blk_format(const struct blk *b);
const char *blk_name(const struct blk *b);      /* path, for sentences */
struct blk *blk_backing(const struct blk *b);   /* NULL: none */
/* What fstat() says of the file that holds the image. -ENOTSUP: it is not in a file of this host. */
int blk_fstat(const struct blk *b, struct stat *out);

/* --- requests ------------------------------------------------------------------------------- */

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_ZEROES };

/* One request; owned by the caller, must stay in place until DONE. */
struct blk_req {
	enum blk_op op;
	bool may_unmap;                 /* BLK_ZEROES: holes are welcome */
	uint64_t off, len;              /* bytes, multiples of BLK_SECTOR; READ and WRITE: LEN is the sum of IOV */
	const struct iovec *iov;        /* borrowed until DONE */
	int n_iov;
	/* RESULT: 0, or -errno. After a successful BLK_FLUSH every write that was DONE before it
	 * was submitted is durable. */
	void (*done)(struct blk_req *r, int result);
	void *arg;                      /* the caller's */
	struct blk *blk;                /* private from here: what it was submitted to */
	struct blk *at;                 /* the node that does it, at byte AT_OFF of that */
	uint64_t at_off;
	size_t skip;                    /* bytes of IOV that are not meant */
	struct blk_req *next, *prev;    /* among the active of BLK */
	struct blk_req *later;          /* among the deferred */
	bool is_tracked, is_starting;
	bool iov_is_exact;              /* IOV holds LEN bytes, not more */
	int result;
};

/* Start a request. Always ends in one call of DONE (out of range or not a multiple of BLK_SECTOR:
 * -EINVAL; writing to a read-only image: -EROFS; the host's error otherwise). Requests may complete
 * in any order. */
void blk_submit(struct blk *b, struct blk_req *r);
unsigned blk_in_flight(const struct blk *b);
/* Between the two, what is submitted and over at once is told of at the end, inside blk_batch_end(), and not
 * by a later event of the loop. In no callback of the disk. */
void blk_batch_begin(struct blk *b);
void blk_batch_end(struct blk *b);
/* Wait for an event of this disk and serve it: `while (blk_in_flight(b)) blk_wait(b);` where no loop runs. */
void blk_wait(struct blk *b);

/* --- the same, waiting -------------------------------------------------------------------------- */

/* Any offset and length inside the disk. 0 or -errno. */
int blk_pread(struct blk *b, uint64_t off, void *buf, size_t len);
int blk_pwrite(struct blk *b, uint64_t off, const void *buf, size_t len);
/* Multiples of BLK_SECTOR. */
int blk_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap);
int blk_discard(struct blk *b, uint64_t off, uint64_t len);
int blk_flush(struct blk *b);
/* One cluster (or the shorter last one), to be kept compressed; the cluster must not have been written.
 * -ENOTSUP: the format has no such thing. Data that does not shrink is written as it is. */
int blk_pwrite_compressed(struct blk *b, uint64_t off, const void *buf, size_t len);

/* Run FN(ARG) in a coroutine and wait: inside, the calls above (and blk/blk_ops.h) yield, and FN may
 * start further coroutines as long as it outlives them. Returns what FN returns, or -ENOMEM. */
int blk_run(struct blk *b, int (*fn)(void *arg), void *arg);

/* --- what is where ------------------------------------------------------------------------------ */

enum blk_extent_flag {
	BLK_EXT_DATA = 1,               /* bytes are stored; else it reads as zeroes or is unallocated */
	BLK_EXT_ZERO = 2,               /* reads as zeroes */
	BLK_EXT_ALLOCATED = 4,          /* by this image; else its backing decides */
	BLK_EXT_COMPRESSED = 8,
	BLK_EXT_HOST = 16,              /* HOST_OFF in HOST is where the bytes are, as they are */
};

struct blk_extent {
	uint64_t off, len;              /* of the disk */
	unsigned flags;                 /* enum blk_extent_flag */
	unsigned depth;                 /* 0: the image itself, 1: its backing, ... */
	struct blk *host;               /* BLK_EXT_HOST: the node of the file */
	uint64_t host_off;
};

/* What holds at OFF, for as much as it holds of [OFF, OFF+LEN), at least one sector. IS_CHAIN: through
 * the backing images, so that the result is DATA or ZERO; else this image alone (ALLOCATED or not). */
int blk_map(struct blk *b, uint64_t off, uint64_t len, bool is_chain, struct blk_extent *out);

/* --- images ---------------------------------------------------------------------------------- */

/* The formats, in the order of probing; NULL ends. */
const char *blk_format_name(unsigned i);
const char *blk_format_title(unsigned i);
/* Options of a format for opening and creating, NULL: none; see blk/opts.h. */
const struct blk_opt *blk_format_open_opts(const char *format);
const struct blk_opt *blk_format_create_opts(const char *format);       /* NULL too: cannot create */

/* The format of a file by its content: "raw" when it looks like none. PATH or FD as in blk_options. */
int blk_probe(const char *path, int fd, const char **format, struct err *err);

enum { BLK_SIZE_OF_BACKING = 0 };
struct blk_create {
	const char *path, *format;
	uint64_t size;                  /* bytes; BLK_SIZE_OF_BACKING needs BACKING */
	const char *backing;            /* as it goes into the image; relative to the image's directory */
	const char *backing_format;     /* needed with BACKING: it is never guessed later */
	bool is_backing_unchecked;      /* do not look at the backing image; needs SIZE */
	bool is_new;                    /* refuse to overwrite */
	const char *final_path;         /* it will be renamed to this: what it says of its own name; NULL: PATH */
	unsigned series;                /* names that the format gives to further files differ for each; 0: the usual ones */
	const struct blk_opts *opts;    /* of the format's create table; NULL: defaults */
	const struct blk_secret *secret;        /* of an encrypted image; NULL: as its options say; borrowed */
};
int blk_create(const struct blk_create *c, struct err *err);

/* Everything that `info` tells, as an object: the caller owns *OUT (json_decref). IS_CHAIN: backing
 * images too, under "backing". */
int blk_info(struct blk *b, bool is_chain, struct json_t **out, struct err *err);

enum blk_prealloc { BLK_PREALLOC_OFF, BLK_PREALLOC_METADATA, BLK_PREALLOC_FALLOC, BLK_PREALLOC_FULL };
/* Grow or shrink. What is cut off is lost; new space reads as zeroes. */
int blk_resize(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);
/* The same, telling how much of the new space has been written (BLK_PREALLOC_FULL, raw and qcow2). What PROGRESS returns ends
 * it: a raw disk has its old size then, qcow2 the new one with less space reserved. */
int blk_resize_watched(struct blk *b, uint64_t size, enum blk_prealloc prealloc, const struct blk_progress *progress,
		       struct err *err);

enum blk_fix { BLK_FIX_NOTHING = 0, BLK_FIX_LEAKS = 1, BLK_FIX_ERRORS = 2, BLK_FIX_ALL = 3 };
struct blk_check {
	void (*report)(void *arg, const char *line);    /* a sentence per finding, at most 100; NULL: none */
	void *report_arg;
	struct blk_progress progress;                   /* of the table; what it returns ends a check, but no repair */
	uint64_t n_errors, n_leaks;                     /* found and still there; in clusters where that fits */
	uint64_t n_errors_fixed, n_leaks_fixed;
	uint64_t n_clusters, n_allocated, n_compressed, n_fragmented;
	uint64_t image_end;                             /* first byte of the file that nothing uses */
};
static inline int blk_check_progress(const struct blk_check *c, unsigned fix, uint64_t done, uint64_t total)
{
	int r = blk_progress(&c->progress, done, total);

	return fix ? 0 : r;
}

/* Find and with FIX repair what is wrong. The counts of *CHECK are set on success; that errors were
 * found is success. -ENOTSUP: the format has nothing to check. */
int blk_check(struct blk *b, unsigned fix, struct blk_check *check, struct err *err);

struct blk_snapshot {
	char id[128], name[256];        /* of create: ID may be "" */
	uint64_t disk_size, vm_state_size, vm_clock_ns;
	uint64_t date_s;
	uint32_t date_ns;
	uint64_t icount;                /* UINT64_MAX: not recorded */
};
/* Snapshots inside the image. The caller frees *LIST. WHICH is an id or else a name. Creating fills
 * S->id. Applying makes the disk what it was. -ENOENT, -EEXIST, -ENOTSUP. */
int blk_snapshot_list(struct blk *b, struct blk_snapshot **list, unsigned *n, struct err *err);
int blk_snapshot_create(struct blk *b, struct blk_snapshot *s, struct err *err);
int blk_snapshot_apply(struct blk *b, const char *which, struct err *err);
int blk_snapshot_delete(struct blk *b, const char *which, struct err *err);

/* A copy of the dirty bitmap NAME: a bit per *GRANULARITY bytes of the disk, lowest bit first; the caller frees
 * *BITS. -ENOENT; -EINVAL: it cannot be trusted. */
int blk_bitmap_read(struct blk *b, const char *name, uint8_t **bits, uint32_t *granularity, struct err *err);

/* Dirty bitmaps that the image keeps: make one that records from now on (a bit per GRANULARITY bytes, a power of
 * two), forget one, empty one. Nothing is in flight. -EEXIST, -ENOENT. */
int blk_bitmap_add(struct blk *b, const char *name, uint64_t granularity, struct err *err);
int blk_bitmap_remove(struct blk *b, const char *name, struct err *err);
int blk_bitmap_clear(struct blk *b, const char *name, struct err *err);

/* Record another backing image (NULL: none) without touching data; the node's own backing is not
 * reopened. */
int blk_change_backing(struct blk *b, const char *name, const char *format, struct err *err);
/* 0, or -ENOTSUP: its format does not allow that, whatever the name. */
int blk_can_change_backing(struct blk *b, struct err *err);
/* Before the backing image of B is changed on purpose: formats that know it by the identity of its content take down
 * the one that it gets now. Both are open for writing. */
int blk_adopt_backing(struct blk *b, struct err *err);
/* Change options of the create table after the fact, those that are set. */
int blk_amend(struct blk *b, const struct blk_opts *opts, struct err *err);
/* Forget all data of this image, so that everything comes from its backing again. */
int blk_make_empty(struct blk *b, struct err *err);

#endif
