/* SPDX-License-Identifier: Apache-2.0 */
/* bat.h - block allocation tables: what VMDK, VDI, VHD, VHDX and Parallels images have in common.
 *
 * Such an image is a table with an entry per block of the disk that says where in the file the block is, if
 * it is anywhere. A driver describes its entries (struct bat_format) and where the table stands; this module
 * has the rest: pages of the table in memory within a budget, reading and writing blocks, allocating them
 * behind each other, the order of writing, checking. A node may have several tables (VMDK: one per extent).
 *
 * Power cuts: data goes to its block before the entry changes in memory, and bat_flush() makes what the file
 * has durable before it writes changed pages: an entry in the file never refers to what is not there. A block
 * that is given up is used again only when that it was given up is durable. What a cut leaves is space that
 * nothing refers to. Formats with a log or with counters in a header do more in their COMMIT.
 *
 * Loop thread, in coroutines, but for what says that it never yields. Offsets: AT is relative to the part of
 * the disk that the table maps, HOST a byte of the file. Multiples of BLK_SECTOR. */
#ifndef BLK_BAT_BAT_H
#define BLK_BAT_BAT_H

#include "blk/blk_ops.h"

struct bat;
struct bat_page;

/* PARTIAL: a bitmap says which sectors are there; PACKED: compressed, HOST is where, LEN of no meaning. */
enum bat_kind { BAT_NONE, BAT_ZERO, BAT_DATA, BAT_PARTIAL, BAT_PACKED };
struct bat_entry { enum bat_kind kind; uint64_t host; };

/* A changed piece of metadata on its way to the file. */
struct bat_write {
	uint64_t off;
	uint32_t len;
	uint8_t *data;
	bool is_bits;           /* of a sector bitmap, not of the table */
	uint64_t page;          /* number of the table's page */
};

struct bat_format {
	unsigned entry_size;            /* 4 or 8 */
	bool has_zero;                  /* an entry can say: zeroes */
	bool is_kept;                   /* blocks are never given up: discarding makes holes in them */
	bool is_msb_first;              /* sector 0 is the highest bit of its byte */
	/* False: the format has no such entry. The core checks HOST against data_off and the file. */
	bool (*decode)(const struct bat *t, const uint8_t *raw, struct bat_entry *e);
	void (*encode)(const struct bat *t, const struct bat_entry *e, uint8_t *raw);   /* over what is there */
	/* The place of BLOCK's entry in the table. NULL: BLOCK. */
	uint64_t (*slot)(const struct bat *t, uint64_t block);
	/* Where in the file page NO stands, 0: nowhere, all its blocks are BAT_NONE. NULL: in a row from table_off. */
	uint64_t (*page_at)(const struct bat *t, uint64_t no);
	int (*make_page)(struct bat *t, uint64_t no);   /* let it be somewhere */
	/* Where the sector bitmap of BLOCK begins; 0: what is in memory does not say. Never yields. */
	uint64_t (*bits_at)(struct bat *t, uint64_t block, const struct bat_entry *e);
	int (*bits_load)(struct bat *t, uint64_t block);        /* bits_at() will know; NULL: it always does */
	int (*prepare)(struct bat *t);                  /* before the first change of a session; NULL: nothing */
	/* Write pictures of pages, maybe none: the file has another length. NULL: bat_commit(). */
	int (*commit)(struct bat *t, struct bat_write *w, unsigned n);
	/* The block at HOST, block_size bytes, into OUT. Needed for BAT_PACKED. */
	int (*unpack)(struct bat *t, uint64_t block, uint64_t host, uint8_t *out);
};

enum { BAT_CACHE_DEFAULT = 32 << 20, BAT_PAGE_MAX = 4096, BAT_BLOCK_MAX = 256 << 20 };

struct bat_free { uint64_t host; };
struct bat_used { uint64_t off, len; };         /* of the file: neither blocks nor free */

struct bat {
	/* set by the driver before bat_init() */
	const struct bat_format *f;
	struct blk *b, *file;
	void *arg;                      /* the driver's */
	uint64_t base, size;            /* the part of the disk, bytes */
	bool is_flat;                   /* no table: the part is at data_off as it is */
	uint32_t block_size;
	uint32_t page_size;             /* of table pages, at most BAT_PAGE_MAX */
	uint32_t bits_page;             /* of bitmap pages, 512 to BAT_PAGE_MAX; 0: there are none */
	uint64_t n_slots;               /* entries of the table */
	uint64_t table_off;
	uint64_t data_off;              /* no block is before it */
	uint64_t alloc_end;             /* where the next block goes; aligned by the driver */
	uint64_t stride;                /* from block to block there */
	uint32_t lead;                  /* bytes before a block that go with it: filled with 0xff */
	uint64_t max_end;               /* of the file: the format cannot refer to more; 0: no limit */
	uint64_t unit;                  /* blocks are at multiples of it from data_off; 0: anywhere, holes stay */
	const struct bat_used *used;    /* besides blocks; the driver's */
	unsigned n_used;
	uint32_t tail;                  /* bytes behind the last block that belong to the file: a footer */
	bool has_no_holes;              /* the format counts blocks, so there must be none that nothing uses */
	uint64_t cache_bytes;
	/* derived */
	uint64_t n_blocks;
	bool is_prepared, is_damaged;
	struct co_mutex prepare_lock, commit_lock, page_lock;
	/* cache */
	struct bat_page **hash, **slots, *dirty;
	unsigned hash_bits, n_pages, max_pages, hand, n_dirty;
	bool is_committing;
	/* blocks that were given up: in memory; durably */
	struct bat_free *pending, *spare;
	unsigned n_pending, n_spare;
	uint64_t unpacked_block;        /* +1: UNPACKED has it */
	uint8_t *unpacked;
};

