/* SPDX-License-Identifier: Apache-2.0 */
/* kvmclock.h - the paravirtual clock, for engines whose host does not provide it.
 *
 * Linux Documentation/virt/kvm/x86/msr.rst: MSRs 0x4b564d00/01 (and the old 0x11/0x12). The
 * guest registers a structure per processor; it holds one pair of (TSC, nanoseconds) and the
 * factor between them. All processors get the same pair, so that their clocks agree and the
 * "TSC stable" flag is true. Calls for one CPU come from its own thread, or while it is
 * stopped. */
#ifndef DEV_KVMCLOCK_H
#define DEV_KVMCLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include "mem/gmem.h"
#include "util/cleanup.h"
#include "util/fields.h"
#include "util/source.h"

struct kvmclock;
struct err;

/* What the guest has set for one processor. */
struct kvmclock_state {
	uint64_t system_time_msr;       /* address | 1: enabled */
	uint64_t wall_clock_msr;        /* last address written; one for the machine, kept per CPU */
	uint32_t version;               /* of the structure: even */
	uint32_t reserved;
};
extern const struct state_desc kvmclock_state_desc;

/* What all processors share: the clock's time NS belongs to the TSC (without a processor's offset). */
struct kvmclock_base {
	uint64_t tsc, ns;
	uint32_t wall_version;          /* even */
	uint32_t reserved;
};
extern const struct state_desc kvmclock_base_desc;

/* TSC_OFFSET(arg, cpu): guest TSC - source_tsc(); NULL: 0. */
int kvmclock_new(struct kvmclock **out, unsigned n_cpus, struct gmem *mem, struct source *source,
		 uint64_t (*tsc_offset)(void *arg, unsigned cpu), void *arg, struct err *err);
void kvmclock_free(struct kvmclock *k);         /* NULL is fine */
DEFINE_AUTO(struct kvmclock *, kvmclock_free)
void kvmclock_reset(struct kvmclock *k);        /* vCPUs stopped */

bool kvmclock_has_msr(uint32_t msr);
int kvmclock_msr_read(struct kvmclock *k, unsigned cpu, uint32_t msr, uint64_t *val);   /* -1: #GP */
int kvmclock_msr_write(struct kvmclock *k, unsigned cpu, uint32_t msr, uint64_t val);   /* -1: #GP */

/* The offset of CPU's TSC has changed: its structure is written again, so that the clock does
 * not jump. On that vCPU's thread. */
void kvmclock_tsc_changed(struct kvmclock *k, unsigned cpu);
/* After a restore, vCPUs stopped: rewrite every structure with a new pair of the same clock, which
 * neither jumps nor goes back. WAS_STOPPED tells guests that watchdogs should not bark. */
void kvmclock_resync(struct kvmclock *k, bool was_stopped);

void kvmclock_state_get(struct kvmclock *k, unsigned cpu, struct kvmclock_state *out);
void kvmclock_state_set(struct kvmclock *k, unsigned cpu, const struct kvmclock_state *in);
/* What guests with that clock compute at TSC (without a processor's offset), TSC_HZ fast. */
uint64_t kvmclock_base_at(const struct kvmclock_base *b, uint64_t tsc_hz, uint64_t tsc);
void kvmclock_base_get(struct kvmclock *k, struct kvmclock_base *out);
void kvmclock_base_set(struct kvmclock *k, const struct kvmclock_base *in);

#endif
