/* SPDX-License-Identifier: Apache-2.0 */
/* archive.h - a machine in a file: a tar archive of its document, its disks and their checksums, as docs/formats/machine.md says. What
 * is read is hostile: nothing in it is a path, and all of it has been checked when archive_open() returns. Blocking; one thread. */
#ifndef CLI_ARCHIVE_H
#define CLI_ARCHIVE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "cli/digest.h"

struct err;

enum {
	ARCHIVE_DISKS_MAX = 16, ARCHIVE_FILES_MAX = ARCHIVE_DISKS_MAX + 4,
	ARCHIVE_VERSION = 2,            /* the last that is known; what has no kernel is of the first */
	 ARCHIVE_NAME_MAX = 64,
	ARCHIVE_TEXT_MAX = 1 << 20      /* bytes of a document in it */
};

#define ARCHIVE_FORMAT "vivarium-machine"
#define ARCHIVE_MACHINE "machine.json"
#define ARCHIVE_MANIFEST "manifest.json"
#define ARCHIVE_KERNEL "vmlinuz"
#define ARCHIVE_INITRD "initrd.img"

/* What of an instance's SPEC can be elsewhere, and may be taken from there: no path, address or port of a host, nothing that may be
 * secret. A new reference; NULL: out of memory. (archive_spec.c) */
json_t *archive_spec(const json_t *spec);

/* --- reading ---------------------------------------------------- */

struct archive_disk {
	char file[ARCHIVE_NAME_MAX], sum[DIGEST_TEXT_MAX];
	uint64_t off, len;              /* of its qcow2 image in the archive */
	uint64_t size;                  /* that the guest sees */
	bool is_readonly;
	uint64_t kernel_at;             /* from OFF on, of the first disk: LEN and SUM are of that, too; 0: no kernel follows */
};

struct archive {
	int fd;                         /* -1: closed */
	json_t *machine;                /* "name", "labels", "spec": as the archive says it */
	char sum[DIGEST_TEXT_MAX];      /* of the manifest, which stands for all */
	unsigned n_disks;
	struct archive_disk disks[ARCHIVE_DISKS_MAX];   /* the first one is what the machine begins with */
};

/* Open PATH, and check all of it; P is told how far that is. For archive_close() in any case. -EINVAL: it is none, or damaged;
 * -EBADMSG: a checksum is wrong; -ENOTSUP: a later version has made it. */
int archive_open(struct archive *a, const char *path, const struct blk_progress *p, struct err *err);
void archive_close(struct archive *a);

/* --- writing ---------------------------------------------------- */

struct archive_writer {
	int fd;
	uint64_t at;                    /* bytes that are written */
	json_t *files;                  /* of the manifest */
	bool has_kernel;
};

/* Begin at the empty file FD (borrowed). For archive_done() in any case. */
int archive_begin(struct archive_writer *w, int fd, struct err *err);
/* Append the file PATH as NAME. */
int archive_add_file(struct archive_writer *w, const char *name, const char *path, const struct blk_progress *p, struct err *err);
int archive_add_json(struct archive_writer *w, const char *name, const json_t *doc, struct err *err);
/* The manifest, and the end; then all is on the disk. */
int archive_finish(struct archive_writer *w, struct err *err);
void archive_done(struct archive_writer *w);

#endif
