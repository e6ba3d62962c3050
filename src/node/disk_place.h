/* SPDX-License-Identifier: Apache-2.0 */
/* disk_place.h - where a disk lies, as tasks tell it to their workers. */
#ifndef NODE_DISK_PLACE_H
#define NODE_DISK_PLACE_H

#include "node/disk_files.h"
#include "node/doc.h"

struct node;

struct disk_place {
	char pool[STORE_KEY_MAX], pool_uid[DOC_UID_LEN + 1];    /* as pool_dir_open() has it */
	enum pool_driver driver;
	char uid[DOC_UID_LEN + 1];      /* whose it is: a volume, or of a first disk the instance */
	char path[DISK_PATH_MAX];       /* of its file */
};

/* That of the volume UID of FORMAT in POOL. PATH is for the caller to change where it is none of a volume. -EAGAIN, -ENOENT as pool_find().
 * Loop thread. */
int disk_place_find(struct node *n, const char *pool, const char *uid, const char *format, struct disk_place *out, struct err *err);

#endif
