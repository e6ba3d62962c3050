/* SPDX-License-Identifier: Apache-2.0 */
/* parallels_priv.h - between the files of the Parallels driver.
 *
 * The format is described in QEMU's "docs/interop/parallels.txt"; docs/formats/parallels.md says what of it is
 * supported. All numbers are little-endian. */
#ifndef BLK_PARALLELS_PARALLELS_PRIV_H
#define BLK_PARALLELS_PARALLELS_PRIV_H

#include "blk/bat/bat.h"
#include "util/checked.h"
#include "util/endian.h"

#define PRL_IN_USE 0x746f6e59u
#define PRL_CLOSED 0x312e3276u
#define PRL_EXT_MAGIC 0xab234cef23dcea87ull

enum { PRL_HEADER_LEN = 64, PRL_VERSION = 2, PRL_FLAG_EMPTY = 1, PRL_CLUSTER_MAX = 64 << 20, PRL_XML_MAX = 1 << 20, PRL_XML_LEN = 2048 };
enum { PRL_HEADS = 16, PRL_SECTORS = 32, PRL_PER_CYLINDER = PRL_HEADS * PRL_SECTORS };

struct prl_header {
	char magic[16];                 /* "WithoutFreeSpace", "WithouFreSpacExt" */
	le32 version, heads, cylinders;
	le32 tracks;                    /* sectors of a cluster */
	le32 n_entries;
	le64 n_sectors;                 /* of the disk; "WithoutFreeSpace": the low half counts */
	le32 in_use, data_off;          /* DATA_OFF: sectors, 0: behind the table */
	le32 flags;
	le64 ext_off;                   /* sectors, 0: none */
};
_Static_assert(sizeof(struct prl_header) == PRL_HEADER_LEN, "parallels.txt, Header");

struct prl {
	struct bat t;                   /* first: bat_drv_*() */
	struct prl_header h;
	uint64_t scale;                 /* bytes that an entry counts in */
	bool is_ext, was_in_use, has_mark;
	struct bat_used used[1];
	struct blk *image;              /* of a bundle: the one that has the bytes, one of b->extra */
};

/* create.c */
extern const struct blk_opt prl_create_opts[];
int prl_co_create(struct blk_creating *c, struct err *err);
int prl_measure(const struct blk_creating *c, struct blk_layout *out, struct err *err);
int prl_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);

/* bundle.c: DiskDescriptor.xml */
bool prl_is_descriptor(const uint8_t *head, size_t len);
int prl_bundle_open(struct prl *s, struct err *err);
/* In co_create: C's file becomes the descriptor of a bundle with IMAGE, which lies beside it and has clusters of CLUSTER bytes. */
int prl_bundle_write(struct blk_creating *c, const char *image, uint64_t cluster, struct err *err);

#endif
