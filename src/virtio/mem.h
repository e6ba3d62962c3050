/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/mem.h - memory that comes and goes in blocks (VIRTIO 1.2, 5.15). Loop thread. */
#ifndef VIRTIO_MEM_H
#define VIRTIO_MEM_H

#include <stdint.h>
#include "virtio/virtio.h"

/* Where its region begins and how large it is: multiples of this, so that a guest can use all of it (Linux plugs
 * memory by 128 MiB inside). */
#define VIRTIO_MEM_ALIGN (128ull << 20)

struct virtio_mem_config {
	uint64_t addr, size;            /* guest addresses of the region; RAM of env->mem */
	/* The driver has what it was asked to have; PLUGGED: bytes. Device lock held. NULL: nobody wants to know. */
	void (*reached)(void *arg, uint64_t plugged);
	void *arg;
};

struct virtio_mem_info {
	uint64_t block, requested, plugged;     /* bytes */
};

/* What the device saves beside virtio_state_desc. */
extern const struct state_desc virtio_mem_state_desc;

int virtio_mem_new(struct virtio_dev **out, const struct virtio_env *env, const struct virtio_mem_config *cfg, struct err *err);
/* Can the driver be asked to have SIZE bytes? -EINVAL: that is more than the region, or no multiple of a block. */
int virtio_mem_check(const struct virtio_dev *d, uint64_t size, struct err *err);
/* Ask it to; SIZE has been checked. */
void virtio_mem_set(struct virtio_dev *d, uint64_t size);
void virtio_mem_get(struct virtio_dev *d, struct virtio_mem_info *out);

#endif
