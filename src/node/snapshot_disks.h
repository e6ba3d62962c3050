/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_disks.h - snapshots inside qcow2 disks, and beside raw ones (disk_files.h), that nobody else has open. For workers; each may be
 * repeated. */
#ifndef NODE_SNAPSHOT_DISKS_H
#define NODE_SNAPSHOT_DISKS_H

#include "node/instance_hold.h"

/* The snapshot NAME in all of D, or in none. One that all of them have already stays. */
int snapshot_make(const struct instance_disks *d, const char *name, struct err *err);
/* Not there: fine. */
int snapshot_unmake(const struct instance_disks *d, const char *name, struct err *err);
/* Make all of D what they were; -ENOENT: one of them has no such snapshot, and nothing is changed. */
int snapshot_apply(const struct instance_disks *d, const char *name, struct err *err);
/* How many the disk at PATH has. */
int snapshot_count(const char *path, struct err *err);
/* Remove all from the disk at PATH. */
int snapshot_unmake_all(const char *path, struct err *err);

#endif
