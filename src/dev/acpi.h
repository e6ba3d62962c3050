/* SPDX-License-Identifier: Apache-2.0 */
/* acpi.h - fixed hardware of ACPI: power management registers, power button, reset register.
 *
 * ACPI 6.4 section 4.8 (PM1 event, PM1 control, PM timer), 4.8.3.6 (reset register; port
 * 0xcf9 as in Intel chipsets). The machine is always in ACPI mode: SCI_EN reads 1 and there
 * is no SMI command port. Sleep type 5 with SLP_EN powers off, and so does type 0, by which OVMF means that; no other sleep state exists.
 * One block of general-purpose events (4.8.4.1) carries what hotplug.h and vmgenid.h have to say.
 * All calls hold bus_lock. */
#ifndef DEV_ACPI_H
#define DEV_ACPI_H

#include <stdbool.h>
#include <stdint.h>
#include "bus/bus.h"
#include "bus/irq.h"
#include "dev/dev_timer.h"
#include "util/fields.h"

/* Offsets in the PM block; the FADT announces them. */
enum {
	ACPI_PM1_EVT = 0,               /* status (2 bytes), enable (2 bytes) */
	ACPI_PM1_CNT = 4,               /* 2 bytes */
	ACPI_PM_TMR = 8,                /* 4 bytes, 32 bits wide */
	ACPI_S5_TYPE = 5,               /* SLP_TYP of _S5 */
	ACPI_S5_TYPE_UEFI = 0,          /* what OVMF takes it for without looking, as QEMU's boards have it */
	ACPI_RESET_VALUE = 6,           /* byte to the reset register: hard reset now */
};

/* General-purpose events: status and enable are ACPI_GPE_BYTES each. */
enum { ACPI_GPE_BYTES = 2 };
enum acpi_gpe { ACPI_GPE_VMGENID = 0, ACPI_GPE_PCI = 1, ACPI_GPE_CPU = 2 };     /* the methods _E00, _E01, _E02 */
#define ACPI_PM_TMR_HZ 3579545u

struct acpi_state {
	uint16_t pm1_sts, pm1_en, pm1_cnt;
	uint8_t reset_reg;
	uint8_t reserved;
	uint16_t gpe_sts, gpe_en;       /* bits by enum acpi_gpe */
	uint16_t gpe_used;              /* enabled at some time: a guest disables one while it deals with it */
	uint64_t timer_ns;              /* guest time up to which timer carries have been noticed */
};
extern const struct state_desc acpi_state_desc;

struct acpi_config {
	struct irq_line sci;            /* level */
	void (*reset_request)(void *arg);
	void (*poweroff_request)(void *arg);    /* both: vCPU thread, bus_lock held */
	void *arg;
};

struct acpi {
	struct acpi_state s;
	struct bus_region pm;           /* BOARD_PM_LEN ports */
	struct bus_region gpe;          /* BOARD_GPE_LEN ports */
	struct bus_region reset;        /* 1 port; pci_root_set_reset_port() */
	struct acpi_config cfg;
	struct source *source;
	struct dev_timer timer;         /* next carry of the PM timer while it is enabled */
};

void acpi_init(struct acpi *a, struct bus *bus, struct loop *loop, struct source *source,
	       const struct acpi_config *cfg);
void acpi_fini(struct acpi *a);
void acpi_reset(struct acpi *a);
void acpi_restored(struct acpi *a);             /* after s has been loaded */
void acpi_press_power_button(struct acpi *a);   /* holds bus_lock */
void acpi_raise_gpe(struct acpi *a, enum acpi_gpe n);
/* Does the guest deal with it? */
bool acpi_hears_gpe(const struct acpi *a, enum acpi_gpe n);

#endif
