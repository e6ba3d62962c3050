/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/pci.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/log.h"

/* Configuration header, type 0 (PCI 3.0, 6.1). */
enum {
	CFG_VENDOR = 0x00, CFG_DEVICE = 0x02, CFG_COMMAND = 0x04, CFG_STATUS = 0x06,
	CFG_REVISION = 0x08, CFG_CLASS = 0x09, CFG_LINE_SIZE = 0x0c, CFG_LATENCY = 0x0d,
	CFG_BAR0 = 0x10, CFG_BAR_END = 0x28, CFG_SUBVENDOR = 0x2c, CFG_SUBDEVICE = 0x2e,
	CFG_CAP_PTR = 0x34, CFG_INT_LINE = 0x3c, CFG_HEADER_END = 0x40, CFG_CAPS_END = 0x100,

	COMMAND_MEMORY = 1 << 1,
	COMMAND_WRITABLE = 0x0546,      /* INTx disable, SERR, parity, bus master, memory */
	STATUS_CAP_LIST = 1 << 4,
	BAR_64BIT = 1 << 2,
	BAR_PREFETCH = 1 << 3,

	CAP_MSIX = 0x11,
	MSIX_CTRL = 2,                  /* offset in the capability */
	MSIX_ENABLE = 1 << 15, MSIX_MASK_ALL = 1 << 14,
	MSIX_PBA = 0x800,               /* offset from the table, see pci.h */
	MSIX_ENTRY_LEN = 16,
	MSIX_ENTRY_MASKED = 1,

	/* D0:F0 of Intel's 3 Series chipsets: where ECAM is; bit 0 enables it, bits 2 and 1 say how many buses it has */
	BRIDGE_PCIEXBAR = 0x60, PCIEXBAR_ENABLED = 1,

	ECAM_SIZE = PCI_SLOTS * 8 * PCI_CFG_SIZE,
	PORT_ADDR = 0, PORT_DATA = 4, PORT_LEN = 8, PORT_RESET = 1,
};

#define PCIEXBAR_BASE 0xffc000000ull

/* What the root remembers about a plugged device. */
struct pci_slot {
	struct pci_dev *d;
	uint8_t reset_cfg[PCI_CFG_SIZE];
	uint64_t bar_addr[PCI_BARS];    /* as assigned by pci_add(); 0: none */
};

struct pci_root {
	struct bus *bus;
	struct pci_layout layout;
	struct msi_sink msi;
	/* Guards MSI-X tables, pending bits and the MSI-X control words of all devices, which
	 * pci_msix_raise() reads without bus_lock. Taken after bus_lock. */
	pthread_mutex_t msix_lock;
	struct pci_slot *slot[PCI_SLOTS];
	uint32_t config_address;        /* port 0xcf8 */
	struct bus_region ports, ecam;
	struct bus_region *reset_port;
	void (*moved)(void *arg);       /* NULL: nobody wants to know */
	void *moved_arg;
	struct pci_dev bridge;
};

static const struct field pci_msix_fields[] = {
	FIELD(struct pci_msix_entry, addr, 1),
	FIELD(struct pci_msix_entry, data, 1),
	FIELD(struct pci_msix_entry, ctrl, 1),
};
static const struct state_desc pci_msix_desc = {
	.name = "msix", .version = 1, .size = sizeof(struct pci_msix_entry),
	.n_fields = ARRAY_LEN(pci_msix_fields), .fields = pci_msix_fields,
};
static const struct field pci_fields[] = {
	FIELD_RAW(struct pci_state, cfg, 1),
	FIELD_SUBS(struct pci_state, msix, 1, &pci_msix_desc),
	FIELD(struct pci_state, msix_pending, 1),
};
const struct state_desc pci_state_desc = {
	.name = "pci", .version = 1, .size = sizeof(struct pci_state),
	.n_fields = ARRAY_LEN(pci_fields), .fields = pci_fields,
};

/* ---- BARs ---- */

/* Where the guest wants BAR N now; 0: nowhere. */
static uint64_t pci_bar_wanted(const struct pci_dev *d, unsigned n)
{
	const uint8_t *p = d->s.cfg + CFG_BAR0 + 4 * n;
	uint64_t addr = get_le32(p) & ~0xfu;

	if (!d->bar[n].size || !(get_le16(d->s.cfg + CFG_COMMAND) & COMMAND_MEMORY))
		return 0;
	if (d->bar[n].is_64bit)
		addr |= (uint64_t)get_le32(p + 4) << 32;
	return addr;
}

