/* SPDX-License-Identifier: Apache-2.0 */
/* acpi_tables.h - the tables that tell a guest what the board looks like.
 *
 * ACPI 6.4 chapter 5: RSDP, XSDT, FADT, FACS, MADT, MCFG (PCI Firmware 3.2, 4.1.2), DSDT. The
 * AML of the DSDT is written by aml.c. Addresses come from board.h. Pure functions. */
#ifndef DEV_ACPI_TABLES_H
#define DEV_ACPI_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bus/pci.h"

struct err;

enum {
	ACPI_TABLES_MAX = 65536,        /* enough for any machine this builds */
	ACPI_CPUS_MAX = 1024,
};

struct acpi_tables_params {
	unsigned n_cpus;                /* 1..ACPI_CPUS_MAX; APIC ID = number */
	bool has_cpu_hotplug;           /* at most HOTPLUG_CPUS_MAX; those that are there now: */
	uint64_t cpus_present;
	struct pci_layout pci;
	bool has_pci;                   /* root bridge and MCFG */
	bool has_com1, has_com2;
	bool has_rtc;
	bool has_i8042;
	uint64_t vmgenid;               /* where the VM generation ID lies (vmgenid.h); 0: there is none */
};

/* Write all tables into BUF (CAP bytes), to be copied to guest address GPA (multiple of 64,
 * below 4 GiB; 0xe0000 lets a guest find it by searching). The RSDP is the first thing in
 * BUF. Returns the length, or -EINVAL, -ENOSPC with a sentence. */
long acpi_tables_build(uint8_t *buf, size_t cap, uint64_t gpa, const struct acpi_tables_params *p,
		       struct err *err);

#endif
