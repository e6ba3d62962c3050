/* SPDX-License-Identifier: Apache-2.0 */
/* base64.h - bytes as text (RFC 4648, section 4). Any thread. */
#ifndef UTIL_BASE64_H
#define UTIL_BASE64_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BASE64_LEN(n) (((n) + 2) / 3 * 4)       /* characters for N bytes */

/* Write BASE64_LEN(LEN) characters and a NUL. */
void base64_encode(char *out, const void *in, size_t len);
/* LEN characters, whole groups of four with padding; OUT has room for LEN bytes. How many there are, or -EINVAL. */
ssize_t base64_decode(uint8_t *out, const char *in, size_t len);

#endif
