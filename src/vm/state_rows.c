/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/state_rows.h"

#include <errno.h>
#include "mem/gmem.h"
#include "util/err.h"

enum { CHUNK = 64 << 10 /* what is all zero in units of this is not written */ };

struct finder {
	struct state_rows *rows;
	const struct gmem *mem;
	const struct state_progress *progress;
};

static bool is_zero(const uint8_t *p, size_t len)
{
	uint64_t first;

	memcpy(&first, p, sizeof(first));
	return !first && !memcmp(p, p + sizeof(first), len - sizeof(first));
}

static int rows_add(struct state_rows *rows, uint64_t off, uint64_t len, struct err *err)
{
	uint8_t *row = state_sections_grow(rows->table, sizeof(struct state_extent));
	struct state_extent e = {
		.off = le64_of(off), .at = le64_of(STATE_MEMORY_OFF + off), .len = le32_of((uint32_t)len),
		.stored = le32_of((uint32_t)len),
	};

	if (!row)
		return err_set(err, -ENOMEM, "out of memory for the table of guest memory");
	memcpy(row, &e, sizeof(e));
	rows->n++;
	return 0;
}

/* What is not zero of [OFF, END), in pieces. */
static int rows_of_range(const struct finder *w, uint64_t off, uint64_t end, struct err *err)
{
	int r = 0;

	while (!r && off < end) {
		uint64_t start = off, limit = end - off < STATE_EXTENT_MAX ? end : off + STATE_EXTENT_MAX;

		while (off < limit && !is_zero(w->mem->host + off, limit - off < CHUNK ? limit - off : CHUNK))
			off += limit - off < CHUNK ? limit - off : CHUNK;
		if (off > start)
			r = rows_add(w->rows, start, off - start, err);
		if (off < limit)
			off += limit - off < CHUNK ? limit - off : CHUNK;       /* the zeroes that ended it */
		if (!r && atomic_load_explicit(&w->progress->is_cancelled, memory_order_relaxed))
			r = err_set(err, -ECANCELED, "saving was given up");
	}
	return r;
}

int state_rows_find(struct state_rows *rows, const struct gmem *mem, const struct state_progress *progress, struct err *err)
{
	const struct finder w = { rows, mem, progress };
	uint64_t off = 0, start, end;
	int r = 0;

	while (!r && gmem_next_data(mem, off, &start, &end)) {
		/* Neighbours in one piece, however finely the host keeps the books. */
		off = end;
		uint64_t next, next_end;
		while (end - start < STATE_EXTENT_MAX && gmem_next_data(mem, off, &next, &next_end) && next == end)
			off = end = next_end;
		r = rows_of_range(&w, start, end, err);
	}
	return r;
}
