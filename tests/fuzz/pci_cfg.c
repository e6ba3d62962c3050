/* SPDX-License-Identifier: Apache-2.0 */
/* PCI: configuration space by ports and by ECAM, BARs that move, MSI-X tables and messages, with three
 * functions on the bus. Input: steps, see step(). */
#include "bus/pci.h"

#include "fuzz.h"
#include "util/checked.h"

#define ECAM_BASE 0xe0000000u
#define BAR32_BASE 0xc0000000u
#define BAR64_BASE 0x100000000u
enum { DEVS = 3, STEPS = 1000, MSIX_OFF = 0x1000, CFG_PORT = 0xcf8 };

struct host {
	struct fuzz f;
	struct bus *bus;
	struct pci_root *root;
	struct pci_dev dev[DEVS];
	unsigned n_msi, n_access;
};

static void msi(void *arg, uint64_t addr, uint32_t data)
{
	((struct host *)arg)->n_msi++;
}

static uint64_t bar_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct pci_dev *d = dev;

	FUZZ_CHECK(range_fits(off, size, d->bar[0].size));
	return off >= MSIX_OFF ? pci_msix_read(d, off - MSIX_OFF, size) : UINT64_MAX;
}

static void bar_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct pci_dev *d = dev;

	FUZZ_CHECK(range_fits(off, size, d->bar[0].size));
	if (off >= MSIX_OFF)
		pci_msix_write(d, off - MSIX_OFF, size, val);
}

static void cfg_written(struct pci_dev *d, unsigned off, unsigned size)
{
	FUZZ_CHECK(range_fits(off, size, PCI_CFG_SIZE));
}

static void plug(struct host *h, unsigned i)
{
	struct pci_dev *d = &h->dev[i];

	memset(d, 0, sizeof(*d));
	d->name = "fuzz";
	d->vendor = 0x1af4;
	d->device = (uint16_t)(0x1040 + i);
	d->n_msix = i == 0 ? 1 : i == 1 ? PCI_MSIX_MAX : 0;
	d->msix_off = MSIX_OFF;
	d->cfg_written = d->cfg_reading = cfg_written;
	d->bar[0] = (struct pci_bar){
		.size = 0x4000, .is_64bit = i == 1,
		.region = { .name = "bar", .dev = d, .read = bar_read, .write = bar_write },
	};
	if (i == 2)
		d->bar[4] = d->bar[0];
	pci_dev_init(d);
	FUZZ_CHECK(pci_cap_add(d, 9, "abcdef", 6));
	bus_lock(h->bus);
	int r = pci_add(h->root, d, -1, NULL);

	bus_unlock(h->bus);
	FUZZ_CHECK(r == 0);
}

static void save_restore(struct pci_dev *d, struct fuzz *f)
{
	size_t cap = fields_saved_size(&pci_state_desc);
	uint8_t *buf = malloc(cap);

	FUZZ_CHECK(buf && fields_save(&pci_state_desc, &d->s, buf, cap) == (long)cap);
	for (unsigned n = fuzz_u8(f) & 3; n; n--)
		buf[fuzz_u16(f) % cap] = fuzz_u8(f);
	if (fields_load(&pci_state_desc, &d->s, buf, cap, NULL) < 0 || pci_dev_restored(d, NULL) < 0)
		pci_dev_reset(d);       /* the machine would give up */
	free(buf);
}

static void access_at(struct host *h, enum bus_space space, uint64_t addr, unsigned size, bool is_read)
{
	if (is_read)
		bus_read(h->bus, space, 0, addr, size);
	else
		bus_write(h->bus, space, 0, addr, size, fuzz_num(&h->f, size));
}

static void step(struct host *h)
{
	uint8_t op = fuzz_u8(&h->f);
	struct pci_dev *d = &h->dev[(op >> 4) % DEVS];
	unsigned size = fuzz_size(&h->f), off = fuzz_u16(&h->f);
	bool is_read = op & 0x80;

	switch (op & 15) {
	case 0: case 1: case 2: /* the header and the capabilities */
		access_at(h, BUS_MMIO, ECAM_BASE + (d->slot << 15) + (off & 0xff), size, is_read);
		break;
	case 3:                 /* anywhere */
		access_at(h, BUS_MMIO, ECAM_BASE + (uint64_t)(off & 0xff) * 0x1000 + (off >> 4), size, is_read);
		break;
	case 4: case 5:
		access_at(h, BUS_PORT, CFG_PORT + (off & 7), size > 4 ? 4 : size, is_read);
		break;
	case 6: case 7:         /* address, then data */
		bus_write(h->bus, BUS_PORT, 0, CFG_PORT, 4, 0x80000000u | d->slot << 11 | (off & 0xfc));
		access_at(h, BUS_PORT, CFG_PORT + 4 + (off & 3), size > 4 ? 4 : size, is_read);
		break;
	case 8: case 9: case 10: /* MSI-X, where the BAR is now */
		if (d->bar[0].region.is_mapped)
			access_at(h, BUS_MMIO, d->bar[0].region.base + MSIX_OFF + (off & 0xfff), size, is_read);
		break;
	case 11: case 12:
		pci_msix_raise(d, off % (PCI_MSIX_MAX + 2));
		break;
	case 13:                /* a BAR's place by hand */
		bus_write(h->bus, BUS_MMIO, 0, ECAM_BASE + (d->slot << 15) + 0x10 + (off & 0x1c), 4,
			  off & 0x8000 ? ECAM_BASE : BAR32_BASE + (fuzz_u8(&h->f) << 12));
		break;
	default:
		bus_lock(h->bus);
		if (op & 0x80)
			pci_dev_reset(d);
		else
			save_restore(d, &h->f);
		bus_unlock(h->bus);
		break;
	}
}

static void check_dev(const struct pci_dev *d)
{
	static const uint16_t vendor = 0x1af4;

	FUZZ_CHECK(!memcmp(d->s.cfg, &vendor, 2));      /* identity is read-only */
	for (unsigned i = 0; i < PCI_BARS; i++) {
		const struct bus_region *r = &d->bar[i].region;

		if (d->bar[i].size && r->is_mapped)
			FUZZ_CHECK(r->base % d->bar[i].size == 0 && r->size == d->bar[i].size);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct pci_layout layout = {
		.ecam_base = ECAM_BASE, .mmio32_base = BAR32_BASE, .mmio32_size = 1 << 20,
		.mmio64_base = BAR64_BASE, .mmio64_size = 1 << 20,
	};
	static struct host h;

	memset(&h, 0, sizeof(h));
	h.f = (struct fuzz){ data, len };
	FUZZ_CHECK(bus_new(&h.bus, NULL) == 0);
	bus_lock(h.bus);
	FUZZ_CHECK(pci_root_new(&h.root, h.bus, &layout, (struct msi_sink){ msi, &h }, NULL) == 0);
	bus_unlock(h.bus);
	for (unsigned i = 0; i < DEVS; i++)
		plug(&h, i);
	for (unsigned i = 0; i < STEPS && h.f.left; i++) {
		step(&h);
		for (unsigned k = 0; k < DEVS && i % 16 == 0; k++)
			check_dev(&h.dev[k]);
	}
	bus_lock(h.bus);
	for (unsigned i = 0; i < DEVS; i++)
		pci_remove(&h.dev[i]);
	pci_root_free(h.root);
	bus_unlock(h.bus);
	bus_free(h.bus);
	return 0;
}
