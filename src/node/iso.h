/* SPDX-License-Identifier: Apache-2.0 */
/* iso.h - small disks of ISO 9660 (ECMA-119) with the names of Joliet, as a guest reads configuration from: a few files in the
 * root directory. Any thread. */
#ifndef NODE_ISO_H
#define NODE_ISO_H

#include <stddef.h>

struct err;

enum { ISO_FILES_MAX = 8, ISO_NAME_MAX = 30, ISO_LABEL_MAX = 16 };

struct iso_file {
	const char *name;       /* ASCII, at most ISO_NAME_MAX; files are given by name in order */
	const char *text;
	size_t len;
};

/* Write a disk with LABEL and N files to PATH, which is replaced as a whole. */
int iso_write(const char *path, const char *label, const struct iso_file *files, unsigned n, struct err *err);

#endif