static void pci_bars_unmap_moved(struct pci_root *r)
{
	for (unsigned s = 0; s < PCI_SLOTS; s++) {
		for (unsigned n = 0; r->slot[s] && n < PCI_BARS; n++) {
			struct pci_bar *bar = &r->slot[s]->d->bar[n];

			if (bar->region.is_mapped && bar->region.base != pci_bar_wanted(r->slot[s]->d, n))
				bus_remove(r->bus, BUS_MMIO, &bar->region);
		}
	}
}

/* Make the memory map follow the BARs of all devices. Two passes, and every device: a BAR that
 * found its place taken gets it as soon as the other one has moved away. */
static void pci_bars_update(struct pci_root *r)
{
	static struct log_guest overlap = LOG_GUEST("pci: BAR placed over something else");

	pci_bars_unmap_moved(r);
	for (unsigned s = 0; s < PCI_SLOTS; s++) {
		for (unsigned n = 0; r->slot[s] && n < PCI_BARS; n++) {
			struct pci_bar *bar = &r->slot[s]->d->bar[n];
			uint64_t addr = pci_bar_wanted(r->slot[s]->d, n);

			if (addr && !bar->region.is_mapped &&
			    bus_add(r->bus, BUS_MMIO, &bar->region, addr, bar->size, NULL) < 0)
				log_guest(&overlap, addr);
		}
	}
	if (r->moved)
		r->moved(r->moved_arg);
}

/* First address in [base, base+size) where LEN bytes, aligned to LEN, meet no BAR's assigned
 * place; 0 when there is none. */
static uint64_t pci_window_find(const struct pci_root *r, uint64_t base, uint64_t size, uint64_t len)
{
	uint64_t addr = align_up(base, len);

	while (addr >= base && range_fits(addr - base, len, size)) {
		uint64_t next = addr;

		for (unsigned s = 0; s < PCI_SLOTS; s++) {
			for (unsigned n = 0; r->slot[s] && n < PCI_BARS; n++) {
				uint64_t a = r->slot[s]->bar_addr[n], l = r->slot[s]->d->bar[n].size;

				if (a && range_overlaps(addr, len, a, l) && align_up(a + l, len) > next)
					next = align_up(a + l, len);
			}
		}
		if (next == addr)
			return addr;
		addr = next;    /* grows each time, so this ends */
	}
	return 0;
}

static int pci_bars_assign(struct pci_root *r, struct pci_slot *slot, struct err *err)
{
	struct pci_dev *d = slot->d;

	for (unsigned n = 0; n < PCI_BARS; n++) {
		struct pci_bar *bar = &d->bar[n];
		uint64_t addr = 0;

		if (!bar->size)
			continue;
		if (bar->is_64bit)
			addr = pci_window_find(r, r->layout.mmio64_base, r->layout.mmio64_size, bar->size);
		if (!addr)
			addr = pci_window_find(r, r->layout.mmio32_base, r->layout.mmio32_size, bar->size);
		if (!addr)
			return err_set(err, -ENOSPC, "no room for %u bytes of registers of device '%s'",
				       bar->size, d->name);
		slot->bar_addr[n] = addr;

		uint8_t *p = d->s.cfg + CFG_BAR0 + 4 * n;

		put_le32(p, get_le32(p) | (uint32_t)addr);
		if (bar->is_64bit)
			put_le32(p + 4, (uint32_t)(addr >> 32));
	}
	return 0;
}

/* ---- MSI-X (PCI 3.0, 6.8.2) ---- */

bool pci_msix_enabled(const struct pci_dev *d)
{
	return d->msix_cap && (get_le16(d->s.cfg + d->msix_cap + MSIX_CTRL) & MSIX_ENABLE);
}

static bool pci_msix_masked_locked(const struct pci_dev *d, unsigned n)
{
	uint16_t ctrl = get_le16(d->s.cfg + d->msix_cap + MSIX_CTRL);

	return (ctrl & MSIX_MASK_ALL) || (d->s.msix[n].ctrl & MSIX_ENTRY_MASKED);
}

