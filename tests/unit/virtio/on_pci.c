/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device on the real PCI bus: found through configuration space alone, as firmware
 * and kernels do, then driven through the bus. */
#include "bus/pci.h"
#include "mem/gmem.h"
#include "test.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/loop.h"
#include "util/source.h"
#include "virtio/rng.h"

enum { ECAM = 0xb0000000, SLOT = 3 };

struct board {
	struct gmem *mem;
	struct loop *loop;
	struct bus *bus;
	struct pci_root *root;
	struct source source;
	struct virtio_dev *d;
	uint64_t msi_addr;
	uint32_t msi_data;
	unsigned n_msi;
};

static void board_msi(void *arg, uint64_t addr, uint32_t data)
{
	struct board *b = arg;

	b->msi_addr = addr;
	b->msi_data = data;
	b->n_msi++;
}

static void fixed_random(struct source *s, void *buf, size_t len)
{
	memset(buf, 0x3c, len);
}

static void board_up(struct board *b)
{
	struct pci_layout l = { .ecam_base = ECAM, .mmio32_base = 0xc0000000, .mmio32_size = 0x10000000,
				.mmio64_base = 1ull << 40, .mmio64_size = 1ull << 36 };
	struct err err = ERR_INIT;

	memset(b, 0, sizeof(*b));
	CHECK_EQ(gmem_new(&b->mem, 1 << 20, NULL), 0);
	CHECK_EQ(loop_new(&b->loop, NULL), 0);
	CHECK_EQ(bus_new(&b->bus, NULL), 0);
	CHECK_EQ(pci_root_new(&b->root, b->bus, &l, (struct msi_sink){ board_msi, b }, &err), 0);
	b->source.random = fixed_random;
	struct virtio_env env = { .mem = b->mem, .loop = b->loop, .bus = b->bus, .source = &b->source };
	CHECK_EQ(virtio_rng_new(&b->d, &env, NULL), 0);
	bus_lock(b->bus);
	int r = pci_add(b->root, virtio_pci_dev(b->d), SLOT, &err);

	bus_unlock(b->bus);
	if (r < 0)
		FAIL("%s", err.msg);
}

static void board_down(struct board *b)
{
	bus_lock(b->bus);
	pci_remove(virtio_pci_dev(b->d));
	bus_unlock(b->bus);
	virtio_free(b->d);
	pci_root_free(b->root);
	bus_free(b->bus);
	loop_free(b->loop);
	gmem_free(b->mem);
}

static uint64_t cfg_read(struct board *b, unsigned off, unsigned size)
{
	return bus_read(b->bus, BUS_MMIO, 0, ECAM + SLOT * 0x8000 + off, size);
}

static void cfg_write(struct board *b, unsigned off, unsigned size, uint64_t v)
{
	bus_write(b->bus, BUS_MMIO, 0, ECAM + SLOT * 0x8000 + off, size, v);
}

/* Offset of the capability with ID (and, for vendor ones, virtio type TYPE); 0: none. */
static unsigned find_cap(struct board *b, unsigned id, unsigned type)
{
	for (unsigned at = (unsigned)cfg_read(b, 0x34, 1), n = 0; at && n < 48; at = (unsigned)cfg_read(b, at + 1, 1), n++)
		if (cfg_read(b, at, 1) == id && (id != 9 || cfg_read(b, at + 3, 1) == type))
			return at;
	return 0;
}

/* Guest address of a virtio structure. */
static uint64_t structure(struct board *b, unsigned type)
{
	unsigned cap = find_cap(b, 9, type);

	CHECK(cap != 0);
	unsigned bar = (unsigned)cfg_read(b, cap + 4, 1);

	return (cfg_read(b, 0x10 + 4 * bar, 4) & ~0xfull) + cfg_read(b, cap + 8, 4);
}

