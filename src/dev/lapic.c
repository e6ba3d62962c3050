/* SPDX-License-Identifier: Apache-2.0 */
/* Registers and priorities; lapic_msg.c routes messages, lapic_timer.c counts. */
#include "dev/lapic.h"

#include <errno.h>
#include <string.h>
#include "dev/lapic_priv.h"
#include "util/checked.h"
#include "util/err.h"

#define LAPIC_BASE_ADDR 0xfee00000ull

enum { LAPIC_PAGE_LEN = 0x1000 };

enum {
	MSR_APIC_BASE = 0x1b,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC = 0x800, MSR_X2APIC_LEN = 0x100,
	MSR_PV_EOI = 0x4b564d04,
};

/* Register numbers: page offset / 16, and MSR - 0x800. */
enum {
	REG_ID = 0x02, REG_VERSION = 0x03, REG_TPR = 0x08, REG_APR = 0x09, REG_PPR = 0x0a, REG_EOI = 0x0b,
	REG_LDR = 0x0d, REG_DFR = 0x0e, REG_SVR = 0x0f, REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20,
	REG_ESR = 0x28, REG_ICR = 0x30, REG_ICR_HIGH = 0x31, REG_LVT = 0x32, REG_LVT_END = 0x38,
	REG_TIMER_INIT = 0x38, REG_TIMER_COUNT = 0x39, REG_TIMER_DIV = 0x3e, REG_SELF_IPI = 0x3f,
	LAPIC_VERSION = 0x14 | (LAPIC_N_LVT - 1) << 16,
};

enum { R = 1, W = 2, XAPIC_ONLY = 4, X2_ONLY = 8, X2_RO = 16 };

/* Which registers exist, in which mode, and the bits that may be written; with x2APIC any
 * other bit in a write is #GP (SDM vol. 3 tables 11-1 and 11-6). */
static const struct lapic_reg {
	uint8_t first, count, flags;
	uint32_t writable;
} lapic_regs[] = {
	{ REG_ID,          1, R | W | X2_RO,      0xff000000 },
	{ REG_VERSION,     1, R,                  0 },
	{ REG_TPR,         1, R | W,              0xff },
	{ REG_APR,         1, R | XAPIC_ONLY,     0 },
	{ REG_PPR,         1, R,                  0 },
	{ REG_EOI,         1, W,                  0 },
	{ REG_LDR,         1, R | W | X2_RO,      0xff000000 },
	{ REG_DFR,         1, R | W | XAPIC_ONLY, 0xf0000000 },
	{ REG_SVR,         1, R | W,              0x1ff },
	{ REG_ISR,         8, R,                  0 },
	{ REG_TMR,         8, R,                  0 },
	{ REG_IRR,         8, R,                  0 },
	{ REG_ESR,         1, R | W,              0 },
	{ REG_ICR,         1, R | W,              0xcdfff },
	{ REG_ICR_HIGH,    1, R | W | XAPIC_ONLY, 0xff000000 },
	{ REG_LVT + LAPIC_LVT_TIMER,   1, R | W,  0x700ff },
	{ REG_LVT + LAPIC_LVT_THERMAL, 1, R | W,  0x107ff },
	{ REG_LVT + LAPIC_LVT_PERF,    1, R | W,  0x107ff },
	{ REG_LVT + LAPIC_LVT_LINT0,   1, R | W,  0x1a7ff },
	{ REG_LVT + LAPIC_LVT_LINT1,   1, R | W,  0x1a7ff },
	{ REG_LVT + LAPIC_LVT_ERROR,   1, R | W,  0x100ff },
	{ REG_TIMER_INIT,  1, R | W,              0xffffffff },
	{ REG_TIMER_COUNT, 1, R,                  0 },
	{ REG_TIMER_DIV,   1, R | W,              0xb },
	{ REG_SELF_IPI,    1, W | X2_ONLY,        0xff },
};

