/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - the one door through which what is not deterministic reaches the guest.
 *
 * Time and randomness that a guest can observe come from a `struct source`, never from
 * clock_gettime() or /dev/urandom in a device. A recorder can later stand in this door, log
 * what passes and replay it; a test puts a hand-driven clock in. Any thread. */
#ifndef UTIL_SOURCE_H
#define UTIL_SOURCE_H

#include <stdbool.h>
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
	/* tsc() is RDTSC on this processor plus what this points to, which changes only while no
	 * processor runs: for engines that make code of it. NULL: it is something else. */
	const uint64_t *tsc_add;
};

static inline uint64_t source_now_ns(struct source *s) { return s->now_ns(s); }
static inline uint64_t source_wall_ns(struct source *s) { return s->wall_ns(s); }
static inline uint64_t source_tsc(struct source *s) { return s->tsc(s); }
static inline uint64_t source_thread_ns(struct source *s) { return s->thread_ns ? s->thread_ns(s) : s->now_ns(s); }
static inline void source_random(struct source *s, void *buf, size_t len) { s->random(s, buf, len); }

/* The real thing: CLOCK_MONOTONIC, CLOCK_REALTIME, RDTSC, getrandom(). What stops and sets it runs on
 * one thread while nobody else asks for the time. */
struct source_host {
	struct source s;
	uint64_t base_ns, base_tsc;     /* guest's values at the moment that follows */
	uint64_t start_ns;              /* CLOCK_MONOTONIC */
	uint64_t start_tsc;             /* RDTSC */
	uint64_t tsc_add;               /* base_tsc - start_tsc */
	uint64_t host_hz;               /* of RDTSC */
	bool is_scaled;                 /* the guest's TSC has another frequency than the host's */
	bool has_tsc;                   /* else tsc() comes from CLOCK_MONOTONIC */
	bool is_stopped;                /* now_ns() and tsc() stay at the base */
};

/* Measures the TSC frequency (from CPUID leaf 0x15/0x16 or KVM's leaf 0x40000010 when
 * present, else from a few milliseconds of counting). Without an invariant TSC, tsc() is
 * derived from CLOCK_MONOTONIC at 1 GHz. EXPECTED_HZ (0: none): a shorter count is enough when it
 * agrees with that. */
void source_host_init(struct source_host *h, uint64_t expected_hz);
/* Guest time and TSC stand still, and go on from there. Twice is once. */
void source_host_stop(struct source_host *h);
void source_host_go(struct source_host *h);
/* Guest time and TSC continue from NOW_NS and TSC; TSC_HZ is what the guest believes. A host that
 * counts at another speed (by more than what measuring may be wrong) is scaled. TSC_HZ not 0. */
void source_host_set(struct source_host *h, uint64_t now_ns, uint64_t tsc, uint64_t tsc_hz);

#endif
