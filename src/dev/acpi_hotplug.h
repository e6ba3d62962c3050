/* SPDX-License-Identifier: Apache-2.0 */
/* acpi_hotplug.h - the part of the DSDT that speaks with the registers of hotplug.h. Pure functions. */
#ifndef DEV_ACPI_HOTPLUG_H
#define DEV_ACPI_HOTPLUG_H

struct aml;

/* Inside the device of the PCI root \_SB.PCI0: a device for each slot, and what tells them. */
void acpi_hotplug_pci(struct aml *a);
/* The methods of the general-purpose events, in the scope \_GPE. */
void acpi_hotplug_events(struct aml *a);

#endif
