/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_still.h - a snapshot of a machine that runs and has raw disks: it stands still while those are copied, as nothing inside of them
 * can hold a snapshot. For workers. */
#ifndef NODE_SNAPSHOT_STILL_H
#define NODE_SNAPSHOT_STILL_H

#include "node/instance_hold.h"
#include "node/snapshot_memory.h"

struct snapshot_still {
	struct node *node;
	const struct instance_disks *disks;     /* borrowed, like all here */
	struct snapshot_memory *memory; /* NULL: without */
	const char *name;               /* of the snapshot */
	char control[STORE_KEY_MAX];    /* the machine's socket */
};

bool snapshot_has_raw(const struct instance_disks *d);
/* All of its disks, and the memory, at the same instant. -EEXIST: some have it from an attempt before; -EBUSY, -EAGAIN: not now. After a
 * failure none has it, unless the daemon or the machine was killed. */
int snapshot_still_take(struct snapshot_still *s, struct err *err);

#endif