void pci_msix_raise(struct pci_dev *d, unsigned n)
{
	struct pci_root *r = d->root;
	uint64_t addr = 0;
	uint32_t data = 0;
	bool send = false;

	if (!r || n >= d->n_msix)
		return;
	pthread_mutex_lock(&r->msix_lock);
	if (pci_msix_enabled(d)) {
		if (pci_msix_masked_locked(d, n)) {
			d->s.msix_pending |= 1ull << n;
		} else {
			addr = d->s.msix[n].addr;
			data = d->s.msix[n].data;
			send = true;
		}
	}
	pthread_mutex_unlock(&r->msix_lock);
	if (send)
		msi_send(&r->msi, addr, data);
}

/* Send what became unmasked. Messages leave outside the lock. */
static void pci_msix_flush(struct pci_dev *d)
{
	for (unsigned n = 0; n < d->n_msix; n++) {
		bool send;

		pthread_mutex_lock(&d->root->msix_lock);
		send = (d->s.msix_pending >> n & 1) && pci_msix_enabled(d) && !pci_msix_masked_locked(d, n);
		if (send)
			d->s.msix_pending &= ~(1ull << n);
		pthread_mutex_unlock(&d->root->msix_lock);
		if (send)
			pci_msix_raise(d, n);
	}
}

/* The aligned dword at OFF of table or PBA. */
static uint32_t pci_msix_read32_locked(const struct pci_dev *d, uint64_t off)
{
	uint64_t n = off / MSIX_ENTRY_LEN;

	if (off >= MSIX_PBA && off < MSIX_PBA + 8)
		return (uint32_t)(d->s.msix_pending >> (8 * (off - MSIX_PBA)));
	if (n >= d->n_msix)
		return 0;
	switch (off % MSIX_ENTRY_LEN) {
	case 0:
		return (uint32_t)d->s.msix[n].addr;
	case 4:
		return (uint32_t)(d->s.msix[n].addr >> 32);
	case 8:
		return d->s.msix[n].data;
	default:
		return d->s.msix[n].ctrl;
	}
}

static void pci_msix_write32_locked(struct pci_dev *d, uint64_t off, uint32_t val)
{
	uint64_t n = off / MSIX_ENTRY_LEN;

	if (n >= d->n_msix)
		return;         /* past the table, or the read-only PBA */
	struct pci_msix_entry *e = &d->s.msix[n];

	switch (off % MSIX_ENTRY_LEN) {
	case 0:
		e->addr = (e->addr & ~0xffffffffull) | (val & ~3u);
		break;
	case 4:
		e->addr = (e->addr & 0xffffffff) | (uint64_t)val << 32;
		break;
	case 8:
		e->data = val;
		break;
	default:
		e->ctrl = val & MSIX_ENTRY_MASKED;
		break;
	}
}

uint64_t pci_msix_read(struct pci_dev *d, uint64_t off, unsigned size)
{
	uint64_t val = 0;

	/* only dword and qword accesses are defined */
	if (!d->root || (size != 4 && size != 8) || off % size)
		return 0;
	pthread_mutex_lock(&d->root->msix_lock);
	val = pci_msix_read32_locked(d, off);
	if (size == 8)
		val |= (uint64_t)pci_msix_read32_locked(d, off + 4) << 32;
	pthread_mutex_unlock(&d->root->msix_lock);
	return val;
}

void pci_msix_write(struct pci_dev *d, uint64_t off, unsigned size, uint64_t val)
{
	if (!d->root || (size != 4 && size != 8) || off % size)
		return;
	pthread_mutex_lock(&d->root->msix_lock);
	pci_msix_write32_locked(d, off, (uint32_t)val);
	if (size == 8)
		pci_msix_write32_locked(d, off + 4, (uint32_t)(val >> 32));
	pthread_mutex_unlock(&d->root->msix_lock);
	pci_msix_flush(d);
}

static void pci_msix_reset(struct pci_dev *d)
{
	pthread_mutex_lock(&d->root->msix_lock);
	for (unsigned n = 0; n < PCI_MSIX_MAX; n++)
		d->s.msix[n] = (struct pci_msix_entry){ .ctrl = MSIX_ENTRY_MASKED };
	d->s.msix_pending = 0;
	pthread_mutex_unlock(&d->root->msix_lock);
}