static const struct field lapic_fields[] = {
	FIELD(struct lapic_state, apic_base, 1),
	FIELD(struct lapic_state, id, 1),
	FIELD(struct lapic_state, tpr, 1),
	FIELD(struct lapic_state, ldr, 1),
	FIELD(struct lapic_state, dfr, 1),
	FIELD(struct lapic_state, svr, 1),
	FIELD(struct lapic_state, esr, 1),
	FIELD(struct lapic_state, esr_pending, 1),
	FIELD(struct lapic_state, icr, 1),
	FIELD_ARRAY(struct lapic_state, lvt, 1),
	FIELD_ARRAY(struct lapic_state, irr, 1),
	FIELD_ARRAY(struct lapic_state, isr, 1),
	FIELD_ARRAY(struct lapic_state, tmr, 1),
	FIELD(struct lapic_state, timer_div, 1),
	FIELD(struct lapic_state, timer_init, 1),
	FIELD(struct lapic_state, timer_start_ns, 1),
	FIELD(struct lapic_state, tsc_deadline, 1),
	FIELD(struct lapic_state, timer_done, 1),
	FIELD(struct lapic_state, pv_eoi_offered, 2),
	FIELD(struct lapic_state, pv_eoi_msr, 2),
};

/* Vectors below 16 cannot be pending, and bits that no register has cannot be set. */
static int lapic_state_check(void *state, struct err *err)
{
	struct lapic_state *s = state;

	if ((s->irr[0] | s->isr[0]) & 0xffff)
		return err_set(err, -EPROTO, "local APIC state has a reserved vector pending");
	if (s->apic_base & 0xfff & ~(uint64_t)(BASE_BSP | BASE_ENABLED | BASE_X2APIC))
		return err_set(err, -EPROTO, "local APIC state has reserved bits in its base");
	s->tpr &= 0xff;
	s->svr &= 0x1ff;
	s->timer_div &= 0xb;
	return 0;
}

const struct state_desc lapic_state_desc = {
	.name = "lapic", .version = 2, .size = sizeof(struct lapic_state),
	.n_fields = ARRAY_LEN(lapic_fields), .fields = lapic_fields, .check = lapic_state_check,
};

/* ---- locks and priorities ---- */

void lapic_lock(struct lapic *a)
{
	pthread_mutex_lock(&a->lock);
}

void lapic_unlock(struct lapic *a)
{
	bool kick = a->must_kick;

	a->must_kick = false;
	pthread_mutex_unlock(&a->lock);
	if (kick)
		a->l->ops->interrupt(a->l->ops_arg, a->cpu);
}

static int lapic_highest(const uint32_t bits[8])
{
	for (int i = 7; i >= 0; i--) {
		if (bits[i])
			return 32 * i + 31 - __builtin_clz(bits[i]);
	}
	return -1;
}

static bool lapic_bit(const uint32_t bits[8], unsigned vector)
{
	return bits[vector / 32] >> (vector % 32) & 1;
}

static void lapic_bit_set(uint32_t bits[8], unsigned vector, bool on)
{
	uint32_t m = 1u << (vector % 32);

	bits[vector / 32] = on ? bits[vector / 32] | m : bits[vector / 32] & ~m;
}

uint8_t lapic_ppr_locked(const struct lapic *a)
{
	int isrv = lapic_highest(a->s.isr);
	unsigned in_service = isrv < 0 ? 0 : (unsigned)isrv & 0xf0;

	return (uint8_t)((a->s.tpr & 0xf0) >= in_service ? a->s.tpr : in_service);
}

void lapic_update_locked(struct lapic *a)
{
	int v = lapic_is_on(a) ? lapic_highest(a->s.irr) : -1;
	uint32_t lint0 = a->s.lvt[LAPIC_LVT_LINT0];
	/* with the APIC off, the pin of the boot processor is a plain INTR */
	bool extint = lapic_is_on(a) ? !(lint0 & LVT_MASKED) && (lint0 >> 8 & 7) == MODE_EXTINT : !a->cpu;

	if (v >= 0 && (v & 0xf0) <= (lapic_ppr_locked(a) & 0xf0))
		v = -1;
	if (v >= 0 && v != atomic_load_explicit(&a->deliverable, memory_order_relaxed))
		a->must_kick = true;
	/* What is in service may be over without our knowing; the processor has to look. */
	if (a->s.pv_eoi_offered && lapic_highest(a->s.irr) >= 0)
		a->must_kick = true;
	if (extint && !atomic_load_explicit(&a->takes_extint, memory_order_relaxed) && atomic_load(&a->l->lint0))
		a->must_kick = true;
	/* pairs with lapics_intr_pending(); the engine's own kick orders the rest */
	atomic_store(&a->deliverable, v);
	atomic_store(&a->takes_extint, extint);
}

