/* SPDX-License-Identifier: Apache-2.0 */
/* job.h - block jobs: long work on the disks of a running machine, beside its guest.
 *
 * A job works on one disk, which stands behind a front (front.h), one job per disk at a time. It may be paused, slowed
 * down and cancelled, tells how far it is, and leaves images that open whenever the process dies.
 * docs/design/block-jobs.md says what each kind does in which order, and why that is safe.
 *
 *	stream     pull what backing images hold into the top image, and let go of them
 *	commit     push what an image holds into one below it, and let go of the images between
 *	mirror     copy the disk to another image and follow what is written, until told to change over
 *	backup     copy the disk as it was when the job began
 *	overlay    put a new, empty image on top: an external snapshot. Takes a moment
 *	resize     change the size of the disk. Takes a moment; tell the device then
 *	bitmap-add, bitmap-remove, bitmap-clear    a dirty bitmap of the top image. A moment
 *	snapshot-create, snapshot-delete           a snapshot inside the top image. A moment
 *
 * What takes a moment is over when it has begun: it tells no events and cannot be found.
 * All calls on the loop thread of the disks, outside of coroutines. */
#ifndef BLK_JOB_H
#define BLK_JOB_H

#include <stdbool.h>
#include <stdint.h>

struct blk;
struct blk_job;
struct err;
struct loop;

enum { BLK_JOB_ID_MAX = 63, BLK_JOBS_AT_ONCE = 16 };

/* A file, open for reading and writing, that a job is to use as an image. Borrowed for the call. */
struct blk_job_image {
	int fd;                 /* -1: none is given */
	const char *path;       /* its name, for sentences, and to find what it names */
	const char *format;     /* "raw", "qcow2", ...: never guessed */
	bool is_empty;          /* make an image of FORMAT in it, as large as the disk */
	bool is_socket;         /* FD is connected to an NBD server, or to who connects, and PATH the address of the export
				 * (blk/nbd_socket.h); raw */
	const char *backing, *backing_format;   /* written into it then; NULL: none */
};

enum blk_job_sync {
	BLK_SYNC_FULL,          /* all of the disk */
	BLK_SYNC_TOP,           /* what the top image holds */
	BLK_SYNC_NONE,          /* what is written from now on */
};

enum blk_job_mode {
	BLK_MODE_AUTO,          /* background; blocking when twice as much as there was has been copied */
	BLK_MODE_BACKGROUND,    /* the guest never waits: it may write faster than is copied, for ever */
	BLK_MODE_BLOCKING,      /* writes end when the target has them too */
};

struct blk_job_args {
	const char *kind;       /* "stream", ... */
	const char *id;         /* printable, unique among the jobs that are; what takes a moment needs none */
	struct blk *front;
	uint64_t speed;         /* bytes per second; 0: as fast as it goes */
	/* mirror, backup, overlay: the new image. Commit: the base again, for writing, unless we may already. */
	struct blk_job_image target;
	struct blk_job_image overlay;   /* commit: the image above TOP again, for writing, unless we may already */
	/* A name in the chain, or its depth. Stream: what stays, NULL: nothing. Commit: what takes, NULL: the last. */
	const char *base;
	const char *top;        /* commit: what is pushed down. NULL: the top image */
	const char *backing;    /* stream, commit: what is recorded as backing image. NULL: the path of what it is */
	enum blk_job_sync sync; /* mirror */
	enum blk_job_mode mode; /* mirror, commit of the top */
	bool stays_ready;       /* mirror, commit of the top: changes over when told to; else as soon as it is ready */
	bool keeps_source;      /* mirror: at the end the disk stays where it is */
	uint64_t size;          /* resize: bytes. bitmap-add: bytes that a bit stands for, 0: 64 KiB */
	const char *snapshot;   /* its name, or when deleting its id or else its name */
	const char *bitmap;     /* its name; backup: only what this bitmap says has changed; cleared on success */
};

struct blk_job_info {
	const char *id, *kind;
	struct blk *front;
	uint64_t done, total;   /* bytes; TOTAL grows when what was copied is written again */
	uint64_t speed;
	bool is_paused, is_ready;
	bool is_blocking;       /* now */
};

enum blk_job_event {
	BLK_JOB_STARTED, BLK_JOB_PROGRESS, BLK_JOB_PAUSED, BLK_JOB_RESUMED,
	BLK_JOB_READY,          /* mirror, commit of the top: the target has what the disk has, and follows */
	BLK_JOB_COMPLETED, BLK_JOB_CANCELLED, BLK_JOB_FAILED, BLK_N_JOB_EVENTS
};
/* WHY: what has failed, else NULL. After one of the last three the job is no more; the front may have another top. */
typedef void (*blk_job_fn)(void *arg, const struct blk_job_info *info, enum blk_job_event ev, const struct err *why);

/* The jobs of one machine; in the caller's struct, zeroed but for TELL and ARG. */
struct blk_jobs {
	blk_job_fn tell;        /* NULL: nobody listens */
	void *arg;
	struct blk_job *first;
	bool is_ending;         /* nobody is told anything any more */
};

/* Begin N jobs, all at the same instant, or none. Their images are opened first, so it takes a while: STARTED(ARG, ERR)
 * comes once, ERR NULL when they have begun. What A says is copied. Fails at once with -EINVAL (what cannot be),
 * -EEXIST (an id), -EBUSY (a disk has a job); then STARTED is never called. */
int blk_jobs_start(struct blk_jobs *jobs, const struct blk_job_args *a, unsigned n,
		   void (*started)(void *arg, const struct err *err), void *arg, struct err *err);
/* Cancel all and wait until they are gone; nobody is called any more. Before the disks are closed. */
void blk_jobs_end(struct blk_jobs *jobs);

/* NULL, and ERR says so: there is none of that name. */
struct blk_job *blk_job_find(const struct blk_jobs *jobs, const char *id, struct err *err);
struct blk_job *blk_job_next(const struct blk_job *j);
void blk_job_get_info(const struct blk_job *j, struct blk_job_info *out);
void blk_job_pause(struct blk_job *j, bool is_paused);
void blk_job_set_speed(struct blk_job *j, uint64_t speed);
/* -ENOTSUP: it follows nothing. */
int blk_job_set_mode(struct blk_job *j, enum blk_job_mode mode, struct err *err);
void blk_job_cancel(struct blk_job *j);
/* A job that is ready changes over; KEEPS_SOURCE: it only ends, and the target is what the disk was then. -EAGAIN:
 * it is not ready; -ENOTSUP: it ends by itself. */
int blk_job_complete(struct blk_job *j, bool keeps_source, struct err *err);

/* Is there a job on FRONT? 0, or -EBUSY with a sentence: for what must not meet one. */
int blk_job_check_idle(const struct blk *front, struct err *err);

#endif
