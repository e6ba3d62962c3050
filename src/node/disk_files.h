/* SPDX-License-Identifier: Apache-2.0 */
/* disk_files.h - the file of a volume in its pool, and the copies of a raw one that are its snapshots: each shares its blocks with the
 * file until one of the two is written.
 *
 *	driver dir      POOL/volumes/UID.qcow2          driver btrfs    POOL/volumes/UID/volume.qcow2
 *	                POOL/volumes/UID.raw                            POOL/volumes/UID/volume.raw
 *	                POOL/volumes/UID.at.NAME.raw                    POOL/volumes/UID.at.NAME/volume.raw
 *
 * With btrfs UID and UID.at.NAME are subvolumes (subvolume.h), the latter read-only. What ends in ".new" or ".tmp" is half-made, or what
 * an attempt that was killed has left, which the next one overwrites. Any thread; calls wait for the file system, and may be repeated
 * after a crash anywhere. */
#ifndef NODE_DISK_FILES_H
#define NODE_DISK_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "node/pool_dir.h"

struct err;

enum { DISK_PATH_MAX = 1024 };

/* Where the disk UID of FORMAT ("raw", "qcow2") lies in the pool at POOL. */
void disk_files_path(const char *pool, enum pool_driver driver, const char *uid, const char *format, char *path, size_t cap);
/* Is the disk at PATH raw? By its name. */
bool disk_files_is_raw(const char *path);
/* The directory PATH for a disk of its own in a pool of DRIVER, as files_make_dir(). */
int disk_files_make_dir(const char *path, enum pool_driver driver, struct err *err);
/* What a directory or subvolume is for PATH, which is not there yet: afterwards a file can be made there. */
int disk_files_make_home(const char *path, struct err *err);
/* The file at PATH goes, with its subvolume if nothing else of the disk is in it. Not there: fine. */
int disk_files_remove_one(const char *path, struct err *err);
/* The disk UID goes, of whatever format, with its copies and what was half-made. Not there: fine. */
int disk_files_remove(const char *pool, enum pool_driver driver, const char *uid, struct err *err);
/* TO, not there, becomes what FROM is, sharing its blocks: a snapshot of its subvolume where it has one and TO is in the same pool, else
 * a copy of the file. -EOPNOTSUPP: not there (the caller copies). */
int disk_files_share(const char *from, const char *to, struct err *err);
/* The file FROM, which lies elsewhere in the pool, becomes the disk TO: under another name, or as a copy where that cannot be. */
int disk_files_take(const char *from, const char *to, struct err *err);
/* TO becomes a copy of FROM, which nobody writes meanwhile: of the file as it is, by sharing blocks where that can be; or, when TO is of
 * another format, of what a guest sees. TELL as files_copy() has it. (disk_copy.c) */
int disk_files_copy(const char *from, const char *to, bool (*tell)(void *arg, uint64_t done, uint64_t total), void *arg, struct err *err);
/* Bytes that the file at PATH and its copies take. */
uint64_t disk_files_allocated(const char *path);

/* Bytes of them that nobody else refers to, as quota groups count them; 0: they are not enabled, or the disk has no subvolume. */
uint64_t disk_files_exclusive(const char *path);

/* --- snapshots of raw disks: beside --- */

/* That of the disk at PATH called NAME. -ENOTSUP with the sentence: the file system cannot share blocks. One that is there stays. */
int disk_copy_make(const char *path, const char *name, struct err *err);
bool disk_copy_is_there(const char *path, const char *name);
/* The disk is what it was. -ENOENT: there is no such copy. */
int disk_copy_apply(const char *path, const char *name, struct err *err);
/* Not there: fine. */
int disk_copy_remove(const char *path, const char *name, struct err *err);
/* How many there are. */
int disk_copy_count(const char *path, struct err *err);

#endif
