/* SPDX-License-Identifier: Apache-2.0 */
/* bus.h - which device answers an address, for ports and for memory-mapped I/O.
 *
 * A device registers a region and sees offsets into it, never its own address. Accesses are
 * 1, 2, 4 or 8 bytes (ports: 1, 2, 4). What nobody claims reads as all ones and swallows
 * writes. An access that leaves its region is treated as unclaimed.
 *
 * Locking. The machine has one device lock (bus_lock). Dispatch takes it around every call
 * of a region that is not BUS_UNLOCKED; the loop thread takes it around callbacks that touch
 * such devices. Regions marked BUS_UNLOCKED (LAPIC page, virtio doorbells) do their own
 * locking and may be called by several vCPU threads at once. Lock order: bus_lock, then a
 * device's own lock; never the other way round. Regions may be added, moved and removed at
 * any time by a thread that holds bus_lock (PCI BARs do). A call of a BUS_UNLOCKED region that
 * has begun may still run when bus_remove() returns: free such a device with vCPUs stopped. */
#ifndef BUS_BUS_H
#define BUS_BUS_H

#include <stdbool.h>
#include <stdint.h>
#include "util/cleanup.h"

struct bus;
struct err;

enum bus_space { BUS_PORT, BUS_MMIO };

enum bus_flag {
	BUS_UNLOCKED = 1,       /* the region locks for itself */
	BUS_BYTES = 2,          /* an 8-bit device: wider accesses are split, lowest address first */
};

struct bus_region {
	const char *name;                       /* "uart0": for messages and the memory map dump */
	uint64_t base, size;                    /* set by bus_add() */
	void *dev;
	/* SIZE is 1, 2, 4 or 8 and OFF + SIZE <= region size. CPU is the accessing vCPU. */
	uint64_t (*read)(void *dev, unsigned cpu, uint64_t off, unsigned size);
	void (*write)(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val);
	unsigned flags;
	bool is_mapped;                         /* private to the bus */
};

int bus_new(struct bus **out, struct err *err);
void bus_free(struct bus *b);                   /* NULL is fine; regions belong to their devices */
DEFINE_AUTO(struct bus *, bus_free)

void bus_lock(struct bus *b);
void bus_unlock(struct bus *b);

/* Map REGION (borrowed until bus_remove) at BASE. -EINVAL when it is empty or wraps, -EEXIST
 * when it overlaps another; the names of both are in the sentence. */
int bus_add(struct bus *b, enum bus_space space, struct bus_region *r, uint64_t base, uint64_t size,
	    struct err *err);
void bus_remove(struct bus *b, enum bus_space space, struct bus_region *r); /* unmapped: nothing happens */

/* Dispatch. Called by vCPU threads, without bus_lock. */
uint64_t bus_read(struct bus *b, enum bus_space space, unsigned cpu, uint64_t addr, unsigned size);
void bus_write(struct bus *b, enum bus_space space, unsigned cpu, uint64_t addr, unsigned size, uint64_t val);

/* For the memory map dump: call FN for every region in address order, under the lock. */
void bus_each(struct bus *b, enum bus_space space, void (*fn)(void *arg, const struct bus_region *r), void *arg);

#endif
