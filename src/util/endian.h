/* SPDX-License-Identifier: Apache-2.0 */
/* endian.h - bytes of a stated width and order.
 *
 * Wire, disk and guest-memory layouts use the byte-array types (`le32`, `be16`): they have
 * alignment 1 and cannot be used as numbers by accident. */
#ifndef UTIL_ENDIAN_H
#define UTIL_ENDIAN_H

#include <stdint.h>
#include <string.h>

typedef struct { uint8_t b[2]; } le16;
typedef struct { uint8_t b[4]; } le32;
typedef struct { uint8_t b[8]; } le64;
typedef struct { uint8_t b[2]; } be16;
typedef struct { uint8_t b[4]; } be32;
typedef struct { uint8_t b[8]; } be64;

/* Unaligned loads and stores at a byte pointer. */
static inline uint16_t get_le16(const void *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof(v));
	return v; /* the host is x86-64: little-endian, see the assertion below */
}
static inline uint32_t get_le32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}
static inline uint64_t get_le64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return v;
}
static inline void put_le16(void *p, uint16_t v) { memcpy(p, &v, sizeof(v)); }
static inline void put_le32(void *p, uint32_t v) { memcpy(p, &v, sizeof(v)); }
static inline void put_le64(void *p, uint64_t v) { memcpy(p, &v, sizeof(v)); }

static inline uint16_t get_be16(const void *p) { return __builtin_bswap16(get_le16(p)); }
static inline uint32_t get_be32(const void *p) { return __builtin_bswap32(get_le32(p)); }
static inline uint64_t get_be64(const void *p) { return __builtin_bswap64(get_le64(p)); }
static inline void put_be16(void *p, uint16_t v) { put_le16(p, __builtin_bswap16(v)); }
static inline void put_be32(void *p, uint32_t v) { put_le32(p, __builtin_bswap32(v)); }
static inline void put_be64(void *p, uint64_t v) { put_le64(p, __builtin_bswap64(v)); }

/* The same for the byte-array types, by value. */
static inline uint16_t le16_get(le16 v) { return get_le16(v.b); }
static inline uint32_t le32_get(le32 v) { return get_le32(v.b); }
static inline uint64_t le64_get(le64 v) { return get_le64(v.b); }
static inline le16 le16_of(uint16_t v) { le16 r; put_le16(r.b, v); return r; }
static inline le32 le32_of(uint32_t v) { le32 r; put_le32(r.b, v); return r; }
static inline le64 le64_of(uint64_t v) { le64 r; put_le64(r.b, v); return r; }
static inline uint16_t be16_get(be16 v) { return get_be16(v.b); }
static inline uint32_t be32_get(be32 v) { return get_be32(v.b); }
static inline uint64_t be64_get(be64 v) { return get_be64(v.b); }
static inline be16 be16_of(uint16_t v) { be16 r; put_be16(r.b, v); return r; }
static inline be32 be32_of(uint32_t v) { be32 r; put_be32(r.b, v); return r; }
static inline be64 be64_of(uint64_t v) { be64 r; put_be64(r.b, v); return r; }

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the engines need an x86-64 host");

#endif
