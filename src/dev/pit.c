/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/pit.h"

#include <stdbool.h>
#include "util/checked.h"

enum {
	PORT_CONTROL = 3,
	ACCESS_LOW = 1, ACCESS_HIGH = 2, ACCESS_BOTH = 3,
	READ_BACK = 3, READ_BACK_NO_COUNT = 1 << 5, READ_BACK_NO_STATUS = 1 << 4,
	STATUS_OUT = 1 << 7, STATUS_NULL = 1 << 6,
	P61_GATE2 = 1 << 0, P61_WRITABLE = 0x0f, P61_REFRESH = 1 << 4, P61_OUT2 = 1 << 5,
	/* Channel 0: ticks that came late are made up for, up to this many periods. */
	PIT_CATCH_UP = 10,
	PIT_MIN_GAP_NS = 50000,         /* between two wake-ups, whatever the guest programs */
};
#define PIT_NEVER UINT64_MAX

static const struct field pit_channel_fields[] = {
	FIELD(struct pit_channel_state, start_ns, 1),
	FIELD(struct pit_channel_state, paused_ns, 1),
	FIELD(struct pit_channel_state, next_ns, 1),
	FIELD(struct pit_channel_state, count, 1),
	FIELD(struct pit_channel_state, latch, 1),
	FIELD(struct pit_channel_state, mode, 1),
	FIELD(struct pit_channel_state, bcd, 1),
	FIELD(struct pit_channel_state, access, 1),
	FIELD(struct pit_channel_state, write_low, 1),
	FIELD(struct pit_channel_state, write_step, 1),
	FIELD(struct pit_channel_state, read_step, 1),
	FIELD(struct pit_channel_state, latched, 1),
	FIELD(struct pit_channel_state, status, 1),
	FIELD(struct pit_channel_state, status_latched, 1),
	FIELD(struct pit_channel_state, gate, 1),
	FIELD(struct pit_channel_state, is_counting, 1),
};
static const struct state_desc pit_channel_desc = {
	.name = "channel", .version = 1, .size = sizeof(struct pit_channel_state),
	.n_fields = ARRAY_LEN(pit_channel_fields), .fields = pit_channel_fields,
};
static const struct field pit_fields[] = {
	FIELD_SUBS(struct pit_state, ch, 1, &pit_channel_desc),
	FIELD(struct pit_state, port61, 1),
	FIELD(struct pit_state, refresh, 1),
};
const struct state_desc pit_state_desc = {
	.name = "pit", .version = 1, .size = sizeof(struct pit_state),
	.n_fields = ARRAY_LEN(pit_fields), .fields = pit_fields,
};

static uint64_t pit_ticks(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * PIT_HZ / 1000000000u);
}

/* The first nanosecond at which TICKS have passed: pit_ticks() of it is TICKS again. */
static uint64_t pit_ns(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * 1000000000u + PIT_HZ - 1) / PIT_HZ);
}

/* Modes 1 and 5 start on a rising gate; the others count while the gate is high. */
static bool pit_is_triggered(const struct pit_channel_state *c)
{
	return c->mode == 1 || c->mode == 5;
}

static bool pit_is_periodic(const struct pit_channel_state *c)
{
	return c->mode == 2 || c->mode == 3;
}

static uint64_t pit_elapsed(const struct pit *p, const struct pit_channel_state *c)
{
	if (!c->gate && !pit_is_triggered(c))
		return pit_ticks(c->paused_ns);
	return pit_ticks(source_now_ns(p->source) - c->start_ns);
}

/* The counter as the guest reads it (8254, "Mode Definitions"). */
static uint16_t pit_counter(const struct pit *p, const struct pit_channel_state *c)
{
	uint64_t t = pit_elapsed(p, c);
	uint32_t wrap = c->bcd ? 10000 : 65536, v;

	if (!c->is_counting)
		v = c->count;
	else if (c->mode == 2)
		v = c->count - (uint32_t)(t % c->count);
	else if (c->mode == 3)
		v = (c->count & ~1u) - (uint32_t)(2 * t % (c->count > 1 ? c->count & ~1u : 2));
	else
		v = (c->count + wrap - (uint32_t)(t % wrap)) % wrap;
	v %= wrap;
	if (c->bcd)
		v = v / 1000 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10;
	return (uint16_t)v;
}

