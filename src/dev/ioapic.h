/* SPDX-License-Identifier: Apache-2.0 */
/* ioapic.h - the I/O APIC: 24 pins, each turned into a message.
 *
 * Intel 82093AA datasheet, chapter 3; EOI register as in later chipsets (version 0x20). Each
 * interrupt leaves as an MSI (SDM vol. 3 11.11), to dev/lapic.c or into KVM. Polarity is
 * stored and ignored: lines carry "asserted", whatever the wire would do. ExtINT and SMI
 * delivery are dropped: the PIC reaches processors by LINT0 only.
 * All calls hold bus_lock, except ioapic_eoi(), which takes it. */
#ifndef DEV_IOAPIC_H
#define DEV_IOAPIC_H

#include <stdint.h>
#include "bus/bus.h"
#include "bus/irq.h"
#include "util/fields.h"

enum { IOAPIC_PINS = 24 };

struct ioapic_state {
	uint32_t id;                    /* bits 24-27 as written */
	uint32_t index;                 /* IOREGSEL */
	uint64_t redir[IOAPIC_PINS];    /* redirection table; bit 14: remote IRR, bit 12: reads 0 */
	uint32_t level;                 /* pins asserted */
};
extern const struct state_desc ioapic_state_desc;

struct ioapic {
	struct ioapic_state s;
	struct bus_region region;       /* 4 KiB page */
	struct bus *bus;
	struct msi_sink msi;
	/* The set of vectors used by level-triggered pins has changed. NULL: nobody asks. For
	 * cpu_ops.eoi_exits. Called with bus_lock held. */
	void (*vectors_changed)(void *arg, const uint64_t bitmap[4]);
	void *arg;
	uint64_t level_vectors[4];      /* derived; last told to vectors_changed */
};

void ioapic_init(struct ioapic *io, struct bus *bus, struct msi_sink msi,
		 void (*vectors_changed)(void *arg, const uint64_t bitmap[4]), void *arg);
void ioapic_reset(struct ioapic *io);
void ioapic_restored(struct ioapic *io);        /* after s has been loaded */

void ioapic_set_irq(void *ioapic, int pin, int level);  /* shape of irq_line.set; bad pin: ignored */
void ioapic_eoi(struct ioapic *io, uint8_t vector);     /* takes bus_lock */
void ioapic_level_vectors(const struct ioapic *io, uint64_t bitmap[4]);

#endif