void lapic_error_locked(struct lapic *a, uint32_t esr_bit)
{
	uint32_t lvt = a->s.lvt[LAPIC_LVT_ERROR];

	a->s.esr_pending |= esr_bit;
	/* an illegal vector in the error entry itself is not reported again */
	if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16) {
		lapic_bit_set(a->s.irr, lvt & 0xff, true);
		lapic_bit_set(a->s.tmr, lvt & 0xff, false);
		lapic_update_locked(a);
	}
}

void lapic_accept_locked(struct lapic *a, uint8_t vector, bool is_level)
{
	if (vector < 16) {
		lapic_error_locked(a, ESR_RECEIVE_ILLEGAL);
		return;
	}
	lapic_bit_set(a->s.irr, vector, true);
	lapic_bit_set(a->s.tmr, vector, is_level);
	lapic_update_locked(a);
}

static uint32_t lapic_x2_ldr(uint32_t id)
{
	return id >> 4 << 16 | 1u << (id & 0xf);
}

void lapic_init_state_locked(struct lapic *a)
{
	uint64_t base = a->s.apic_base;

	a->s = (struct lapic_state){ .apic_base = base, .id = a->cpu, .dfr = 0xffffffff, .svr = 0xff };
	for (unsigned i = 0; i < LAPIC_N_LVT; i++)
		a->s.lvt[i] = LVT_MASKED;
	/* as firmware leaves it: the boot processor listens to the PIC */
	if (a->cpu == 0)
		a->s.lvt[LAPIC_LVT_LINT0] = MODE_EXTINT << 8;
	if (lapic_is_x2(a))
		a->s.ldr = lapic_x2_ldr(a->s.id);
	dev_timer_cancel(&a->timer);
	lapic_update_locked(a);
}

/* ---- registers ---- */

static const struct lapic_reg *lapic_reg_find(unsigned reg, bool is_x2, unsigned need)
{
	for (unsigned i = 0; i < ARRAY_LEN(lapic_regs); i++) {
		const struct lapic_reg *r = &lapic_regs[i];

		if (reg - r->first >= r->count)
			continue;
		if (!(r->flags & need) || (r->flags & (is_x2 ? XAPIC_ONLY : X2_ONLY)) ||
		    (need == W && is_x2 && (r->flags & X2_RO)))
			return NULL;
		return r;
	}
	return NULL;
}

static uint32_t lapic_reg_read_locked(const struct lapic *a, unsigned reg)
{
	const struct lapic_state *s = &a->s;

	if (reg >= REG_ISR && reg < REG_TMR)
		return s->isr[reg - REG_ISR];
	if (reg >= REG_TMR && reg < REG_IRR)
		return s->tmr[reg - REG_TMR];
	if (reg >= REG_IRR && reg < REG_ESR)
		return s->irr[reg - REG_IRR];
	if (reg >= REG_LVT && reg < REG_LVT_END)
		return s->lvt[reg - REG_LVT];
	switch (reg) {
	case REG_ID:
		return lapic_is_x2(a) ? s->id : s->id << 24;
	case REG_VERSION:
		return LAPIC_VERSION;
	case REG_TPR:
		return s->tpr;
	case REG_PPR:
		return lapic_ppr_locked(a);
	case REG_LDR:
		return s->ldr;
	case REG_DFR:
		return s->dfr;
	case REG_SVR:
		return s->svr;
	case REG_ESR:
		return s->esr;
	case REG_ICR:
		return (uint32_t)s->icr;
	case REG_ICR_HIGH:
		return (uint32_t)(s->icr >> 32);
	case REG_TIMER_INIT:
		return s->timer_init;
	case REG_TIMER_COUNT:
		return lapic_timer_count_locked(a);
	case REG_TIMER_DIV:
		return s->timer_div;
	}
	return 0;
}

static void lapic_svr_write_locked(struct lapic *a, uint32_t val)
{
	a->s.svr = val;
	if (val & SVR_ENABLED)
		return;
	for (unsigned i = 0; i < LAPIC_N_LVT; i++)
		a->s.lvt[i] |= LVT_MASKED;
}

