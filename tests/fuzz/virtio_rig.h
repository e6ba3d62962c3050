/* SPDX-License-Identifier: Apache-2.0 */
/* virtio_rig.h - a hostile driver: the input says which registers, which guest memory and which
 * doorbells are touched, in which order; the device under test stands on a real PCI bus and a
 * real loop. Input: a byte of options, the features to negotiate, then steps (virtio_rig.c). */
#ifndef TESTS_FUZZ_VIRTIO_RIG_H
#define TESTS_FUZZ_VIRTIO_RIG_H

#include "bus/pci.h"
#include "fuzz.h"
#include "mem/gmem.h"
#include "util/loop.h"
#include "virtio/device.h"

enum {
	RIG_RAM = 1 << 20,
	RIG_RINGS = 0x10000,    /* queue Q: descriptors, then at 0x1000 and 0x2000 the rings */
	RIG_RING_STRIDE = 0x4000,
	RIG_DATA = 0x80000,     /* where well-formed descriptors point */
	RIG_STEPS = 400,
};

struct rig {
	struct fuzz f;
	struct gmem *mem;
	struct loop *loop;
	struct bus *bus;
	struct pci_root *pci;
	struct fuzz_source source;
	struct virtio_env env;
	struct virtio_dev *d;
	uint64_t n_msi;
};

struct rig_target {
	/* Make the device; OPTIONS is a byte of the input. */
	struct virtio_dev *(*make)(struct rig *r, uint8_t options);
	/* The outside does something: a request ends, a frame comes, somebody types. */
	void (*outside)(struct rig *r);
	/* Bring the outside to rest: afterwards nothing may be in flight. NULL: nothing to do. */
	void (*settle)(struct rig *r);
	/* Invariants of the target's own; NULL: none. */
	void (*check)(struct rig *r);
	/* Release what make() has made besides the device. */
	void (*drop)(struct rig *r);
};

/* The whole life of a device for one input. */
int rig_run(const struct rig_target *t, const uint8_t *data, size_t len);

#endif
