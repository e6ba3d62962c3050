/* SPDX-License-Identifier: Apache-2.0 */
/* convert_target.h - where a converted disk goes: a new image, or a block device that is written in place.
 *
 * A new image is made under a name of its own, and its further files (extents, a data file) under names that nobody has.
 * When all of it is durable, it gets the name that it shall have, in one moment: until then what was there under that
 * name is whole, from then on the new image is. Only after that the extents of what was replaced go. So a crash at any
 * moment leaves one whole image under the name, and at worst files that nobody names.
 *
 * A block device has no other name: it is written in place, after it has been found to be large enough. What fails later
 * leaves it without the beginning of an image, so that nobody takes a part for the whole. */
#ifndef BLK_CONVERT_TARGET_H
#define BLK_CONVERT_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/convert.h"
#include "blk/secret.h"
#include "util/cleanup.h"

struct target_names {
	char **v;                       /* paths; owned */
	unsigned n;
};

struct target {
	const struct blk_convert_file *c;       /* borrowed, like LOOP */
	struct loop *loop;
	char *path;                     /* that it is made under */
	bool is_there;                  /* PATH was made by us: failing, it goes */
	bool is_device;                 /* a block device, of DEVICE_SIZE bytes */
	bool is_begun;                  /* something was written to it */
	uint64_t device_size;
	int old_fd;                     /* what is to be replaced: locked, so that nobody uses it; -1: nothing */
	struct target_names old;        /* the extents of that */
	struct blk *blk;
	struct blk_secret secret;       /* of the new image */
	bool has_secret;
	struct target_names files;      /* beside PATH, ours too */
};

/* What is there already may be replaced, and nobody is using it: t->c, t->loop and t->old_fd (-1) are set. -EEXIST, -EBUSY. */
int target_check(struct target *t, struct err *err);
/* Is a block device large enough for the disk SRC? Nothing is written. -ENOSPC. Compressed data may be small: then only
 * what an empty disk takes is asked for. */
int target_room(struct target *t, struct blk *src, struct err *err);
/* Make an image for a disk of SIZE bytes and open it: t->blk. */
int target_make(struct target *t, uint64_t size, struct err *err);
/* All is written: close it, make it durable, give it its name. */
int target_finish(struct target *t, struct err *err);
/* It failed: remove what was made. */
void target_remove(struct target *t);
void target_fini(struct target *t);             /* forget, whatever became of it */
static inline void auto_target_fini(struct target *t) { target_fini(t); }

#endif
