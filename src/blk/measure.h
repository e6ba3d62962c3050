/* SPDX-License-Identifier: Apache-2.0 */
/* measure.h - how large an image would be. Outside of coroutines; waits. */
#ifndef BLK_MEASURE_H
#define BLK_MEASURE_H

#include "blk/blk.h"

struct blk_measure {
	uint64_t required;              /* bytes of a new image with the data of the disk */
	uint64_t fully_allocated;       /* with all of the disk written */
};

/* For a new image of FORMAT with OPTS (NULL: defaults): the data of SRC, or if that is NULL an empty disk of
 * SIZE bytes. All files of an image count, and compressed data as what cannot become smaller. -ENOTSUP: nobody
 * knows for FORMAT. PROGRESS (NULL: none) is told how much of SRC has been looked at. */
int blk_measure(struct blk *src, uint64_t size, const char *format, const struct blk_opts *opts,
		const struct blk_progress *progress, struct blk_measure *out, struct err *err);

#endif
