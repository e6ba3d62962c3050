/* SPDX-License-Identifier: Apache-2.0 */
/* control_disk.h - handlers of the requests about disks, for the table in control_requests.c. */
#ifndef VM_CONTROL_DISK_H
#define VM_CONTROL_DISK_H

#include "vm/control_priv.h"

struct blk;

/* The limits of a disk, those that it has, as an object. */
json_t *control_disk_limits(const struct blk *front);

int control_set(struct control_call *call, struct err *err);

#endif
