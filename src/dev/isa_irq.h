/* SPDX-License-Identifier: Apache-2.0 */
/* isa_irq.h - one wire per interrupt, soldered to both the PIC and the I/O APIC.
 *
 * Interrupts 0..15 reach PIC input n and I/O APIC pin n, except 0 (the PIT), which is pin 2 as
 * the MADT's override says; 16..23 reach the I/O APIC only. Holds bus_lock like both. */
#ifndef DEV_ISA_IRQ_H
#define DEV_ISA_IRQ_H

#include "bus/irq.h"

struct ioapic;
struct pic;

struct isa_irq {
	struct pic *pic;
	struct ioapic *ioapic;
};

/* The line of interrupt N, for the device that raises it. I is borrowed by the line. */
struct irq_line isa_irq_line(struct isa_irq *i, int n);

#endif
