/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_mem.h - guest memory over the connections of a migration: the sender's rounds, the receiver's pages.
 *
 * Each connection has a lane, and a thread that uses it. A page goes over the same connection in each round, so that what is
 * sent later also arrives later, without the two sides waiting for each other between rounds. While the sender works, the guest
 * may run: a page is copied before it is packed, and one that changed meanwhile is in the dirty log. */
#ifndef VM_MIGRATE_MEM_H
#define VM_MIGRATE_MEM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "vm/migrate_link.h"

struct gmem;
struct lazy;

struct migrate_sender {
	struct gmem *mem;               /* borrowed */
	enum migrate_packing packing;   /* of what is not zero */
	_Atomic bool is_over;           /* lanes stop where they are: one has failed, or all are cancelled */
	_Atomic bool is_cut;            /* the round ends early, and well: what it has not sent stays to be sent */
	/* counters */
	_Atomic uint64_t pages_sent, pages_zero;        /* of 4 KiB */
	_Atomic uint64_t pages_left;    /* of this round */
	/* private */
	uint64_t *bitmap;               /* each word is one lane's during a round */
	pthread_mutex_t pace_lock;      /* guards the rest */
	uint64_t bandwidth;             /* bytes per second; 0: as fast as it goes */
	uint64_t paced;                 /* bytes that all lanes have sent ... */
	uint64_t pace_ns;               /* ... since then */
};

/* -ENOMEM. migrate_sender_fini() undoes it, also half. */
int migrate_sender_init(struct migrate_sender *s, struct gmem *mem, enum migrate_packing packing, uint64_t bandwidth,
			struct err *err);
void migrate_sender_fini(struct migrate_sender *s);
/* Any thread, at any time: bytes per second from now on, of all lanes together; 0: no limit. */
void migrate_sender_set_bandwidth(struct migrate_sender *s, uint64_t bandwidth);
/* N bytes of something else have gone the same way: memory takes what is left of the limit. */
void migrate_sender_spend(struct migrate_sender *s, uint64_t n);
/* What the next round sends: all that is not zero, or what the dirty log has, or that besides what has not been sent yet. Bytes of
 * RAM. No lane is at work. */
uint64_t migrate_sender_take_all(struct migrate_sender *s);
uint64_t migrate_sender_take_dirty(struct migrate_sender *s);
uint64_t migrate_sender_take_more(struct migrate_sender *s);

struct migrate_lane {
	struct migrate_sender *sender;  /* both borrowed */
	struct migrate_link *link;
	unsigned n, of;                 /* which of how many */
	/* private */
	uint8_t *copy, *packed;
	size_t packed_cap;
	void *zstd;
	uint64_t paced;                 /* of what the link has sent */
};

/* -ENOMEM. migrate_lane_fini() undoes it, also half; zeroed is fine. */
int migrate_lane_init(struct migrate_lane *l, struct migrate_sender *s, struct migrate_link *link, unsigned n, unsigned of,
		      struct err *err);
void migrate_lane_fini(struct migrate_lane *l);
/* Send its part of the round. IS_FIRST: the other side's memory is zero, so zeroes need not be told. */
int migrate_lane_round(struct migrate_lane *l, bool is_first, struct err *err);
/* Send the N pages (at most 64) from FIRST on, zeroes too; and wait until that is within the limit of bandwidth, IF_PACED. */
int migrate_lane_send(struct migrate_lane *l, uint64_t first, unsigned n, bool if_paced, struct err *err);

struct migrate_receiver {
	struct gmem *mem;               /* borrowed; no processor runs, unless there is a LAZY */
	struct lazy *lazy;              /* borrowed: pages go through it, for processors may run; NULL: there is none */
	void *zstd;                     /* private */
	uint8_t *bounce;
	uint64_t bytes;                 /* of RAM, so far */
};
void migrate_receiver_fini(struct migrate_receiver *r);
/* Put what a record MIGRATE_PAGES has where it says. -EPROTO. */
int migrate_receive_pages(struct migrate_receiver *r, const struct migrate_record *rec, struct err *err);

#endif
