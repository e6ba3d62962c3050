/* SPDX-License-Identifier: Apache-2.0 */
/* lpc.h - the bridge to ISA of Intel's chipsets, as far as firmware for UEFI looks at it.
 *
 * Intel I/O Controller Hub 9 (ICH9) datasheet, chapter "LPC Interface Bridge Registers (D31:F0)": the class of an ISA
 * bridge, behind which firmware finds the serial port; PMBASE and ACPI_CNTL, which tell where the ACPI registers are (acpi.h); routing
 * of interrupt pins, which is stored and has no effect, for there are none. All calls hold bus_lock. */
#ifndef DEV_LPC_H
#define DEV_LPC_H

#include "bus/pci.h"

enum { LPC_SLOT = 31 };

struct lpc {
	struct pci_dev pci;             /* all of its state */
};

void lpc_init(struct lpc *l);           /* then pci_add() in LPC_SLOT */

#endif