static void pci_msix_add_cap(struct pci_dev *d)
{
	uint8_t body[10];

	put_le16(body, (uint16_t)(d->n_msix - 1));
	put_le32(body + 2, d->msix_off | (uint32_t)d->msix_bar);
	put_le32(body + 6, (d->msix_off + MSIX_PBA) | (uint32_t)d->msix_bar);
	d->msix_cap = (uint16_t)pci_cap_add(d, CAP_MSIX, body, sizeof(body));
	if (d->msix_cap)
		put_le16(d->wmask + d->msix_cap + MSIX_CTRL, MSIX_ENABLE | MSIX_MASK_ALL);
}

/* ---- configuration space ---- */

static uint64_t pci_cfg_read(struct pci_dev *d, unsigned off, unsigned size)
{
	uint8_t bytes[8] = { 0 };

	if (!range_fits(off, size, PCI_CFG_SIZE) || size > sizeof(bytes))
		return UINT64_MAX;
	if (d->cfg_reading)
		d->cfg_reading(d, off, size);
	memcpy(bytes, d->s.cfg + off, size);
	return get_le64(bytes);
}

/* ECAM lies where the host bridge says. */
static void pci_ecam_follow(struct pci_root *r)
{
	static struct log_guest overlap = LOG_GUEST("pci: configuration space placed over something else");
	uint64_t bar = get_le64(r->bridge.s.cfg + BRIDGE_PCIEXBAR), base = bar & PCIEXBAR_BASE;
	bool is_on = bar & PCIEXBAR_ENABLED;

	if (!r->layout.is_q35 || (is_on && r->ecam.is_mapped && r->ecam.base == base))
		return;
	bus_remove(r->bus, BUS_MMIO, &r->ecam);
	if (is_on && bus_add(r->bus, BUS_MMIO, &r->ecam, base, ECAM_SIZE, NULL) < 0)
		log_guest(&overlap, base);
}

static void pci_cfg_write(struct pci_dev *d, unsigned off, unsigned size, uint64_t val)
{
	if (!range_fits(off, size, PCI_CFG_SIZE) || size > 8)
		return;
	pthread_mutex_lock(&d->root->msix_lock);
	for (unsigned i = 0; i < size; i++) {
		uint8_t m = d->wmask[off + i], *c = &d->s.cfg[off + i];

		*c = (uint8_t)((*c & ~m) | ((val >> (8 * i)) & m));
	}
	pthread_mutex_unlock(&d->root->msix_lock);
	if (range_overlaps(off, size, CFG_COMMAND, 2) ||
	    range_overlaps(off, size, CFG_BAR0, CFG_BAR_END - CFG_BAR0))
		pci_bars_update(d->root);
	if (d->msix_cap && range_overlaps(off, size, d->msix_cap + MSIX_CTRL, 2))
		pci_msix_flush(d);
	if (d == &d->root->bridge)
		pci_ecam_follow(d->root);
	if (d->cfg_written)
		d->cfg_written(d, off, size);
}

static struct pci_dev *pci_find(const struct pci_root *r, unsigned bus, unsigned devfn)
{
	if (bus || devfn & 7 || devfn >> 3 >= PCI_SLOTS || !r->slot[devfn >> 3])
		return NULL;
	struct pci_dev *d = r->slot[devfn >> 3]->d;

	return d->is_ejected ? NULL : d;
}

struct pci_dev *pci_in_slot(const struct pci_root *r, unsigned slot)
{
	return slot < PCI_SLOTS && r->slot[slot] ? r->slot[slot]->d : NULL;
}

static uint64_t pci_ecam_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct pci_dev *d = pci_find(dev, 0, (unsigned)(off / PCI_CFG_SIZE));

	return d ? pci_cfg_read(d, off % PCI_CFG_SIZE, size) : UINT64_MAX;
}

static void pci_ecam_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct pci_dev *d = pci_find(dev, 0, (unsigned)(off / PCI_CFG_SIZE));

	if (d)
		pci_cfg_write(d, off % PCI_CFG_SIZE, size, val);
}

/* The function and register that CONFIG_ADDRESS selects (PCI 3.0, 3.2.2.3.2). */
static struct pci_dev *pci_port_target(const struct pci_root *r, uint64_t off, unsigned size, unsigned *reg)
{
	uint32_t a = r->config_address;

