/* SPDX-License-Identifier: Apache-2.0 */
/* subvolume.h - subvolumes of btrfs, by the kernel's own calls (linux/btrfs.h): no program is needed. What root may do and others not is
 * told by the errors. Any thread; calls wait for the file system. */
#ifndef NODE_SUBVOLUME_H
#define NODE_SUBVOLUME_H

#include <stdbool.h>
#include <stdint.h>

struct err;

/* Is the open file or directory FD on btrfs? */
bool subvolume_can(int fd);
/* Is the directory PATH the top of one? */
bool subvolume_is(const char *path);
/* An empty one at PATH, for this user alone. One that is there: fine. */
int subvolume_make(const char *path, struct err *err);
/* TO, which is not there, is what FROM is now, and shares all with it; with IS_READONLY nobody writes there any more. Durable. */
int subvolume_snapshot(const char *from, const char *to, bool is_readonly, struct err *err);
/* Take PATH away with all that is in it. Users who may not destroy one (the mount option user_subvol_rm_allowed) empty it and remove the
 * directory, which Linux has allowed since 4.18. Not there: fine. A directory that is none goes, too. */
int subvolume_remove(const char *path, struct err *err);
/* What of PATH's is counted by quota groups: all that it refers to, and what nobody else does. -ENODATA: they are not enabled;
 * -EPERM: not for who asks. */
int subvolume_usage(const char *path, uint64_t *referenced, uint64_t *exclusive);

#endif
