/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/commit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "blk/compare.h"
#include "util/err.h"

enum { COMMIT_PIECE = 2 << 20 };

struct commit {
	struct blk *top, *other;        /* the backing image, or the new one (NULL: none) */
	uint8_t *buf, *other_buf;
	const struct blk_progress *progress;
	struct err *err;
};

static int commit_fail(const struct commit *c, int r, const char *what, const struct blk *b, uint64_t off)
{
	return err_set(c->err, r, "%s '%s' at byte %" PRIu64 " failed: %s%s", what, blk_name(b), off, strerror(-r),
		       r == -ENOSPC ? "; make room and start again: nothing is lost" : "");
}

/* What TOP itself has at OFF: *E, not longer than a piece if it has to be read. */
static int commit_map(const struct commit *c, uint64_t off, struct blk_extent *e)
{
	uint64_t size = blk_size(c->top);
	int r = blk_progress(c->progress, off, size);

	if (r < 0)
		return err_set(c->err, r, "interrupted");
	r = blk_map(c->top, off, size - off, false, e);
	return r < 0 ? commit_fail(c, r, "examining", c->top, off) : 0;
}

/* --- down ------------------------------------------------------------------------------------- */

static int commit_extent(const struct commit *c, const struct blk_extent *e)
{
	int r = 0;

	if (!(e->flags & BLK_EXT_ALLOCATED))
		return 0;
	if (!(e->flags & BLK_EXT_DATA)) {
		r = blk_zeroes(c->other, e->off, e->len, true);
		return r < 0 ? commit_fail(c, r, "writing", c->other, e->off) : 0;
	}
	for (uint64_t off = e->off, n; off < e->off + e->len; off += n) {
		n = e->off + e->len - off < COMMIT_PIECE ? e->off + e->len - off : COMMIT_PIECE;
		r = blk_pread(c->top, off, c->buf, n);
		if (r < 0)
			return commit_fail(c, r, "reading", c->top, off);
		r = blk_pwrite(c->other, off, c->buf, n);
		if (r < 0)
			return commit_fail(c, r, "writing", c->other, off);
		r = blk_progress(c->progress, off, blk_size(c->top));
		if (r < 0)
			return err_set(c->err, r, "interrupted");
	}
	return 0;
}

int blk_commit(struct blk *top, const struct blk_progress *progress, struct err *err)
{
	AUTO(free) uint8_t *buf = aligned_alloc(4096, COMMIT_PIECE);
	struct commit c = { .top = top, .other = blk_backing(top), .buf = buf, .progress = progress, .err = err };
	int r = 0;

	if (!c.other)
		return err_set(err, -EINVAL, "'%s' has no backing image to write to", blk_name(top));
	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	r = blk_adopt_backing(top, err);
	if (!r && blk_size(c.other) < blk_size(top))
		r = blk_resize(c.other, blk_size(top), BLK_PREALLOC_OFF, err);
	for (uint64_t off = 0; !r && off < blk_size(top);) {
		struct blk_extent e;

		r = commit_map(&c, off, &e);
		if (!r)
			r = commit_extent(&c, &e);
		off += e.len;
	}
	if (r < 0)
		return r;
	r = blk_flush(c.other);
	return r < 0 ? commit_fail(&c, r, "flushing", c.other, 0) : 0;
}

/* --- sideways --------------------------------------------------------------------------------- */

/* LEN bytes of BASE, zeroes behind its end. */
static int rebase_read_base(const struct commit *c, uint64_t off, size_t len)
{
	uint64_t size = c->other ? blk_size(c->other) : 0;
	size_t inside = off >= size ? 0 : size - off < len ? (size_t)(size - off) : len;
	int r = inside ? blk_pread(c->other, off, c->other_buf, inside) : 0;

	memset(c->other_buf + inside, 0, len - inside);
	return r < 0 ? commit_fail(c, r, "reading", c->other, off) : 0;
}

/* Clusters of the piece that would change. */
static int rebase_write(const struct commit *c, uint64_t off, size_t len)
{
	size_t step = blk_cluster_size(c->top) > 4096 ? blk_cluster_size(c->top) : 4096;

	for (size_t at = 0, n; at < len; at += n) {
		n = step - (off + at) % step;
		n = n < len - at ? n : len - at;
		if (!memcmp(c->buf + at, c->other_buf + at, n))
			continue;
		int r = blk_is_zero(c->buf + at, n) ? blk_zeroes(c->top, off + at, n, false) :
			blk_pwrite(c->top, off + at, c->buf + at, n);

		if (r < 0)
			return commit_fail(c, r, "writing", c->top, off + at);
	}
	return 0;
}

/* LEN bytes at OFF that TOP does not have. */
static int rebase_extent(const struct commit *c, uint64_t off, uint64_t len)
{
	for (uint64_t end = off + len, n; off < end; off += n) {
		struct blk_extent e;

		n = end - off < COMMIT_PIECE ? end - off : COMMIT_PIECE;
		int r = c->other ? 0 : blk_map(c->top, off, end - off, true, &e);

		if (r < 0)
			return commit_fail(c, r, "examining", c->top, off);
		if (!c->other && !(e.flags & BLK_EXT_DATA)) {
			n = e.len;      /* zeroes then as now */
			continue;
		}
		r = blk_pread(c->top, off, c->buf, n);
		if (r < 0)
			return commit_fail(c, r, "reading", c->top, off);
		r = rebase_read_base(c, off, n);
		if (!r)
			r = rebase_write(c, off, n);
		if (!r && blk_progress(c->progress, off, blk_size(c->top)) < 0)
			r = err_set(c->err, -EINTR, "interrupted");
		if (r < 0)
			return r;
	}
	return 0;
}

int blk_rebase(struct blk *top, struct blk *base, const struct blk_progress *progress, struct err *err)
{
	AUTO(free) uint8_t *buf = aligned_alloc(4096, COMMIT_PIECE), *other = aligned_alloc(4096, COMMIT_PIECE);
	struct commit c = { .top = top, .other = base, .buf = buf, .other_buf = other, .progress = progress,
			    .err = err };
	int r = buf && other ? 0 : err_set(err, -ENOMEM, "out of memory");

	for (uint64_t off = 0; !r && off < blk_size(top);) {
		struct blk_extent e;

		r = commit_map(&c, off, &e);
		if (!r && !(e.flags & BLK_EXT_ALLOCATED))
			r = rebase_extent(&c, off, e.len);
		off += e.len;
	}
	if (r < 0)
		return r;
	r = blk_flush(top);
	return r < 0 ? commit_fail(&c, r, "flushing", top, 0) : 0;
}
