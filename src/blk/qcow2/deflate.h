/* SPDX-License-Identifier: Apache-2.0 */
/* deflate.h - raw deflate (RFC 1951) with distances of at most 4 KiB, twice as fast as zlib's default level and about as
 * small.
 *
 * QEMU writes compressed clusters with a window of 4 KiB, and there are readers that keep no more than that of what they
 * have unpacked; libraries that are faster than zlib cannot be told to. One thread per packer. */
#ifndef BLK_QCOW2_DEFLATE_H
#define BLK_QCOW2_DEFLATE_H

#include <stddef.h>
#include <stdint.h>

struct q2_deflate;

struct q2_deflate *q2_deflate_new(void);        /* NULL: no memory */
void q2_deflate_free(struct q2_deflate *d);     /* NULL is fine */
/* IN_LEN bytes, 1 to 64 MiB, as one stream of at most CAP bytes at OUT: how many, or 0 if it would be more. */
size_t q2_deflate_pack(struct q2_deflate *d, const uint8_t *in, size_t in_len, uint8_t *out, size_t cap);

#endif
