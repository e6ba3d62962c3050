/* SPDX-License-Identifier: Apache-2.0 */
/* job_backup.c - the disk as it was at one instant goes to another image.
 *
 * A bitmap says what is still to be copied. Before the guest changes a chunk of that, it is copied first ("copy before
 * write"); workers copy the rest. With a dirty bitmap of the image only what that says is copied; from the instant
 * on the bitmap records anew, and only when the job fails or is cancelled gets back what it had: the next one copies
 * it then. */
#include "blk/job_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"

struct backup {
	struct blk_job j;
	struct job_copy copy;
	struct blk_guard guard;
	struct blk *target;
	struct blk_bits bits;           /* taken from the dirty bitmap */
	int error;                      /* of a copy that the guest waited for */
};

static struct backup *backup_of(struct blk_job *j)
{
	return container_of(j, struct backup, j);
}

static int backup_copy(struct job_copy *c, uint64_t off, uint64_t len, void *buf)
{
	struct backup *k = container_of(c, struct backup, copy);

	return blk_co_copy(k->j.front->file, k->target, off, len, buf);
}

/* One chunk of what the guest is about to change. */
static int before_chunk(struct backup *k, uint64_t off, uint64_t len)
{
	struct blk_range range;
	int r = 0;

	blk_range_lock(k->j.front, &range, off, len, true);
	if (job_copy_has(&k->copy, off, len)) {
		AUTO(free) void *buf = aligned_alloc(4096, align_up(len, 4096));

		job_copy_clear(&k->copy, off, len);
		r = buf ? backup_copy(&k->copy, off, len, buf) : -ENOMEM;
		k->j.done += len;
	}
	blk_range_unlock(k->j.front, &range);
	return r;
}

static void backup_before(struct blk_guard *g, uint64_t off, uint64_t len)
{
	struct backup *k = container_of(g, struct backup, guard);
	uint64_t chunk = 1ull << k->copy.chunk_bits, end = off + len;

	/* After a failure the job is lost, and the guest does not wait for it any more. */
	for (uint64_t at = off & ~(chunk - 1); at < end && !k->error; at += chunk) {
		uint64_t n = k->copy.size - at < chunk ? k->copy.size - at : chunk;
		int r = job_copy_has(&k->copy, at, n) ? before_chunk(k, at, n) : 0;

		if (r < 0) {
			k->error = r;
			blk_job_cancel(&k->j);
		}
	}
}

static int backup_prepare(struct blk_job *j, struct err *err)
{
	struct backup *k = backup_of(j);
	int r = blk_co_open_job_target(&k->target, j->front, &j->args.target, err);

	if (r < 0)
		return r;
	if (k->target->size < j->front->size)
		return err_set(err, -EINVAL, "'%s' has %" PRIu64 " bytes, and the disk %" PRIu64, k->target->name,
			       k->target->size, j->front->size);
	if (!j->args.bitmap && k->target->backing_name)
		return err_set(err, -EINVAL, "'%s' has a backing image, and all of the disk is to go there",
			       k->target->name);
	return 0;
}

static void backup_set_bits(struct backup *k)
{
	unsigned g = k->bits.granularity_bits;

	for (uint64_t i = 0; i < k->bits.n_bytes * 8 && i << g < k->copy.size; i++) {
		uint64_t off = i << g, left = k->copy.size - off;

		if (k->bits.v[i / 8] >> (i % 8) & 1)
			job_copy_set(&k->copy, off, left < 1ull << g ? left : 1ull << g);
	}
}

static int backup_begin(struct blk_job *j, struct err *err)
{
	struct backup *k = backup_of(j);
	struct blk *top = j->front->file;

	if (job_copy_init(&k->copy, j, j->front->size, k->target->cluster_size) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	k->copy.copy = backup_copy;
	if (j->args.bitmap) {
		int r = blk_co_bitmap_take(top, j->args.bitmap, &k->bits, err);

		if (r < 0)
			return r;
		backup_set_bits(k);
	} else {
		job_copy_set(&k->copy, 0, k->copy.size);
	}
	k->guard.before = backup_before;
	blk_front_guard(j->front, &k->guard);
	return 0;
}

static int backup_run(struct blk_job *j, struct err *err)
{
	struct backup *k = backup_of(j);
	int r = job_copy_run(&k->copy);

	r = k->error ? k->error : r;
	/* What the guest waits for is not known to the workers. */
	return !r || r == -ECANCELED ? r : err_set(err, r, "cannot copy the disk to '%s': %s", k->target->name,
						   strerror(-r));
}

static int backup_finish(struct blk_job *j, struct err *err)
{
	struct backup *k = backup_of(j);
	int r = k->error ? k->error : blk_co_flush(k->target);

	return r < 0 ? err_set(err, r, "cannot write '%s': %s", k->target->name, strerror(-r)) : 0;
}

static void backup_release(struct blk_job *j, int result)
{
	struct backup *k = backup_of(j);

	blk_front_unguard(j->front, &k->guard);
	if (result < 0 && k->bits.v)
		blk_co_bitmap_give(j->front->file, j->args.bitmap, &k->bits);
	free(take_ptr(&k->bits.v));
	job_copy_fini(&k->copy);
	blk_co_close(take_ptr(&k->target));
}

const struct blk_job_ops blk_job_backup = {
	.kind = "backup", .size = sizeof(struct backup), .prepare = backup_prepare, .begin = backup_begin,
	.run = backup_run,
	.finish = backup_finish, .release = backup_release,
};
