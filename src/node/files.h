/* SPDX-License-Identifier: Apache-2.0 */
/* files.h - directories of the daemon. Any thread. */
#ifndef NODE_FILES_H
#define NODE_FILES_H

struct err;

/* Make the directory PATH, for this user alone, if it is not there. */
int files_make_dir(const char *path, struct err *err);
/* Remove PATH and, if it is a directory, all below it; links are not followed. Not there: fine. */
int files_remove(const char *path, struct err *err);

#endif
