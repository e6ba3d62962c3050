/* SPDX-License-Identifier: Apache-2.0 */
/* rtc.h - MC146818 real-time clock with 128 bytes of CMOS memory.
 *
 * Motorola MC146818 datasheet; memory size bytes and century (0x32) as PC firmware keeps
 * them. The time is the source's wall clock plus what the guest has changed, UTC. Alarm,
 * periodic and update-ended interrupts. No daylight saving, no square wave pin.
 * All calls hold bus_lock. */
#ifndef DEV_RTC_H
#define DEV_RTC_H

#include <stdint.h>
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/dev_timer.h"
#include "util/fields.h"

enum { RTC_CMOS_LEN = 128 };

struct rtc_state {
	uint8_t cmos[RTC_CMOS_LEN];     /* time and date bytes: as last computed */
	uint8_t index;                  /* port 0x70, bits 0-6 */
	uint8_t reserved[7];
	int64_t offset_s;               /* guest's clock - source's wall clock, seconds */
	uint64_t periodic_ns;           /* guest time of the next periodic tick; UINT64_MAX: off */
	int64_t last_s;                 /* guest clock second for which update work was done */
};
extern const struct state_desc rtc_state_desc;

struct rtc {
	struct rtc_state s;
	struct bus_region region;       /* 2 ports */
	struct irq_line irq;
	struct source *source;
	struct dev_timer timer;
	uint64_t low_size, high_size;   /* RAM below and above 4 GiB, for the size bytes */
};

void rtc_init(struct rtc *r, struct bus *bus, struct loop *loop, struct source *source, struct irq_line irq,
	      uint64_t low_size, uint64_t high_size);
void rtc_fini(struct rtc *r);
void rtc_reset(struct rtc *r);                  /* the clock itself and CMOS contents survive */
void rtc_restored(struct rtc *r);               /* after s has been loaded */

#endif