static bool pit_out(const struct pit *p, const struct pit_channel_state *c)
{
	uint64_t t = pit_elapsed(p, c);

	switch (c->mode) {
	case 0:
		return c->is_counting && t >= c->count;
	case 1:
		return !c->is_counting || t >= c->count;
	case 2:
		return !c->is_counting || !c->gate || t % c->count != c->count - 1;
	case 3:
		return !c->is_counting || !c->gate || t % c->count < (c->count + 1) / 2;
	default:
		return !c->is_counting || t != c->count;
	}
}

/* Channel 0 wakes at NEXT_NS, but not faster than the host should bear. */
static void pit_timer_arm(struct pit *p)
{
	const struct pit_channel_state *c = &p->s.ch[0];
	uint64_t now = source_now_ns(p->source), at = c->next_ns, gap = PIT_MIN_GAP_NS;

	if (at == PIT_NEVER) {
		dev_timer_cancel(&p->timer);
		return;
	}
	/* a late tick: half a period later, so that the guest has time to take the last one */
	if (at <= now && pit_ns(c->count) / 2 > gap)
		gap = pit_ns(c->count) / 2;
	if (at < now + gap && (at <= now || pit_ns(c->count) < gap))
		at = now + gap;
	dev_timer_set(&p->timer, at);
}

/* A channel begins to count from COUNT now. */
static void pit_start(struct pit *p, unsigned n)
{
	struct pit_channel_state *c = &p->s.ch[n];

	c->start_ns = source_now_ns(p->source);
	c->paused_ns = 0;
	c->is_counting = 1;
	if (n)
		return;
	if (c->mode == 0)
		irq_set(&p->irq, 0);
	c->next_ns = c->start_ns + pit_ns(c->count);
	pit_timer_arm(p);
}

static void pit_due(void *arg)
{
	struct pit *p = arg;
	struct pit_channel_state *c = &p->s.ch[0];
	uint64_t now = source_now_ns(p->source);

	if (c->next_ns == PIT_NEVER)
		return;
	if (c->next_ns <= now) {
		irq_set(&p->irq, 0);
		irq_set(&p->irq, 1);
		if (!pit_is_periodic(c)) {
			c->next_ns = PIT_NEVER;
		} else {
			uint64_t n = pit_ticks(c->next_ns - c->start_ns) / c->count + 1;
			uint64_t latest = pit_ticks(now - c->start_ns) / c->count;

			if (latest > n + PIT_CATCH_UP)
				n = latest;
			c->next_ns = c->start_ns + pit_ns(n * c->count);
		}
	}
	pit_timer_arm(p);
}

static void pit_load(struct pit *p, unsigned n, uint32_t val)
{
	struct pit_channel_state *c = &p->s.ch[n];

	if (c->bcd) {
		val = (val >> 12) * 1000 + (val >> 8 & 15) * 100 + (val >> 4 & 15) * 10 + (val & 15);
		val %= 10000;   /* digits above 9 are undefined */
	}
	c->count = val ? val : c->bcd ? 10000 : 65536;
	if (!pit_is_triggered(c))
		pit_start(p, n);
}

static void pit_channel_write(struct pit *p, unsigned n, uint8_t val)
{
	struct pit_channel_state *c = &p->s.ch[n];

	switch (c->access) {
	case ACCESS_LOW:
		pit_load(p, n, val);
		break;
	case ACCESS_HIGH:
		pit_load(p, n, (uint32_t)val << 8);
		break;
	default:
		if (!c->write_step) {
			c->write_low = val;
			c->write_step = 1;
			if (c->mode == 0)
				c->is_counting = 0;     /* the first byte stops mode 0 */
			break;
		}
		c->write_step = 0;
		pit_load(p, n, (uint32_t)val << 8 | c->write_low);
		break;
	}
}

static void pit_latch_count(struct pit *p, struct pit_channel_state *c)
{
	if (c->latched)
		return;         /* a second latch before the read is ignored */
	c->latch = pit_counter(p, c);
	c->latched = c->access == ACCESS_BOTH ? 2 : 1;
}

static void pit_latch_status(struct pit *p, struct pit_channel_state *c)
{
	if (c->status_latched)
		return;
	c->status = (uint8_t)((pit_out(p, c) ? STATUS_OUT : 0) | (c->is_counting ? 0 : STATUS_NULL) |
			      c->access << 4 | c->mode << 1 | c->bcd);
	c->status_latched = 1;
}

