/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/lpc.h"

#include "test.h"
#include "util/endian.h"

static struct lpc lpc;

static uint32_t cfg(struct bus *bus, unsigned reg)
{
	bus_write(bus, BUS_PORT, 0, 0xcf8, 4, 0x80000000 | LPC_SLOT << 11 | reg);
	return (uint32_t)bus_read(bus, BUS_PORT, 0, 0xcfc, 4);
}

static void cfg_set(struct bus *bus, unsigned reg, uint32_t val)
{
	cfg(bus, reg);
	bus_write(bus, BUS_PORT, 0, 0xcfc, 4, val);
}

TEST(the_bridge_to_isa_tells_where_the_acpi_registers_are)
{
	const struct pci_layout layout = { .ecam_base = 0xe0000000, .is_q35 = true };
	struct pci_root *root;
	struct bus *bus;

	CHECK_EQ(bus_new(&bus, NULL), 0);
	CHECK_EQ(pci_root_new(&root, bus, &layout, (struct msi_sink){ 0 }, NULL), 0);
	lpc_init(&lpc);
	CHECK_EQ(pci_add(root, &lpc.pci, LPC_SLOT, NULL), 0);
	CHECK_EQ(cfg(bus, 0), 0x29188086);
	CHECK_EQ(cfg(bus, 8) >> 8, 0x060100);
	CHECK_EQ(cfg(bus, 4) & 1, 1);
	cfg_set(bus, 4, 0);
	CHECK_EQ(cfg(bus, 4) & 1, 0);
	cfg_set(bus, 0x40, 0xb001);             /* the registers do not move */
	CHECK_EQ(cfg(bus, 0x40), 0x601);
	CHECK_EQ(cfg(bus, 0x44) & 0x80, 0x80);
	CHECK_EQ(cfg(bus, 0x60), 0x80808080);
	cfg_set(bus, 0x60, 0x0b0a0b0a);
	CHECK_EQ(cfg(bus, 0x60), 0x0b0a0b0a);
	pci_dev_reset(&lpc.pci);
	CHECK_EQ(cfg(bus, 0x60), 0x80808080);
	CHECK_EQ(cfg(bus, 4) & 1, 1);
	pci_remove(&lpc.pci);
	pci_root_free(root);
	bus_free(bus);
}
