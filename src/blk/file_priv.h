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
	struct file_job *kept;
	unsigned n_kept;
};

/* Make the file SIZE bytes long. */
int blk_file_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);

#endif