extern const struct blk_opt bat_open_opts[];    /* cache_size */

int bat_init(struct bat *t, struct err *err);   /* zeroed but for what the driver has set */
void bat_fini(struct bat *t);                   /* half-initialised is fine; changes are lost */
int bat_prepare(struct bat *t);                 /* a change will follow */

/* Never yields: as blk_driver.try_map, for READ and WRITE inside the table's part. */
struct blk *bat_try_map(struct bat *t, enum blk_op op, uint64_t at, uint64_t len, uint64_t *child_off);
bool bat_is_clean(const struct bat *t);         /* nothing is held */

/* The caller holds the range: shared for reading, else exclusive over whole blocks (bat_lock_range()). */
int bat_read(struct bat *t, uint64_t at, uint64_t len, struct blk_vec v);
int bat_write(struct bat *t, uint64_t at, uint64_t len, struct blk_vec v);
int bat_zeroes(struct bat *t, uint64_t at, uint64_t len, bool may_unmap);
int bat_discard(struct bat *t, uint64_t at, uint64_t len);
int bat_map(struct bat *t, uint64_t at, uint64_t len, struct blk_extent *out);
int bat_flush(struct bat *t);
void bat_lock_range(struct bat *t, struct blk_range *r, uint64_t at, uint64_t len);

/* The same as members of blk_driver, for nodes whose b->priv begins with its only struct bat. */
struct blk *bat_drv_try_map(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off);
int bat_drv_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
int bat_drv_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
int bat_drv_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap);
int bat_drv_discard(struct blk *b, uint64_t off, uint64_t len);
int bat_drv_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out);
int bat_drv_flush(struct blk *b);

/* --- for drivers --------------------------------------------------------------------------------- */

int bat_entry_get(struct bat *t, uint64_t block, struct bat_entry *e);  /* -EIO: it cannot be */
int bat_entry_set(struct bat *t, uint64_t block, const struct bat_entry *e);
/* The bytes of entry SLOT as they are, entry_size of them; peek never yields. */
bool bat_raw_peek(struct bat *t, uint64_t slot, uint8_t *raw);
int bat_raw_get(struct bat *t, uint64_t slot, uint8_t *raw);
int bat_raw_set(struct bat *t, uint64_t slot, const uint8_t *raw);
/* The default COMMIT: the file as long as its blocks, all of it durable, then the pages. Not flushed. */
int bat_commit(struct bat *t, struct bat_write *w, unsigned n);
int bat_commit_grow(struct bat *t);             /* its first part */
/* Damage found while working: said once; no more writing. Returns -EIO. */
int bat_damaged(struct bat *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Walk all entries: where they lead, whether two lead to the same place, what of the file nothing uses. Adds to
 * *CHECK. Repairs entries (they read as zeroes or the backing image then; what two have, the second gets a copy
 * of) and with BLK_FIX_LEAKS lets the file end behind its last block. */
struct bat_checking {
	struct blk_check *check;
	unsigned fix;
	uint64_t n_data, top;           /* results: entries with a block; end of the last block */
};
int bat_check(struct bat *t, struct bat_checking *c, struct err *err);
/* A finding, counted and reported. */
void bat_finding(struct blk_check *check, bool is_leak, uint64_t n, bool is_fixed, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/* The end of a session: blocks at the end of the file that were given up go. */
int bat_trim(struct bat *t);
/* The end of disk B: that, if it was open for writing, and bat_fini(). What fails is logged. */
void bat_close(struct bat *t, const struct blk *b);
/* A random UUID (RFC 4122 version 4), its first fields little-endian as Microsoft and VirtualBox keep them; and as
 * text. */
enum { BAT_UUID_TEXT = 37 };
void bat_uuid_make(uint8_t uuid[16]);
const char *bat_uuid_text(const uint8_t uuid[16], char text[BAT_UUID_TEXT]);
/* UTF-16 to UTF-8, backslashes to slashes; ends at a zero. The caller frees it. NULL: memory, or it is not UTF-16. */
char *bat_from_utf16(const uint8_t *p, size_t units, bool is_big);
/* UTF-8 to UTF-16 units; slashes to backslashes. The number of units, or -EINVAL. */
int bat_to_utf16(const char *text, uint16_t *out, size_t cap);
/* What a path of another host means beside the image: of the path of a drive the last part; without "./". In place. */
char *bat_path_of(char *path);
/* The table has changed behind its back, or its length will: forget what is not dirty. */
void bat_pages_drop(struct bat *t);
/* Move all blocks that begin before HOST behind the others, durably: the table will grow over them. */
int bat_make_room(struct bat *t, uint64_t host);
/* A block for every part of [AT, AT+LEN), zeroes. */
int bat_preallocate(struct bat *t, uint64_t at, uint64_t len, enum blk_prealloc prealloc);

#endif
