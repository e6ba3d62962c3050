/* SPDX-License-Identifier: Apache-2.0 */
#include "util/source.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <x86intrin.h>
#include "util/checked.h"

enum {
	CALIBRATE_NS = 10 * 1000 * 1000,
	COMPARE_NS = 1000 * 1000,       /* enough to tell whether two frequencies are one */
	CALIBRATE_TRIES = 5,
	SAME_CLOCK = 2000,              /* frequencies that differ by less than 1/2000 are one */
};
#define NS_PER_S 1000000000ull

static uint64_t source_clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* A TSC value and the time it belongs to: of a few tries the one with the shortest window, so
 * that a preemption between the two readings does not count. */
static void source_sample(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < CALIBRATE_TRIES; i++) {
		uint64_t before = __rdtsc();
		uint64_t now = source_clock_ns(CLOCK_MONOTONIC);
		uint64_t window = __rdtsc() - before;

		if (window < best) {
			best = window;
			*tsc = before + window / 2;
			*ns = now;
		}
	}
}

static uint64_t source_measure_hz(uint64_t for_ns)
{
	uint64_t tsc0 = 0, ns0 = 0, tsc1 = 0, ns1 = 0;

	source_sample(&tsc0, &ns0);
	do {
		nanosleep(&(struct timespec){ .tv_nsec = (long)for_ns }, NULL);
		source_sample(&tsc1, &ns1);
	} while (ns1 - ns0 < for_ns);
	return (uint64_t)((unsigned __int128)(tsc1 - tsc0) * NS_PER_S / (ns1 - ns0));
}

/* What the processor or the hypervisor under us says; 0 when they say nothing.
 * Intel SDM vol. 2, CPUID leaves 0x15 and 0x16; 0x40000010 is the timing leaf that VMware
 * defined and KVM can provide. */
static uint64_t source_cpuid_hz(void)
{
	unsigned a, b, c, d;

	__cpuid(1, a, b, c, d);
	if (c >> 31 & 1) {
		__cpuid(0x40000000, a, b, c, d);
		if (a >= 0x40000010 && a < 0x40000100) {
			__cpuid(0x40000010, a, b, c, d);
			if (a)
				return (uint64_t)a * 1000;
		}
		return 0; /* the native leaves may be the host's under a scaled TSC */
	}
	if (__get_cpuid_count(0x15, 0, &a, &b, &c, &d) && a && b && c)
		return (uint64_t)c * b / a;
	if (__get_cpuid_count(0x16, 0, &a, &b, &c, &d) && a)
		return (uint64_t)(a & 0xffff) * 1000000;
	return 0;
}

static bool source_has_invariant_tsc(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && d >> 8 & 1;
}

static uint64_t source_host_now(struct source *s)
{
	const struct source_host *h = container_of(s, struct source_host, s);

	return h->is_stopped ? h->base_ns : h->base_ns + (source_clock_ns(CLOCK_MONOTONIC) - h->start_ns);
}

static uint64_t source_host_wall(struct source *s)
{
	return source_clock_ns(CLOCK_REALTIME);
}

static uint64_t source_host_count(const struct source_host *h)
{
	return h->has_tsc ? __rdtsc() : source_clock_ns(CLOCK_MONOTONIC);
}

static uint64_t source_host_tsc(struct source *s)
{
	const struct source_host *h = container_of(s, struct source_host, s);

	if (h->is_stopped)
		return h->base_tsc;
	uint64_t passed = source_host_count(h) - h->start_tsc;

	if (h->is_scaled)
		passed = (uint64_t)((unsigned __int128)passed * h->s.tsc_hz / h->host_hz);
	return h->base_tsc + passed;
}

static uint64_t source_host_thread(struct source *s)
{
	return source_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static void source_host_random(struct source *s, void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0 && errno != EINTR)
			abort(); /* cannot happen on Linux >= 3.17; predictable bytes would be worse */
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
}

/* From now on, time passes from BASE. */
static void source_host_rebase(struct source_host *h, uint64_t ns, uint64_t tsc)
{
	h->base_ns = ns;
	h->base_tsc = tsc;
	h->start_ns = source_clock_ns(CLOCK_MONOTONIC);
	h->start_tsc = source_host_count(h);
	h->tsc_add = h->base_tsc - h->start_tsc;
	h->s.tsc_add = h->has_tsc && !h->is_scaled ? &h->tsc_add : NULL;
}

/* Within what measuring and calibration leave open? */
static bool source_is_same_hz(uint64_t a, uint64_t b)
{
	return (a > b ? a - b : b - a) <= a / SAME_CLOCK;
}

static uint64_t source_find_hz(bool has_tsc, uint64_t expected_hz)
{
	uint64_t hz = has_tsc ? source_cpuid_hz() : NS_PER_S;

	if (!hz && expected_hz && source_is_same_hz(expected_hz, source_measure_hz(COMPARE_NS)))
		hz = expected_hz;
	return hz ? hz : source_measure_hz(CALIBRATE_NS);
}

void source_host_init(struct source_host *h, uint64_t expected_hz)
{
	*h = (struct source_host){
		.s = {
			.now_ns = source_host_now,
			.wall_ns = source_host_wall,
			.tsc = source_host_tsc,
			.random = source_host_random,
			.thread_ns = source_host_thread,
		},
		.has_tsc = source_has_invariant_tsc(),
	};
	h->host_hz = source_find_hz(h->has_tsc, expected_hz);
	h->s.tsc_hz = h->host_hz;
	source_host_rebase(h, 0, 0);
}

void source_host_stop(struct source_host *h)
{
	uint64_t ns = source_host_now(&h->s), tsc = source_host_tsc(&h->s);

	h->base_ns = ns;
	h->base_tsc = tsc;
	h->is_stopped = true;
}

void source_host_go(struct source_host *h)
{
	if (!h->is_stopped)
		return;
	source_host_rebase(h, h->base_ns, h->base_tsc);
	h->is_stopped = false;
}

void source_host_set(struct source_host *h, uint64_t now_ns, uint64_t tsc, uint64_t tsc_hz)
{
	h->is_scaled = !source_is_same_hz(h->host_hz, tsc_hz);  /* the same clock costs no division per reading */
	h->s.tsc_hz = tsc_hz;
	source_host_rebase(h, now_ns, tsc);
}
