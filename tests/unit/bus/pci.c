/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/pci.h"
#include <errno.h>
#include "test.h"
#include "util/endian.h"
#include "util/err.h"

#define ECAM 0xe0000000ull
static const struct pci_layout layout = {
	.ecam_base = ECAM, .mmio32_base = 0xc0000000, .mmio32_size = 0x1000000,
	.mmio64_base = 1ull << 38, .mmio64_size = 1ull << 30,
};
static struct bus *bus;
static struct pci_root *root;
static struct pci_dev a, b;
static unsigned sent, cfg_reads, cfg_writes;
static uint64_t sent_addr;
static uint32_t sent_data;

static void on_msi(void *arg, uint64_t addr, uint32_t data) { sent++; sent_addr = addr; sent_data = data; }
static void on_cfg_read(struct pci_dev *d, unsigned off, unsigned size) { cfg_reads++; }
static void on_cfg_write(struct pci_dev *d, unsigned off, unsigned size) { cfg_writes++; }

static uint64_t bar_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return off >= 0x1000 ? pci_msix_read(dev, off - 0x1000, size) : 0x42;
}
static void bar_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	if (off >= 0x1000)
		pci_msix_write(dev, off - 0x1000, size, val);
}

static void dev_init(struct pci_dev *d, const char *name)
{
	*d = (struct pci_dev){
		.name = name, .vendor = 0x1af4, .device = 0x1042, .class_code = 0x018000, .n_msix = 3, .msix_bar = 1,
		.msix_off = 0x1000, .cfg_reading = on_cfg_read, .cfg_written = on_cfg_write,
	};
	d->bar[1] = (struct pci_bar){ .size = 0x2000, .region = { "bar1", .dev = d, .read = bar_read, .write = bar_write } };
	d->bar[4] = (struct pci_bar){ .size = 0x10000, .is_64bit = true,
				      .region = { "bar4", .dev = d, .read = bar_read, .write = bar_write } };
	pci_dev_init(d);
}

static void setup(void)
{
	CHECK_EQ(bus_new(&bus, NULL), 0);
	CHECK_EQ(pci_root_new(&root, bus, &layout, (struct msi_sink){ .send = on_msi }, NULL), 0);
	dev_init(&a, "a");
	dev_init(&b, "b");
	CHECK_EQ(pci_add(root, &a, -1, NULL), 0);
	CHECK_EQ(pci_add(root, &b, 5, NULL), 0);
}

static uint64_t cfg(const struct pci_dev *d, unsigned off, unsigned size)
{
	return bus_read(bus, BUS_MMIO, 0, ECAM + d->slot * 0x8000 + off, size);
}

static void cfg_set(const struct pci_dev *d, unsigned off, unsigned size, uint64_t val)
{
	bus_write(bus, BUS_MMIO, 0, ECAM + d->slot * 0x8000 + off, size, val);
}

TEST(ports_and_ecam_show_the_same_function)
{
	setup();
	CHECK_EQ(a.slot, 1);
	CHECK_EQ(cfg(&a, 0, 4), 0x10421af4);
	bus_write(bus, BUS_PORT, 0, 0xcf8, 4, 0x80000000 | 5 << 11 | 8);
	CHECK_EQ(bus_read(bus, BUS_PORT, 0, 0xcfc, 4), 0x01800000);
	CHECK_EQ(bus_read(bus, BUS_PORT, 0, 0xcff, 1), 0x01);
	bus_write(bus, BUS_PORT, 0, 0xcf8, 4, 0x80000000 | 6 << 11);
	CHECK_EQ(bus_read(bus, BUS_PORT, 0, 0xcfc, 4), 0xffffffff);
	bus_write(bus, BUS_PORT, 0, 0xcf8, 4, 0x80010000);              /* bus 1 */
	CHECK_EQ(bus_read(bus, BUS_PORT, 0, 0xcfc, 2), 0xffff);
	bus_write(bus, BUS_PORT, 0, 0xcf8, 4, 0x00000000);              /* not enabled */
	CHECK_EQ(bus_read(bus, BUS_PORT, 0, 0xcfc, 2), 0xffff);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, ECAM, 4), 0x00081b36);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, ECAM + 0x9000, 4), 0xffffffff);     /* function 1 */
	CHECK(cfg_reads > 0);
}

