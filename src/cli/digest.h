/* SPDX-License-Identifier: Apache-2.0 */
/* digest.h - checksums of files. Any thread. */
#ifndef CLI_DIGEST_H
#define CLI_DIGEST_H

#include "blk/progress.h"

struct err;

enum { DIGEST_TEXT_MAX = 2 * 64 + 1 };

/* The checksum of the file PATH by ALGORITHM ("sha256", "sha512") as hexadecimal digits to TEXT. P is told how far it is. */
int digest_file(const char *path, const char *algorithm, char text[DIGEST_TEXT_MAX], const struct blk_progress *p, struct err *err);
/* The SHA-256 of the SIZE bytes of FD from OFF on, or of those that are there. Negative errno. */
int digest_part(int fd, uint64_t off, uint64_t size, char text[DIGEST_TEXT_MAX], const struct blk_progress *p);
/* Is the checksum of PATH what WANTED ("sha256:0123...") says? -EBADMSG: it is another; -EINVAL: WANTED is none. */
int digest_check(const char *path, const char *wanted, const struct blk_progress *p, struct err *err);

#endif