	if (!(a >> 31) || off < PORT_DATA || !range_fits(off - PORT_DATA, size, 4))
		return NULL;
	*reg = (a & 0xfc) + (unsigned)(off - PORT_DATA);
	return pci_find(r, a >> 16 & 0xff, a >> 8 & 0xff);
}

static bool pci_is_reset_port(const struct pci_root *r, uint64_t off, unsigned size)
{
	return r->reset_port && off == PORT_RESET && size == 1;
}

static uint64_t pci_port_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct pci_root *r = dev;
	unsigned reg;

	if (off == PORT_ADDR && size == 4)
		return r->config_address;
	if (pci_is_reset_port(r, off, size))
		return r->reset_port->read(r->reset_port->dev, cpu, 0, 1);

	struct pci_dev *d = pci_port_target(r, off, size, &reg);

	return d ? pci_cfg_read(d, reg, size) : UINT64_MAX;
}

static void pci_port_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct pci_root *r = dev;
	unsigned reg;

	if (off == PORT_ADDR && size == 4) {
		r->config_address = (uint32_t)val & 0x80fffffc;
		return;
	}
	if (pci_is_reset_port(r, off, size)) {
		r->reset_port->write(r->reset_port->dev, cpu, 0, 1, val);
		return;
	}

	struct pci_dev *d = pci_port_target(r, off, size, &reg);

	if (d)
		pci_cfg_write(d, reg, size, val);
}

/* ---- devices ---- */

void pci_dev_init(struct pci_dev *d)
{
	uint8_t *c = d->s.cfg;

	memset(&d->s, 0, sizeof(d->s));
	memset(d->wmask, 0, sizeof(d->wmask));
	put_le16(c + CFG_VENDOR, d->vendor);
	put_le16(c + CFG_DEVICE, d->device);
	c[CFG_REVISION] = d->revision;
	c[CFG_CLASS] = (uint8_t)d->class_code;
	c[CFG_CLASS + 1] = (uint8_t)(d->class_code >> 8);
	c[CFG_CLASS + 2] = (uint8_t)(d->class_code >> 16);
	put_le16(c + CFG_SUBVENDOR, d->subvendor);
	put_le16(c + CFG_SUBDEVICE, d->subdevice);

	put_le16(d->wmask + CFG_COMMAND, COMMAND_WRITABLE);
	d->wmask[CFG_LINE_SIZE] = 0xff;
	d->wmask[CFG_INT_LINE] = 0xff;
	for (unsigned n = 0; n < PCI_BARS; n++) {
		const struct pci_bar *bar = &d->bar[n];

		if (!bar->size)
			continue;
		/* sizing: the bits below the size are not writable and read 0 */
		put_le32(d->wmask + CFG_BAR0 + 4 * n, ~(bar->size - 1));
		if (bar->is_64bit) {
			put_le32(d->wmask + CFG_BAR0 + 4 * n + 4, 0xffffffff);
			put_le32(c + CFG_BAR0 + 4 * n, BAR_64BIT | BAR_PREFETCH);
		}
	}
	d->cap_last = 0;
	d->cap_next = CFG_HEADER_END;
	d->msix_cap = 0;
	d->root = NULL;
}

unsigned pci_cap_add(struct pci_dev *d, uint8_t id, const void *body, unsigned body_len)
{
	unsigned off = d->cap_next, len = (unsigned)align_up(2 + (uint64_t)body_len, 4);

	/* cap_next is a byte: 0 after the last free one */
	if (off < CFG_HEADER_END || len > CFG_CAPS_END - off)
		return 0;
	d->s.cfg[off] = id;
	d->s.cfg[off + 1] = 0;
	memcpy(d->s.cfg + off + 2, body, body_len);
	if (d->cap_last) {
		d->s.cfg[d->cap_last + 1] = (uint8_t)off;
	} else {
		d->s.cfg[CFG_CAP_PTR] = (uint8_t)off;
		d->s.cfg[CFG_STATUS] |= STATUS_CAP_LIST;
	}
	d->cap_last = (uint8_t)off;
	d->cap_next = (uint8_t)(off + len);
	return off;
}