TEST(the_bridge_of_a_q35_moves_the_configuration_space)
{
	struct pci_layout q35 = layout;
	struct pci_dev *bridge;

	q35.is_q35 = true;
	CHECK_EQ(bus_new(&bus, NULL), 0);
	CHECK_EQ(pci_root_new(&root, bus, &q35, (struct msi_sink){ .send = on_msi }, NULL), 0);
	dev_init(&a, "a");
	CHECK_EQ(pci_add(root, &a, -1, NULL), 0);
	bridge = pci_root_bridge(root);
	CHECK_EQ(cfg(bridge, 0, 4), 0x29c08086);
	CHECK_EQ(cfg(bridge, 0x60, 8), ECAM | 1);
	bus_write(bus, BUS_PORT, 0, 0xcf8, 4, 0x80000064);
	bus_write(bus, BUS_PORT, 0, 0xcfc, 4, 0);
	bus_write(bus, BUS_PORT, 0, 0xcf8, 4, 0x80000060);
	bus_write(bus, BUS_PORT, 0, 0xcfc, 4, 0xb0fffff9);              /* reserved bits, and an address in a range */
	CHECK_EQ(bus_read(bus, BUS_PORT, 0, 0xcfc, 4), 0xb0000001);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, ECAM, 4), 0xffffffff);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0xb0008000, 4), 0x10421af4);
	bus_write(bus, BUS_MMIO, 0, 0xb0000060, 4, 0xb0000000);         /* off, through itself */
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0xb0008000, 4), 0xffffffff);
	bus_write(bus, BUS_PORT, 0, 0xcfc, 4, 0xc0000001);              /* over a BAR: refused */
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0xc0008000, 4), 0xffffffff);
	pci_dev_reset(bridge);
	CHECK_EQ(cfg(&a, 0, 4), 0x10421af4);
	put_le64(bridge->s.cfg + 0x60, 0xd0000001);                     /* as a saved machine says */
	CHECK_EQ(pci_dev_restored(bridge, NULL), 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0xd0008000, 4), 0x10421af4);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, ECAM, 4), 0xffffffff);
	pci_remove(&a);
	pci_root_free(root);
	bus_free(bus);
}

TEST(bars_size_move_and_switch_off)
{
	setup();
	uint64_t at = cfg(&a, 0x14, 4);

	CHECK(at >= 0xc0000000 && at < 0xc1000000 && at % 0x2000 == 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, at, 4), 0x42);
	cfg_set(&a, 0x14, 4, 0xffffffff);
	CHECK_EQ(cfg(&a, 0x14, 4), 0xffffe000);
	cfg_set(&a, 0x14, 4, 0xc0800000);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, at, 4), 0xffffffff);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0xc0800000, 4), 0x42);
	cfg_set(&a, 4, 2, 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0xc0800000, 4), 0xffffffff);
	cfg_set(&a, 0x20, 4, 0xffffffff);
	cfg_set(&a, 0x24, 4, 0xffffffff);
	CHECK_EQ(cfg(&a, 0x20, 8), 0xffffffffffff000c);
	cfg_set(&a, 0x20, 4, 0);
	cfg_set(&a, 0x24, 4, 0x77);
	cfg_set(&a, 4, 2, 2);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0x7700000000, 4), 0x42);
	CHECK_EQ(cfg(&a, 0x10, 4), 0);
	cfg_set(&a, 0x10, 4, 0xffffffff);
	CHECK_EQ(cfg(&a, 0x10, 4), 0);                                  /* no such BAR */
	pci_dev_reset(&a);
	CHECK_EQ(cfg(&a, 0x14, 4), at);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, at, 4), 0x42);
}

static void on_moved(void *arg)
{
	++*(int *)arg;
}

TEST(moved_bars_are_told_to_whoever_wants_to_know)
{
	int n = 0;

	setup();
	pci_root_set_moved(root, on_moved, &n);
	cfg_set(&a, 0x14, 4, 0xc0800000);
	CHECK_EQ(n, 1);
	cfg_set(&a, 4, 2, 0);
	CHECK_EQ(n, 2);
	cfg_set(&a, 0x3c, 1, 5);
	CHECK_EQ(n, 2);
}

TEST(bar_over_another_one_waits_until_the_place_is_free)
{
	setup();
	uint64_t at = cfg(&b, 0x14, 4);

	cfg_set(&a, 0x14, 4, at);
	cfg_set(&b, 0x14, 4, 0xc0900000);
	CHECK(a.bar[1].region.is_mapped && a.bar[1].region.base == at);
	cfg_set(&a, 0x14, 4, ECAM);                                     /* over the ECAM itself */
	CHECK(!a.bar[1].region.is_mapped);
	CHECK_EQ(cfg(&a, 0, 2), 0x1af4);
}

static void msix_program(unsigned n, uint64_t addr, uint32_t data, uint32_t ctrl)
{
	uint64_t t = cfg(&a, 0x14, 4) + 0x1000 + 16 * n;

	bus_write(bus, BUS_MMIO, 0, t, 8, addr);
	bus_write(bus, BUS_MMIO, 0, t + 8, 4, data);
	bus_write(bus, BUS_MMIO, 0, t + 12, 4, ctrl);
}