static void lapic_lvt_write_locked(struct lapic *a, unsigned i, uint32_t val)
{
	if (!(a->s.svr & SVR_ENABLED))
		val |= LVT_MASKED;
	if (i == LAPIC_LVT_TIMER)
		lapic_timer_set_lvt_locked(a, val);
	else
		a->s.lvt[i] = val;
}

/* Registers whose write concerns this APIC only. VAL has been cut to the writable bits. */
static void lapic_reg_write_locked(struct lapic *a, unsigned reg, uint32_t val)
{
	struct lapic_state *s = &a->s;

	if (reg >= REG_LVT && reg < REG_LVT_END)
		lapic_lvt_write_locked(a, reg - REG_LVT, val);
	switch (reg) {
	case REG_ID:
		s->id = val >> 24;
		atomic_store(&a->l->has_own_ids, true);
		break;
	case REG_TPR:
		s->tpr = val;
		break;
	case REG_LDR:
		s->ldr = val;
		break;
	case REG_DFR:
		s->dfr = val | 0x0fffffff;
		break;
	case REG_SVR:
		lapic_svr_write_locked(a, val);
		break;
	case REG_ESR:
		s->esr = s->esr_pending;
		s->esr_pending = 0;
		break;
	case REG_ICR_HIGH:
		s->icr = (s->icr & 0xffffffff) | (uint64_t)val << 32;
		break;
	case REG_TIMER_INIT:
		lapic_timer_set_count_locked(a, val);
		break;
	case REG_TIMER_DIV:
		lapic_timer_set_div_locked(a, val);
		break;
	}
	lapic_update_locked(a);
}

/* Learn of an end of interrupt by memory. Before the processor's own accesses. */
static void lapic_collect_locked(struct lapic *a)
{
	if (!a->s.pv_eoi_offered)
		return;
	if (lapic_pv_collect_locked(a))
		lapic_bit_set(a->s.isr, (unsigned)lapic_highest(a->s.isr), false);
	lapic_update_locked(a);
}

/* Lock for an access by the processor itself. */
static void lapic_lock_own(struct lapic *a)
{
	lapic_lock(a);
	lapic_collect_locked(a);
}

/* End of interrupt: the most important one in service (SDM vol. 3 11.8.5). */
static void lapic_eoi(struct lapic *a)
{
	const struct lapics *l = a->l;

	lapic_lock_own(a);
	int v = lapic_highest(a->s.isr);
	bool is_level = v >= 0 && lapic_bit(a->s.tmr, (unsigned)v);

	if (v >= 0) {
		lapic_bit_set(a->s.isr, (unsigned)v, false);
		lapic_update_locked(a);
	}
	lapic_unlock(a);
	if (is_level)
		l->ops->eoi(l->ops_arg, (uint8_t)v);
}

static void lapic_icr_write(struct lapic *a, uint64_t icr, bool is_x2)
{
	lapic_lock(a);
	a->s.icr = icr;
	lapic_unlock(a);
	lapic_send_ipi(a, icr, is_x2);
}

static bool lapic_has_page(const struct lapic *a, uint64_t page)
{
	return lapic_is_on(a) && !lapic_is_x2(a) && (a->s.apic_base & ~0xfffull) == page;
}

/* xAPIC page. Registers are the first four bytes of each 16; anything but an aligned dword
 * write is undefined (SDM vol. 3 11.4.1.2) and ignored. */
static uint64_t lapic_read_at(struct lapics *l, uint64_t page, unsigned cpu, uint64_t off)
{
	uint64_t val = 0;

	if (cpu >= l->n_cpus)
		return UINT64_MAX;
	struct lapic *a = &l->cpu[cpu];

	lapic_lock_own(a);
	if (!lapic_has_page(a, page))
		val = UINT64_MAX;
	else if (off % 16 < 4 && lapic_reg_find((unsigned)off / 16, false, R))
		val = lapic_reg_read_locked(a, (unsigned)off / 16) >> (8 * (off % 16));
	else if (off % 16 == 0 && !lapic_reg_find((unsigned)off / 16, false, W))
		lapic_error_locked(a, ESR_ILLEGAL_REGISTER);
	lapic_unlock(a);
	return val;
}