TEST(the_function_says_what_it_is)
{
	struct board b;

	board_up(&b);
	CHECK_EQ(cfg_read(&b, 0, 4), 0x10441af4);
	CHECK(cfg_read(&b, 8, 1) >= 1);
	CHECK(find_cap(&b, 0x11, 0) != 0);
	for (unsigned type = 1; type <= 5; type++)      /* rng has no device configuration */
		CHECK_EQ(find_cap(&b, 9, type) != 0, type != 4);
	board_down(&b);
}

TEST(a_request_goes_through_the_bus_and_its_message_comes_back)
{
	enum { DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, DATA = 0x4000 };
	struct board b;

	board_up(&b);
	uint64_t common = structure(&b, 1), notify = structure(&b, 2), isr = structure(&b, 3);
	unsigned msix = find_cap(&b, 0x11, 0);
	uint64_t table = (cfg_read(&b, 0x10 + 4 * (cfg_read(&b, msix + 4, 4) & 7), 4) & ~0xfull) +
			 (cfg_read(&b, msix + 4, 4) & ~7ull);
	static const struct { unsigned off, size; uint64_t v; } setup[] = {
		{ 20, 1, 1 }, { 20, 1, 3 }, { 8, 4, 1 }, { 12, 4, 1 }, { 20, 1, 11 }, { 22, 2, 0 }, { 24, 2, 8 },
		{ 26, 2, 1 }, { 32, 4, DESC }, { 36, 4, 0 }, { 40, 4, AVAIL }, { 48, 4, USED }, { 28, 2, 1 }, { 20, 1, 15 },
	};

	cfg_write(&b, 4, 2, 6);
	bus_write(b.bus, BUS_MMIO, 0, table + 16, 4, 0xfee01000);
	bus_write(b.bus, BUS_MMIO, 0, table + 24, 4, 0x41);
	bus_write(b.bus, BUS_MMIO, 0, table + 28, 4, 0);
	cfg_write(&b, msix + 2, 2, 0x8000);
	for (unsigned i = 0; i < sizeof(setup) / sizeof(setup[0]); i++)
		bus_write(b.bus, BUS_MMIO, 0, common + setup[i].off, setup[i].size, setup[i].v);
	CHECK_EQ(bus_read(b.bus, BUS_MMIO, 0, common + 20, 1), 15);

	uint8_t *p = b.mem->host;

	put_le64(p + DESC, DATA);
	put_le32(p + DESC + 8, 32);
	put_le16(p + DESC + 12, 2);
	put_le16(p + AVAIL + 2, 1);
	int fd;
	uint64_t gpa;

	CHECK(virtio_doorbell(b.d, 0, &fd, &gpa));
	CHECK_EQ(gpa, notify);
	bus_write(b.bus, BUS_MMIO, 0, notify, 2, 0);
	for (int i = 0; i < 5; i++)
		loop_run_once(b.loop, 0);
	CHECK_EQ(get_le16(p + USED + 2), 1);
	CHECK_EQ(get_le32(p + USED + 8), 32);
	CHECK_EQ(p[DATA + 31], 0x3c);
	CHECK_EQ(b.n_msi, 1);
	CHECK_EQ(b.msi_addr, 0xfee01000);
	CHECK_EQ(b.msi_data, 0x41);
	CHECK_EQ(bus_read(b.bus, BUS_MMIO, 0, isr, 1), 1);
	/* the window in configuration space shows the same status */
	unsigned win = find_cap(&b, 9, 5);

	cfg_write(&b, win + 4, 1, cfg_read(&b, find_cap(&b, 9, 1) + 4, 1));
	cfg_write(&b, win + 8, 4, 20);
	cfg_write(&b, win + 12, 4, 1);
	CHECK_EQ(cfg_read(&b, win + 16, 1), 15);
	cfg_write(&b, win + 16, 1, 0);
	CHECK_EQ(bus_read(b.bus, BUS_MMIO, 0, common + 20, 1), 0);
	/* a BAR that is switched off has no doorbell */
	cfg_write(&b, 4, 2, 0);
	CHECK(!virtio_doorbell(b.d, 0, &fd, &gpa));
	board_down(&b);
}
