/* SPDX-License-Identifier: Apache-2.0 */
/* files.h - directories of the daemon. Any thread. */
#ifndef NODE_FILES_H
#define NODE_FILES_H

#include <stdbool.h>
#include <stdint.h>

struct err;

/* Make the directory PATH, for this user alone, if it is not there. */
int files_make_dir(const char *path, struct err *err);
/* Remove PATH and, if it is a directory, all below it; links are not followed. Not there: fine. */
int files_remove(const char *path, struct err *err);
/* All of the file FROM into the empty file TO, durably: blocks are shared where the file system can do that, and holes stay holes.
 * TELL(ARG) hears how far it is, and whether to go on: false ends it with -ECANCELED; NULL: nobody asks. */
int files_copy(int from, int to, bool (*tell)(void *arg, uint64_t done, uint64_t total), void *arg, struct err *err);
/* The name of the file PATH is durable, too. */
int files_sync_above(const char *path, struct err *err);

#endif
