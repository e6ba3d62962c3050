/* SPDX-License-Identifier: Apache-2.0 */
/* crc32c.h - CRC-32C (Castagnoli; RFC 3720 appendix B.4). Any thread. */
#ifndef UTIL_CRC32C_H
#define UTIL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of what SUM is of (0: of nothing), followed by LEN bytes at BUF. */
uint32_t crc32c(uint32_t sum, const void *buf, size_t len);

#endif
