/* SPDX-License-Identifier: Apache-2.0 */
/* job_mirror.c - the disk is copied to another image, which follows what the guest writes until it takes over.
 *
 * A bitmap says which chunks the target does not have as they are. The guest's changes set bits when they are over;
 * workers clear a chunk's bit and copy it, with the range locked, so no change falls between. In blocking mode a change
 * of chunks that the target has is written to both before the guest hears of it: then no bit is set any more, and
 * the job gets ready however much is written. At the end, drained, the rest is copied, the target is flushed, and it
 * becomes the disk.
 *
 * The commit of a top image is the same with a target in the disk's own chain. */
#include "blk/job_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "blk/nbd_socket.h"
#include "util/checked.h"
#include "util/log.h"

static struct job_mirror *mirror_of(struct blk_job *j)
{
	return container_of(j, struct job_mirror, j);
}

/* --- what the target has --------------------------------------------------------------------------- */

static void has_set(struct job_mirror *m, uint64_t off, uint64_t len)
{
	for (uint64_t i = off >> m->copy.chunk_bits; i <= (off + len - 1) >> m->copy.chunk_bits; i++)
		m->has[i / 8] |= (uint8_t)(1u << i % 8);
}

/* Does the top image, or what lies above a commit's base, hold something of this piece? */
static int mirror_is_meant(struct job_mirror *m, uint64_t off, uint64_t len, bool *is_meant)
{
	struct blk *top = m->j.front->file, *base = m->is_commit ? m->target : top->backing;
	uint64_t end = off + len, n;
	int r = 0;

	*is_meant = m->j.args.sync == BLK_SYNC_FULL && !m->is_commit;
	for (; !r && !*is_meant && off < end; off += n) {
		n = end - off;
		r = blk_co_is_above(top, base, off, &n, is_meant);
	}
	return r;
}

static int mirror_copy_chunk(struct job_mirror *m, uint64_t off, uint64_t len, void *buf)
{
	bool is_meant;
	int r = mirror_is_meant(m, off, len, &is_meant);

	if (r || !is_meant)
		return r;
	r = blk_co_copy(m->j.front->file, m->target, off, len, buf);
	if (!r)
		has_set(m, off, len);
	return r;
}

/* By chunk: where a backing image stays behind the target, only what is meant goes there. */
static int mirror_copy(struct job_copy *c, uint64_t off, uint64_t len, void *buf)
{
	struct job_mirror *m = container_of(c, struct job_mirror, copy);
	bool is_full = m->j.args.sync == BLK_SYNC_FULL && !m->is_commit;
	uint64_t end = off + len, n, chunk = 1ull << c->chunk_bits;
	int r = 0;

	for (; !r && off < end; off += n) {
		n = is_full || end - off < chunk ? end - off : chunk;
		r = mirror_copy_chunk(m, off, n, buf);
	}
	return r;
}

/* --- the guest's changes --------------------------------------------------------------------------- */

static int mirror_write_through(struct job_mirror *m, enum blk_op op, uint64_t off, uint64_t len, struct blk_vec v)
{
	return op == BLK_WRITE ? blk_co_pwritev(m->target, off, len, v) : blk_co_zeroes(m->target, off, len, true);
}

static bool mirror_is_clean(const struct job_mirror *m, uint64_t off)
{
	uint64_t i = off >> m->copy.chunk_bits;

	return m->has[i / 8] >> (i % 8) & 1 && !job_copy_has(&m->copy, off, 1);
}

/* For how many of LEN bytes the chunks are alike. */
static uint64_t mirror_same(const struct job_mirror *m, uint64_t off, uint64_t len, bool is_clean)
{
	uint64_t chunk = 1ull << m->copy.chunk_bits, n = chunk - (off & (chunk - 1));

	while (n < len && mirror_is_clean(m, off + n) == is_clean)
		n += chunk;
	return n < len ? n : len;
}

static void mirror_after(struct blk_guard *g, enum blk_op op, uint64_t off, uint64_t len, struct blk_vec v, int result)
{
	struct job_mirror *m = container_of(g, struct job_mirror, guard);

	if (m->j.args.mode == BLK_MODE_AUTO && m->j.done > 2 * m->n_first)
		m->j.is_blocking = true;
	for (uint64_t at = 0, n; at < len; at += n) {
		/* Where the target is as it should be it stays so, whatever the rest of the change meets. */
		bool is_clean = mirror_is_clean(m, off + at);

		n = mirror_same(m, off + at, len - at, is_clean);
		/* What a discard leaves is not the same in every format: that is read again. */
		if (is_clean && !result && op != BLK_DISCARD && m->j.is_blocking && !m->error) {
			blk_job_pace(&m->j, n);
			m->error = mirror_write_through(m, op, off + at, n, blk_vec_at(v, at));
			if (!m->error)
				continue;
		}
		job_copy_set(&m->copy, off + at, n);
	}
	blk_job_wake(&m->j);
}

/* --- steps ----------------------------------------------------------------------------------------- */

