/* SPDX-License-Identifier: Apache-2.0 */
/* lapic_page.h - a local APIC's state as the 1 KiB page of registers in which the kernel's KVM gives and takes its own
 * (KVM_GET_LAPIC), so that a machine goes from one kind of engine to the other.
 *
 * Registers are where the xAPIC has them (SDM vol. 3 table 11-1); ID as in the xAPIC and the interrupt command register as two also
 * in x2APIC mode. APIC base and TSC deadline are MSRs, beside the page. */
#ifndef DEV_LAPIC_PAGE_H
#define DEV_LAPIC_PAGE_H

#include <stdint.h>
#include "dev/lapic.h"

enum { LAPIC_PAGE_BYTES = 1024 };

/* The timer of S counts on from guest time NOW_NS as the page says. What the page cannot say, errors that nobody has looked at and
 * PV EOI, is 0. */
void lapic_page_read(struct lapic_state *s, const uint8_t page[LAPIC_PAGE_BYTES], uint64_t apic_base, uint64_t tsc_deadline,
		     uint64_t now_ns);

/* The page of S at NOW_NS. A count that has run out by then is an interrupt that is requested. */
void lapic_page_write(uint8_t page[LAPIC_PAGE_BYTES], const struct lapic_state *s, uint64_t now_ns);

#endif
