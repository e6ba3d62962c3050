/* SPDX-License-Identifier: Apache-2.0 */
#include "fake.h"
#include "test.h"

struct fake fake;

enum { FAKE_TIMERS = 512 };
static struct loop_timer *armed[FAKE_TIMERS];

static uint64_t fake_now(struct source *s)
{
	return fake.now_ns;
}

static uint64_t fake_wall(struct source *s)
{
	return fake.wall_at_0_ns + fake.now_ns;
}

static uint64_t fake_tsc(struct source *s)
{
	return fake.now_ns * (FAKE_TSC_HZ / 1000000000ull);
}

void fake_init(void)
{
	fake.source = (struct source){
		.now_ns = fake_now, .wall_ns = fake_wall, .tsc = fake_tsc, .tsc_hz = FAKE_TSC_HZ,
	};
	fake.loop = (struct loop *)&fake;       /* only its address is used */
	CHECK_EQ(bus_new(&fake.bus, NULL), 0);
}

void loop_timer_init(struct loop *l, struct loop_timer *t, void (*fn)(struct loop_timer *t))
{
	*t = (struct loop_timer){ .fn = fn, .loop = l };
}

void loop_timer_cancel(struct loop_timer *t)
{
	for (unsigned i = 0; i < FAKE_TIMERS; i++) {
		if (armed[i] == t)
			armed[i] = NULL;
	}
	t->deadline_ns = 0;
}

void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns)
{
	loop_timer_cancel(t);
	t->deadline_ns = deadline_ns;
	for (unsigned i = 0; i < FAKE_TIMERS; i++) {
		if (!armed[i]) {
			armed[i] = t;
			return;
		}
	}
	FAIL("too many timers");
}

uint64_t loop_now_ns(void)
{
	return fake.now_ns;
}

int loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
	fn(arg);
	return 0;
}

void fake_advance(uint64_t ns)
{
	uint64_t end = fake.now_ns + ns;

	for (unsigned n = 0; n < 1000000; n++) {
		struct loop_timer *first = NULL;

		for (unsigned i = 0; i < FAKE_TIMERS; i++) {
			if (armed[i] && (!first || armed[i]->deadline_ns < first->deadline_ns))
				first = armed[i];
		}
		if (!first || first->deadline_ns > end) {
			fake.now_ns = end;
			return;
		}
		if (first->deadline_ns > fake.now_ns)
			fake.now_ns = first->deadline_ns;
		loop_timer_cancel(first);
		fake.wakeups++;
		first->fn(first);
	}
	FAIL("a million wake-ups");
}

static void fake_line_set(void *arg, int n, int level)
{
	struct fake_line *l = arg;

	if (level && !l->level)
		l->rises++;
	l->level = level != 0;
}

struct irq_line fake_line(struct fake_line *l)
{
	return (struct irq_line){ .set = fake_line_set, .arg = l };
}

uint64_t fake_random(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 0x2545f4914f6cdd1d;
}

void fake_hammer(struct bus_region *r, uint64_t len, unsigned n)
{
	CHECK_EQ(bus_add(fake.bus, BUS_MMIO, r, 0x10000, len, NULL), 0);
	for (unsigned i = 0; i < n; i++) {
		unsigned size = 1u << (fake_random() % 4);
		uint64_t addr = 0x10000 + fake_random() % len;

		if (fake_random() % 2)
			bus_write(fake.bus, BUS_MMIO, 0, addr, size, fake_random());
		else
			bus_read(fake.bus, BUS_MMIO, 0, addr, size);
		if (fake_random() % 64 == 0)
			fake_advance(fake_random() % 1000000);
	}
	bus_remove(fake.bus, BUS_MMIO, r);
}

uint8_t fake_in(struct bus_region *r, uint64_t off)
{
	return (uint8_t)r->read(r->dev, 0, off, 1);
}

void fake_out(struct bus_region *r, uint64_t off, uint8_t val)
{
	r->write(r->dev, 0, off, 1, val);
}
