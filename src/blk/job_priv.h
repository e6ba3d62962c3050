/* SPDX-License-Identifier: Apache-2.0 */
/* job_priv.h - between the files of block jobs: job.c (life), job_graph.c (images under way), job_copy.c (moving bytes)
 * and one file per kind. Loop thread, coroutines. */
#ifndef BLK_JOB_PRIV_H
#define BLK_JOB_PRIV_H

#include "blk/core_priv.h"
#include "blk/front.h"
#include "blk/job.h"
#include "util/err.h"

struct blk_job_ops {
	const char *kind;
	size_t size;            /* of the struct that has struct blk_job first */
	bool is_moment;         /* all is done when it has begun: no RUN, no FINISH */
	/* Coroutines, in this order. PREPARE: open what is needed; the disk is in use. */
	int (*prepare)(struct blk_job *j, struct err *err);
	int (*begin)(struct blk_job *j, struct err *err);       /* drained: the instant; NULL: nothing */
	void (*begun)(struct blk_job *j);       /* drained: BEGIN has succeeded on all disks; NULL: nothing */
	int (*run)(struct blk_job *j, struct err *err);         /* -ECANCELED without a sentence */
	int (*finish)(struct blk_job *j, struct err *err);      /* drained, RUN has succeeded; NULL: nothing */
	/* Always, also half-prepared; drained when BEGIN was called. RESULT: 0, or what went wrong. */
	void (*release)(struct blk_job *j, int result);
};
extern const struct blk_job_ops blk_job_stream, blk_job_commit, blk_job_mirror, blk_job_backup, blk_job_overlay,
	blk_job_resize, blk_job_snapshot_create, blk_job_snapshot_delete;

struct blk_job {
	const struct blk_job_ops *ops;
	struct blk_jobs *jobs;
	struct blk_job *next;
	struct blk *front;
	char id[BLK_JOB_ID_MAX + 1];
	struct blk_job_args args;       /* strings and descriptors are its own; see args_copy() */
	char *strings[14];
	unsigned n_strings;
	bool lacks_memory;
	uint64_t done, total, told_ns;
	struct blk_limiter speed;
	bool is_paused, is_ready, is_blocking;
	bool must_cancel, must_complete, keeps_source, has_begun;
	struct co_queue changed;        /* one of the above, or what the kind waits for */
	struct loop_timer timer;
	uint64_t breath_ns;
	bool follows;           /* becomes ready and waits for blk_job_complete(); known when prepared */
};

/* Before each piece of work of BYTES: waits while paused and for the speed limit. -ECANCELED. */
int blk_job_checkpoint(struct blk_job *j, uint64_t bytes);
/* Before BYTES of the guest's that go to a target at once: waits for the speed limit, and counts them. */
void blk_job_pace(struct blk_job *j, uint64_t bytes);
void blk_job_wait(struct blk_job *j);                   /* until something changes */
void blk_job_wake(struct blk_job *j);
void blk_job_progress(struct blk_job *j);               /* DONE or TOTAL has changed */
void blk_job_ready(struct blk_job *j);

/* --- job_graph.c: coroutines ------------------------------------------------------------------------ */

/* The image in I, of disk FRONT: made if need be, opened for writing without what is behind it. */
int blk_co_open_job_image(struct blk **out, struct blk *front, const struct blk_job_image *i, struct err *err);
/* The same, or the export behind a socket, for a target that stays beside the disk. */
int blk_co_open_job_target(struct blk **out, struct blk *front, const struct blk_job_image *i, struct err *err);
/* Drained: open *NODE, which is in a chain, again, with what is behind it as it is. FD -1: with its own descriptor. On
 * failure everything is as it was. */
int blk_co_reopen(struct blk **node, bool is_readonly, const struct blk_job_image *again, struct err *err);
/* Drained: B shows BACKING (one of its chain, or NULL) from now on, also when it is opened next time; what was between
 * is closed. NAME NULL: its path. */
