/* SPDX-License-Identifier: Apache-2.0 */
/* tar.h - archives of files alone, in one folder: OVA, and machines that are exported.
 *
 * POSIX.1-2017, pax, "ustar Interchange Format"; sizes also as GNU tar writes large ones. What an archive says is hostile: its names
 * have no '/', each is there once, and nothing lies outside of it. Any thread. */
#ifndef BLK_OVA_TAR_H
#define BLK_OVA_TAR_H

#include <stddef.h>
#include <stdint.h>

struct err;

enum { TAR_BLOCK = 512, TAR_NAME_MAX = 256 };

/* Bytes of an archive. */
struct ova_source {
	int (*read)(void *arg, uint64_t off, void *buf, size_t len);    /* all of them, or negative errno */
	void *arg;
	uint64_t size;
	const char *name;               /* for sentences */
};

struct tar_member { char name[TAR_NAME_MAX]; uint64_t off, len; };

/* Up to MAX of them in LIST, *N. -EINVAL: it is damaged, or has what is no file of its folder; -EFBIG: there are more. */
int tar_list(const struct ova_source *s, struct tar_member *list, unsigned max, unsigned *n, struct err *err);
/* The header of a member, TAR_BLOCK bytes. -ENAMETOOLONG. */
int tar_header(uint8_t *block, const char *name, uint64_t len, uint64_t mtime);

#endif
