/* SPDX-License-Identifier: Apache-2.0 */
/* board.h - addresses and interrupt numbers of the `pc` board, each said once.
 *
 * The machine maps regions here and the ACPI tables announce the same numbers. Devices do
 * not include this file: they know offsets, not addresses. */
#ifndef DEV_BOARD_H
#define DEV_BOARD_H

/* Ports: base and length. */
enum {
	BOARD_PIC0_PORT = 0x20, BOARD_PIC1_PORT = 0xa0, BOARD_PIC_LEN = 2,
	BOARD_ELCR_PORT = 0x4d0, BOARD_ELCR_LEN = 2,
	BOARD_PIT_PORT = 0x40, BOARD_PIT_LEN = 4,
	BOARD_PORT61_PORT = 0x61, BOARD_PORT61_LEN = 1,
	BOARD_I8042_DATA_PORT = 0x60, BOARD_I8042_CMD_PORT = 0x64, BOARD_I8042_LEN = 1,
	BOARD_RTC_PORT = 0x70, BOARD_RTC_LEN = 2,
	BOARD_POST_PORT = 0x80, BOARD_POST_LEN = 1,
	BOARD_DEBUG_PORT = 0xe9, BOARD_DEBUG_LEN = 1,
	BOARD_TESTDEV_PORT = 0xf4, BOARD_TESTDEV_LEN = 4,
	BOARD_TESTDEV_LATCH_PORT = 0xe0, BOARD_TESTDEV_LINES_PORT = 0x2000,
	BOARD_COM1_PORT = 0x3f8, BOARD_COM2_PORT = 0x2f8, BOARD_UART_LEN = 8,
	BOARD_PM_PORT = 0x600, BOARD_PM_LEN = 16,       /* event block, control, timer: see acpi.h */
	BOARD_GPE_PORT = 0x610, BOARD_GPE_LEN = 4,      /* general-purpose events: see acpi.h */
	BOARD_HOTPLUG_PORT = 0x620, BOARD_HOTPLUG_LEN = 0x20,   /* see hotplug.h */
	BOARD_FIRMWARE_DEBUG_PORT = 0x402, BOARD_FIRMWARE_DEBUG_LEN = 1,
	BOARD_FWCFG_PORT = 0x510, BOARD_FWCFG_DMA_PORT = 0x514,
	BOARD_PCI_CFG_PORT = 0xcf8, BOARD_PCI_CFG_LEN = 8,
	BOARD_RESET_PORT = 0xcf9,                       /* inside the PCI block; bytes only */
};

/* Global system interrupts; below 16 also the PIC input, except the PIT's (PIC input 0). */
enum {
	BOARD_GSI_PIT = 2, BOARD_GSI_COM2 = 3, BOARD_GSI_COM1 = 4, BOARD_GSI_RTC = 8, BOARD_GSI_SCI = 9,
	BOARD_N_GSI = 24,
};

#define BOARD_IOAPIC_BASE 0xfec00000u
#define BOARD_IOAPIC_LEN 0x1000u
#define BOARD_LAPIC_BASE 0xfee00000u
#define BOARD_LAPIC_LEN 0x1000u
#define BOARD_TESTDEV_BASE 0xff000000u

#endif
