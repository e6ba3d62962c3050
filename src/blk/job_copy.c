/* SPDX-License-Identifier: Apache-2.0 */
/* job_copy.c - which parts of a disk are still to be done, and the few coroutines that do them in order. */
#include "blk/job_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"

enum { COPY_ALIGN = 4096 };
#define COPY_CHUNKS_MAX (1ull << 30)

int job_copy_init(struct job_copy *c, struct blk_job *j, uint64_t size, uint64_t chunk)
{
	unsigned bits = (unsigned)__builtin_ctz(JOB_CHUNK);

	while (1ull << bits < chunk || size >> bits > COPY_CHUNKS_MAX)
		bits++;
	*c = (struct job_copy){ .j = j, .size = size, .chunk_bits = bits };
	c->n_chunks = (size + (1ull << bits) - 1) >> bits;
	c->todo = calloc(c->n_chunks / 8 + 9, 1);
	return c->todo ? 0 : -ENOMEM;
}

void job_copy_fini(struct job_copy *c)
{
	while (c->n_spare)
		free(c->spare[--c->n_spare]);
	free(c->todo);
	c->todo = NULL;
}

static bool todo_get(const struct job_copy *c, uint64_t i)
{
	return c->todo[i / 8] >> (i % 8) & 1;
}

static void todo_put(struct job_copy *c, uint64_t i, bool on)
{
	if (todo_get(c, i) == on)
		return;
	c->todo[i / 8] ^= (uint8_t)(1u << i % 8);
	c->n_todo += on ? 1 : UINT64_MAX;
}

static void todo_range(struct job_copy *c, uint64_t off, uint64_t len, bool on)
{
	for (uint64_t i = off >> c->chunk_bits; len && i <= (off + len - 1) >> c->chunk_bits; i++)
		todo_put(c, i, on);
}

void job_copy_set(struct job_copy *c, uint64_t off, uint64_t len)
{
	todo_range(c, off, len, true);
}

void job_copy_clear(struct job_copy *c, uint64_t off, uint64_t len)
{
	todo_range(c, off, len, false);
}

bool job_copy_has(const struct job_copy *c, uint64_t off, uint64_t len)
{
	for (uint64_t i = off >> c->chunk_bits; len && i <= (off + len - 1) >> c->chunk_bits; i++)
		if (todo_get(c, i))
			return true;
	return false;
}

/* The next chunks in a row, from the cursor on and around. There is something to do. */
static void copy_next(struct job_copy *c, uint64_t *off, uint64_t *len)
{
	uint64_t run = JOB_RUN >> c->chunk_bits, i = c->cursor, n = 0;

	while (!todo_get(c, i >= c->n_chunks ? i = 0 : i))
		i += !c->todo[i / 8] && !(i % 8) ? 8 : 1;
	while (i + n < c->n_chunks && n < (run ? run : 1) && todo_get(c, i + n))
		n++;
	c->cursor = i + n;
	*off = i << c->chunk_bits;
	*len = (i + n) << c->chunk_bits < c->size ? n << c->chunk_bits : c->size - *off;
}

/* One piece; what a guest did to it while we waited for the range is seen in the bits. */
static int copy_piece(struct job_copy *c, uint64_t off, uint64_t len, void *buf)
{
	struct blk *front = c->j->front;
	struct blk_range range;
	int r = 0;

	blk_range_lock(front, &range, off, len, true);
	for (uint64_t at = off, end = off + len, n; !r && at < end; at += n) {
		bool has = job_copy_has(c, at, 1);
		uint64_t chunk = 1ull << c->chunk_bits;

		for (n = chunk - (at & (chunk - 1)); at + n < end && job_copy_has(c, at + n, 1) == has; n += chunk)
			;
		n = at + n < end ? n : end - at;
		if (!has)
			continue;
		todo_range(c, at, n, false);
		r = c->copy(c, at, n, buf);
		if (r < 0)
			todo_range(c, at, n, true);
		else
			c->j->done += n;
	}
	blk_range_unlock(front, &range);
	return r;
}

static void copy_worker(void *arg)
{
	struct job_copy *c = arg;
	uint64_t room = (1ull << c->chunk_bits) > JOB_RUN ? 1ull << c->chunk_bits : JOB_RUN, off, len;
	void *buf = c->n_spare ? c->spare[--c->n_spare] : aligned_alloc(COPY_ALIGN, room);
	int r = buf ? 0 : -ENOMEM;

	while (!r && !c->result && c->n_todo) {
		copy_next(c, &off, &len);
		r = c->is_drained ? 0 : blk_job_checkpoint(c->j, len);
		if (!r && !c->result)
			r = copy_piece(c, off, len, buf);
		c->j->total = c->j->done + (c->n_todo << c->chunk_bits);
		blk_job_progress(c->j);
	}
	if (r < 0 && !c->result)
		c->result = r;
	if (buf)
		c->spare[c->n_spare++] = buf;
	c->n_live--;
	co_queue_wake_all(&c->ended);
}

int job_copy_run(struct job_copy *c)
{
	int r = 0;

	c->result = 0;
	/* As many as have something to do at once. */
	uint64_t per_run = JOB_RUN >> c->chunk_bits ? JOB_RUN >> c->chunk_bits : 1,
		n = (c->n_todo + per_run - 1) / per_run;

	for (unsigned i = 0; !r && i < JOB_WORKERS && i < n && c->n_todo; i++) {
		c->n_live++;
		r = co_start(copy_worker, c);
		c->n_live -= r < 0;
	}
	while (c->n_live)
		co_queue_wait(&c->ended);
	return c->result ? c->result : c->n_todo ? r : 0;
}

/* --- bytes ---------------------------------------------------------------------------------------- */

/* Does TO show zeroes there already? Then there is nothing to write. */
static bool copy_is_zero(struct blk *to, uint64_t off, uint64_t len)
{
	struct blk_extent e;

	if (blk_co_map(to, off, len, true, &e) < 0 || e.len < len || !(e.flags & BLK_EXT_ZERO))
		return false;
	/* Where it has nothing, a backing image that is not open now may have something. */
	return e.flags & BLK_EXT_ALLOCATED || !to->backing_name || to->backing;
}

static int copy_zeroes(struct blk *to, uint64_t off, uint64_t len)
{
	return copy_is_zero(to, off, len) ? 0 : blk_co_zeroes(to, off, len, true);
}

static bool buf_is_zero(const uint8_t *p, uint64_t n)
{
	return !p[0] && !memcmp(p, p + 1, n - 1);
}

int blk_co_copy(struct blk *from, struct blk *to, uint64_t off, uint64_t len, void *buf)
{
	uint64_t end = off + len;

	while (off < end) {
		struct blk_extent e = { .len = end - off, .flags = BLK_EXT_ZERO };
		uint64_t there = off < from->size ? from->size - off : 0;
		int r = there ? blk_co_map(from, off, end - off < there ? end - off : there, true, &e) : 0;

		if (!r && !(e.flags & BLK_EXT_DATA)) {
			r = copy_zeroes(to, off, e.len);
		} else if (!r) {
			r = blk_co_pread(from, off, buf, e.len);
			if (!r)
				r = buf_is_zero(buf, e.len) ? copy_zeroes(to, off, e.len) :
				    blk_co_pwrite(to, off, buf, e.len);
		}
		if (r < 0)
			return r;
		off += e.len;
	}
	return 0;
}
