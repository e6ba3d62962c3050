/* SPDX-License-Identifier: Apache-2.0 */
/* cache.h - what was read of a disk elsewhere, kept in pieces: a few in memory, more in a file if there is one.
 *
 * For protocols on which a small read costs as much as a large one and that only read. Bounded: CACHE_SLOTS pieces of
 * CACHE_PIECE bytes in memory, LIMIT bytes in the file, the oldest go first. The file has no name and ends with its
 * owner. Two reads of one piece fetch it once. Loop thread, coroutines. */
#ifndef BLK_PROTO_CACHE_H
#define BLK_PROTO_CACHE_H

#include <stdint.h>
#include "blk/blk_ops.h"

enum { CACHE_PIECE = 256 << 10, CACHE_SLOTS = 32 };

struct proto_cache;
typedef int (*proto_fetch_fn)(struct blk *b, uint64_t off, void *buf, size_t len);

/* For B, of b->size bytes; DIR: where the file is made, NULL: none. */
int proto_cache_new(struct proto_cache **out, struct blk *b, const char *dir, uint64_t limit, proto_fetch_fn fetch,
		    struct err *err);
void proto_cache_free(struct proto_cache *c);   /* NULL is fine; nobody reads */
int proto_cache_co_read(struct proto_cache *c, uint64_t off, void *buf, size_t len);

#endif
