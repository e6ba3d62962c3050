/* SPDX-License-Identifier: Apache-2.0 */
/* vmdk_priv.h - between the files of the VMDK driver.
 *
 * "Virtual Disk Format 5.0" (VMware, 2011) describes descriptors and hosted sparse extents; what ESXi has is known
 * from use. docs/formats/vmdk.md says what of it is supported. Numbers are little-endian, places in files and sizes
 * count sectors of 512 bytes.
 *
 * A disk is a descriptor (a text, in a file of its own or inside a sparse extent) and extents behind each other,
 * each a struct bat: flat, or with a directory of grain tables. */
#ifndef BLK_VMDK_VMDK_PRIV_H
#define BLK_VMDK_VMDK_PRIV_H

#include "blk/bat/bat.h"
#include "util/checked.h"
#include "util/endian.h"

#define VMDK_MAGIC 0x564d444bu          /* "KDMV" */
#define VMDK_COWD_MAGIC 0x44574f43u     /* "COWD" */
#define VMDK_SE_MAGIC 0xcafebabeull
#define VMDK_GD_AT_END UINT64_MAX
#define VMDK_NO_PARENT 0xffffffffu

enum {
	VMDK_DESC_MAX = 1 << 20, VMDK_EXTENTS_MAX = 4096, VMDK_NAME_MAX = 1024,
	VMDK_GD_MAX = 4 << 20,                  /* entries */
	VMDK_SPLIT_SECTORS = 4192256,           /* of an extent of a split disk: 2047 MiB */
	VMDK_GRAIN_MAX = 2048,                  /* sectors: 1 MiB */
};
enum {
	VMDK_FLAG_NEWLINE = 1, VMDK_FLAG_RGD = 2, VMDK_FLAG_ZERO_GRAIN = 4,
	VMDK_FLAG_COMPRESSED = 1 << 16, VMDK_FLAG_MARKERS = 1 << 17,
	VMDK_FLAG_KNOWN = VMDK_FLAG_NEWLINE | VMDK_FLAG_RGD | VMDK_FLAG_ZERO_GRAIN | VMDK_FLAG_COMPRESSED |
			  VMDK_FLAG_MARKERS,
};

/* "Hosted Sparse Extent Header"; packed as it is there. */
struct vmdk_header {
	le32 magic, version, flags;
	le64 capacity, grain_size, desc_off, desc_size;
	le32 gtes_per_gt;
	le64 rgd_off, gd_off, overhead;
	uint8_t is_unclean;
	char newlines[4];
	le16 compression;               /* 1: deflate */
	uint8_t pad[433];
};
_Static_assert(sizeof(struct vmdk_header) == 512, "Hosted Sparse Extent Header");

enum vmdk_kind { VMDK_FLAT, VMDK_ZERO, VMDK_SPARSE, VMDK_COWD, VMDK_SE };

struct vmdk_extent {
	struct bat t;
	enum vmdk_kind kind;
	struct blk *file;               /* b->file or one of b->extra; VMDK_ZERO: NULL */
	uint32_t *gd, *rgd;             /* sectors of grain tables, 0: none; RGD NULL: no second directory */
	uint64_t *se_gd;                /* VMDK_SE: entries as they are */
	uint64_t gd_off, rgd_off;       /* bytes */
	uint32_t n_gd, gt_bytes;
	uint32_t flags;
	uint64_t se_gt_off, se_data_off;        /* VMDK_SE */
	bool is_unclean, has_mark;      /* not closed well before; we say that we write */
};

struct vmdk {
	struct blk *b;
	struct vmdk_extent *ext;
	uint32_t n_ext;
	uint32_t cid, parent_cid;
	char type[32], *parent;         /* createType; parentFileNameHint, NULL: none */
	char *desc;                     /* the descriptor, NUL-terminated; NULL: there is none (COWD) */
	uint64_t desc_off, desc_max;    /* bytes in b->file; DESC_MAX: room */
	bool has_new_cid, is_stream;
	uint64_t cache_bytes;
	struct co_mutex pack_lock, cid_lock;
};

/* What a line of the descriptor says about an extent. */
struct vmdk_line {
	uint64_t sectors, off;
	enum vmdk_kind kind;
	bool is_readonly;
	char name[VMDK_NAME_MAX];
};

