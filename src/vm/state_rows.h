/* SPDX-License-Identifier: Apache-2.0 */
/* state_rows.h - the table of guest memory in the file of a saved machine, while it is made; for state_memory.c. */
#ifndef VM_STATE_ROWS_H
#define VM_STATE_ROWS_H

#include <string.h>
#include "vm/state_file.h"
#include "vm/state_format.h"

struct state_rows {
	struct state_sections *table;   /* nothing but rows */
	size_t n;
};

/* Look through MEM for what is not zero: rows, upwards, placed and stored as raw ones are. TABLE is empty. -ECANCELED,
 * -ENOMEM. */
int state_rows_find(struct state_rows *rows, const struct gmem *mem, const struct state_progress *progress, struct err *err);

static inline struct state_extent state_row_get(const struct state_rows *rows, size_t i)
{
	struct state_extent e;

	memcpy(&e, rows->table->buf + i * sizeof(e), sizeof(e));
	return e;
}

static inline void state_row_put(const struct state_rows *rows, size_t i, const struct state_extent *e)
{
	memcpy(rows->table->buf + i * sizeof(*e), e, sizeof(*e));
}

/* Room for N more bytes at the end of S; NULL: out of memory, and S is broken. */
uint8_t *state_sections_grow(struct state_sections *s, size_t n);

#endif
