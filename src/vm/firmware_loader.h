/* SPDX-License-Identifier: Apache-2.0 */
/* firmware_loader.h - what firmware is told to do with ACPI tables: the script "etc/table-loader" of the firmware configuration
 * device, by which it places them where it likes, fills in their addresses and checksums.
 *
 * The format is QEMU's (hw/acpi/bios-linker-loader.c, include/hw/acpi/bios-linker-loader.h): entries of 128 bytes. Pure functions. */
#ifndef VM_FIRMWARE_LOADER_H
#define VM_FIRMWARE_LOADER_H

#include <stddef.h>
#include <stdint.h>

enum { FIRMWARE_LOADER_ENTRY = 128, FIRMWARE_LOADER_MAX = 32 * FIRMWARE_LOADER_ENTRY };

#define FIRMWARE_RSDP_FILE "etc/acpi/rsdp"
#define FIRMWARE_TABLES_FILE "etc/acpi/tables"

/* The script that puts nothing but the RSDP where it is searched: the tables lie in memory already. Its length. */
size_t firmware_loader_for_rsdp(uint8_t script[FIRMWARE_LOADER_MAX]);
/* The script for TABLES, LEN bytes, as acpi_tables_build() makes them for address 0, the RSDP first: as the file of tables and, their
 * beginning, as the file of the RSDP. Checksums that will change are set to 0. Its length; 0: these are no tables of ours. */
size_t firmware_loader_for_tables(uint8_t script[FIRMWARE_LOADER_MAX], uint8_t *tables, size_t len);

#endif
