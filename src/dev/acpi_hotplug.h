/* SPDX-License-Identifier: Apache-2.0 */
/* acpi_hotplug.h - the part of the DSDT that speaks with the registers of hotplug.h. Pure functions. */
#ifndef DEV_ACPI_HOTPLUG_H
#define DEV_ACPI_HOTPLUG_H

#include <stdbool.h>

struct aml;

/* Inside the device of the PCI root \_SB.PCI0: a device for each slot, and what tells them. */
void acpi_hotplug_pci(struct aml *a);
/* In the scope \_SB: what tells of processors 0 to N_CPUS - 1; and what the device of processor N has to say of itself. */
void acpi_hotplug_cpus(struct aml *a, unsigned n_cpus);
void acpi_hotplug_cpu(struct aml *a, unsigned n);
/* The methods of the general-purpose events, in the scope \_GPE. */
void acpi_hotplug_events(struct aml *a, bool has_pci, bool has_cpus);

#endif