static void lapic_write_at(struct lapics *l, uint64_t page, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	unsigned reg = (unsigned)off / 16;

	if (cpu >= l->n_cpus || off % 16 || size != 4)
		return;
	struct lapic *a = &l->cpu[cpu];
	const struct lapic_reg *r = lapic_reg_find(reg, false, W);

	lapic_lock_own(a);
	bool is_mine = lapic_has_page(a, page);
	uint64_t icr_high = a->s.icr & 0xffffffff00000000;

	if (is_mine && !r)
		lapic_error_locked(a, ESR_ILLEGAL_REGISTER);
	else if (is_mine && reg != REG_EOI && reg != REG_ICR)
		lapic_reg_write_locked(a, reg, (uint32_t)val & r->writable);
	lapic_unlock(a);
	if (!is_mine || !r)
		return;
	if (reg == REG_EOI)
		lapic_eoi(a);
	else if (reg == REG_ICR)
		lapic_icr_write(a, icr_high | ((uint32_t)val & r->writable), false);
}

static uint64_t lapic_page_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return lapic_read_at(dev, LAPIC_BASE_ADDR, cpu, off);
}

static void lapic_page_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	lapic_write_at(dev, LAPIC_BASE_ADDR, cpu, off, size, val);
}

static uint64_t lapic_moved_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct lapics *l = dev;

	return lapic_read_at(l, atomic_load(&l->moved_at), cpu, off);
}

static void lapic_moved_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct lapics *l = dev;

	lapic_write_at(l, atomic_load(&l->moved_at), cpu, off, size, val);
}

/* Have a page at PAGE for A, or -1: outside of what the processor addresses, in the way of a
 * device, or not the one other address that is in use. Where there is RAM, RAM it stays: the
 * page is behind it. Holds bus_lock. */
static int lapics_move_page(struct lapics *l, const struct lapic *a, uint64_t page)
{
	if (page == LAPIC_BASE_ADDR || (l->moved_at && page == l->moved_at))
		return 0;
	if (!l->bus || !page || page >> l->phys_bits)
		return -1;
	for (unsigned i = 0; l->moved_at && i < l->n_cpus; i++) {
		struct lapic *other = &l->cpu[i];

		lapic_lock(other);
		bool is_used = other != a && (other->s.apic_base & ~0xfffull) == l->moved_at;

		lapic_unlock(other);
		if (is_used)
			return -1;
	}
	if (l->moved_at)
		bus_remove(l->bus, BUS_MMIO, &l->moved);
	l->moved_at = 0;
	if (bus_add(l->bus, BUS_MMIO, &l->moved, page, LAPIC_PAGE_LEN, NULL) < 0)
		return -1;
	l->moved_at = page;
	return 0;
}

static int lapic_x2_read(struct lapic *a, unsigned reg, uint64_t *val)
{
	int rc = -1;

	lapic_lock_own(a);
	if (lapic_is_x2(a) && lapic_reg_find(reg, true, R)) {
		*val = reg == REG_ICR ? a->s.icr : lapic_reg_read_locked(a, reg);
		rc = 0;
	}
	lapic_unlock(a);
	return rc;
}

/* Bits that a write may carry without #GP: the writable ones, delivery status and remote IRR of
 * the LVTs and the ICR, and in the ICR the destination. */
static uint64_t lapic_x2_allowed(const struct lapic_reg *r, unsigned reg)
{
	uint64_t ok = r->writable;

	if (reg >= REG_LVT && reg < REG_LVT_END)
		ok |= 1 << 12 | 1 << 14;
	if (reg == REG_ICR)
		ok |= 0xffffffff00000000 | 1 << 12;
	return ok;
}

static int lapic_x2_write(struct lapic *a, unsigned reg, uint64_t val)
{
	const struct lapic_reg *r = lapic_reg_find(reg, true, W);

	lapic_lock_own(a);
	bool ok = lapic_is_x2(a) && r && !(val & ~lapic_x2_allowed(r, reg));

	if (ok && reg != REG_EOI && reg != REG_ICR && reg != REG_SELF_IPI)
		lapic_reg_write_locked(a, reg, (uint32_t)val & r->writable);
	lapic_unlock(a);
	if (!ok)
		return -1;
	if (reg == REG_EOI)
		lapic_eoi(a);
	else if (reg == REG_ICR)
		lapic_icr_write(a, val & ~(1ull << 12), true);
	else if (reg == REG_SELF_IPI)
		lapic_send_ipi(a, 1 << 18 | val, true);         /* shorthand self, fixed */
	return 0;
}

