/* SPDX-License-Identifier: Apache-2.0 */
/* convert.h - all of one disk into another, as fast as the host can; and a file into a new file of any
 * format.
 *
 * Outside of coroutines; the calls return when all is done, and serve both disks meanwhile. */
#ifndef BLK_CONVERT_H
#define BLK_CONVERT_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/blk.h"
#include "blk/progress.h"

struct blk_convert {
	bool is_compressed;             /* clusters of the target are kept compressed, where that makes them smaller */
	bool is_target_zero;            /* the target reads as zeroes: what is zero need not be written */
	struct blk_progress progress;
	uint64_t n_data;                /* set on success: bytes that were written */
};

/* Everything of SRC into DST, which is at least as large; what is larger there stays. Both were opened with
 * LOOP, which nobody runs. Flushed at the end. */
int blk_convert(struct blk *src, struct blk *dst, struct loop *loop, struct blk_convert *how, struct err *err);

struct blk_convert_file {
	const struct blk_options *src;  /* is opened for reading */
	const char *path, *format;      /* of the new image */
	const struct blk_opts *opts;    /* of the format's create table; NULL: defaults */
	const struct blk_secret *secret;        /* of an encrypted new image; NULL: as its options say; borrowed */
	/* Replace what is there, its extents too. A block device is written in place, and needs this; it takes the
	 * formats that have BLK_DRIVER_DEVICE. */
	bool is_forced;
	uint64_t size_max;              /* a larger disk is refused before anything is written (-EFBIG); 0: any */
	struct blk_convert how;
	uint64_t size;                  /* set on success: of the disk */
};

/* The disk of C->src into a new image. It appears under its name when it is whole and durable, all its files are; if
 * anything fails, nothing is left, and what was there still is (convert_target.h). A block device that is too small is
 * refused before anything is written (-ENOSPC). -EEXIST, -EBUSY. */
int blk_convert_file(struct blk_convert_file *c, struct err *err);

#endif
