/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/blk.h - the block device (VIRTIO 1.2, 5.2). Loop thread. */
#ifndef VIRTIO_BLK_H
#define VIRTIO_BLK_H

#include "virtio/virtio.h"

struct blk;

enum { VIRTIO_BLK_QUEUES_MAX = 16, VIRTIO_BLK_SERIAL_MAX = 20 };

struct virtio_blk_config {
	struct blk *backend;    /* borrowed until virtio_free(); opened on the same loop */
	const char *serial;     /* up to 20 bytes, shown by the guest; NULL: none */
	unsigned n_queues;      /* 0: 1; at most VIRTIO_BLK_QUEUES_MAX, e.g. one per vCPU */
};

/* Read-only, block size and discard are taken from the backend. -EINVAL for a serial number
 * that is too long or too many queues. */
int virtio_blk_new(struct virtio_dev **out, const struct virtio_env *env,
		   const struct virtio_blk_config *cfg, struct err *err);
/* The backend has changed its size: tell the driver. */
void virtio_blk_resized(struct virtio_dev *d);

#endif
