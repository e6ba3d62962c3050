/* SPDX-License-Identifier: Apache-2.0 */
/* testdev.h - devices for test kernels, not part of a machine unless asked for.
 *
 * As kvm-unit-tests expect them of "isa-debug-exit" and "pc-testdev": a port through which the
 * guest ends the machine with an exit code (writing V ends the process with status
 * (V << 1) | 1), four bytes of port space and 64 KiB of memory-mapped space
 * that remember what was written, and a port for each interrupt line that sets its level. Left
 * out: the port that unmaps a page of guest memory from the host. Contents are no part of saved
 * state. All calls hold bus_lock. */
#ifndef DEV_TESTDEV_H
#define DEV_TESTDEV_H

#include <stdint.h>
#include "bus/bus.h"
#include "bus/irq.h"

enum { TESTDEV_LINES = 24, TESTDEV_LATCH_LEN = 4, TESTDEV_MMIO_LEN = 0x10000 };

struct testdev {
	struct bus_region region;       /* 4 ports: exit */
	struct bus_region latch;        /* TESTDEV_LATCH_LEN ports */
	struct bus_region lines;        /* TESTDEV_LINES ports; bit 0 is the level */
	struct bus_region mmio;         /* TESTDEV_MMIO_LEN bytes */
	void (*exit_request)(void *arg, int status);    /* vCPU thread, bus_lock held */
	void *arg;
	struct irq_line irq[TESTDEV_LINES];
	uint8_t latch_data[TESTDEV_LATCH_LEN];
	uint8_t mmio_data[TESTDEV_MMIO_LEN];
};

/* IRQ[n] (copied) is what line port n drives. */
void testdev_init(struct testdev *t, const struct irq_line irq[TESTDEV_LINES],
		  void (*exit_request)(void *arg, int status), void *arg);

#endif
