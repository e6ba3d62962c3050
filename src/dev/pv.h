/* SPDX-License-Identifier: Apache-2.0 */
/* pv.h - paravirtual help for guests on engines in software, beside their clock: steal time with its
 * "preempted" flag and deferred TLB flushes, and the hypercalls.
 *
 * Linux Documentation/virt/kvm/x86/{msr,cpuid,hypercalls}.rst. MSR 0x4b564d03 registers a structure per
 * processor; the host adds the time that the processor wanted to run and did not, and marks it as
 * preempted while its thread sleeps (halted, paused). Another processor may then ask for a TLB flush at
 * its next entry instead of sending an interrupt. Involuntary preemption by the host's scheduler shows
 * as steal time only.
 *
 * PV EOI is the local APIC's (lapic.h). Calls for one CPU come from its own thread, or while it is
 * stopped. */
#ifndef DEV_PV_H
#define DEV_PV_H

#include <stdbool.h>
#include <stdint.h>
#include "mem/gmem.h"
#include "util/cleanup.h"
#include "util/fields.h"
#include "util/source.h"

struct err;
struct pv;

/* What the guest can see of one processor. */
struct pv_state {
	uint64_t steal_msr;             /* address | 1: enabled */
	uint64_t steal_ns;              /* counted since it was enabled */
	uint32_t version;               /* of the structure: even */
	uint32_t reserved;
};
extern const struct state_desc pv_state_desc;

/* What hypercalls ask of the machine. Any vCPU's thread. */
struct pv_ops {
	/* Send the message LOW (an ICR's lower half) to the processors whose APIC ids are FIRST + the bits
	 * of MASK. How many there are. */
	unsigned (*send_ipi)(void *arg, const uint64_t mask[2], uint32_t first, uint32_t low);
	/* Processor APIC_ID leaves HLT, or the next one, without an interrupt. */
	void (*kick)(void *arg, uint32_t apic_id);
};

int pv_new(struct pv **out, unsigned n_cpus, struct gmem *mem, struct source *source, const struct pv_ops *ops,
	   void *arg, struct err *err);
void pv_free(struct pv *p);                     /* NULL is fine */
DEFINE_AUTO(struct pv *, pv_free)
void pv_reset(struct pv *p);                    /* vCPUs stopped */
void pv_cpu_reset(struct pv *p, unsigned cpu);  /* an INIT: what the guest has registered is forgotten */

bool pv_has_msr(uint32_t msr);
int pv_msr_read(struct pv *p, unsigned cpu, uint32_t msr, uint64_t *val);       /* -1: #GP */
int pv_msr_write(struct pv *p, unsigned cpu, uint32_t msr, uint64_t val);       /* -1: #GP */

/* Hypercall NR from privilege level 0 with arguments A; what the guest finds in RAX. */
int64_t pv_hypercall(struct pv *p, unsigned cpu, uint64_t nr, const uint64_t a[4]);

/* CPU's thread is about to sleep, or has woken up and goes on to execute. pv_busy() is true when the guest
 * wants its TLB flushed first. */
void pv_idle(struct pv *p, unsigned cpu);
bool pv_busy(struct pv *p, unsigned cpu);
/* CPU is executing: bring its steal time up to date, at most once a millisecond. */
void pv_tick(struct pv *p, unsigned cpu);

void pv_state_get(struct pv *p, unsigned cpu, struct pv_state *out);
void pv_state_set(struct pv *p, unsigned cpu, const struct pv_state *in);

#endif
