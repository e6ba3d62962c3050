/* SPDX-License-Identifier: Apache-2.0 */
/* read.c - reading what is not on the fast path. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>

static int read_run(struct q2 *s, const struct q2_run *run, uint64_t off, struct blk_vec v)
{
	switch (run->kind) {
	case Q2_DATA:
		return q2_data_read(s, run->host, run->len, v);
	case Q2_PACKED:
		return q2_inflate(s, &run->packed, off & (s->cluster_size - 1), run->len, v);
	case Q2_UNALLOCATED:
		if (s->b->backing)
			return blk_co_preadv(s->b->backing, off, run->len, v);
		break;
	case Q2_ZEROES:
		break;
	}
	blk_vec_zero(v, run->len);
	return 0;
}

int q2_read(struct q2 *s, uint64_t off, uint64_t len, struct blk_vec v)
{
	while (len) {
		struct q2_run run;
		int r = q2_map_run(s, off, len, &run);

		if (!r && run.kind == Q2_PACKED && run.len == s->cluster_size && run.len < len)
			r = q2_inflate_run(s, &run.packed, off, len, v, &run.len);
		else if (!r)
			r = read_run(s, &run, off, v);
		if (r < 0)
			return r;
		off += run.len;
		len -= run.len;
		v = blk_vec_at(v, run.len);
	}
	return 0;
}

int q2_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct blk_range range;

	blk_range_lock(b, &range, off, len, false);
	int r = q2_read(b->priv, off, len, v);

	blk_range_unlock(b, &range);
	return r;
}
