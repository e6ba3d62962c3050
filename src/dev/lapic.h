/* SPDX-License-Identifier: Apache-2.0 */
/* lapic.h - the local APICs of all processors, for engines that have none of their own.
 *
 * Intel SDM vol. 3 chapter 11 (xAPIC page, x2APIC registers, timer, IPIs). One object for the
 * machine; each processor's APIC has its own mutex, and no two are ever held together, so
 * IPIs between running vCPUs cannot deadlock. Whether an interrupt is deliverable is kept in
 * an atomic that the engine can poll without a lock.
 *
 * Threads: registers are accessed by the owning vCPU's thread; IPIs, MSIs and LINT changes
 * come from any thread; timers from the loop thread. Callbacks are made with no APIC lock
 * held. Lock order: bus_lock, then an APIC's mutex.
 *
 * Left out on purpose: pages at more than one other address at a time (the second such write
 * of APIC base gives #GP), SMI, focus processor checking, CMCI, EOI-broadcast suppression. */
#ifndef DEV_LAPIC_H
#define DEV_LAPIC_H

#include <stdbool.h>
#include <stdint.h>
#include "bus/bus.h"
#include "bus/irq.h"
#include "mem/gmem.h"
#include "util/fields.h"
#include "util/loop.h"
#include "util/source.h"

struct lapics;
struct err;

enum { LAPIC_CPUS_MAX = 255 };
#define LAPIC_BUS_HZ 1000000000u        /* as CPUID 0x40000010 announces it (in kHz) */

enum lapic_lvt { LAPIC_LVT_TIMER, LAPIC_LVT_THERMAL, LAPIC_LVT_PERF, LAPIC_LVT_LINT0,
		 LAPIC_LVT_LINT1, LAPIC_LVT_ERROR, LAPIC_N_LVT };

/* What the guest can see of one APIC. */
struct lapic_state {
	uint64_t apic_base;             /* MSR 0x1b */
	uint32_t id;                    /* APIC ID: number of the processor, or what it wrote */
	uint32_t tpr, ldr, dfr, svr;
	uint32_t esr, esr_pending;      /* as last latched by a write; collected since */
	uint64_t icr;
	uint32_t lvt[LAPIC_N_LVT];
	uint32_t irr[8], isr[8], tmr[8];
	uint32_t timer_div;             /* divide configuration register */
	uint32_t timer_init;            /* initial count */
	uint64_t timer_start_ns;        /* guest time at which the current period began; 0 count: unused */
	uint64_t tsc_deadline;          /* 0: disarmed */
	uint8_t timer_done;             /* one-shot count has run out */
	uint8_t pv_eoi_offered;         /* the guest may end the interrupt in service by its memory */
	uint8_t reserved[6];
	uint64_t pv_eoi_msr;            /* MSR 0x4b564d04: address | 1: enabled */
};
extern const struct state_desc lapic_state_desc;

/* What the APICs do to processors and to the board. All required unless marked. */
struct lapic_cpu_ops {
	void (*interrupt)(void *arg, unsigned cpu);     /* lapics_intr_pending() may have become true */
	void (*nmi)(void *arg, unsigned cpu);
	void (*init)(void *arg, unsigned cpu);          /* INIT IPI; the APIC has been reset already */
	void (*sipi)(void *arg, unsigned cpu, uint8_t vector);
	/* Guest TSC of CPU = source_tsc() + this. NULL: 0. */
	uint64_t (*tsc_offset)(void *arg, unsigned cpu);
	/* End of a level-triggered VECTOR: ioapic_eoi(). Called without bus_lock. */
	void (*eoi)(void *arg, uint8_t vector);
	/* The PIC's vector (pic_ack()), or -1. Called without bus_lock. NULL: no PIC. */
	int (*pic_ack)(void *arg);
};

struct lapics_config {
	unsigned n_cpus;                /* 1..LAPIC_CPUS_MAX; processor 0 boots */
	const struct lapic_cpu_ops *ops;
	void *ops_arg;
	struct loop *loop;
	struct source *source;
	struct bus *bus;                /* for a page that the guest moves; NULL: it cannot be moved */
	unsigned phys_bits;             /* the guest's; 0 without bus */
	struct gmem *mem;               /* for PV EOI; NULL: there is none */
};

int lapics_new(struct lapics **out, const struct lapics_config *cfg, struct err *err);
void lapics_free(struct lapics *l);             /* loop thread, vCPUs gone; NULL is fine */
DEFINE_AUTO(struct lapics *, lapics_free)
void lapics_reset(struct lapics *l);            /* power-on state of all; vCPUs stopped, bus_lock not held */

/* The xAPIC page: BUS_UNLOCKED, 4 KiB; the machine maps it at its usual address. */
struct bus_region *lapics_region(struct lapics *l);

/* How many of the processors FIRST + bits of MASK exist; they get the message LOW, an ICR's lower half
 * of fixed or NMI delivery. Any thread. */
unsigned lapics_send_mask(struct lapics *l, const uint64_t mask[2], uint32_t first, uint32_t low);

/* APIC base, TSC deadline, x2APIC, PV EOI. */
bool lapics_has_msr(uint32_t msr);
int lapics_msr_read(struct lapics *l, unsigned cpu, uint32_t msr, uint64_t *val);       /* -1: #GP */
int lapics_msr_write(struct lapics *l, unsigned cpu, uint32_t msr, uint64_t val);       /* -1: #GP */

/* The engine's questions; CPU's own thread (pending: any thread). */
int lapics_intr_ack(struct lapics *l, unsigned cpu);
bool lapics_intr_pending(const struct lapics *l, unsigned cpu);
unsigned lapics_cr8_read(struct lapics *l, unsigned cpu);
void lapics_cr8_write(struct lapics *l, unsigned cpu, unsigned val);

/* Inputs. Any thread. */
struct msi_sink lapics_msi_sink(struct lapics *l);
void lapics_set_lint0(struct lapics *l, int level);     /* the PIC's output, to every processor */
void lapics_pulse_lint1(struct lapics *l);              /* the NMI button */

/* The TSC offset of CPU has changed: the deadline is re-computed. */
void lapics_tsc_changed(struct lapics *l, unsigned cpu);

/* Saved state; CPU stopped, bus_lock not held. lapics_state_set() re-arms the timer; a page at an
 * address where none can be goes back to the usual one. Restore copies and checks. */
void lapics_state_get(struct lapics *l, unsigned cpu, struct lapic_state *out);
void lapics_state_set(struct lapics *l, unsigned cpu, const struct lapic_state *in);

#endif
