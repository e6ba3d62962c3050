/* SPDX-License-Identifier: Apache-2.0 */
/* driver.h - a small virtio driver for tests: it builds rings in guest memory by hand and
 * reaches the device through the functions of its BARs, as a vCPU would. PCI itself is a
 * fake that counts interrupts. */
#ifndef TESTS_UNIT_VIRTIO_DRIVER_H
#define TESTS_UNIT_VIRTIO_DRIVER_H

#include "mem/gmem.h"
#include "util/loop.h"
#include "util/source.h"
#include "virtio/device.h"
#include "virtio/virtio.h"

enum { /* offsets in BAR 0 */
	R_DFSEL = 0, R_DF = 4, R_GFSEL = 8, R_GF = 12, R_CVEC = 16, R_NQ = 18, R_STATUS = 20, R_GEN = 21,
	R_QSEL = 22, R_QSIZE = 24, R_QVEC = 26, R_QEN = 28, R_QNOFF = 30, R_QDESC = 32, R_QAVAIL = 40,
	R_QUSED = 48, R_QRESET = 58, R_ISR = 0x1000, R_CFG = 0x2000,
};
enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };

struct ring {
	gpa_t desc, avail, used;
	uint16_t size, avail_idx, used_seen;
	unsigned next_desc;
};

struct rig {
	struct gmem *mem;
	struct loop *loop;
	struct source source;
	struct virtio_env env;
	struct virtio_dev *d;
	struct ring ring[VIRTIO_QUEUES_MAX];
	gpa_t next;                     /* first free guest address */
};

struct buf {
	gpa_t gpa;
	uint32_t len;
	bool is_write;
};

extern unsigned fake_interrupts[PCI_MSIX_MAX]; /* how often each vector was raised */

void rig_init(struct rig *r);
gpa_t rig_alloc(struct rig *r, uint64_t len);   /* guest memory, 4 KiB aligned */
void *rig_ptr(struct rig *r, gpa_t gpa);
uint64_t rig_read(struct rig *r, unsigned off, unsigned size);
void rig_write(struct rig *r, unsigned off, unsigned size, uint64_t v);
void rig_spin(struct rig *r);                   /* run the loop until nothing is ready */
uint64_t rig_features(struct rig *r);
/* Reset, negotiate FEATURES and VERSION_1, set up all queues with SIZE entries (0: as offered),
 * DRIVER_OK. Vector of queue q is q + 1, of configuration 0. */
void rig_up(struct rig *r, uint64_t features, unsigned size);
void rig_up_queue(struct rig *r, unsigned q, unsigned size);
void rig_down(struct rig *r);

/* One raw descriptor, one entry of the available ring, the index. */
void ring_desc(struct rig *r, unsigned q, unsigned i, gpa_t gpa, uint32_t len, uint16_t flags, uint16_t next);
void ring_offer(struct rig *r, unsigned q, uint16_t head);
void ring_set_idx(struct rig *r, unsigned q, uint16_t idx);
/* A chain of N buffers; its head. */
uint16_t ring_add(struct rig *r, unsigned q, const struct buf *b, unsigned n);
uint16_t ring_add_indirect(struct rig *r, unsigned q, const struct buf *b, unsigned n);
void ring_kick(struct rig *r, unsigned q);      /* doorbell, then rig_spin() */
bool ring_used(struct rig *r, unsigned q, uint32_t *id, uint32_t *len);
bool rig_is_broken(struct rig *r);

#endif
