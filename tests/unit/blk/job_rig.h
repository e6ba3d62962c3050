/* SPDX-License-Identifier: Apache-2.0 */
/* job_rig.h - a disk behind a front, a chain of images, a guest that writes all the time, and what must be on it.
 *
 * Each sector says which it is and how often it has been written. Per sector the model knows what has been asked for,
 * answered and flushed, in memory that outlives the process: so a disk can be judged after its process was killed, too. */
#ifndef TESTS_UNIT_BLK_JOB_RIG_H
#define TESTS_UNIT_BLK_JOB_RIG_H

#include "blk/blk_ops.h"
#include "blk/front.h"
#include "blk/job.h"
#include "util/err.h"
#include "util/loop.h"

enum { RIG_SIZE = 6 << 20, RIG_SECTORS = RIG_SIZE / 512, RIG_SLOTS = 8, RIG_SLOT_SECTORS = 96 };
enum { RIG_ZERO = 1u << 31 };   /* a version that reads as zeroes */

/* Shared with the process that is to be killed. */
struct rig_model {
	uint32_t asked[RIG_SECTORS], done[RIG_SECTORS], flushed[RIG_SECTORS];
	unsigned n_jobs_ended;          /* well */
	char top[200];                  /* the image to look into afterwards */
	char top_format[16];
};

struct rig_slot {
	struct rig *rig;
	struct blk_req r;
	struct iovec iov;
	uint8_t *buf;
	uint32_t first, n, version;
	bool is_busy;
};

struct rig {
	char dir[64];
	struct rig_model *m;
	struct loop *loop;
	struct blk *front;
	struct blk_jobs jobs;
	struct rig_slot slot[RIG_SLOTS];
	struct blk_req flush;
	bool is_flushing, is_quiet, is_write_only;
	uint32_t *at_flush;             /* DONE when the flush was asked for */
	uint64_t rng;
	uint64_t n_written;             /* requests */
	unsigned n_started, n_ready, n_completed, n_cancelled, n_failed, n_progress;
	char why[300];
	char last_id[80];
};

const char *rig_path(struct rig *r, const char *name);  /* in its folder; good for four calls */
uint64_t rig_random(struct rig *r);
/* A folder, an empty model. */
void rig_init(struct rig *r, uint64_t seed);
void rig_fini(struct rig *r);
/* An image called NAME with SECTORS of random places written, over BACKING or NULL. It becomes the top. */
void rig_add_image(struct rig *r, const char *name, const char *format, const char *backing, unsigned n);
/* A back end that does jobs late and in any order. */
extern const struct aio_ops rig_random_aio;
extern uint64_t rig_full_inode;        /* of a file that has no room any more; 0: none */
/* Open the top behind a front; AIO NULL: the usual. */
void rig_open(struct rig *r, const struct aio_ops *aio);
void rig_close(struct rig *r);
/* One round of the loop, with a guest that always has something to write unless it IS_QUIET. */
void rig_turn(struct rig *r);
void rig_settle(struct rig *r);         /* the guest stops, all it has asked for is answered */
/* An empty file as an image of a job; the caller closes i.fd. */
struct blk_job_image rig_new_file(struct rig *r, const char *name, const char *format);
struct blk_job_image rig_open_file(struct rig *r, const char *name, const char *format);
/* Begin; the case fails if that fails. */
void rig_start(struct rig *r, const struct blk_job_args *a, unsigned n);
/* The sentence of one that must not begin. */
const char *rig_start_fails(struct rig *r, const struct blk_job_args *a);
/* Until *COUNTER is N, with N_WRITES of the guest at least. */
void rig_until(struct rig *r, const unsigned *counter, unsigned n, uint64_t n_writes);
/* The disk now, the guest at rest, is what the model says. */
void rig_verify(struct rig *r);
/* The image NAME, closed by now: what the model says, and nothing wrong in it. EXACT: all that was answered; else all that
 * was flushed, and anything asked for since. */
void rig_verify_image(struct rig *r, const char *name, const char *format, bool is_exact);
void rig_check_image(const char *path, const char *format);

#endif