static int mirror_prepare(struct blk_job *j, struct err *err)
{
	struct job_mirror *m = mirror_of(j);
	struct blk *top = blk_front_top(j->front);
	bool is_socket = j->args.target.is_socket;

	j->follows = true;
	int r = blk_co_open_job_target(&m->target, j->front, &j->args.target, err);

	if (r < 0)
		return r;
	/* A disk must outlive a connection, and this process can make none. */
	if (is_socket && !j->keeps_source && !blk_nbd_socket_can_mend(m->target->file))
		return err_set(err, -ENOTSUP, "the disk cannot change over to '%s': the machine could not make the "
			       "connection anew; mirror there with stay", j->args.target.path);
	if (m->target->size != top->size)
		return err_set(err, -EINVAL,
			       "'%s' has %" PRIu64 " bytes and the disk %" PRIu64 ": a mirror needs the same",
			       m->target->name, m->target->size, top->size);
	if (j->args.sync == BLK_SYNC_FULL && m->target->backing_name)
		return err_set(err, -EINVAL, "'%s' has a backing image, and all of the disk is to go there",
			       m->target->name);
	if (!j->keeps_source && !m->target->backing_name &&
	    (j->args.sync == BLK_SYNC_NONE || (j->args.sync == BLK_SYNC_TOP && top->backing)))
		return err_set(err, -EINVAL,
			       "'%s' would not have all of the disk: it needs a backing image that has the rest",
			       m->target->name);
	return 0;
}

int job_mirror_begin(struct blk_job *j, struct err *err)
{
	struct job_mirror *m = mirror_of(j);
	uint64_t chunk = m->target->cluster_size;

	if (job_copy_init(&m->copy, j, j->front->size, chunk) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	m->has = calloc(m->copy.n_chunks / 8 + 1, 1);
	if (!m->has)
		return err_set(err, -ENOMEM, "out of memory");
	m->copy.copy = mirror_copy;
	if (j->args.sync != BLK_SYNC_NONE)
		job_copy_set(&m->copy, 0, m->copy.size);
	m->n_first = m->copy.n_todo << m->copy.chunk_bits;
	m->guard.after = mirror_after;
	blk_front_guard(j->front, &m->guard);
	return 0;
}

static int mirror_error(struct job_mirror *m, int r, struct err *err)
{
	return !r || r == -ECANCELED ? r : err_set(err, r, "cannot bring the disk to '%s': %s", m->target->name,
						   strerror(-r));
}

int job_mirror_run(struct blk_job *j, struct err *err)
{
	struct job_mirror *m = mirror_of(j);

	for (;;) {
		int r = job_copy_run(&m->copy);

		if (!r)
			r = m->error ? m->error : j->must_cancel ? -ECANCELED : 0;
		if (r < 0)
			return mirror_error(m, r, err);
		blk_job_ready(j);
		if (j->must_complete)
			return 0;
		if (!m->copy.n_todo && !m->error && !j->must_cancel)
			blk_job_wait(j);
	}
}

/* Nothing of the guest is under way: bring over what is left. */
static int mirror_settle(struct job_mirror *m, struct err *err)
{
	int r = m->error;

	m->copy.is_drained = true;
	if (!r)
		r = job_copy_run(&m->copy);
	if (!r)
		r = blk_co_flush(m->target);
	return mirror_error(m, r, err);
}

/* The target becomes the disk, on what the old top stood on or the old top itself. */
static void mirror_pivot(struct job_mirror *m)
{
	struct blk *front = m->j.front, *old = front->file, *target = take_ptr(&m->target);
	struct err err = ERR_INIT;

	blk_front_set_top(front, target);
	if (m->j.args.target.is_socket)
		blk_nbd_socket_keep(target->file);
	if (m->j.args.sync == BLK_SYNC_NONE) {
		target->backing = old;
		if (blk_co_reopen(&target->backing, true, NULL, &err) < 0)
			log_info("%s", err.msg);
		return;
	}
	if (m->j.args.sync == BLK_SYNC_TOP) {
		target->backing = old->backing;
		old->backing = NULL;
	}
	blk_co_close(old);
}

static void commit_pivot(struct job_mirror *m)
{
	struct blk *front = m->j.front, *old = front->file, *base = m->target;

	blk_chain_above(front, base)->backing = NULL;
	blk_front_set_top(front, base);
	m->target = NULL;
	blk_co_close(old);
}

int job_mirror_finish(struct blk_job *j, struct err *err)
{
	struct job_mirror *m = mirror_of(j);
	int r = mirror_settle(m, err);

	if (r < 0)
		return r;
	if (m->is_commit)
		commit_pivot(m);
	else if (!j->keeps_source)
		mirror_pivot(m);
	return 0;
}

void job_mirror_release(struct blk_job *j, int result)
{
	struct job_mirror *m = mirror_of(j);

	blk_front_unguard(j->front, &m->guard);
	job_copy_fini(&m->copy);
	free(m->has);
	m->has = NULL;
	if (!m->is_commit)
		blk_co_close(take_ptr(&m->target));
}

const struct blk_job_ops blk_job_mirror = {
	.kind = "mirror", .size = sizeof(struct job_mirror), .prepare = mirror_prepare, .begin = job_mirror_begin,
	.run = job_mirror_run, .finish = job_mirror_finish, .release = job_mirror_release,
};
