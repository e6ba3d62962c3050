/* SPDX-License-Identifier: Apache-2.0 */
/* hotplug.h - the registers by which the DSDT learns which PCI slots have changed, and ejects what is in them.
 *
 * ACPI 6.4 sections 6.3.3 (_EJx) and 5.6.6 (Notify: device check, eject request). The registers are ours alone:
 * only the methods that acpi_hotplug.c writes use them. A bit of UP or DOWN makes the general-purpose event of
 * PCI; the method of that event reads both, clears what it has read, and notifies the slots' devices. A device's
 * _EJ0 writes its slot's bit to EJECT. All calls hold bus_lock. */
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
};

struct hotplug_state {
	uint32_t pci_up, pci_down;
	uint32_t pci_asked;             /* slots that were told to go and have not yet */
	uint32_t pci_ejected;           /* that the guest has let go of, but whose devices are still with us */
};
extern const struct state_desc hotplug_state_desc;

struct hotplug {
	struct hotplug_state s;
	struct bus_region region;       /* BOARD_HOTPLUG_LEN ports */
	struct acpi *acpi;
	/* SLOT was ejected; vCPU thread. */
	void (*eject)(void *arg, unsigned slot);
	void *arg;
};

void hotplug_init(struct hotplug *h, struct acpi *acpi, void (*eject)(void *arg, unsigned slot), void *arg);
void hotplug_reset(struct hotplug *h);
/* Tell the guest. */
void hotplug_pci_up(struct hotplug *h, unsigned slot);
void hotplug_pci_down(struct hotplug *h, unsigned slot);
/* The slot is empty: it is forgotten. */
void hotplug_pci_gone(struct hotplug *h, unsigned slot);

#endif
