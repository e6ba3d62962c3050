/* SPDX-License-Identifier: Apache-2.0 */
/* pic.h - the pair of 8259A interrupt controllers of a PC, with the ELCR.
 *
 * Intel 8259A datasheet; edge/level control registers as in the 82371SB (PIIX3). Fully nested,
 * special fully nested, special mask, automatic EOI, rotation, poll. Left out: MCS-80 mode,
 * buffered mode, other cascades than input 2. A request that is withdrawn before the
 * acknowledge gives no interrupt at all instead of a spurious one, because here looking and
 * acknowledging are one step; a poll that finds nothing says so.
 * All calls hold bus_lock, except pic_ack(), pic_return() and pic_intr(). */
#ifndef DEV_PIC_H
#define DEV_PIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "bus/bus.h"
#include "bus/irq.h"
#include "util/fields.h"

struct pic_chip_state {
	uint8_t irr, imr, isr;
	uint8_t level;                  /* inputs asserted */
	uint8_t elcr;                   /* inputs that are level-triggered */
	uint8_t vector_base;            /* ICW2, bits 3-7 */
	uint8_t icw1, icw3, icw4;
	uint8_t init_step;              /* 0: ready; 2, 3, 4: that ICW comes next */
	uint8_t lowest;                 /* input of lowest priority; 7 at first */
	uint8_t read_isr;               /* OCW3: reads give ISR, not IRR */
	uint8_t poll;                   /* next read is a poll */
	uint8_t special_mask;
	uint8_t rotate_on_aeoi;
	uint8_t reserved;
};
struct pic_state {
	struct pic_chip_state chip[2];  /* master, slave */
};
extern const struct state_desc pic_state_desc;

struct pic {
	struct pic_state s;
	struct bus_region region[2];    /* master, slave: 2 ports each */
	struct bus_region elcr_region;  /* 2 ports */
	struct bus *bus;
	struct irq_line out;            /* INTR: to LINT0 of the processors */
	_Atomic bool intr;              /* level of OUT, for pic_intr() */
};

void pic_init(struct pic *p, struct bus *bus, struct irq_line out);
void pic_reset(struct pic *p);
void pic_restored(struct pic *p);               /* after s has been loaded */

void pic_set_irq(void *pic, int n, int level);  /* input 0..15; others: ignored */
/* Acknowledge: the vector, or -1 when there is no request (any more). Takes bus_lock. */
int pic_ack(struct pic *p);
/* VECTOR, the last one that pic_ack() gave, was not delivered: it is requested again, and not in service. Takes bus_lock. */
void pic_return(struct pic *p, uint8_t vector);
bool pic_intr(const struct pic *p);             /* level of the output. Any thread */

#endif