/* desc.c */
int vmdk_desc_parse(struct vmdk *s, struct err *err);           /* cid, type, parent from s->desc */
/* The next extent of the descriptor from *AT on: 1, or 0: no more, or -errno with its sentence. */
int vmdk_desc_extent(const struct vmdk *s, const char **at, struct vmdk_line *out, struct err *err);
/* Images made over this one know its content by the CID: it changes with the first write of a session, and then to
 * this one. 0: any. */
int vmdk_new_cid(struct vmdk *s, uint32_t cid);
/* What the parent's CID becomes when this image is committed: whoever finds it there knows that nothing else was
 * changed yet. */
uint32_t vmdk_committed_cid(const struct vmdk *s);
bool vmdk_has_parent_cid(const struct vmdk *s);                 /* that can be changed */
int vmdk_set_parent_cid(struct vmdk *s, uint32_t cid);          /* -ENOTSUP: the descriptor has no place for it */
/* A change of the descriptor, within one sector of its file: TEXT, all of it, has other bytes from FROM to END. */
struct vmdk_edit { char *text; size_t from, end; };
/* Let the only extent have SECTORS; the caller frees TEXT. -ENOTSUP: that does not fit into one sector. */
int vmdk_desc_edit(const struct vmdk *s, uint64_t sectors, struct vmdk_edit *out);
/* The whole descriptor with SECTORS in the line of the last extent and MORE lines behind it; the caller frees *OUT. */
int vmdk_desc_grown(const struct vmdk *s, uint64_t sectors, const char *more, char **out);
int vmdk_desc_write(struct vmdk *s, const struct vmdk_edit *e); /* durable */

/* vmdk.c: one more extent, in FILE, for the disk from byte BASE on; there is room in s->ext. */
int vmdk_extent_over(struct vmdk *s, struct blk *file, uint64_t base, const struct vmdk_line *line, struct err *err);

/* sparse.c: E has file, t.b, t.base; sets up the rest. */
int vmdk_sparse_open(struct vmdk *s, struct vmdk_extent *e, const struct vmdk_header *h, struct err *err);
int vmdk_cowd_open(struct vmdk *s, struct vmdk_extent *e, struct err *err);
void vmdk_sparse_close(struct vmdk *s, struct vmdk_extent *e);
int vmdk_sparse_footer(struct vmdk *s, struct blk *file, struct vmdk_header *h, struct err *err);
int vmdk_sparse_check(struct vmdk *s, struct vmdk_extent *e, unsigned fix, struct blk_check *check, struct err *err);
extern const struct bat_format vmdk_flat_format;

/* sesparse.c */
int vmdk_se_open(struct vmdk *s, struct vmdk_extent *e, struct err *err);

/* packed.c */
size_t vmdk_packed_max(uint32_t grain); /* bytes of the file that one of GRAIN bytes takes, whatever is in it */
int vmdk_unpack(struct bat *t, uint64_t block, uint64_t host, uint8_t *out);
int vmdk_write_packed(struct vmdk *s, struct vmdk_extent *e, uint64_t at, uint64_t len, struct blk_vec v);

/* io.c: the members of blk_driver */
struct blk *vmdk_try_map(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off);
int vmdk_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
int vmdk_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
int vmdk_co_pwritev_compressed(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
int vmdk_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap);
int vmdk_co_discard(struct blk *b, uint64_t off, uint64_t len);
int vmdk_co_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out);
int vmdk_co_flush(struct blk *b);

/* create.c */
extern const struct blk_opt vmdk_create_opts[];
int vmdk_create_sparse(struct blk *file, uint64_t sectors, bool has_zero_grain, struct err *err);
int vmdk_co_create(struct blk_creating *c, struct err *err);
int vmdk_measure(const struct blk_creating *c, struct blk_layout *out, struct err *err);

/* grow.c */
int vmdk_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);
int vmdk_last_grow(struct vmdk_extent *x, uint64_t size, enum blk_prealloc prealloc);   /* but for the descriptor; durable */

/* grow_split.c: drained */
int vmdk_split_truncate(struct vmdk *s, uint64_t size, enum blk_prealloc prealloc, struct err *err);

static inline uint64_t vmdk_bytes(uint64_t sectors)     /* saturates */
{
	return sectors > INT64_MAX / BLK_SECTOR ? INT64_MAX : sectors * BLK_SECTOR;
}

#endif
