/* SPDX-License-Identifier: Apache-2.0 */
/* limit.h - how much a disk may do: requests and bytes per second, with bursts. Arithmetic only: no clock, no queue.
 *
 * Each limit is a bucket that leaks at its rate. A request may begin while the bucket is not above its brim and pours
 * its cost in, also beyond the brim: a request of any size passes, and what follows waits for it. So the average is
 * the rate, exactly, however large or late requests are. The brim is 50 ms of the rate; with a burst it is so high
 * that a disk that was idle may do BURST per second for BURST_S seconds, and a second bucket that leaks at BURST keeps
 * it to that. The caller's thread. */
#ifndef BLK_LIMIT_H
#define BLK_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct err;

enum blk_limit_kind {
	BLK_LIMIT_IOPS, BLK_LIMIT_IOPS_READ, BLK_LIMIT_IOPS_WRITE,
	BLK_LIMIT_BPS, BLK_LIMIT_BPS_READ, BLK_LIMIT_BPS_WRITE, BLK_N_LIMITS
};

struct blk_rate {
	uint64_t rate;          /* requests or bytes per second; 0: no limit */
	uint64_t burst;         /* the same during a burst; 0: none */
	uint64_t burst_s;       /* seconds that a burst lasts when the disk was idle; 0: 1 */
};
struct blk_limits { struct blk_rate v[BLK_N_LIMITS]; };

/* "iops", "iops-read", ..., "bps-write". */
const char *blk_limit_name(enum blk_limit_kind k);
/* -EINVAL: a burst without a rate or not above it, or a number that is too large. */
int blk_limits_check(const struct blk_limits *l, struct err *err);
bool blk_limits_is_any(const struct blk_limits *l);

struct blk_limiter {
	struct blk_limits limits;
	double level[BLK_N_LIMITS], burst_level[BLK_N_LIMITS];
	uint64_t now_ns;        /* of the levels */
};

/* Other limits from now on; what is in the buckets stays as far as it fits. Zeroed before the first time. */
void blk_limiter_set(struct blk_limiter *l, const struct blk_limits *limits, uint64_t now_ns);
/* How long a request has to wait; 0: it may begin now, and then blk_limiter_take() is called. */
uint64_t blk_limiter_wait_ns(struct blk_limiter *l, bool is_write, uint64_t now_ns);
void blk_limiter_take(struct blk_limiter *l, bool is_write, uint64_t bytes, uint64_t now_ns);

#endif
