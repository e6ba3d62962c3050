/* SPDX-License-Identifier: Apache-2.0 */
/* file_priv.h - between file.c, which moves bytes, and file_open.c. */
#ifndef BLK_FILE_PRIV_H
#define BLK_FILE_PRIV_H

#include "blk/core_priv.h"

struct file_job;

struct file {
	int fd;                         /* the file; locked */
	int direct_fd;                  /* the same with O_DIRECT, or -1 */
	unsigned direct_align;          /* of offset, length and addresses on direct_fd */
	bool is_device;
	uint64_t reach;                 /* the end of the furthest write that was ever started */
	int flush_error;                /* of the first fdatasync that failed: sticky */
	uint64_t grow_step;             /* writing behind the end makes the file longer by this; 0: as needed */
	uint64_t host_size;             /* GROW_STEP: how long it is */
	struct file_job *kept;
	unsigned n_kept;
};

/* From now on a write behind the end of protocol node B makes the file longer in steps of STEP bytes, so that
 * direct writes need not wait for each other. 0: no more; the file gets its true length. Loop thread. */
int blk_file_grow_in_steps(struct blk *b, uint64_t step);

/* Have the host begin to write what lies in its page cache of protocol node B, so that a flush later finds little to
 * do. Promises nothing: errors show in that flush. */
void blk_file_co_write_back(struct blk *b);

/* Make the file SIZE bytes long. */
int blk_file_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);

#endif
