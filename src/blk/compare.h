/* SPDX-License-Identifier: Apache-2.0 */
/* compare.h - are two disks the same? Outside of coroutines; waits. */
#ifndef BLK_COMPARE_H
#define BLK_COMPARE_H

#include <stdbool.h>
#include "blk/blk.h"
#include "blk/progress.h"

/* Compare the bytes of A and B; what one has more must be zeroes. 0: they are the same; 1: they differ,
 * first in the 4096 bytes at *WHERE. */
int blk_compare(struct blk *a, struct blk *b, const struct blk_progress *progress, uint64_t *where, struct err *err);

/* LEN bytes are zeroes. */
bool blk_is_zero(const void *p, size_t len);

#endif
