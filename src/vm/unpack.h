/* SPDX-License-Identifier: Apache-2.0 */
/* unpack.h - the compressions that Linux kernels are packed with.
 *
 * The input comes from a file that may be damaged or hostile; output never exceeds the buffer
 * and no decoder may allocate without a limit. Any thread. */
#ifndef VM_UNPACK_H
#define VM_UNPACK_H

#include <stddef.h>
#include <stdint.h>

struct err;

/* Name of the format that IN begins with ("gzip", "xz", "lzma", "lz4", "zstd", "lzo", "none"
 * for an ELF file, "bzip2", which is known but not read), or NULL. */
const char *unpack_format(const uint8_t *in, size_t len);

/* Room for SIZE bytes, in huge pages where the host gives them: a kernel has megabytes, and most
 * of the time to load one would be page faults. The caller's to free; NULL: out of memory. */
void *unpack_buffer(size_t size);

/* Unpack the payload of a bzImage (boot protocol, payload_offset): a compressed stream that
 * ends with the unpacked size as a little-endian 32-bit number. *OUT is the caller's to free.
 * A payload that claims or gives more than LIMIT bytes is refused with -EFBIG, a damaged one
 * with -EINVAL. */
int unpack_payload(uint8_t **out, size_t *out_len, const uint8_t *in, size_t len, uint64_t limit, struct err *err);

#endif
