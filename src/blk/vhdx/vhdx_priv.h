/* SPDX-License-Identifier: Apache-2.0 */
/* vhdx_priv.h - between the files of the VHDX driver.
 *
 * "[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format" (Microsoft); section numbers below are its.
 * docs/formats/vhdx.md says what of it is supported. All numbers are little-endian. */
#ifndef BLK_VHDX_VHDX_PRIV_H
#define BLK_VHDX_VHDX_PRIV_H

#include "blk/bat/bat.h"
#include "util/checked.h"
#include "util/endian.h"

enum {
	VHDX_MB = 1 << 20, VHDX_HEADER_OFF = 64 << 10, VHDX_HEADER_STEP = 64 << 10, VHDX_HEADER_LEN = 4096,
	VHDX_REGIONS_OFF = 192 << 10, VHDX_REGIONS_LEN = 64 << 10, VHDX_REGIONS_MAX = 2047,
	VHDX_META_TABLE_LEN = 64 << 10, VHDX_META_MAX = 2047, VHDX_META_LEN_MAX = 64 << 20,
	VHDX_LOG_SECTOR = 4096, VHDX_LOG_MAX = 64 << 20 /* that is replayed */,
	VHDX_LOCATOR_MAX = 64 << 10, VHDX_LOCATOR_KEYS_MAX = 64,
};
#define VHDX_SIZE_MAX (64ull << 40)
#define VHDX_CHUNK_SECTORS (1ull << 23)         /* that a block of sector bitmaps tells of */

enum vhdx_state {                               /* 2.5.1: of payload blocks */
	VHDX_NOT_PRESENT, VHDX_UNDEFINED, VHDX_ZERO, VHDX_UNMAPPED, VHDX_PRESENT = 6, VHDX_PARTIAL = 7,
};

struct vhdx_header {                            /* 2.2.2 */
	char signature[4];                      /* "head" */
	le32 checksum;
	le64 sequence;
	uint8_t file_write_guid[16], data_write_guid[16], log_guid[16];
	le16 log_version, version;
	le32 log_len;
	le64 log_off;
	uint8_t pad[4016];
};
_Static_assert(sizeof(struct vhdx_header) == VHDX_HEADER_LEN, "2.2.2 Headers");

struct vhdx {
	struct bat t;                           /* first: bat_drv_*() */
	struct vhdx_header header;              /* the current one */
	unsigned current;                       /* which of the two it is */
	bool has_session;                       /* the log is ours: its GUID is in the header */
	bool was_replayed;
	/* regions */
	uint64_t bat_off, meta_off;
	uint32_t bat_len, meta_len;
	/* metadata */
	uint32_t sector_size, physical_size, size_item;         /* SIZE_ITEM: place of the disk's size in its region */
	bool has_parent, leaves_blocks;
	uint64_t chunk;                         /* payload blocks per block of sector bitmaps */
	uint8_t linkage[2][16], disk_id[16];
	uint8_t next_guid[16];                  /* what the session's DataWriteGuid is to be */
	bool has_next_guid;                     /* else any */
	uint64_t linkage_at;                    /* of the first one's text in the file; 0: there is none of the usual form */
	char *parent;                           /* allocated; NULL: none */
	/* log */
	uint64_t log_at, log_sequence;
	struct bat_used *used;                  /* log, table, metadata, blocks of sector bitmaps */
};

/* header.c */
bool vhdx_sum_is_good(uint8_t *buf, size_t len);                /* CRC-32C at byte 4 */
void vhdx_sum(uint8_t *buf, size_t len);
int vhdx_headers_load(struct vhdx *s, struct err *err);
int vhdx_header_update(struct vhdx *s);                         /* with s->header, both, durable */
int vhdx_regions_load(struct vhdx *s, struct err *err);
/* The region table as it will be when the block table is LEN bytes at OFF; TABLE has VHDX_REGIONS_LEN. */
int vhdx_regions_move_bat(const struct vhdx *s, uint64_t off, uint32_t len, uint8_t *table);
extern const uint8_t vhdx_guid_bat[16], vhdx_guid_meta[16];

/* log.c */
int vhdx_log_replay(struct vhdx *s, struct err *err);
/* Pages of 4096 bytes, durably into the log, then to their places (not durably). What they refer to is durable. */
int vhdx_log_write(struct vhdx *s, const struct bat_write *w, unsigned n);

/* meta.c */
int vhdx_meta_load(struct vhdx *s, struct err *err);
/* LEN bytes, at most a page, at AT of the file, in the metadata: through the log, durable. In a session. */
int vhdx_meta_write(struct vhdx *s, uint64_t at, const void *data, size_t len);
/* The parent's content is GUID from now on; through the log, durable. In a session; there is a linkage_at. */
int vhdx_meta_set_linkage(struct vhdx *s, const uint8_t guid[16]);
size_t vhdx_meta_build(uint8_t *region, uint64_t size, uint32_t block_size, bool is_fixed, const char *parent,
		       const uint8_t *linkage);                 /* region: 1 MiB of zeroes; 0: the name does not fit */

/* create.c */
extern const struct blk_opt vhdx_create_opts[];
int vhdx_co_create(struct blk_creating *c, struct err *err);
int vhdx_measure(const struct blk_creating *c, struct blk_layout *out, struct err *err);

/* grow.c */
int vhdx_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);

/* Entries of the table of a disk with N payload blocks, 2.5. */
static inline uint64_t vhdx_n_entries(uint64_t n, uint64_t chunk, bool has_parent)
{
	return has_parent ? (n + chunk - 1) / chunk * (chunk + 1) : n + (n ? (n - 1) / chunk : 0);
}

#endif
