/* SPDX-License-Identifier: Apache-2.0 */
/* map.h - the guest-physical address space of the `pc` board, beside dev/board.h's devices.
 *
 *	0               RAM, up to 3 GiB (GMEM_LOW_MAX), with firmware for UEFI up to 2.75 GiB; the loader's tables below 640 KiB
 *	0x000e0000      ACPI tables, where a guest searches for the RSDP
 *	0x000ff000      VM generation ID, in the last page of theirs
 *	0xc0000000      32-bit PCI window
 *	0xe0000000      ECAM, bus 0
 *	0xfec00000      I/O APIC, local APIC (dev/board.h)
 *	0x100000000     RAM above 4 GiB (GMEM_HIGH_BASE)
 *	after it        64-bit PCI window */
#ifndef VM_MAP_H
#define VM_MAP_H

#define MAP_ACPI_BASE 0xe0000u
#define MAP_ACPI_SIZE 0x20000u
#define MAP_VMGENID (MAP_ACPI_BASE + MAP_ACPI_SIZE - 4096)
#define MAP_UEFI_LOW_MAX 0xb0000000u    /* OVMF places ECAM there, and ACPI tables say so from the start */
#define MAP_MMIO32_BASE 0xc0000000u
#define MAP_MMIO32_SIZE 0x20000000u
#define MAP_ECAM_BASE 0xe0000000u
#define MAP_ECAM_SIZE 0x100000u
#define MAP_MMIO64_ALIGN (1ull << 30)
#define MAP_MMIO64_SIZE (16ull << 30)

#endif
