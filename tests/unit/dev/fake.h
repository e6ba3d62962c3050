/* SPDX-License-Identifier: Apache-2.0 */
/* fake.h - a clock moved by hand, and an event loop that is nothing but its timers.
 *
 * Replaces util/loop.c in the test programs that link fake.c. */
#ifndef TESTS_UNIT_DEV_FAKE_H
#define TESTS_UNIT_DEV_FAKE_H

#include "bus/bus.h"
#include "bus/irq.h"
#include "util/loop.h"
#include "util/source.h"

#define FAKE_TSC_HZ 2000000000ull

struct fake {
	struct source source;
	uint64_t now_ns;
	uint64_t wall_at_0_ns;
	unsigned wakeups;               /* timer callbacks so far */
	struct loop *loop;
	struct bus *bus;
};
extern struct fake fake;

void fake_init(void);
/* Let time pass; timers fire at their time. Fails the test when there are more than a million. */
void fake_advance(uint64_t ns);

/* A line that remembers. */
struct fake_line {
	int level;
	unsigned rises;
};
struct irq_line fake_line(struct fake_line *l);

/* Random accesses of all sizes to a region, RANDOM values. */
uint64_t fake_random(void);
void fake_hammer(struct bus_region *r, uint64_t len, unsigned n);

uint8_t fake_in(struct bus_region *r, uint64_t off);
void fake_out(struct bus_region *r, uint64_t off, uint8_t val);

#endif
