/* SPDX-License-Identifier: Apache-2.0 */
/* flatten_priv.h - disks that are flattened, as flatten.c (which decides) and the workers of flatten_disk.c share them. */
#ifndef NODE_FLATTEN_PRIV_H
#define NODE_FLATTEN_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include "node/disk_place.h"

struct err;
struct task;

struct flatten_disk {
	struct task *task;
	struct disk_place place;        /* whose UID is as the bases know it */
	bool keeps_image;               /* what is no base of linked clones stays below it */
	char control[STORE_KEY_MAX + 64];       /* of the machine that runs; "": none does */
	uint64_t before, all;           /* of the task's progress: bytes of disks before this, and of all */
};

/* The file of D, which nobody else has open: what it shows of images below goes into it, all but for the image that is kept. No locks are
 * taken of who reads it. -EAGAIN: somebody has it open, or the daemon ends. */
int flatten_file(const struct flatten_disk *d, struct err *err);
/* The same, of a machine that runs or not; and then what nobody needs any more goes. */
int flatten_disk(const struct flatten_disk *d, struct err *err);
/* Bytes of the disk D, which has been flattened with its image; 0: it is not there. */
int flatten_measure(const struct flatten_disk *d, uint64_t *size, struct err *err);

#endif