/* Our own mistakes in a device's description, said before they can do harm. */
static int pci_dev_check(const struct pci_dev *d, struct err *err)
{
	for (unsigned n = 0; n < PCI_BARS; n++) {
		const struct pci_bar *bar = &d->bar[n];

		if (!bar->size)
			continue;
		if (bar->size < 4096 || !is_pow2(bar->size))
			return err_set(err, -EINVAL, "device '%s' has a BAR of %u bytes", d->name, bar->size);
		if (bar->is_64bit && (n + 1 >= PCI_BARS || d->bar[n + 1].size))
			return err_set(err, -EINVAL, "device '%s' has no room for 64-bit BAR %u", d->name, n);
	}
	if (d->n_msix > PCI_MSIX_MAX)
		return err_set(err, -EINVAL, "device '%s' wants %u interrupt vectors, more than %d", d->name,
			       d->n_msix, PCI_MSIX_MAX);
	if (d->n_msix && (d->msix_bar < 0 || d->msix_bar >= PCI_BARS || d->msix_off % 8 ||
			  !range_fits(d->msix_off, MSIX_PBA + 8, d->bar[d->msix_bar].size)))
		return err_set(err, -EINVAL, "device '%s' has its interrupt table outside of its BAR", d->name);
	return 0;
}

static int pci_slot_pick(const struct pci_root *r, const struct pci_dev *d, int slot, struct err *err)
{
	if (slot < 0) {
		for (slot = 0; slot < PCI_SLOTS && r->slot[slot]; slot++)
			;
		if (slot == PCI_SLOTS)
			return err_set(err, -ENOSPC, "no free PCI slot for device '%s'", d->name);
	}
	if (slot >= PCI_SLOTS)
		return err_set(err, -EINVAL, "PCI slot %d of device '%s' does not exist", slot, d->name);
	if (r->slot[slot])
		return err_set(err, -EEXIST, "PCI slot %d wanted by device '%s' holds '%s'", slot, d->name,
			       r->slot[slot]->d->name);
	return slot;
}

int pci_add(struct pci_root *r, struct pci_dev *d, int slot, struct err *err)
{
	int n = pci_slot_pick(r, d, slot, err);

	if (n < 0)
		return n;
	int rc = pci_dev_check(d, err);

	if (rc < 0)
		return rc;
	AUTO(free) struct pci_slot *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	if (d->n_msix && !d->msix_cap) {
		pci_msix_add_cap(d);
		if (!d->msix_cap)
			return err_set(err, -ENOSPC, "no room for MSI-X in the configuration of '%s'", d->name);
	}
	s->d = d;
	r->slot[n] = s; /* seen by the search for room, so that its own BARs do not meet */
	rc = pci_bars_assign(r, s, err);
	r->slot[n] = NULL;
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (d->bar[i].size)
			d->s.cfg[CFG_COMMAND] |= COMMAND_MEMORY;
	}
	memcpy(s->reset_cfg, d->s.cfg, sizeof(s->reset_cfg));
	d->root = r;
	d->slot = (unsigned)n;
	r->slot[n] = take_ptr(&s);
	pci_msix_reset(d);
	pci_bars_update(r);
	return 0;
}

void pci_remove(struct pci_dev *d)
{
	struct pci_root *r = d->root;

	if (!r)
		return;
	for (unsigned n = 0; n < PCI_BARS; n++)
		bus_remove(r->bus, BUS_MMIO, &d->bar[n].region);
	free(r->slot[d->slot]);
	r->slot[d->slot] = NULL;
	d->root = NULL;
	pci_bars_update(r);
}

void pci_dev_reset(struct pci_dev *d)
{
	if (!d->root)
		return;
	pthread_mutex_lock(&d->root->msix_lock);
	memcpy(d->s.cfg, d->root->slot[d->slot]->reset_cfg, sizeof(d->s.cfg));
	pthread_mutex_unlock(&d->root->msix_lock);
	pci_msix_reset(d);
	pci_bars_update(d->root);
	pci_ecam_follow(d->root);
}