TEST(msix_honours_enable_masks_and_pending)
{
	setup();
	CHECK_EQ(cfg(&a, 0x34, 1), a.msix_cap);
	CHECK_EQ(cfg(&a, a.msix_cap, 4), 2 << 16 | 0x11);
	CHECK_EQ(cfg(&a, a.msix_cap + 4, 4), 0x1001);
	CHECK_EQ(cfg(&a, a.msix_cap + 8, 4), 0x1801);
	msix_program(1, 0xfee01000, 0x41, 0);
	pci_msix_raise(&a, 1);
	CHECK_EQ(sent, 0);                                              /* off: gone */
	cfg_set(&a, a.msix_cap + 2, 2, 0xc000);
	CHECK(pci_msix_enabled(&a));
	pci_msix_raise(&a, 1);
	CHECK_EQ(sent, 0);
	uint64_t pba = cfg(&a, 0x14, 4) + 0x1800;
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, pba, 8), 2);
	bus_write(bus, BUS_MMIO, 0, pba, 8, 0xff);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, pba, 4), 2);
	cfg_set(&a, a.msix_cap + 2, 2, 0x8000);
	CHECK_EQ(sent, 1);
	CHECK_EQ(sent_addr, 0xfee01000);
	CHECK_EQ(sent_data, 0x41);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, pba, 8), 0);
	msix_program(1, 0xfee01000, 0x41, 1);
	pci_msix_raise(&a, 1);
	CHECK_EQ(sent, 1);
	msix_program(1, 0xfee02000, 0x51, 0);
	CHECK_EQ(sent, 2);
	CHECK_EQ(sent_addr, 0xfee02000);
	pci_msix_raise(&a, 3);
	pci_msix_raise(&a, 4000);
	CHECK_EQ(sent, 2);
}

static uint8_t reset_val;
static uint64_t reset_read(void *dev, unsigned cpu, uint64_t off, unsigned size) { return reset_val; }
static void reset_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t v) { reset_val = (uint8_t)v; }

TEST(bytes_at_port_cf9_go_to_the_reset_register)
{
	struct bus_region r = { .name = "reset", .read = reset_read, .write = reset_write };

	setup();
	bus_write(bus, BUS_PORT, 0, 0xcf9, 1, 6);
	CHECK_EQ(reset_val, 0);
	pci_root_set_reset_port(root, &r);
	bus_write(bus, BUS_PORT, 0, 0xcf9, 1, 6);
	CHECK_EQ(reset_val, 6);
	CHECK_EQ(bus_read(bus, BUS_PORT, 0, 0xcf9, 1), 6);
	bus_write(bus, BUS_PORT, 0, 0xcf8, 4, 0x80000800);
	CHECK_EQ(reset_val, 6);
	CHECK_EQ(bus_read(bus, BUS_PORT, 0, 0xcf8, 4), 0x80000800);
}

TEST(full_window_and_full_slots_are_said)
{
	static struct pci_dev d[PCI_SLOTS], big;
	struct err err = ERR_INIT;

	setup();
	dev_init(&big, "big");
	big.bar[1].size = 0x2000000;
	CHECK_EQ(pci_add(root, &big, -1, &err), -ENOSPC);
	CHECK_HAS(err.msg, "'big'");
	CHECK_EQ(pci_add(root, &big, 5, NULL), -EEXIST);
	for (unsigned i = 0; i < PCI_SLOTS - 3; i++) {
		dev_init(&d[i], "d");
		CHECK_EQ(pci_add(root, &d[i], -1, NULL), 0);
	}
	dev_init(&d[31], "last");
	CHECK_EQ(pci_add(root, &d[31], -1, NULL), -ENOSPC);
	pci_remove(&d[3]);
	pci_remove(&d[3]);
	CHECK_EQ(pci_add(root, &d[31], -1, NULL), 0);
}

TEST(restored_configuration_keeps_identity_and_remaps)
{
	setup();
	a.s.cfg[0] = 0;
	a.s.cfg[0x34] = 0xff;
	a.s.cfg[0x17] = 0xc0;
	a.s.cfg[0x16] = 0x90;
	a.s.msix_pending = UINT64_MAX;
	CHECK_EQ(pci_dev_restored(&a, NULL), 0);
	CHECK_EQ(cfg(&a, 0, 2), 0x1af4);
	CHECK_EQ(cfg(&a, 0x34, 1), a.msix_cap);
	CHECK_EQ(a.bar[1].region.base, 0xc0900000 | (cfg(&a, 0x14, 2) & 0xf000));
	CHECK_EQ(a.s.msix_pending, 7);
}

TEST(random_configuration_accesses_harm_nothing)
{
	uint64_t x = 88172645463325252;

	setup();
	for (unsigned i = 0; i < 200000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		unsigned size = 1u << (x & 3);
		uint64_t addr = ECAM + (x >> 2) % 0x40000, val = x * 0x9e3779b97f4a7c15;

		if (x & 1 << 20)
			addr = cfg(&a, 0x14, 4) + (x >> 2) % 0x2000;
		if (x & 1 << 21)
			bus_read(bus, BUS_MMIO, 0, addr, size);
		else
			bus_write(bus, BUS_MMIO, 0, addr, size, val);
		if (!(x & 0xff00))
			bus_write(bus, BUS_PORT, 0, 0xcf8 + (x >> 32) % 8, size > 4 ? 4 : size, val);
		pci_msix_raise(&a, x >> 40 & 3);
	}
	CHECK_EQ(cfg(&a, 0, 4), 0x10421af4);
	pci_remove(&a);
	pci_remove(&b);
	pci_root_free(root);
	bus_free(bus);
}
