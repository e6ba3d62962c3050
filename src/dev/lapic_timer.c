/* SPDX-License-Identifier: Apache-2.0 */
/* The APIC timer (SDM vol. 3 11.5.4): counts guest nanoseconds divided by the divide register,
 * or waits for a value of the TSC. */
#include "dev/lapic_priv.h"

/* A guest may ask for a period of a nanosecond. Expiries closer than this are one. */
#define LAPIC_MIN_PERIOD_NS 20000u

uint64_t lapic_timer_unit_ns(const struct lapic_state *s)
{
	uint32_t v = s->timer_div;

	return 1ull << ((((v & 3) | (v >> 1 & 4)) + 1) & 7);
}

static uint64_t lapic_timer_period_ns(const struct lapic *a)
{
	return a->s.timer_init * lapic_timer_unit_ns(&a->s);         /* below 2^39 */
}

static uint32_t lapic_timer_mode(const struct lapic *a)
{
	return a->s.lvt[LAPIC_LVT_TIMER] & LVT_TIMER_MODE;
}

uint32_t lapic_timer_count_locked(const struct lapic *a)
{
	uint64_t period = lapic_timer_period_ns(a), div = lapic_timer_unit_ns(&a->s);
	uint64_t elapsed = source_now_ns(a->l->source) - a->s.timer_start_ns;

	if (!period || a->s.timer_done || lapic_timer_mode(a) & LVT_TIMER_TSC_DEADLINE)
		return 0;
	if (lapic_timer_mode(a) == LVT_TIMER_PERIODIC)
		elapsed %= period;
	else if (elapsed >= period)
		return 0;
	return (uint32_t)((period - elapsed + div - 1) / div);
}

static void lapic_timer_fire_locked(struct lapic *a)
{
	uint32_t lvt = a->s.lvt[LAPIC_LVT_TIMER];

	if (!(lvt & LVT_MASKED))
		lapic_accept_locked(a, (uint8_t)lvt, false);
}

static uint64_t lapic_timer_guest_tsc(const struct lapic *a)
{
	const struct lapics *l = a->l;
	uint64_t offset = l->ops->tsc_offset ? l->ops->tsc_offset(l->ops_arg, a->cpu) : 0;

	return source_tsc(l->source) + offset;
}

static void lapic_timer_run_deadline_locked(struct lapic *a, uint64_t now)
{
	uint64_t tsc = lapic_timer_guest_tsc(a);

	if (!a->s.tsc_deadline) {
		dev_timer_cancel(&a->timer);
	} else if (a->s.tsc_deadline <= tsc) {
		a->s.tsc_deadline = 0;
		dev_timer_cancel(&a->timer);
		lapic_timer_fire_locked(a);
	} else {
		unsigned __int128 ns = (unsigned __int128)(a->s.tsc_deadline - tsc) * 1000000000u;

		ns = ns / a->l->source->tsc_hz + 1 + now;
		dev_timer_set(&a->timer, ns < DEV_TIMER_OFF ? (uint64_t)ns : DEV_TIMER_OFF);
	}
}

static void lapic_timer_run_count_locked(struct lapic *a, uint64_t now)
{
	uint64_t period = lapic_timer_period_ns(a), next = a->s.timer_start_ns + period;
	bool is_periodic = lapic_timer_mode(a) == LVT_TIMER_PERIODIC;

	if (!period || a->s.timer_done) {
		dev_timer_cancel(&a->timer);
		return;
	}
	if (next <= now) {
		lapic_timer_fire_locked(a);
		if (!is_periodic) {
			a->s.timer_done = 1;
			dev_timer_cancel(&a->timer);
			return;
		}
		/* periods that were missed are one interrupt, as the IRR has one bit */
		a->s.timer_start_ns += (now - a->s.timer_start_ns) / period * period;
		next = a->s.timer_start_ns + period;
		if (next < now + LAPIC_MIN_PERIOD_NS)
			next = now + LAPIC_MIN_PERIOD_NS;
	}
	dev_timer_set(&a->timer, next);
}

/* Fire what is due and wait for what is next. */
void lapic_timer_arm_locked(struct lapic *a)
{
	uint64_t now = source_now_ns(a->l->source);

	if (!lapic_is_on(a))
		dev_timer_cancel(&a->timer);
	else if (lapic_timer_mode(a) & LVT_TIMER_TSC_DEADLINE)
		lapic_timer_run_deadline_locked(a, now);
	else
		lapic_timer_run_count_locked(a, now);
}

static void lapic_timer_due(void *arg)
{
	struct lapic *a = arg;

	lapic_lock(a);
	lapic_timer_arm_locked(a);
	lapic_unlock(a);
}

void lapic_timer_init(struct lapic *a, struct loop *loop)
{
	dev_timer_init(&a->timer, loop, a->l->source, NULL, lapic_timer_due, a);
}

/* Start (or with 0, stop) counting. In TSC-deadline mode the count is ignored. */
void lapic_timer_set_count_locked(struct lapic *a, uint32_t count)
{
	if (lapic_timer_mode(a) & LVT_TIMER_TSC_DEADLINE)
		return;
	a->s.timer_init = count;
	a->s.timer_start_ns = source_now_ns(a->l->source);
	a->s.timer_done = 0;
	lapic_timer_arm_locked(a);
}

/* The count stays, its speed changes: move the start so that the same count is left. */
void lapic_timer_set_div_locked(struct lapic *a, uint32_t div)
{
	uint32_t left = lapic_timer_count_locked(a);
	uint64_t spent;

	a->s.timer_div = div & 0xb;
	spent = (a->s.timer_init - left) * lapic_timer_unit_ns(&a->s);
	a->s.timer_start_ns = source_now_ns(a->l->source) - spent;
	lapic_timer_arm_locked(a);
}

void lapic_timer_set_lvt_locked(struct lapic *a, uint32_t lvt)
{
	uint32_t old = lapic_timer_mode(a);

	if ((lvt & LVT_TIMER_MODE) == LVT_TIMER_MODE)
		lvt &= ~(uint32_t)LVT_TIMER_MODE;       /* reserved mode */
	/* a one-shot that has run out stays at zero, whatever the mode becomes */
	lapic_timer_arm_locked(a);
	a->s.lvt[LAPIC_LVT_TIMER] = lvt;
	/* going into or out of TSC-deadline mode disarms (SDM vol. 3 11.5.4.1) */
	if ((old ^ lvt) & LVT_TIMER_TSC_DEADLINE) {
		a->s.timer_init = 0;
		a->s.tsc_deadline = 0;
	}
	lapic_timer_arm_locked(a);
}

void lapic_timer_set_deadline_locked(struct lapic *a, uint64_t tsc)
{
	if (!(lapic_timer_mode(a) & LVT_TIMER_TSC_DEADLINE))
		return;
	a->s.tsc_deadline = tsc;
	lapic_timer_arm_locked(a);
}

void lapics_tsc_changed(struct lapics *l, unsigned cpu)
{
	if (cpu >= l->n_cpus)
		return;
	lapic_timer_due(&l->cpu[cpu]);
}
