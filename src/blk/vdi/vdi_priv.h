/* SPDX-License-Identifier: Apache-2.0 */
/* vdi_priv.h - between the files of the VDI driver.
 *
 * The format is described in VirtualBox's VDICore.h (version 1.1); docs/formats/vdi.md says what of it is
 * supported. All numbers are little-endian. */
#ifndef BLK_VDI_VDI_PRIV_H
#define BLK_VDI_VDI_PRIV_H

#include "blk/bat/bat.h"
#include "util/checked.h"
#include "util/endian.h"

#define VDI_SIGNATURE 0xbeda107fu
#define VDI_VERSION 0x00010001u
#define VDI_FREE 0xffffffffu            /* entries: never written */
#define VDI_ZERO 0xfffffffeu            /* reads as zeroes */

enum { VDI_DYNAMIC = 1, VDI_FIXED = 2, VDI_UNDO = 3, VDI_DIFF = 4 };
enum { VDI_HEADER_LEN = 512, VDI_BLOCK_DEFAULT = 1 << 20, VDI_BLOCKS_MAX = 0x3fffffff,
       VDI_MAP_CHUNK = 64 << 10 /* bytes that are written at once */ };

struct vdi_header {
	char text[64];
	le32 signature, version;
	le32 header_size;               /* from here on */
	le32 type, flags;
	char comment[256];
	le32 map_off, data_off;
	le32 cylinders, heads, sectors, sector_size;
	le32 unused1;
	le64 disk_size;
	le32 block_size, block_extra, n_blocks, n_allocated;
	uint8_t uuid[16], uuid_modify[16], uuid_parent[16], uuid_parent_modify[16];
	uint8_t unused2[56];
};
_Static_assert(sizeof(struct vdi_header) == VDI_HEADER_LEN, "VDICore.h, VDIHEADER1PLUS");

struct vdi {
	struct bat t;                   /* first: bat_drv_*() */
	struct vdi_header h;            /* as it is in the file, but for n_allocated */
	uint32_t type;
	bool has_new_identity;          /* uuid_modify was changed in this session */
};

int vdi_header_check(const struct vdi_header *h, const char *name, uint64_t file_size, struct err *err);
/* Find the image whose identity is UUID beside B: its name is allocated. -ENOENT. */
int vdi_find_parent(struct blk *b, const uint8_t uuid[16], char **name, struct err *err);
extern const struct blk_opt vdi_create_opts[];
int vdi_co_create(struct blk_creating *c, struct err *err);
int vdi_measure(const struct blk_creating *c, struct blk_layout *out, struct err *err);
/* Entries from FROM to TO of the map at OFF: free, or each its own number. */
int vdi_create_map(struct blk *file, uint64_t off, uint64_t from, uint64_t to, bool is_static);
int vdi_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);       /* grow.c */
int vdi_write_header(struct vdi *s);    /* with the count as it is; not flushed */

#endif
