/* SPDX-License-Identifier: Apache-2.0 */
/* pit.h - 8254 interval timer and the system control port 0x61.
 *
 * Intel 8254 datasheet; port 0x61 as in the 82371SB. Channel 0 interrupts, channel 2 is the
 * speaker's, with its gate and output at port 0x61; channel 1 counts and does nothing.
 * Counters are computed from guest time when they are read. Modes 0-5, latch and read-back,
 * BCD. No sound. All calls hold bus_lock. */
#ifndef DEV_PIT_H
#define DEV_PIT_H

#include <stdint.h>
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/dev_timer.h"
#include "util/fields.h"

#define PIT_HZ 1193182u

struct pit_channel_state {
	uint64_t start_ns;              /* guest time at which counting of COUNT began */
	uint64_t paused_ns;             /* gate low: guest time counted until then */
	uint64_t next_ns;               /* channel 0: guest time of the next rising edge; UINT64_MAX: none */
	uint32_t count;                 /* 1..65536 (BCD: 1..10000) */
	uint16_t latch;                 /* latched count */
	uint8_t mode;                   /* 0-5 */
	uint8_t bcd;
	uint8_t access;                 /* 1: low byte, 2: high byte, 3: low then high */
	uint8_t write_low;              /* low byte of a two-byte write */
	uint8_t write_step, read_step;  /* 1: the high byte comes next */
	uint8_t latched;                /* bytes of LATCH still to be read: 0, 1, 2 */
	uint8_t status, status_latched; /* read-back status */
	uint8_t gate;
	uint8_t is_counting;            /* loaded, and in modes 1 and 5 triggered */
	uint8_t reserved[3];
};
struct pit_state {
	struct pit_channel_state ch[3];
	uint8_t port61;                 /* bits 0-3 as written */
	uint8_t refresh;                /* toggles at each read of port 0x61 */
	uint8_t reserved[6];
};
extern const struct state_desc pit_state_desc;

struct pit {
	struct pit_state s;
	struct bus_region region;       /* 4 ports */
	struct bus_region port61;       /* 1 port */
	struct irq_line irq;
	struct source *source;
	struct dev_timer timer;         /* next edge of channel 0 */
};

void pit_init(struct pit *p, struct bus *bus, struct loop *loop, struct source *source, struct irq_line irq);
void pit_fini(struct pit *p);
void pit_reset(struct pit *p);
void pit_restored(struct pit *p);               /* after s has been loaded */

#endif
