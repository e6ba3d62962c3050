/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h - how far a long operation is, and whether it shall go on. */
#ifndef BLK_PROGRESS_H
#define BLK_PROGRESS_H

#include <stdint.h>

/* FN NULL: nobody asks. FN returns 0, or -errno with which the operation ends. */
struct blk_progress {
	int (*fn)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

static inline int blk_progress(const struct blk_progress *p, uint64_t done, uint64_t total)
{
	return p && p->fn ? p->fn(p->arg, done, total) : 0;
}

#endif
