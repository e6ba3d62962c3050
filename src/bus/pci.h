/* SPDX-License-Identifier: Apache-2.0 */
/* pci.h - one PCI Express root bus: configuration space, BARs, MSI-X.
 *
 * PCI Local Bus 3.0 chapter 6 (header, BARs, MSI-X 6.8.2), PCI Express Base 3.0 7.2.2 (ECAM).
 * Configuration is reached by ECAM (MMIO) and by ports 0xcf8/0xcfc. All functions sit on bus
 * 0, one function per slot. Left out on purpose: bridges, INTx routing (devices use MSI-X;
 * the interrupt pin register reads 0), expansion ROMs, power management.
 * All calls hold bus_lock, except pci_msix_raise(), which any thread may call. */
#ifndef BUS_PCI_H
#define BUS_PCI_H

#include <stdbool.h>
#include <stdint.h>
#include "bus/bus.h"
#include "bus/irq.h"
#include "util/fields.h"

struct pci_root;
struct err;

enum {
	PCI_SLOTS = 32,
	PCI_CFG_SIZE = 4096,
	PCI_BARS = 6,
	PCI_MSIX_MAX = 64,      /* vectors per device */
};

struct pci_msix_entry {
	uint64_t addr;
	uint32_t data;
	uint32_t ctrl;          /* bit 0: masked */
};

/* What the guest can see and change. */
struct pci_state {
	uint8_t cfg[PCI_CFG_SIZE];
	struct pci_msix_entry msix[PCI_MSIX_MAX];
	uint64_t msix_pending;  /* the pending-bit array */
};
extern const struct state_desc pci_state_desc;

struct pci_bar {
	uint32_t size;          /* power of two, >= 4096; 0: BAR not there */
	bool is_64bit;          /* takes this BAR and the next */
	struct bus_region region; /* name, dev, read, write, flags set by the device */
};

/* A function on the root bus; embedded in the device that implements it. Config space
 * contents are built by the device with the helpers below before pci_add(). */
struct pci_dev {
	const char *name;
	uint16_t vendor, device, subvendor, subdevice;
	uint32_t class_code;    /* 24 bits: class, subclass, interface */
	uint8_t revision;
	struct pci_bar bar[PCI_BARS];
	unsigned n_msix;        /* vectors; 0: no MSI-X */
	int msix_bar;           /* BAR that holds table (at msix_off) and PBA (at msix_off + 0x800) */
	uint32_t msix_off;
	/* Device-specific configuration access, after the generic part has been done. NULL: none. */
	void (*cfg_written)(struct pci_dev *d, unsigned off, unsigned size);
	/* Called before a configuration read of [off, off+size); may update s.cfg (virtio's
	 * configuration window). NULL: none. */
	void (*cfg_reading)(struct pci_dev *d, unsigned off, unsigned size);

	/* set by pci_add() */
	struct pci_state s;
	uint8_t wmask[PCI_CFG_SIZE];    /* writable bits of cfg */
	unsigned slot;
	uint16_t msix_cap;              /* offset of the capability; 0: none */
	uint8_t cap_last;               /* private: last capability in the chain */
	uint8_t cap_next;               /* private: first free byte for a capability */
	struct pci_root *root;
	bool is_ejected;                /* the guest has let go: its configuration is gone already */
};

struct pci_layout {
	uint64_t ecam_base;     /* 1 MiB, bus 0 only */
	bool is_q35;            /* the host bridge is an Intel Q35, whose register PCIEXBAR moves ECAM */
	uint64_t mmio32_base, mmio32_size;
	uint64_t mmio64_base, mmio64_size;
};

int pci_root_new(struct pci_root **out, struct bus *bus, const struct pci_layout *layout,
		 struct msi_sink msi, struct err *err);
void pci_root_free(struct pci_root *r); /* NULL is fine; unplugs nothing: devices go first */
DEFINE_AUTO(struct pci_root *, pci_root_free)

/* Port 0xcf9, which lies inside the configuration block, belongs to the chipset's reset
 * register: byte accesses to it go to REGION (borrowed, 1 byte; never mapped itself). */
void pci_root_set_reset_port(struct pci_root *r, struct bus_region *region);

/* What the guest can see of the root itself, and the host bridge, a function like others. */
struct pci_root_state {
	uint32_t config_address;        /* port 0xcf8 */
};
extern const struct state_desc pci_root_state_desc;
void pci_root_get_state(const struct pci_root *r, struct pci_root_state *out);
void pci_root_set_state(struct pci_root *r, const struct pci_root_state *in);
struct pci_dev *pci_root_bridge(struct pci_root *r);

/* FN is called, under bus_lock, whenever BARs may have moved, appeared or gone. */
void pci_root_set_moved(struct pci_root *r, void (*fn)(void *arg), void *arg);

/* Prepare D's configuration header from its fields; then capabilities may be added. */
void pci_dev_init(struct pci_dev *d);
/* Append a capability: ID, then BODY_LEN bytes of BODY after the two header bytes. Returns
 * its offset, 0 when the first 256 bytes are full. Capabilities are read-only unless wmask says otherwise. */
unsigned pci_cap_add(struct pci_dev *d, uint8_t id, const void *body, unsigned body_len);

/* Put D on the bus in SLOT (-1: first free), assign addresses to its BARs (enabled, as
 * firmware would leave them), add MSI-X. -ENOSPC when slots or the window are full. */
int pci_add(struct pci_root *r, struct pci_dev *d, int slot, struct err *err);
void pci_remove(struct pci_dev *d);     /* not on a bus: nothing happens */
/* What is in SLOT, NULL: nothing. */
struct pci_dev *pci_in_slot(const struct pci_root *r, unsigned slot);
/* Back to the state after pci_add(). */
void pci_dev_reset(struct pci_dev *d);
/* After s has been restored: remap BARs as cfg says. */
int pci_dev_restored(struct pci_dev *d, struct err *err);

bool pci_msix_enabled(const struct pci_dev *d);
/* Signal vector N (honours function and vector masks, sets pending). N out of range: ignored.
 * Any thread. */
void pci_msix_raise(struct pci_dev *d, unsigned n);
/* MSI-X table access for the device whose BAR holds it; OFF relative to msix_off. */
uint64_t pci_msix_read(struct pci_dev *d, uint64_t off, unsigned size);
void pci_msix_write(struct pci_dev *d, uint64_t off, unsigned size, uint64_t val);

#endif
