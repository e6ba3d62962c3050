/* SPDX-License-Identifier: Apache-2.0 */
/* lapic_priv.h - shared by lapic.c (registers, priorities), lapic_msg.c (who gets a message)
 * and lapic_timer.c. */
#ifndef DEV_LAPIC_PRIV_H
#define DEV_LAPIC_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include "dev/dev_timer.h"
#include "dev/lapic.h"

enum {
	LVT_MASKED = 1 << 16,
	LVT_TIMER_PERIODIC = 1 << 17,
	LVT_TIMER_TSC_DEADLINE = 2 << 17,
	LVT_TIMER_MODE = 3 << 17,

	SVR_ENABLED = 1 << 8,

	BASE_BSP = 1 << 8,
	BASE_X2APIC = 1 << 10,
	BASE_ENABLED = 1 << 11,

	LAPIC_PV_EOI_ENABLED = 1,

	ESR_SEND_ILLEGAL = 1 << 5,
	ESR_RECEIVE_ILLEGAL = 1 << 6,
	ESR_ILLEGAL_REGISTER = 1 << 7,
};

/* Delivery modes (SDM vol. 3 11.6.1). */
enum lapic_mode {
	MODE_FIXED, MODE_LOWEST, MODE_SMI, MODE_RESERVED, MODE_NMI, MODE_INIT, MODE_SIPI, MODE_EXTINT
};

struct lapic {
	struct lapics *l;
	unsigned cpu;
	pthread_mutex_t lock;           /* guards s and must_kick */
	struct lapic_state s;
	bool must_kick;                 /* lapic_unlock() will call ops->interrupt() */
	/* Derived from s by lapic_update_locked(); read without the lock by intr_pending(). */
	_Atomic int deliverable;        /* highest vector above the priority; -1: none */
	_Atomic bool takes_extint;      /* LINT0 lets the PIC's interrupts in */
	struct dev_timer timer;
};

struct lapics {
	unsigned n_cpus;
	const struct lapic_cpu_ops *ops;
	void *ops_arg;
	struct source *source;
	struct bus *bus;                /* NULL: pages cannot be moved */
	unsigned phys_bits;
	struct gmem *mem;               /* NULL: no PV EOI */
	struct bus_region region;       /* the page at its usual address */
	struct bus_region moved;        /* at moved_at: of processors that have moved theirs */
	_Atomic uint64_t moved_at;      /* 0: not mapped; written under bus_lock */
	_Atomic bool lint0;             /* level of the PIC's output */
	_Atomic bool has_own_ids;       /* a guest has written an ID: they have to be compared */
	_Atomic unsigned next_lowest;   /* where the search for the lowest priority begins */
	struct lapic cpu[];
};

/* Unlocking tells the engine, outside the lock, when something became deliverable. */
void lapic_lock(struct lapic *a);
void lapic_unlock(struct lapic *a);

static inline bool lapic_is_on(const struct lapic *a) { return a->s.apic_base & BASE_ENABLED; }
static inline bool lapic_is_x2(const struct lapic *a)
{
	return (a->s.apic_base & (BASE_ENABLED | BASE_X2APIC)) == (BASE_ENABLED | BASE_X2APIC);
}

/* Priority of the processor (SDM vol. 3 11.8.3.1). */
uint8_t lapic_ppr_locked(const struct lapic *a);
/* Recompute what is derived; after every change of s. */
void lapic_update_locked(struct lapic *a);
/* Take VECTOR into the IRR; an illegal one becomes an error. */
void lapic_accept_locked(struct lapic *a, uint8_t vector, bool is_level);
void lapic_error_locked(struct lapic *a, uint32_t esr_bit);
/* INIT: all but ID and APIC base (SDM vol. 3 11.4.7.3). */
void lapic_init_state_locked(struct lapic *a);

/* lapic_msg.c */
void lapic_send_ipi(struct lapic *from, uint64_t icr, bool is_x2);     /* no lock held */

/* lapic_pv.c: on the processor's own thread */
/* Look what the guest did with an offer, which is over with that. True: it has ended the interrupt. */
bool lapic_pv_collect_locked(struct lapic *a);
void lapic_pv_offer_locked(struct lapic *a);
int lapic_pv_write_locked(struct lapic *a, uint64_t val);      /* -1: #GP */

/* lapic_timer.c */
uint64_t lapic_timer_unit_ns(const struct lapic_state *s);      /* one count, at LAPIC_BUS_HZ */
void lapic_timer_init(struct lapic *a, struct loop *loop);
void lapic_timer_arm_locked(struct lapic *a);           /* after any change of what drives it */
uint32_t lapic_timer_count_locked(const struct lapic *a);
void lapic_timer_set_count_locked(struct lapic *a, uint32_t count);
void lapic_timer_set_div_locked(struct lapic *a, uint32_t div);
void lapic_timer_set_lvt_locked(struct lapic *a, uint32_t lvt);
void lapic_timer_set_deadline_locked(struct lapic *a, uint64_t tsc);

#endif
