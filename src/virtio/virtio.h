/* SPDX-License-Identifier: Apache-2.0 */
/* virtio.h - what the machine does with a virtio device, whichever it is.
 *
 * A device is made by its own constructor (virtio_blk_new() in blk.h, ...) and is a function
 * on the PCI bus: pci_add(root, virtio_pci_dev(d), ...) under bus_lock puts it there.
 * Constructors, virtio_free() and everything else here run on the loop thread unless marked.
 * The doorbells wake the loop thread, which runs the queues. docs/design/virtio.md has the
 * locks and the state machine. */
#ifndef VIRTIO_VIRTIO_H
#define VIRTIO_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>
#include "util/cleanup.h"

struct bus;
struct err;
struct gmem;
struct loop;
struct pci_dev;
struct source;
struct state_desc;
struct virtio_dev;

/* Where a device lives; borrowed for the life of the device (the struct itself is copied). */
struct virtio_env {
	struct gmem *mem;
	struct loop *loop;
	struct bus *bus;
	struct source *source;
	/* What processors store comes late to devices, and the other way round (struct cpu_ops): each side then always
	 * tells the other, for it cannot see whether that sleeps. */
	bool is_lagging;
};

/* The device's place on the PCI bus; owned by the device. */
struct pci_dev *virtio_pci_dev(struct virtio_dev *d);
/* Take the device off the bus (pci_remove(), under bus_lock) first, with no vCPU running in
 * it. Waits for nothing: a disk backend must be idle or closed already. NULL is fine. */
void virtio_free(struct virtio_dev *d);
DEFINE_AUTO(struct virtio_dev *, virtio_free)

const char *virtio_name(const struct virtio_dev *d);    /* "virtio-blk" */
/* Back to power-on state; what the machine does on a system reset, with vCPUs stopped. True
 * when it is done; false while requests are in flight: the loop must run on, and the status
 * register reads non-zero until they have ended. */
bool virtio_reset(struct virtio_dev *d);

enum { VIRTIO_QUEUES_MAX = 40 };        /* of one device */

/* For engines that can ring a doorbell in the kernel (KVM ioeventfd): a 2-byte write to *GPA
 * with value QUEUE is the same as adding 1 to eventfd *FD (borrowed). False when there is no
 * such queue or the BAR is not mapped now. Holds bus_lock. */
bool virtio_doorbell(struct virtio_dev *d, unsigned queue, int *fd, uint64_t *gpa);

/* Stop and go on. After virtio_pause() no chain is taken from any ring; requests in flight go
 * on until virtio_in_flight() is 0 and then guest memory and state stand still. */
void virtio_pause(struct virtio_dev *d);
void virtio_resume(struct virtio_dev *d);
unsigned virtio_in_flight(struct virtio_dev *d);

/* Guest-visible state, as sections for fields_save()/fields_load(), while paused and idle. */
enum { VIRTIO_SECTIONS_MAX = 4 };
struct virtio_section {
	const struct state_desc *desc;
	void *state;                    /* borrowed from the device */
};
unsigned virtio_sections(struct virtio_dev *d, struct virtio_section out[VIRTIO_SECTIONS_MAX]);
/* After loading all sections: check them against this device (queue sizes, features) and
 * against guest memory, rebuild what is derived. The caller has done pci_dev_restored(). */
int virtio_restored(struct virtio_dev *d, struct err *err);

/* What happened so far. Any thread. */
struct virtio_stats {
	uint64_t kicks;         /* doorbell events seen by the loop */
	uint64_t chains;        /* descriptor chains taken */
	uint64_t interrupts;    /* queue interrupts sent */
	uint64_t misuse;        /* rule breaches by the driver that broke the device */
	/* Disks: requests that read and that wrote, and their bytes; network cards: frames. Others: 0. */
	struct virtio_moved { uint64_t n, bytes; } to_guest, from_guest;
};
void virtio_get_stats(struct virtio_dev *d, struct virtio_stats *out);

#endif
