/* SPDX-License-Identifier: Apache-2.0 */
/* boot.h - bring a kernel into guest memory and a processor to its first instruction.
 *
 * Understood: Linux bzImage (unpacked on the host, entered at startup_64 of the vmlinux inside,
 * so the kernel does not relocate itself: KASLR is off), ELF vmlinux, ELF with a PVH note, and
 * multiboot 1. Files stay open, so that a machine reset loads the same kernel again. */
#ifndef VM_BOOT_H
#define VM_BOOT_H

#include <stdint.h>
#include "util/cleanup.h"

struct boot;
struct err;
struct gmem;
struct x86_state;

struct boot_files {
	const char *kernel;
	const char *initrd;     /* NULL: none */
	const char *cmdline;    /* NULL: empty */
};

/* Open the files (strings are copied). */
int boot_open(struct boot **out, const struct boot_files *files, struct err *err);
void boot_free(struct boot *b);                 /* NULL is fine */
DEFINE_AUTO(struct boot *, boot_free)

/* Fill guest memory and set BSP (power-on state first) to the kernel's entry. RSDP: guest
 * address of the ACPI root pointer, 0: none. No vCPU runs. */
int boot_load(struct boot *b, struct gmem *mem, uint64_t rsdp, struct x86_state *bsp, struct err *err);

#endif
