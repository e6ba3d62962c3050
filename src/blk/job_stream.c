/* SPDX-License-Identifier: Apache-2.0 */
/* job_stream.c - the top image takes what its backing images hold, down to BASE, and lets go of them.
 *
 * Each piece is read and written with its range of the disk locked against the guest, and only where the top has
 * nothing: what the guest writes meanwhile stays. At each moment the disk shows what it showed, so there is nothing
 * to repair after a crash. The name of the backing image changes last, when all is durable. */
#include "blk/job_priv.h"

#include <errno.h>
#include <string.h>
#include "util/checked.h"

struct stream {
	struct blk_job j;
	struct job_copy copy;
	struct blk_guard guard;         /* so that the guest's changes respect ranges */
	struct blk *top, *base;
};

static int stream_copy(struct job_copy *c, uint64_t off, uint64_t len, void *buf)
{
	struct stream *s = container_of(c, struct stream, copy);
	uint64_t end = off + len, n;
	int r = 0;

	for (; !r && off < end; off += n) {
		struct blk_extent e;
		bool is_there;

		n = end - off;
		r = blk_co_is_above(s->top, s->top->backing, off, &n, &is_there);
		if (r || is_there)
			continue;
		r = blk_co_is_above(s->top->backing, s->base, off, &n, &is_there);
		if (r || !is_there)
			continue;
		r = blk_co_map(s->top, off, n, true, &e);
		if (r < 0)
			break;
		n = e.len;
		if (e.flags & BLK_EXT_DATA) {
			r = blk_co_pread(s->top, off, buf, n);
			if (!r)
				r = blk_co_pwrite(s->top, off, buf, n);
		} else if (s->base) {
			/* Without a base what the top has not is zeroes. */
			r = blk_co_zeroes(s->top, off, n, true);
		}
	}
	return r;
}

static int stream_prepare(struct blk_job *j, struct err *err)
{
	struct stream *s = container_of(j, struct stream, j);

	s->top = blk_front_top(j->front);
	if (s->top->is_readonly)
		return err_set(err, -EROFS, "'%s' is open for reading only", s->top->name);
	if (!s->top->backing)
		return err_set(err, -EINVAL, "'%s' has no backing image to take anything from", s->top->name);
	s->base = j->args.base ? blk_chain_find(s->top, j->args.base, err) : NULL;
	if (j->args.base && !s->base)
		return -ENOENT;
	if (s->base == s->top)
		return err_set(err, -EINVAL, "'%s' is the top image: what stays lies below it", s->top->name);
	if (job_copy_init(&s->copy, j, s->top->size, s->top->cluster_size) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	s->copy.copy = stream_copy;
	job_copy_set(&s->copy, 0, s->copy.size);
	return 0;
}

static int stream_begin(struct blk_job *j, struct err *err)
{
	struct stream *s = container_of(j, struct stream, j);

	blk_front_guard(j->front, &s->guard);
	return 0;
}

static int stream_run(struct blk_job *j, struct err *err)
{
	struct stream *s = container_of(j, struct stream, j);
	int r = job_copy_run(&s->copy);

	return r < 0 && r != -ECANCELED ? err_set(err, r, "cannot bring the disk to '%s': %s", s->top->name,
						  strerror(-r)) : r;
}

static int stream_finish(struct blk_job *j, struct err *err)
{
	struct stream *s = container_of(j, struct stream, j);

	return blk_co_cut(s->top, s->base, j->args.backing, err);
}

static void stream_release(struct blk_job *j, int result)
{
	struct stream *s = container_of(j, struct stream, j);

	blk_front_unguard(j->front, &s->guard);
	job_copy_fini(&s->copy);
}

const struct blk_job_ops blk_job_stream = {
	.kind = "stream", .size = sizeof(struct stream), .prepare = stream_prepare, .begin = stream_begin,
	.run = stream_run,
	.finish = stream_finish, .release = stream_release,
};
