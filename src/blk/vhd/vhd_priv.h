/* SPDX-License-Identifier: Apache-2.0 */
/* vhd_priv.h - between the files of the VHD driver.
 *
 * "Virtual Hard Disk Image Format Specification" 1.0 (Microsoft, 2006); section names below are its.
 * docs/formats/vhd.md says what of it is supported. All numbers are big-endian. */
#ifndef BLK_VHD_VHD_PRIV_H
#define BLK_VHD_VHD_PRIV_H

#include "blk/bat/bat.h"
#include "util/checked.h"
#include "util/endian.h"

#define VHD_NO_DATA UINT64_MAX          /* data_off of a fixed disk */
#define VHD_FREE 0xffffffffu            /* entries */

enum { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFF = 4 };
enum {
	VHD_FOOTER_LEN = 512, VHD_HEADER_LEN = 1024, VHD_BLOCK_DEFAULT = 2 << 20, VHD_ENTRIES_MAX = 4 << 20,
	VHD_LOCATORS = 8, VHD_NAME_UNITS = 256, VHD_LOCATOR_MAX = 4096 /* bytes */,
	VHD_EPOCH = 946684800,          /* 1 January 2000 */
};
#define VHD_SIZE_MAX (2040ull << 30)

struct vhd_footer {                     /* "Hard Disk Footer Format" */
	char cookie[8];                 /* "conectix" */
	be32 features, version;
	be64 data_off;
	be32 timestamp;
	char creator[4];
	be32 creator_version;
	char creator_os[4];
	be64 original_size, current_size;
	be16 cylinders;
	uint8_t heads, sectors;
	be32 type, checksum;
	uint8_t uuid[16], in_saved_state, pad[427];
};
_Static_assert(sizeof(struct vhd_footer) == VHD_FOOTER_LEN, "Hard Disk Footer Format");

struct vhd_locator { char platform[4]; be32 space, len, pad; be64 off; };

struct vhd_header {                     /* "Dynamic Disk Header Format" */
	char cookie[8];                 /* "cxsparse" */
	be64 data_off, table_off;
	be32 version, n_entries, block_size, checksum;
	uint8_t parent_uuid[16];
	be32 parent_timestamp, pad;
	be16 parent_name[VHD_NAME_UNITS];       /* UTF-16 */
	struct vhd_locator locator[VHD_LOCATORS];
	uint8_t pad2[256];
};
_Static_assert(sizeof(struct vhd_header) == VHD_HEADER_LEN, "Dynamic Disk Header Format");

struct vhd {
	struct bat t;                   /* first: bat_drv_*() */
	struct vhd_footer footer;
	struct vhd_header header;       /* dynamic and differencing ones */
	uint32_t type;
	uint64_t header_off;
	uint64_t footer_at;             /* where it stands now; 0: it has to be written */
	bool is_copy_bad, is_end_bad;   /* the footer at the beginning, at the end */
	struct bat_used used[VHD_LOCATORS + 1];
};

/* format.c */
uint32_t vhd_sum(const void *buf, size_t len, size_t at);       /* with the checksum at AT left out */
bool vhd_footer_is_good(const struct vhd_footer *f);
void vhd_footer_seal(struct vhd_footer *f);
void vhd_header_seal(struct vhd_header *h);
void vhd_geometry(uint64_t sectors, uint16_t *cylinders, uint8_t *heads, uint8_t *per_track);
uint64_t vhd_disk_size(const struct vhd_footer *f);             /* as its creator meant it */
int vhd_header_check(const struct vhd *s, struct err *err);

/* parent.c */
int vhd_parent_name(struct vhd *s, char **name, struct err *err);       /* allocated */
/* Fill in what H says about PARENT, known as NAME; the text for the locator, at most VHD_LOCATOR_MAX bytes. */
int vhd_parent_set(struct vhd_header *h, const struct vhd_footer *parent, const char *name, uint64_t locator_off,
		   uint8_t *locator, uint32_t *locator_len);

/* create.c */
extern const struct blk_opt vhd_create_opts[];
int vhd_co_create(struct blk_creating *c, struct err *err);
int vhd_measure(const struct blk_creating *c, struct blk_layout *out, struct err *err);
int vhd_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);

int vhd_write_end(struct vhd *s);       /* the footer behind the last block */

static inline uint64_t vhd_table_end(uint64_t table_off, uint64_t n_entries)
{
	return align_up(table_off + n_entries * 4, BLK_SECTOR);
}

static inline uint32_t vhd_bitmap_len(uint32_t block_size)      /* before each block */
{
	return (uint32_t)align_up(block_size / BLK_SECTOR / 8, BLK_SECTOR);
}

#endif
