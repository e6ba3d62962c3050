/* SPDX-License-Identifier: Apache-2.0 */
/* commit.h - moving data between an image and what is behind it. Outside of coroutines; waits. */
#ifndef BLK_COMMIT_H
#define BLK_COMMIT_H

#include "blk/blk.h"
#include "blk/progress.h"

/* Write what TOP has over its backing image, which becomes larger if need be. TOP was opened for writing with
 * blk_options.is_backing_writable. Both are flushed; TOP stays as it is, see blk_make_empty(). An image
 * that is behind others than TOP is wrong for those afterwards. */
int blk_commit(struct blk *top, const struct blk_progress *progress, struct err *err);

/* Write to TOP whatever of the disk comes from behind it and would be different with BASE (NULL: nothing)
 * there; flushed. Then blk_change_backing() changes no byte of the disk. */
int blk_rebase(struct blk *top, struct blk *base, const struct blk_progress *progress, struct err *err);

#endif