static uint8_t pit_channel_read(struct pit *p, unsigned n)
{
	struct pit_channel_state *c = &p->s.ch[n];

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	if (c->latched) {
		bool is_high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->latched == 1);

		c->latched--;
		return (uint8_t)(c->latch >> (is_high ? 8 : 0));
	}
	uint16_t v = pit_counter(p, c);

	if (c->access == ACCESS_BOTH) {
		c->read_step ^= 1;
		return (uint8_t)(c->read_step ? v : v >> 8);
	}
	return (uint8_t)(c->access == ACCESS_HIGH ? v >> 8 : v);
}

static void pit_control(struct pit *p, uint8_t val)
{
	unsigned n = val >> 6, mode = val >> 1 & 7;

	if (n == READ_BACK) {
		for (unsigned i = 0; i < 3; i++) {
			if (!(val & 2 << i))
				continue;
			if (!(val & READ_BACK_NO_COUNT))
				pit_latch_count(p, &p->s.ch[i]);
			if (!(val & READ_BACK_NO_STATUS))
				pit_latch_status(p, &p->s.ch[i]);
		}
		return;
	}
	struct pit_channel_state *c = &p->s.ch[n];

	if (!(val >> 4 & 3)) {
		pit_latch_count(p, c);
		return;
	}
	c->access = val >> 4 & 3;
	c->mode = (uint8_t)(mode > 5 ? mode - 4 : mode);
	c->bcd = val & 1;
	c->write_step = c->read_step = c->latched = c->status_latched = 0;
	c->is_counting = 0;
	c->paused_ns = 0;
	if (n == 0) {
		c->next_ns = PIT_NEVER;
		pit_timer_arm(p);
		irq_set(&p->irq, c->mode != 0); /* the output's level before a count is loaded */
	}
}

static uint64_t pit_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return off == PORT_CONTROL ? 0xff : pit_channel_read(dev, (unsigned)off);
}

static void pit_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	if (off == PORT_CONTROL)
		pit_control(dev, (uint8_t)val);
	else
		pit_channel_write(dev, (unsigned)off, (uint8_t)val);
}

static void pit_set_gate(struct pit *p, unsigned n, bool gate)
{
	struct pit_channel_state *c = &p->s.ch[n];
	uint64_t now = source_now_ns(p->source);

	if (gate == c->gate)
		return;
	if (!gate) {
		c->paused_ns = now - c->start_ns;
	} else if (pit_is_triggered(c) || pit_is_periodic(c)) {
		c->gate = 1;
		pit_start(p, n);        /* a rising gate starts over */
	} else {
		c->start_ns = now - c->paused_ns;
	}
	c->gate = gate;
}

static uint64_t pit_port61_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct pit *p = dev;

	/* software that waits for the refresh bit to change has always waited long enough */
	p->s.refresh ^= P61_REFRESH;
	return p->s.port61 | p->s.refresh | (pit_out(p, &p->s.ch[2]) ? P61_OUT2 : 0);
}

static void pit_port61_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct pit *p = dev;

	p->s.port61 = val & P61_WRITABLE;
	pit_set_gate(p, 2, val & P61_GATE2);
}

void pit_init(struct pit *p, struct bus *bus, struct loop *loop, struct source *source, struct irq_line irq)
{
	*p = (struct pit){
		.region = { .name = "pit", .dev = p, .read = pit_read, .write = pit_write, .flags = BUS_BYTES },
		.port61 = { .name = "port61", .dev = p, .read = pit_port61_read, .write = pit_port61_write,
			    .flags = BUS_BYTES },
		.irq = irq, .source = source,
	};
	dev_timer_init(&p->timer, loop, source, bus, pit_due, p);
	pit_reset(p);
}

void pit_fini(struct pit *p)
{
	dev_timer_fini(&p->timer);
}

void pit_reset(struct pit *p)
{
	p->s = (struct pit_state){ .port61 = 0 };
	for (unsigned n = 0; n < 3; n++) {
		p->s.ch[n] = (struct pit_channel_state){
			.count = 65536, .access = ACCESS_BOTH, .mode = 3, .gate = n != 2, .next_ns = PIT_NEVER,
		};
	}
	pit_timer_arm(p);
	irq_set(&p->irq, 0);
}

void pit_restored(struct pit *p)
{
	for (unsigned n = 0; n < 3; n++) {
		struct pit_channel_state *c = &p->s.ch[n];

		if (c->count < 1 || c->count > 65536)
			c->count = 65536;
		if (c->mode > 5)
			c->mode = 3;
		c->access = c->access & 3 ? c->access & 3 : ACCESS_BOTH;
		c->bcd &= 1;
		c->gate = n == 2 ? c->gate & 1 : 1;
	}
	pit_timer_arm(p);
}
