/* SPDX-License-Identifier: Apache-2.0 */
/* hotplug.h - the registers by which the DSDT learns which PCI slots and processors have changed, and ejects them.
 *
 * ACPI 6.4 sections 6.3.3 (_EJx) and 5.6.6 (Notify: device check, eject request). The registers are ours alone:
 * only the methods that acpi_hotplug.c writes use them. A bit of UP or DOWN makes the general-purpose event of
 * PCI; the method of that event reads both, clears what it has read, and notifies the slots' devices. A device's
 * _EJ0 writes its slot's bit to EJECT. Processors have a register that selects one, and its flags, with an event of
 * their own. All calls hold bus_lock. */
#ifndef DEV_HOTPLUG_H
#define DEV_HOTPLUG_H

#include <stdint.h>
#include "bus/bus.h"
#include "util/fields.h"

struct acpi;

/* Offsets in the block; registers of 4 bytes, a bit per slot. */
enum {
	HOTPLUG_PCI_UP = 0x00,          /* a device has come; a bit goes down by a 1 */
	HOTPLUG_PCI_DOWN = 0x04,        /* it shall go; the same */
	HOTPLUG_PCI_EJECT = 0x08,       /* write: the guest has let go of it; reads 0 */
	HOTPLUG_CPU_SELECT = 0x10,      /* number of a processor */
	HOTPLUG_CPU_FLAGS = 0x14,       /* of that one */
};
enum {
	HOTPLUG_CPU_PRESENT = 1,
	HOTPLUG_CPU_UP = 2, HOTPLUG_CPU_DOWN = 4,       /* it has come, it shall go; down by a 1 */
	HOTPLUG_CPU_EJECT = 8,          /* write: the guest has let go of it */
	HOTPLUG_CPUS_MAX = 64,
};

struct hotplug_state {
	uint32_t pci_up, pci_down;
	uint32_t pci_asked;             /* slots that were told to go and have not yet */
	uint32_t pci_ejected;           /* that the guest has let go of, but whose devices are still with us */
	uint32_t cpu_select;
	uint64_t cpu_present, cpu_up, cpu_down, cpu_asked;      /* a bit per processor, as above */
};
extern const struct state_desc hotplug_state_desc;

struct hotplug_config {
	unsigned n_cpus;                /* that can be, at most HOTPLUG_CPUS_MAX */
	uint64_t cpus_present;          /* that are there at the start; bit 0 at least */
	/* Both on a vCPU's thread: SLOT was ejected; other processors are there than before. */
	void (*eject)(void *arg, unsigned slot);
	void (*cpus_changed)(void *arg);
	void *arg;
};

struct hotplug {
	struct hotplug_state s;
	struct bus_region region;       /* BOARD_HOTPLUG_LEN ports */
	struct acpi *acpi;
	struct hotplug_config cfg;
};

void hotplug_init(struct hotplug *h, struct acpi *acpi, const struct hotplug_config *cfg);
/* Events are forgotten; processors that were to go have gone. */
void hotplug_reset(struct hotplug *h);
/* S has been loaded, from somebody who is not trusted. */
void hotplug_restored(struct hotplug *h);
/* Tell the guest. */
void hotplug_pci_up(struct hotplug *h, unsigned slot);
void hotplug_pci_down(struct hotplug *h, unsigned slot);
/* The slot is empty: it is forgotten. */
void hotplug_pci_gone(struct hotplug *h, unsigned slot);
/* Processor CPU is there, or is asked to go; the first, 0, always is. */
void hotplug_cpu_up(struct hotplug *h, unsigned cpu);
void hotplug_cpu_down(struct hotplug *h, unsigned cpu);

#endif