int blk_co_cut(struct blk *b, struct blk *backing, const char *name, struct err *err);
/* The image in the chain of TOP that NAME means: a name or a depth. */
struct blk *blk_chain_find(struct blk *top, const char *name, struct err *err);
/* The node right above B in the chain of FRONT, the front itself perhaps; and where that holds it. */
struct blk *blk_chain_above(struct blk *front, const struct blk *b);
struct blk **blk_chain_slot(struct blk *above);
/* The absolute path of B; to be freed. */
char *blk_absolute_name(const struct blk *b);
/* May B be opened for writing, with AGAIN or its own descriptor? */
bool blk_may_write_again(const struct blk *b, const struct blk_job_image *again);
/* Does TOP's chain above BASE (NULL: all of it) have something at OFF? *LEN: in and out, for how long. */
int blk_co_is_above(struct blk *top, struct blk *base, uint64_t off, uint64_t *len, bool *is_above);
/* Mark a front as having a job, or not. */
void blk_front_set_job(struct blk *front, struct blk_job *j);
struct blk_job *blk_front_get_job(const struct blk *front);

/* --- job_bitmap.c: as blk_driver has it, with a sentence where a format has no bitmaps ---------------- */

int blk_co_bitmap_take(struct blk *b, const char *name, struct blk_bits *out, struct err *err);
void blk_co_bitmap_give(struct blk *b, const char *name, const struct blk_bits *bits);
extern const struct blk_job_ops blk_job_bitmap_add, blk_job_bitmap_remove, blk_job_bitmap_clear;

/* --- job_copy.c ------------------------------------------------------------------------------------- */

enum { JOB_CHUNK = 64 << 10, JOB_RUN = 1 << 20, JOB_WORKERS = 6 };
/* Which parts of a disk are still to be done, and a few coroutines that do them. */
struct job_copy {
	struct blk_job *j;
	uint64_t size;                  /* of the disk */
	unsigned chunk_bits;            /* a bit stands for this much */
	uint64_t n_chunks, n_todo, cursor;
	uint8_t *todo;                  /* bits; bytes are whole */
	/* Do [OFF, OFF+LEN): its bits are clear already, its range is locked exclusive. BUF: for LEN bytes. */
	int (*copy)(struct job_copy *c, uint64_t off, uint64_t len, void *buf);
	unsigned n_live;                /* coroutines */
	bool is_drained;                /* nobody else is there: no speed limit, no pause */
	void *spare[JOB_WORKERS];       /* buffers of one run */
	unsigned n_spare;
	int result;
	struct co_queue ended;
};

/* CHUNK: bytes, a power of 2, at least; all is done, nothing to do yet. -ENOMEM, -EFBIG. */
int job_copy_init(struct job_copy *c, struct blk_job *j, uint64_t size, uint64_t chunk);
void job_copy_fini(struct job_copy *c);
/* Set or clear the chunks that [OFF, OFF+LEN) touches. */
void job_copy_set(struct job_copy *c, uint64_t off, uint64_t len);
void job_copy_clear(struct job_copy *c, uint64_t off, uint64_t len);
bool job_copy_has(const struct job_copy *c, uint64_t off, uint64_t len);        /* any of them */
/* Until nothing is to be done, or -errno: of the first piece that failed, whose bits are set again; -ECANCELED. */
int job_copy_run(struct job_copy *c);

/* --- job_mirror.c: mirror, and commit of the top image ----------------------------------------------- */

struct job_mirror {
	struct blk_job j;
	struct job_copy copy;
	uint8_t *has;                   /* bits: chunks that the target holds */
	struct blk_guard guard;
	struct blk *target;
	bool is_commit;                 /* TARGET is an image of the disk's own chain */
	uint64_t n_first;               /* bytes that there were to copy at first */
	int error;                      /* of a write to the target that the guest waited for */
};
int job_mirror_begin(struct blk_job *j, struct err *err);       /* TARGET is set */
int job_mirror_run(struct blk_job *j, struct err *err);
int job_mirror_finish(struct blk_job *j, struct err *err);
void job_mirror_release(struct blk_job *j, int result);         /* closes TARGET unless it is of the chain */

/* What FROM shows of [OFF, OFF+LEN) to TO, zeroes as zeroes. BUF: LEN bytes, aligned. */
int blk_co_copy(struct blk *from, struct blk *to, uint64_t off, uint64_t len, void *buf);

#endif
