/* SPDX-License-Identifier: Apache-2.0 */
/* secret.h - passphrases: how they come in, and that they do not stay.
 *
 * A passphrase comes from a file, from an open descriptor or from the terminal; never from the command
 * line or the environment, which other processes can read. It is not logged, and what held it is
 * overwritten as soon as it was used. Files and descriptors are taken byte for byte, the newline at the
 * end too, as `cryptsetup --key-file` and QEMU's secrets do. Any thread; the caller owns the struct. */
#ifndef BLK_SECRET_H
#define BLK_SECRET_H

#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"

struct blk_opts;
struct err;

enum { BLK_SECRET_MAX = 8 << 20 /* bytes; as cryptsetup's key files */ };

struct blk_secret {                     /* zeroed: none */
	uint8_t *data;
	size_t len;
};

/* All of a file, or of FD from where it is to its end (FD stays the caller's). -ENOENT, -EACCES, -EFBIG;
 * -ENOKEY: there is nothing in it. A file that others than its owner can read is warned of. */
int blk_secret_read_file(struct blk_secret *s, const char *path, struct err *err);
int blk_secret_read_fd(struct blk_secret *s, int fd, struct err *err);
/* Ask on the terminal with QUESTION, without echo; one line, its newline left out. -ENOTTY: there is none. */
int blk_secret_ask(struct blk_secret *s, const char *question, struct err *err);
int blk_secret_set(struct blk_secret *s, const void *data, size_t len, struct err *err); /* a copy */
void blk_secret_wipe(struct blk_secret *s);     /* zeroed is fine */
static inline void auto_blk_secret_wipe(struct blk_secret *s) { blk_secret_wipe(s); }

/* Rows for the tables of formats that take one (struct blk_opt). */
#define BLK_SECRET_OPTS                                                                                 \
	{ "key-file", BLK_OPT_STRING, NULL, "file that holds the passphrase, byte for byte", 0, 0, NULL }, \
	{ "key-fd", BLK_OPT_NUMBER, NULL, "open descriptor to read the passphrase from", 0, INT32_MAX, NULL }
/* What those rows say: 1: S is set; 0: nothing is said, or the table has no such rows. */
int blk_secret_from_opts(struct blk_secret *s, const struct blk_opts *o, struct err *err);

#endif
