/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/lpc.h"

#include <string.h>
#include "dev/board.h"
#include "util/endian.h"

enum {
	LPC_COMMAND = 0x04, COMMAND_IO = 1,
	LPC_PMBASE = 0x40, PMBASE_IS_IO = 1,
	LPC_ACPI_CNTL = 0x44, ACPI_CNTL_EN = 0x80,
	LPC_PIRQ_A = 0x60, LPC_PIRQ_E = 0x68, PIRQ_LEN = 4, PIRQ_OFF = 0x80,
};

void lpc_init(struct lpc *l)
{
	uint8_t *cfg = l->pci.s.cfg, *wmask = l->pci.wmask;

	*l = (struct lpc){ .pci = { .name = "lpc", .vendor = 0x8086, .device = 0x2918, .revision = 2, .class_code = 0x060100,
				    .subvendor = 0x1af4, .subdevice = 0x1100 } };
	pci_dev_init(&l->pci);
	/* It decodes ports whatever this says; drivers want to see it go up. */
	cfg[LPC_COMMAND] = COMMAND_IO;
	wmask[LPC_COMMAND] |= COMMAND_IO;
	put_le32(cfg + LPC_PMBASE, BOARD_PM_PORT | PMBASE_IS_IO);       /* the registers stay there: read only */
	cfg[LPC_ACPI_CNTL] = ACPI_CNTL_EN;
	memset(cfg + LPC_PIRQ_A, PIRQ_OFF, PIRQ_LEN);
	memset(cfg + LPC_PIRQ_E, PIRQ_OFF, PIRQ_LEN);
	memset(wmask + LPC_PIRQ_A, 0x8f, PIRQ_LEN);
	memset(wmask + LPC_PIRQ_E, 0x8f, PIRQ_LEN);
}
