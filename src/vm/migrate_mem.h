/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_mem.h - guest memory over the connection of a migration: the sender's rounds, the receiver's pages.
 *
 * Each belongs to the one thread that uses the connection. While the sender works, the guest may run: a page
 * is copied before it is packed, and one that changed meanwhile is in the dirty log. */
#ifndef VM_MIGRATE_MEM_H
#define VM_MIGRATE_MEM_H

#include <stdbool.h>
#include <stdint.h>
#include "vm/migrate_link.h"

struct gmem;

struct migrate_sender {
	struct migrate_link *link;      /* both borrowed */
	struct gmem *mem;
	enum migrate_packing packing;   /* of what is not zero */
	uint64_t bandwidth;             /* bytes per second; 0: as fast as it goes */
	/* counters */
	_Atomic uint64_t pages_sent, pages_zero;        /* of 4 KiB */
	_Atomic uint64_t pages_left;    /* of this round */
	/* private */
	uint64_t *bitmap;
	uint8_t *copy, *packed;
	size_t packed_cap;
	void *zstd;
	uint64_t pace_ns, pace_sent;    /* since when, and what had been sent then */
};

/* -ENOMEM. migrate_sender_fini() undoes it, also half. */
int migrate_sender_init(struct migrate_sender *s, struct migrate_link *link, struct gmem *mem,
			enum migrate_packing packing, uint64_t bandwidth, struct err *err);
void migrate_sender_fini(struct migrate_sender *s);
/* What the next round sends: all that is not zero, or what the dirty log has. Bytes of RAM. */
uint64_t migrate_sender_take_all(struct migrate_sender *s);
uint64_t migrate_sender_take_dirty(struct migrate_sender *s);
/* Send it. IS_FIRST: the other side's memory is zero, so zeroes need not be told. */
int migrate_sender_round(struct migrate_sender *s, bool is_first, struct err *err);

struct migrate_receiver {
	struct gmem *mem;               /* borrowed; no processor runs */
	void *zstd;                     /* private */
	uint64_t bytes;                 /* of RAM, so far */
};
void migrate_receiver_fini(struct migrate_receiver *r);
/* Put what a record MIGRATE_PAGES has where it says. -EPROTO. */
int migrate_receive_pages(struct migrate_receiver *r, const struct migrate_record *rec, struct err *err);

#endif
