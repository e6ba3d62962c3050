/* SPDX-License-Identifier: Apache-2.0 */
/* firmware.h - start the machine as a PC starts: a ROM at the top of 4 GiB, entered at 0xfffffff0.
 *
 * The ROM's last 256 KiB also lie below 1 MiB, in RAM that stays writable: what firmware does with the PAM
 * registers of a host bridge that it knows - switch to RAM, copy itself there - is as if done. What firmware asks for, it finds in the firmware
 * configuration device.
 *
 * Firmware for UEFI gets a board that it knows: the numbers of Intel's Q35 (bus/pci.h, dev/lpc.h) and RAM that ends below where
 * it places ECAM. Loop thread. */
#ifndef VM_FIRMWARE_H
#define VM_FIRMWARE_H

#include <stdio.h>
#include "bus/bus.h"
#include "dev/acpi_tables.h"
#include "dev/fwcfg.h"
#include "util/cleanup.h"

struct err;
struct firmware;
struct gmem;

/* Read the ROM from PATH: 64 KiB to 8 MiB, a multiple of 4 KiB. LOG_PATH, NULL for none, is made or emptied; what
 * firmware says to port 0x402 goes there. */
int firmware_open(struct firmware **out, const char *path, const char *log_path, struct err *err);
void firmware_free(struct firmware *f);         /* NULL is fine */
DEFINE_AUTO(struct firmware *, firmware_free)

/* Is it firmware for UEFI? */
bool firmware_is_uefi(const struct firmware *f);

/* The ROM, to be mapped at firmware_rom_base(), and the debug port. */
struct bus_region *firmware_rom(struct firmware *f);
uint64_t firmware_rom_base(const struct firmware *f);
/* Let the processors see the ROM as memory (gmem_set_rom()): what they read of it does not come from the region. */
int firmware_place_rom(const struct firmware *f, struct gmem *mem, struct err *err);
struct bus_region *firmware_debug_port(struct firmware *f);

/* Where the VM generation ID belongs: in the last page of what the memory map reserves. */
uint64_t firmware_vmgenid(const struct gmem *mem);

/* Tell firmware about the machine; once, before the first firmware_load(). */
int firmware_describe(struct firmware *f, struct fwcfg *cfg, const struct gmem *mem,
		      const struct acpi_tables_params *acpi, struct err *err);
/* Put into guest memory what is there at power on. */
int firmware_load(struct firmware *f, struct gmem *mem, struct err *err);

#endif
