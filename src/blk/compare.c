/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/compare.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"

enum { COMPARE_PIECE = 1 << 20, COMPARE_STEP = 4096 };

struct compare {
	struct blk *disk[2];
	uint8_t *buf[2];
	struct err *err;
};

bool blk_is_zero(const void *p, size_t len)
{
	const uint8_t *b = p;

	/* Data differs early: in the middle, if its head is empty. */
	return !len || (!b[0] && !b[len / 2] && !b[len - 1] && !memcmp(b, b + 1, len - 1));
}

/* What disk I has at OFF, as zeroes or not, for *LEN bytes at most. */
static int compare_map(struct compare *c, int i, uint64_t off, uint64_t *len, bool *is_zero)
{
	uint64_t size = blk_size(c->disk[i]);
	struct blk_extent e;

	*is_zero = true;
	if (off >= size)
		return 0;
	int r = blk_map(c->disk[i], off, *len < size - off ? *len : size - off, true, &e);

	if (r < 0)
		return err_set(c->err, r, "cannot examine '%s' at byte %" PRIu64 ": %s", blk_name(c->disk[i]), off,
			       strerror(-r));
	*len = e.len;
	*is_zero = !(e.flags & BLK_EXT_DATA);
	return 0;
}

static int compare_read(struct compare *c, int i, uint64_t off, size_t len, bool is_zero)
{
	if (is_zero) {
		memset(c->buf[i], 0, len);
		return 0;
	}
	int r = blk_pread(c->disk[i], off, c->buf[i], len);

	return r < 0 ? err_set(c->err, r, "cannot read '%s' at byte %" PRIu64 ": %s", blk_name(c->disk[i]), off,
			       strerror(-r)) : 0;
}

/* From OFF on, for as long as both are of one kind: *LEN bytes. 1: they differ, at *WHERE. */
static int compare_next(struct compare *c, uint64_t off, uint64_t *len, uint64_t *where)
{
	bool is_zero[2];
	int r = compare_map(c, 0, off, len, &is_zero[0]);

	if (!r)
		r = compare_map(c, 1, off, len, &is_zero[1]);
	if (r < 0 || (is_zero[0] && is_zero[1]))
		return r;
	*len = *len < COMPARE_PIECE ? *len : COMPARE_PIECE;
	for (int i = 0; !r && i < 2; i++)
		r = compare_read(c, i, off, (size_t)*len, is_zero[i]);
	if (r < 0 || !memcmp(c->buf[0], c->buf[1], (size_t)*len))
		return r;
	for (*where = 0; !memcmp(c->buf[0] + *where, c->buf[1] + *where,
				 *len - *where < COMPARE_STEP ? *len - *where : COMPARE_STEP);)
		*where += COMPARE_STEP;
	*where += off;
	return 1;
}

int blk_compare(struct blk *a, struct blk *b, const struct blk_progress *progress, uint64_t *where, struct err *err)
{
	AUTO(free) uint8_t *one = malloc(COMPARE_PIECE), *other = malloc(COMPARE_PIECE);
	struct compare c = { .disk = { a, b }, .buf = { one, other }, .err = err };
	uint64_t size = blk_size(a) > blk_size(b) ? blk_size(a) : blk_size(b), len;
	int r = one && other ? 0 : err_set(err, -ENOMEM, "out of memory");

	for (uint64_t off = 0; !r && off < size; off += len) {
		r = blk_progress(progress, off, size);
		if (r < 0)
			return err_set(err, r, "interrupted");
		len = size - off;
		r = compare_next(&c, off, &len, where);
	}
	return r;
}