/* APIC base: the transitions that SDM vol. 3 figure 11-27 allows. The page is where it should be
 * already; bus_lock keeps it there. */
static int lapic_base_set(struct lapic *a, uint64_t val)
{
	uint64_t mode = val & (BASE_ENABLED | BASE_X2APIC);
	int rc = -1;

	lapic_lock_own(a);
	bool was_on = lapic_is_on(a), was_x2 = lapic_is_x2(a);

	if ((was_x2 && mode == BASE_ENABLED) || (!was_on && (mode & BASE_X2APIC)))
		goto out;
	a->s.apic_base = val;
	if (was_on && !mode)
		lapic_init_state_locked(a);
	if (!was_x2 && lapic_is_x2(a)) {
		a->s.id = a->cpu;
		a->s.ldr = lapic_x2_ldr(a->s.id);
		a->s.icr &= 0xffffffff;
	}
	lapic_update_locked(a);
	rc = 0;
out:
	lapic_unlock(a);
	return rc;
}

static int lapic_base_write(struct lapic *a, uint64_t val)
{
	struct lapics *l = a->l;

	if ((val & 0xfff & ~(BASE_BSP | BASE_ENABLED | BASE_X2APIC)) ||
	    (val & (BASE_ENABLED | BASE_X2APIC)) == BASE_X2APIC)
		return -1;
	if (l->bus)
		bus_lock(l->bus);
	int rc = lapics_move_page(l, a, val & ~0xfffull);

	if (!rc)
		rc = lapic_base_set(a, val);
	if (l->bus)
		bus_unlock(l->bus);
	return rc;
}

bool lapics_has_msr(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE || msr - MSR_X2APIC < MSR_X2APIC_LEN || msr == MSR_PV_EOI;
}

int lapics_msr_read(struct lapics *l, unsigned cpu, uint32_t msr, uint64_t *val)
{
	if (cpu >= l->n_cpus || !lapics_has_msr(msr))
		return -1;
	struct lapic *a = &l->cpu[cpu];

	if (msr - MSR_X2APIC < MSR_X2APIC_LEN)
		return lapic_x2_read(a, msr - MSR_X2APIC, val);
	lapic_lock_own(a);
	*val = msr == MSR_APIC_BASE ? a->s.apic_base : msr == MSR_PV_EOI ? a->s.pv_eoi_msr : a->s.tsc_deadline;
	lapic_unlock(a);
	return 0;
}

int lapics_msr_write(struct lapics *l, unsigned cpu, uint32_t msr, uint64_t val)
{
	if (cpu >= l->n_cpus || !lapics_has_msr(msr))
		return -1;
	struct lapic *a = &l->cpu[cpu];

	if (msr == MSR_APIC_BASE)
		return lapic_base_write(a, val);
	if (msr - MSR_X2APIC < MSR_X2APIC_LEN)
		return lapic_x2_write(a, msr - MSR_X2APIC, val);
	int rc = 0;

	lapic_lock_own(a);
	if (msr == MSR_PV_EOI)
		rc = lapic_pv_write_locked(a, val);
	else
		lapic_timer_set_deadline_locked(a, val);
	lapic_unlock(a);
	return rc;
}

/* ---- the engine's questions ---- */

bool lapics_intr_pending(const struct lapics *l, unsigned cpu)
{
	const struct lapic *a = &l->cpu[cpu];

	return atomic_load(&a->deliverable) >= 0 || (atomic_load(&l->lint0) && atomic_load(&a->takes_extint));
}

int lapics_intr_ack(struct lapics *l, unsigned cpu)
{
	struct lapic *a = &l->cpu[cpu];

	lapic_lock_own(a);
	int v = atomic_load(&a->deliverable);

	if (v >= 0) {
		bool is_alone = lapic_highest(a->s.isr) < 0;

		lapic_bit_set(a->s.irr, (unsigned)v, false);
		lapic_bit_set(a->s.isr, (unsigned)v, true);
		if (is_alone && lapic_highest(a->s.irr) < 0 && !lapic_bit(a->s.tmr, (unsigned)v))
			lapic_pv_offer_locked(a);
		lapic_update_locked(a);
	}
	lapic_unlock(a);
	if (v < 0 && l->ops->pic_ack && atomic_load(&l->lint0) && atomic_load(&a->takes_extint))
		v = l->ops->pic_ack(l->ops_arg);
	return v;
}

