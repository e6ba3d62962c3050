/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/balloon.h - the memory balloon (VIRTIO 1.2, 5.5). Loop thread. */
#ifndef VIRTIO_BALLOON_H
#define VIRTIO_BALLOON_H

#include <stdbool.h>
#include <stdint.h>
#include "virtio/virtio.h"

/* What the driver tells, by tag (5.5.6.3); -1: it has not. Bytes, or counts since the guest's start. */
enum virtio_balloon_stat {
	VIRTIO_BALLOON_SWAP_IN, VIRTIO_BALLOON_SWAP_OUT, VIRTIO_BALLOON_MAJOR_FAULTS, VIRTIO_BALLOON_MINOR_FAULTS,
	VIRTIO_BALLOON_FREE, VIRTIO_BALLOON_TOTAL, VIRTIO_BALLOON_AVAILABLE, VIRTIO_BALLOON_CACHES,
	VIRTIO_BALLOON_HUGE_ALLOCS, VIRTIO_BALLOON_HUGE_FAILURES, VIRTIO_BALLOON_N_STATS,
};
const char *virtio_balloon_stat_name(enum virtio_balloon_stat s);       /* "swap_in" */

struct virtio_balloon_info {
	uint64_t target, actual;        /* bytes in the balloon: that it is to have, that it has */
	uint64_t given_back;            /* bytes given to the host so far, also free pages that were reported */
	bool has_driver;
	uint64_t stat[VIRTIO_BALLOON_N_STATS];
};

struct virtio_balloon_config {
	/* The balloon has the size that it is to have; ACTUAL: bytes. Device lock held. NULL: nobody wants to know. */
	void (*reached)(void *arg, uint64_t actual);
	void *arg;
};

int virtio_balloon_new(struct virtio_dev **out, const struct virtio_env *env, const struct virtio_balloon_config *cfg,
		       struct err *err);
/* Can the balloon take SIZE bytes from the guest? -EINVAL: that is more than it has, or no multiple of 4 KiB. */
int virtio_balloon_check(const struct virtio_dev *d, uint64_t size, struct err *err);
/* It is to have SIZE bytes, which have been checked. */
void virtio_balloon_set(struct virtio_dev *d, uint64_t size);
/* What is known now. The driver is asked for new figures, which the next call has. */
void virtio_balloon_get(struct virtio_dev *d, struct virtio_balloon_info *out);

#endif
