/* SPDX-License-Identifier: Apache-2.0 */
/* ova.h - machines packed as one file (OVA): disks inside opened in place, archives read, checked and made.
 *
 * DSP0243 "Open Virtualization Format Specification" 1.1 and 2.1: a tar archive of an OVF descriptor (XML), disks and a
 * manifest of checksums. What an archive says is hostile: names mean members of the archive and nothing else, XML has no
 * entities and no document type, sizes are bounded. Blocking calls, any thread; the driver `ova` reads disks. */
#ifndef BLK_OVA_OVA_H
#define BLK_OVA_OVA_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/progress.h"

struct blk_driver;
struct err;

extern const struct blk_driver blk_ova;

enum { BLK_OVA_DISKS_MAX = 64, BLK_OVA_NAME_MAX = 256 };

struct blk_ova_disk {
	char id[128];                   /* in the descriptor */
	char file[BLK_OVA_NAME_MAX];    /* member of the archive */
	char format[BLK_OVA_NAME_MAX];  /* the URI that stands for it */
	uint64_t capacity;              /* bytes of the disk; 0: not said */
	uint64_t off, len;              /* of the member in the archive, or of the file beside the descriptor */
};

struct blk_ova_info {
	char name[BLK_OVA_NAME_MAX];    /* of the machine; "": not said */
	unsigned cpus;                  /* 0: not said */
	uint64_t memory;                /* bytes; 0: not said */
	bool has_manifest;
	bool is_unpacked;               /* it is a descriptor (.ovf) alone, whose disks are files beside it */
	unsigned n_disks;
	struct blk_ova_disk disks[BLK_OVA_DISKS_MAX];   /* those that have a file */
};

/* What is in the archive, or what the descriptor (.ovf) of one that was unpacked names. The descriptor is checked against the manifest if there is one; disks are not. */
int blk_ova_read(const char *path, struct blk_ova_info *out, struct err *err);
/* Every checksum of the manifest. -ENOTSUP: it is a descriptor; -ENOENT: it has none; -EBADMSG: one is wrong. Reads all of the archive. */
int blk_ova_verify(const char *path, struct err *err);

/* A disk to pack: a file that is ready, e.g. a VMDK with subformat=streamOptimized. */
struct blk_ova_member {
	const char *path;               /* what is read */
	const char *name;               /* in the archive: without '/' */
	const char *format;             /* URI; NULL: that of streamOptimized VMDK */
	uint64_t capacity;              /* bytes of the disk */
};
struct blk_ova_make {
	const char *path;               /* appears under this name when it is whole */
	const char *name;               /* of the machine */
	unsigned cpus;
	uint64_t memory;                /* bytes */
	const struct blk_ova_member *disks;
	unsigned n_disks;
	bool is_replacing;              /* a file that is there; else -EEXIST */
	struct blk_progress progress;
};
/* Can a machine in an archive have that name? -EINVAL. */
int blk_ova_check_name(const char *name, struct err *err);
/* -EINTR: the progress function said so; nothing is left. */
int blk_ova_write(const struct blk_ova_make *m, struct err *err);

#endif
