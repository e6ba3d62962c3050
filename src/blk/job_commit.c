/* SPDX-License-Identifier: Apache-2.0 */
/* job_commit.c - what an image and those between hold goes down into a base, and they leave the chain.
 *
 * An image below the top is only read, so nobody changes what is being pushed down; the base changes only where an
 * image above it hides that. Then the image above is told of its new backing image. The top of the disk, which the
 * guest writes, is committed by a mirror into the base (job_mirror.c), which becomes the disk. */
#include "blk/job_priv.h"

#include <errno.h>
#include <string.h>
#include "util/checked.h"
#include "util/log.h"

struct commit {
	struct job_mirror m;            /* first; all of it for the top, else its copy */
	bool is_active;                 /* the top of the disk */
	bool was_readonly;              /* the base, and so it will be again */
	struct blk *top, *base;         /* what goes down, and into what */
};

static struct commit *commit_of(struct blk_job *j)
{
	return container_of(j, struct commit, m.j);
}

static int commit_copy(struct job_copy *c, uint64_t off, uint64_t len, void *buf)
{
	struct commit *k = container_of(c, struct commit, m.copy);
	uint64_t end = off + len, n;
	int r = 0;

	for (; !r && off < end; off += n) {
		bool is_above;

		n = end - off;
		r = blk_co_is_above(k->top, k->base, off, &n, &is_above);
		if (!r && is_above)
			r = blk_co_copy(k->top, k->base, off, n, buf);
	}
	return r;
}

static int commit_find(struct commit *k, struct err *err)
{
	const struct blk_job_args *a = &k->m.j.args;
	struct blk *disk = blk_front_top(k->m.j.front);

	k->top = a->top ? blk_chain_find(disk, a->top, err) : disk;
	if (!k->top)
		return -ENOENT;
	if (!k->top->backing)
		return err_set(err, -EINVAL, "'%s' has no backing image to go into", k->top->name);
	k->base = k->top->backing;
	while (!a->base && k->base->backing)
		k->base = k->base->backing;
	if (a->base)
		k->base = blk_chain_find(k->top->backing, a->base, NULL);
	/* A depth counts from the top of the disk. */
	if (a->base && strspn(a->base, "0123456789") == strlen(a->base)) {
		k->base = blk_chain_find(disk, a->base, NULL);
		for (struct blk *b = disk; b && k->base; b = b == k->top ? NULL : b->backing)
			if (b == k->base)
				k->base = NULL;
	}
	if (!k->base)
		return err_set(err, -ENOENT, "'%s' is not an image behind '%s'", a->base, k->top->name);
	k->is_active = k->top == disk;
	return 0;
}

static int commit_prepare(struct blk_job *j, struct err *err)
{
	struct commit *k = commit_of(j);

	k->m.is_commit = true;          /* its target is never closed */
	int r = commit_find(k, err);

	j->follows = k->is_active;
	if (!r && !k->is_active && !blk_may_write_again(blk_chain_above(j->front, k->top), &j->args.overlay))
		r = err_set(err, -EACCES,
			    "the image above '%s' gets another backing image, and is open for reading only: hand it "
			    "over for writing", k->top->name);
	if (!r && k->base->drv->flags & BLK_DRIVER_READONLY)
		r = err_set(err, -EROFS, "%s images can only be read: '%s'", k->base->drv->name, k->base->name);
	return r;
}

/* What is above the base shows zeroes behind the base's end: it must, too. */
static int commit_grow(struct commit *k, struct err *err)
{
	return k->base->size < k->top->size ? blk_co_truncate(k->base, k->top->size, BLK_PREALLOC_OFF, err) : 0;
}

static void commit_shut(struct commit *k)
{
	struct err err = ERR_INIT;

	if (k->was_readonly && k->base &&
	    blk_co_reopen(blk_chain_slot(blk_chain_above(k->m.j.front, k->base)), true, NULL, &err) < 0)
		log_info("%s", err.msg);
	k->was_readonly = false;
}

/* An image that knows its parent's content by an identity is told before that changes. */
static int commit_adopt(struct commit *k, struct err *err)
{
	struct blk *above = blk_chain_above(k->m.j.front, k->base);

	if (!above->drv->co_adopt_backing)
		return 0;
	if (above->is_readonly)
		return err_set(err, -EROFS, "'%s' knows '%s' by its content, has to be told that it changes, and is open for "
			       "reading only: commit what is above it first", above->name, k->base->name);
	return above->drv->co_adopt_backing(above, err);
}

static int commit_begin(struct blk_job *j, struct err *err)
{
	struct commit *k = commit_of(j);
	struct blk **slot = blk_chain_slot(blk_chain_above(j->front, k->base));
	bool was_readonly = k->base->is_readonly;
	int r = blk_co_reopen(slot, false, &j->args.target, err);

	if (r < 0)
		return r;
	k->base = *slot;
	k->was_readonly = was_readonly;
	r = commit_adopt(k, err);
	if (!r)
		r = commit_grow(k, err);
	if (!r && k->is_active) {
		k->m.target = k->base;
		if (k->base->size != k->top->size)
			return err_set(err, -EINVAL, "'%s' is larger than the disk, which it would become",
				       k->base->name);
		return job_mirror_begin(j, err);
	}
	if (!r && job_copy_init(&k->m.copy, j, k->top->size, k->base->cluster_size) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		return r;
	k->m.copy.copy = commit_copy;
	job_copy_set(&k->m.copy, 0, k->m.copy.size);
	return 0;
}

static int commit_run(struct blk_job *j, struct err *err)
{
	struct commit *k = commit_of(j);

	if (k->is_active)
		return job_mirror_run(j, err);
	int r = job_copy_run(&k->m.copy);

	return r < 0 && r != -ECANCELED ? err_set(err, r, "cannot bring '%s' to '%s': %s", k->top->name, k->base->name,
						  strerror(-r)) : r;
}

static int commit_finish(struct blk_job *j, struct err *err)
{
	struct commit *k = commit_of(j);
	struct blk **slot, *overlay;

	if (k->is_active) {
		int r = job_mirror_finish(j, err);

		k->was_readonly &= r < 0;       /* it is the disk now */
		return r;
	}
	overlay = blk_chain_above(j->front, k->top);
	bool was_readonly = overlay->is_readonly;

	slot = blk_chain_slot(blk_chain_above(j->front, overlay));
	int r = blk_co_reopen(slot, false, &j->args.overlay, err);

	if (r < 0)
		return r;
	overlay = *slot;
	r = blk_co_cut(overlay, k->base, j->args.backing, err);
	if (was_readonly && blk_co_reopen(slot, true, NULL, NULL) < 0)
		log_info("'%s' stays open for writing", overlay->name);
	return r;
}

static void commit_release(struct blk_job *j, int result)
{
	struct commit *k = commit_of(j);

	job_mirror_release(j, result);
	commit_shut(k);
}

const struct blk_job_ops blk_job_commit = {
	.kind = "commit", .size = sizeof(struct commit), .prepare = commit_prepare, .begin = commit_begin,
	.run = commit_run,
	.finish = commit_finish, .release = commit_release,
};
