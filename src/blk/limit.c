/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/limit.h"

#include <errno.h>
#include <inttypes.h>
#include "util/checked.h"
#include "util/err.h"

#define LIMIT_BRIM_S 0.05       /* of the rate: requests that come late, as timers do, lose nothing */
#define LIMIT_RATE_MAX 1000000000000000ull
#define LIMIT_BURST_S_MAX 86400u

enum { DIR_BOTH, DIR_READ, DIR_WRITE };

static const struct {
	const char *name;
	uint8_t dir;
	bool is_bytes;
} kinds[BLK_N_LIMITS] = {
	[BLK_LIMIT_IOPS] = { "iops", DIR_BOTH, false },
	[BLK_LIMIT_IOPS_READ] = { "iops-read", DIR_READ, false },
	[BLK_LIMIT_IOPS_WRITE] = { "iops-write", DIR_WRITE, false },
	[BLK_LIMIT_BPS] = { "bps", DIR_BOTH, true },
	[BLK_LIMIT_BPS_READ] = { "bps-read", DIR_READ, true },
	[BLK_LIMIT_BPS_WRITE] = { "bps-write", DIR_WRITE, true },
};

const char *blk_limit_name(enum blk_limit_kind k)
{
	return kinds[k].name;
}

int blk_limits_check(const struct blk_limits *l, struct err *err)
{
	for (unsigned k = 0; k < BLK_N_LIMITS; k++) {
		const struct blk_rate *r = &l->v[k];

		if (r->rate > LIMIT_RATE_MAX || r->burst > LIMIT_RATE_MAX)
			return err_set(err, -EINVAL, "%s: more than %" PRIu64 " per second is no limit; leave it out",
				       kinds[k].name, (uint64_t)LIMIT_RATE_MAX);
		if (r->burst && (!r->rate || r->burst <= r->rate))
			return err_set(err, -EINVAL, "%s-burst: must be above %s, which is %" PRIu64, kinds[k].name,
				       kinds[k].name, r->rate);
		if (r->burst_s && (!r->burst || r->burst_s > LIMIT_BURST_S_MAX))
			return err_set(err, -EINVAL, "%s-burst-seconds: from 1 to %u, and only with %s-burst",
				       kinds[k].name, LIMIT_BURST_S_MAX, kinds[k].name);
	}
	return 0;
}

bool blk_limits_is_any(const struct blk_limits *l)
{
	for (unsigned k = 0; k < BLK_N_LIMITS; k++)
		if (l->v[k].rate)
			return true;
	return false;
}

static double limit_brim(const struct blk_rate *r)
{
	if (!r->burst)
		return (double)r->rate * LIMIT_BRIM_S;
	return (double)(r->burst - r->rate) * (double)(r->burst_s ? r->burst_s : 1);
}

static bool limit_applies(const struct blk_limiter *l, unsigned k, bool is_write)
{
	return l->limits.v[k].rate && (kinds[k].dir == DIR_BOTH || (kinds[k].dir == DIR_WRITE) == is_write);
}

static double limit_leak(double level, uint64_t rate, double seconds)
{
	level -= (double)rate * seconds;
	return level > 0 ? level : 0;
}

static void limiter_advance(struct blk_limiter *l, uint64_t now_ns)
{
	double seconds = now_ns > l->now_ns ? (double)(now_ns - l->now_ns) / 1e9 : 0;

	for (unsigned k = 0; seconds > 0 && k < BLK_N_LIMITS; k++) {
		l->level[k] = limit_leak(l->level[k], l->limits.v[k].rate, seconds);
		l->burst_level[k] = limit_leak(l->burst_level[k], l->limits.v[k].burst, seconds);
	}
	if (now_ns > l->now_ns)
		l->now_ns = now_ns;
}

void blk_limiter_set(struct blk_limiter *l, const struct blk_limits *limits, uint64_t now_ns)
{
	limiter_advance(l, now_ns);
	l->now_ns = now_ns;
	l->limits = *limits;
	for (unsigned k = 0; k < BLK_N_LIMITS; k++) {
		double brim = limit_brim(&limits->v[k]), burst = (double)limits->v[k].burst * LIMIT_BRIM_S;

		l->level[k] = l->level[k] < brim ? l->level[k] : brim;
		l->burst_level[k] = l->burst_level[k] < burst ? l->burst_level[k] : burst;
	}
}

static double limit_wait_s(double level, double brim, uint64_t rate)
{
	return level > brim ? (level - brim) / (double)rate : 0;
}

uint64_t blk_limiter_wait_ns(struct blk_limiter *l, bool is_write, uint64_t now_ns)
{
	double wait = 0;

	limiter_advance(l, now_ns);
	for (unsigned k = 0; k < BLK_N_LIMITS; k++) {
		const struct blk_rate *r = &l->limits.v[k];

		if (!limit_applies(l, k, is_write))
			continue;
		double a = limit_wait_s(l->level[k], limit_brim(r), r->rate);
		double b = r->burst ? limit_wait_s(l->burst_level[k], (double)r->burst * LIMIT_BRIM_S, r->burst) : 0;

		wait = a > wait ? a : wait;
		wait = b > wait ? b : wait;
	}
	/* Not before: who comes a fraction of a nanosecond early would have to come again. */
	return wait > 0 ? (uint64_t)(wait * 1e9) + 1 : 0;
}

void blk_limiter_take(struct blk_limiter *l, bool is_write, uint64_t bytes, uint64_t now_ns)
{
	limiter_advance(l, now_ns);
	for (unsigned k = 0; k < BLK_N_LIMITS; k++) {
		double cost = kinds[k].is_bytes ? (double)bytes : 1;

		if (!limit_applies(l, k, is_write))
			continue;
		l->level[k] += cost;
		if (l->limits.v[k].burst)
			l->burst_level[k] += cost;
	}
}
