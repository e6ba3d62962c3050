/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - the one door through which what is not deterministic reaches the guest.
 *
 * Time and randomness that a guest can observe come from a `struct source`, never from
 * clock_gettime() or /dev/urandom in a device. A recorder can later stand in this door, log
 * what passes and replay it; a test puts a hand-driven clock in. Any thread. */
#ifndef UTIL_SOURCE_H
#define UTIL_SOURCE_H

#include <stddef.h>
#include <stdint.h>

struct source {
	/* Nanoseconds of guest time: monotonic, 0 at power on, does not run while stopped. */
	uint64_t (*now_ns)(struct source *s);
	/* Wall clock, nanoseconds since 1970-01-01 UTC. */
	uint64_t (*wall_ns)(struct source *s);
	/* Guest TSC before any per-vCPU offset. */
	uint64_t (*tsc)(struct source *s);
	/* Fill BUF with LEN random bytes. */
	void (*random)(struct source *s, void *buf, size_t len);
	/* Nanoseconds that the calling thread has had a processor. NULL: as if it always had. */
	uint64_t (*thread_ns)(struct source *s);
	uint64_t tsc_hz;        /* frequency of tsc() */
	/* tsc() is RDTSC on this processor minus what this points to, which stays as it is from
	 * the start: for engines that make code of it. NULL: it is something else. */
	const uint64_t *tsc_base;
};

static inline uint64_t source_now_ns(struct source *s) { return s->now_ns(s); }
static inline uint64_t source_wall_ns(struct source *s) { return s->wall_ns(s); }
static inline uint64_t source_tsc(struct source *s) { return s->tsc(s); }
static inline uint64_t source_thread_ns(struct source *s) { return s->thread_ns ? s->thread_ns(s) : s->now_ns(s); }
static inline void source_random(struct source *s, void *buf, size_t len) { s->random(s, buf, len); }

/* The real thing: CLOCK_MONOTONIC, CLOCK_REALTIME, RDTSC, getrandom(). */
struct source_host {
	struct source s;
	uint64_t start_ns;      /* CLOCK_MONOTONIC at init */
	uint64_t start_tsc;     /* RDTSC at init */
};

/* Measures the TSC frequency (from CPUID leaf 0x15/0x16 or KVM's leaf 0x40000010 when
 * present, else from a few milliseconds of counting). Without an invariant TSC, tsc() is
 * derived from CLOCK_MONOTONIC at 1 GHz. */
void source_host_init(struct source_host *h);

#endif