unsigned lapics_cr8_read(struct lapics *l, unsigned cpu)
{
	struct lapic *a = &l->cpu[cpu];

	lapic_lock_own(a);
	unsigned class = a->s.tpr >> 4;

	lapic_unlock(a);
	return class;
}

void lapics_cr8_write(struct lapics *l, unsigned cpu, unsigned val)
{
	struct lapic *a = &l->cpu[cpu];

	lapic_lock_own(a);
	a->s.tpr = (val & 0xf) << 4;
	lapic_update_locked(a);
	lapic_unlock(a);
}

/* ---- life ---- */

void lapics_reset(struct lapics *l)
{
	atomic_store(&l->has_own_ids, false);
	for (unsigned i = 0; i < l->n_cpus; i++) {
		struct lapic *a = &l->cpu[i];

		lapic_lock(a);
		a->s.apic_base = LAPIC_BASE_ADDR | BASE_ENABLED | (i ? 0 : BASE_BSP);
		lapic_init_state_locked(a);
		lapic_unlock(a);
	}
	if (!l->bus)
		return;
	bus_lock(l->bus);
	if (l->moved_at)
		bus_remove(l->bus, BUS_MMIO, &l->moved);
	l->moved_at = 0;
	bus_unlock(l->bus);
}

int lapics_new(struct lapics **out, const struct lapics_config *cfg, struct err *err)
{
	if (!cfg->n_cpus || cfg->n_cpus > LAPIC_CPUS_MAX)
		return err_set(err, -EINVAL, "%u processors: from 1 to %d are possible", cfg->n_cpus, LAPIC_CPUS_MAX);
	struct lapics *l = calloc(1, sizeof(*l) + cfg->n_cpus * sizeof(l->cpu[0]));

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->n_cpus = cfg->n_cpus;
	l->ops = cfg->ops;
	l->ops_arg = cfg->ops_arg;
	l->source = cfg->source;
	l->bus = cfg->bus;
	l->phys_bits = cfg->phys_bits;
	l->mem = cfg->mem;
	l->region = (struct bus_region){ .name = "lapic", .dev = l, .read = lapic_page_read,
					 .write = lapic_page_write, .flags = BUS_UNLOCKED };
	l->moved = (struct bus_region){ .name = "lapic-moved", .dev = l, .read = lapic_moved_read,
					.write = lapic_moved_write, .flags = BUS_UNLOCKED };
	for (unsigned i = 0; i < l->n_cpus; i++) {
		struct lapic *a = &l->cpu[i];

		a->l = l;
		a->cpu = i;
		atomic_init(&a->deliverable, -1);
		pthread_mutex_init(&a->lock, NULL);
		lapic_timer_init(a, cfg->loop);
	}
	lapics_reset(l);
	*out = l;
	return 0;
}

void lapics_free(struct lapics *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < l->n_cpus; i++) {
		dev_timer_fini(&l->cpu[i].timer);
		pthread_mutex_destroy(&l->cpu[i].lock);
	}
	free(l);
}

struct bus_region *lapics_region(struct lapics *l)
{
	return &l->region;
}

void lapics_state_get(struct lapics *l, unsigned cpu, struct lapic_state *out)
{
	struct lapic *a = &l->cpu[cpu];

	lapic_lock_own(a);
	*out = a->s;
	lapic_unlock(a);
}

void lapics_state_set(struct lapics *l, unsigned cpu, const struct lapic_state *in)
{
	struct lapic *a = &l->cpu[cpu];

	if (l->bus)
		bus_lock(l->bus);
	bool is_placed = lapics_move_page(l, a, in->apic_base & ~0xfffull) == 0;

	lapic_lock(a);
	a->s = *in;
	a->s.id = lapic_is_x2(a) ? cpu : in->id & 0xff;
	if (a->s.id != cpu)
		atomic_store(&l->has_own_ids, true);
	if (!is_placed)
		a->s.apic_base = LAPIC_BASE_ADDR | (in->apic_base & 0xfff);
	lapic_timer_arm_locked(a);
	lapic_update_locked(a);
	lapic_unlock(a);
	if (l->bus)
		bus_unlock(l->bus);
}