int pci_dev_restored(struct pci_dev *d, struct err *err)
{
	if (!d->root)
		return err_set(err, -EINVAL, "device '%s' is not on the bus", d->name);

	const uint8_t *built = d->root->slot[d->slot]->reset_cfg;

	/* identity and capabilities are ours; only what the guest may write is taken over */
	for (unsigned i = 0; i < PCI_CFG_SIZE; i++)
		d->s.cfg[i] = (uint8_t)((built[i] & ~d->wmask[i]) | (d->s.cfg[i] & d->wmask[i]));
	for (unsigned n = 0; n < PCI_MSIX_MAX; n++) {
		d->s.msix[n].addr &= ~3ull;
		d->s.msix[n].ctrl &= MSIX_ENTRY_MASKED;
	}
	if (d->n_msix < 64)
		d->s.msix_pending &= (1ull << d->n_msix) - 1;
	pci_bars_update(d->root);
	pci_ecam_follow(d->root);
	return 0;
}

/* ---- the root ---- */

#define CONFIG_ADDRESS_BITS 0x80fffffcu

static const struct field pci_root_fields[] = { FIELD(struct pci_root_state, config_address, 1) };
const struct state_desc pci_root_state_desc = {
	.name = "pci root", .version = 1, .size = sizeof(struct pci_root_state),
	.n_fields = ARRAY_LEN(pci_root_fields), .fields = pci_root_fields,
};

void pci_root_get_state(const struct pci_root *r, struct pci_root_state *out)
{
	out->config_address = r->config_address;
}

void pci_root_set_state(struct pci_root *r, const struct pci_root_state *in)
{
	r->config_address = in->config_address & CONFIG_ADDRESS_BITS;
}

struct pci_dev *pci_root_bridge(struct pci_root *r)
{
	return &r->bridge;
}

/* The bridge's identity is that of a generic PCIe host bridge with no registers of its own.
 * An Intel chipset's numbers make firmware and kernels look for that chipset's
 * registers (memory windows, ECAM base, SMRAM), of which this board has the ECAM base only. OVMF, the firmware for
 * UEFI, knows three chipsets, asks for no more of this one, and stops at any other. */
static int pci_bridge_add(struct pci_root *r, struct err *err)
{
	r->bridge = (struct pci_dev){
		.name = "host-bridge", .vendor = 0x1b36, .device = 0x0008,
		.subvendor = 0x1af4, .subdevice = 0x1100, .class_code = 0x060000,
	};
	if (r->layout.is_q35) {
		r->bridge.vendor = 0x8086;
		r->bridge.device = 0x29c0;
	}
	pci_dev_init(&r->bridge);
	if (r->layout.is_q35) {
		put_le64(r->bridge.s.cfg + BRIDGE_PCIEXBAR, r->layout.ecam_base | PCIEXBAR_ENABLED);
		put_le64(r->bridge.wmask + BRIDGE_PCIEXBAR, PCIEXBAR_BASE | 6 | PCIEXBAR_ENABLED);
	}
	return pci_add(r, &r->bridge, 0, err);
}

int pci_root_new(struct pci_root **out, struct bus *bus, const struct pci_layout *layout,
		 struct msi_sink msi, struct err *err)
{
	struct pci_root *r = calloc(1, sizeof(*r));

	if (!r)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&r->msix_lock, NULL);
	r->bus = bus;
	r->layout = *layout;
	r->msi = msi;
	r->ports = (struct bus_region){ .name = "pci-config", .dev = r, .read = pci_port_read, .write = pci_port_write };
	r->ecam = (struct bus_region){ .name = "pci-ecam", .dev = r, .read = pci_ecam_read, .write = pci_ecam_write };

	int rc = bus_add(bus, BUS_PORT, &r->ports, 0xcf8, PORT_LEN, err);

	if (rc == 0)
		rc = bus_add(bus, BUS_MMIO, &r->ecam, layout->ecam_base, ECAM_SIZE, err);
	if (rc == 0)
		rc = pci_bridge_add(r, err);
	if (rc < 0) {
		pci_root_free(r);
		return err_wrap(err, rc, "PCI root");
	}
	*out = r;
	return 0;
}

void pci_root_free(struct pci_root *r)
{
	if (!r)
		return;
	pci_remove(&r->bridge);
	bus_remove(r->bus, BUS_MMIO, &r->ecam);
	bus_remove(r->bus, BUS_PORT, &r->ports);
	pthread_mutex_destroy(&r->msix_lock);
	free(r);
}

void pci_root_set_reset_port(struct pci_root *r, struct bus_region *region)
{
	r->reset_port = region;
}

void pci_root_set_moved(struct pci_root *r, void (*fn)(void *arg), void *arg)
{
	r->moved = fn;
	r->moved_arg = arg;
}
