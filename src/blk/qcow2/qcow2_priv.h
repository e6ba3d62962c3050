/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_priv.h - between the files of the qcow2 driver.
 *
 * The format is QEMU's "docs/interop/qcow2.txt"; section names below are its. docs/formats/qcow2.md
 * says what of it is supported and in which order things are written. Loop thread, coroutines.
 *
 * Names: a *host* offset is one in the image file, a *guest* offset one of the disk. An L2 entry is
 * kept decoded (struct q2_entry): without extended L2 entries a cluster is one subcluster. */
#ifndef BLK_QCOW2_PRIV_H
#define BLK_QCOW2_PRIV_H

#include <pthread.h>
#include "blk/blk_ops.h"
#include "blk/qcow2/qcow2.h"
#include "util/checked.h"
#include "util/endian.h"

/* Limits of ours where the format has none; as QEMU's, so that no image of it is refused. */
enum {
	Q2_L1_MAX = 4 << 20,                    /* entries: 32 MiB */
	Q2_RT_MAX = 1 << 20,                    /* entries: 8 MiB */
	Q2_SNAPSHOTS_MAX = 65536,
	Q2_SNAPSHOT_TABLE_MAX = 64 << 20,       /* bytes */
	Q2_BITMAPS_MAX = 65535,
	Q2_BITMAP_DIR_MAX = 64 << 20,           /* bytes */
	Q2_BACKING_NAME_MAX = 1023,
	Q2_PAGE_MAX = 4096,
	Q2_CACHE_DEFAULT = 32 << 20,
};
#define Q2_MAGIC 0x514649fbu
#define Q2_OFF_MASK 0x00fffffffffffe00ull       /* bits 9-55 */
#define Q2_COPIED (1ull << 63)
#define Q2_COMPRESSED (1ull << 62)
#define Q2_ZERO 1ull                            /* standard entries of version 3 */
#define Q2_L1_RESERVED 0x7f000000000001ffull
#define Q2_L2_RESERVED 0x3f000000000001feull
#define Q2_RT_RESERVED 0x1ffull

/* Section "Header": bits of incompatible, compatible and autoclear features. */
enum {
	Q2_INCOMPAT_DIRTY = 1, Q2_INCOMPAT_CORRUPT = 2, Q2_INCOMPAT_DATA_FILE = 4,
	Q2_INCOMPAT_COMPRESSION = 8, Q2_INCOMPAT_EXTENDED_L2 = 16, Q2_INCOMPAT_KNOWN = 31,
	Q2_COMPAT_LAZY = 1,
	Q2_CRYPT_LUKS = 2,                      /* crypt_method */
	Q2_AUTOCLEAR_BITMAPS = 1, Q2_AUTOCLEAR_RAW_DATA = 2, Q2_AUTOCLEAR_KNOWN = 3,
};

struct q2_header {
	be32 magic, version;
	be64 backing_file_offset;
	be32 backing_file_size, cluster_bits;
	be64 size;
	be32 crypt_method, l1_size;
	be64 l1_table_offset, refcount_table_offset;
	be32 refcount_table_clusters, nb_snapshots;
	be64 snapshots_offset;                  /* version 2 ends after this */
	be64 incompatible_features, compatible_features, autoclear_features;
	be32 refcount_order, header_length;
	uint8_t compression_type, padding[7];
};
_Static_assert(sizeof(struct q2_header) == 112, "Header");

struct q2_entry {
	uint64_t host;          /* of the cluster, 0: none (with an external data file: see has_host) */
	uint32_t alloc, zero;   /* a bit per subcluster; neither: from the backing image */
	bool has_host, is_copied;
	bool is_compressed;     /* HOST is the first byte, N_SECTORS what to read from its sector on */
	uint32_t n_sectors;
};

/* A part of the metadata in memory: q2->page_size bytes of an L2 table or a refcount block. */
enum q2_page_kind { Q2_PAGE_REF, Q2_PAGE_L2, Q2_N_PAGE_KINDS };
struct q2_page {
	uint64_t off;           /* host */
	struct q2_page *hash_next, *dirty_next;
	struct co_queue waiting;        /* while it loads */
	unsigned n_pins;
	uint8_t kind;
	bool is_dirty, is_loading, is_used;
	bool is_staged;         /* its bytes are on their way to the file */
	uint8_t *data;
};

/* Clusters that nothing refers to any more: their count goes down when that is durable. */
struct q2_free { uint64_t off, len; bool may_discard; };
struct q2_frees { struct q2_free *v; size_t n, cap; };

/* A header extension that is not ours: kept when the header is written. */
struct q2_extension { uint32_t type, len; uint8_t *data; struct q2_extension *next; };

struct q2_bitmap {
	char *name;
	uint64_t table_off;
	uint32_t table_size, flags;
	uint8_t granularity_bits;
	uint8_t *extra;
	uint32_t extra_len;
	uint8_t *bits;          /* in memory: it records, or is to be written; else NULL */
	uint64_t n_bytes;
};

struct q2_snapshot {
	struct blk_snapshot s;
	uint64_t l1_off;
	uint32_t l1_size;
	uint8_t *extra;         /* of the extra data what is behind the fields we know */
	uint32_t extra_len, known_len;
};

struct q2 {
	struct blk *b;
	/* the header */
	uint32_t version, header_len, refcount_order, crypt_method;
	uint64_t size, incompatible, compatible, autoclear;
	uint8_t compression;            /* 0: zlib, 1: zstd */
	uint64_t l1_off, rt_off, snapshots_off, bitmap_dir_off, bitmap_dir_len;
	uint64_t snapshots_len;         /* bytes of the table */
	uint64_t crypt_off, crypt_len;  /* of the LUKS header; crypt_method 2 */
	struct luks *luks;
	uint32_t l1_size, rt_clusters, n_snapshots, n_bitmaps;
	char *data_name;
	struct q2_extension *extensions;
	/* derived */
	unsigned cluster_bits, l2_bits, sub_bits, n_sub;        /* entries per L2 table: 1 << l2_bits */
	uint32_t cluster_size, sub_size, entry_size, page_size;
	unsigned ref_bits;                                      /* entries per refcount block: 1 << ref_bits */
	uint64_t ref_max;
	uint32_t rt_size;                                       /* entries */
	bool has_raw_data;
	bool is_lazy;                   /* refcounts are written on closing */
	bool is_prepared;               /* the header says that we write */
	bool is_corrupt;                /* found now or before: no writing */
	bool is_checking;               /* the tables are being repaired: they are as wrong as they are */
	/* tables, in host order */
	uint64_t *l1, *rt;
	uint8_t *l1_dirty, *rt_dirty;   /* per 512 bytes */
	bool has_l1_dirty, has_rt_dirty;
	struct q2_snapshot *snapshots;
	struct q2_bitmap *bitmaps;
	/* metadata cache */
	struct q2_page **hash, **slots;
	uint8_t *bytes;                 /* of all pages */
	unsigned n_pages, max_pages, hash_bits, hand;
	unsigned n_copies, max_copies;  /* of pages that are being written back */
	unsigned peak_pages;            /* with copies */
	struct q2_page *dirty[Q2_N_PAGE_KINDS];
	unsigned n_dirty;
	struct co_mutex wb_lock;        /* one writeback at a time */
	uint64_t wb_started, wb_done;   /* their numbers */
	int wb_result;
	/* allocation */
	struct co_mutex alloc_lock;     /* refcounts, rt, hint */
	struct co_mutex l2_lock;        /* making L2 tables */
	struct co_mutex prepare_lock;
	uint64_t free_hint;             /* cluster index: nothing is free below */
	uint64_t alloc_end;             /* host: behind the last cluster that was allocated */
	struct q2_frees pending, freeable;      /* references are gone in memory; on disk */
	uint64_t *meta;                 /* open hash set of the offsets of L2 tables and refcount blocks */
	unsigned meta_bits, meta_n;
	/* compressed clusters */
	struct co_mutex compress_lock;
	uint64_t compressed_at;         /* host: where the next compressed cluster may go, 0: nowhere */
	struct q2_packer *packers;      /* that are free */
	pthread_mutex_t codec_lock;     /* CODECS */
	struct q2_codec *codecs;        /* that are free */
	uint8_t *inflated;              /* the last cluster that was read, and which */
	uint64_t inflated_host;
};

static inline uint64_t q2_cluster_of(const struct q2 *s, uint64_t off) { return off >> s->cluster_bits; }
static inline uint64_t q2_cluster_start(const struct q2 *s, uint64_t off)
{
	return off & ~(uint64_t)(s->cluster_size - 1);
}
static inline uint64_t q2_cluster_up(const struct q2 *s, uint64_t off)
{
	return align_up(off, s->cluster_size);
}
static inline uint64_t q2_l1_index(const struct q2 *s, uint64_t off) { return off >> (s->cluster_bits + s->l2_bits); }
static inline unsigned q2_l2_index(const struct q2 *s, uint64_t off)
{
	return (unsigned)(off >> s->cluster_bits) & ((1u << s->l2_bits) - 1);
}
static inline struct blk *q2_data(const struct q2 *s) { return s->b->data ? s->b->data : s->b->file; }
static inline uint32_t q2_all_subs(const struct q2 *s) { return s->n_sub == 32 ? UINT32_MAX : 1; }
/* Subclusters of its cluster that [OFF, OFF+LEN) touches. */
static inline uint32_t q2_subs_of(const struct q2 *s, uint64_t off, uint64_t len)
{
	unsigned first = (unsigned)((off & (s->cluster_size - 1)) >> s->sub_bits);
	unsigned last = (unsigned)(((off & (s->cluster_size - 1)) + len - 1) >> s->sub_bits);

	return (uint32_t)(((2ull << last) - 1) & ~((1ull << first) - 1));
}

/* header.c */
int q2_header_parse(struct q2 *s, const uint8_t *buf, size_t len, uint64_t file_size, struct err *err);
int q2_header_write(struct q2 *s, struct err *err);     /* all of it; not flushed */
int q2_header_update(struct q2 *s);                     /* the fields in the first sector; not flushed */
size_t q2_header_build(struct q2 *s, uint8_t *buf, size_t cap); /* 0: does not fit */
void q2_header_free(struct q2 *s);
void q2_geometry(struct q2 *s);                         /* what follows from the header */

/* open.c */
int q2_prepare(struct q2 *s);           /* before the first change in a session */
/* Damage, found while working: say so, mark the image. Returns -EIO. */
int q2_corrupt(struct q2 *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int q2_read_table(struct q2 *s, uint64_t off, uint64_t n, uint64_t *out);       /* N be64 */
int q2_write_table(struct q2 *s, uint64_t off, uint64_t n, const uint64_t *in);
int q2_barrier(struct q2 *s);           /* all that was written to the image file is durable */

/* cache.c */
int q2_cache_init(struct q2 *s, uint64_t bytes);
void q2_cache_fini(struct q2 *s);
struct q2_page *q2_page_peek(struct q2 *s, uint64_t off);       /* NULL: not in memory; not pinned */
int q2_page_get(struct q2 *s, uint64_t off, enum q2_page_kind kind, struct q2_page **out);      /* pinned */
void q2_page_put(struct q2_page *p);
void q2_page_dirty(struct q2 *s, struct q2_page *p);
int q2_balance(struct q2 *s);           /* before the next change of many: write back if much is dirty */
void q2_cache_count(struct q2 *s);      /* n_copies is more now */
uint64_t q2_cache_peak(const struct q2 *s);     /* bytes that it took at most until now, of cache_size */
void q2_pages_forget(struct q2 *s, uint64_t off, uint64_t len); /* they belong to nothing now */

/* writeback.c: all dirty metadata to the file, in the order that docs/formats/qcow2.md gives. */
int q2_writeback(struct q2 *s);
int q2_settle(struct q2 *s);            /* until nothing is dirty and nothing waits to be freed */
bool q2_is_clean(const struct q2 *s);
void q2_l1_set(struct q2 *s, uint64_t index, uint64_t value);
void q2_rt_set(struct q2 *s, uint64_t index, uint64_t value);

/* refcount.c */
int q2_ref_get(struct q2 *s, uint64_t cluster, uint64_t *out);
int q2_ref_add(struct q2 *s, uint64_t off, uint64_t len, int delta);    /* takes alloc_lock */
int q2_ref_add_locked(struct q2 *s, uint64_t off, uint64_t len, int delta);
/* Blocks for N clusters in a row behind all that is in use, of which *CLUSTER is the first; the blocks lie before it, not
 * among them. With alloc_lock. */
int q2_ref_make_run(struct q2 *s, uint64_t n, uint64_t *cluster);
uint64_t q2_ref_read(const struct q2 *s, const uint8_t *block, uint64_t index);
void q2_ref_write(const struct q2 *s, uint8_t *block, uint64_t index, uint64_t value);

/* alloc.c */
/* N clusters in a row, or from 1 to N of them if MAY_BE_LESS (*GOT); IS_FRESH: behind the end of the file,
 * which reads as zeroes. */
int q2_alloc(struct q2 *s, uint64_t n, bool may_be_less, uint64_t *off, uint64_t *got, bool *is_fresh);
int q2_alloc_locked(struct q2 *s, uint64_t n, bool may_be_less, uint64_t *off, uint64_t *got, bool *is_fresh);
/* The reference to [OFF, OFF+LEN) is gone in memory. */
int q2_free_later(struct q2 *s, uint64_t off, uint64_t len, bool may_discard);
void q2_free_now(struct q2 *s, uint64_t off, uint64_t len);     /* never was referred to */
int q2_apply_frees(struct q2 *s);       /* of those that are durable */
int q2_meta_add(struct q2 *s, uint64_t off);
void q2_meta_remove(struct q2 *s, uint64_t off);
bool q2_meta_has(const struct q2 *s, uint64_t off, uint64_t len);
/* A host range that data or a new table may take: behind the header, over no table. */
bool q2_host_is_free_for_use(const struct q2 *s, uint64_t off, uint64_t len);

/* map.c */
enum q2_kind { Q2_UNALLOCATED, Q2_ZEROES, Q2_DATA, Q2_PACKED };
struct q2_run { enum q2_kind kind; uint64_t len, host; struct q2_entry packed; };
void q2_entry_decode(const struct q2 *s, const uint8_t *p, struct q2_entry *e);
void q2_entry_encode(const struct q2 *s, const struct q2_entry *e, uint8_t *p);
/* -EIO, and the image is corrupt, if the entry of GUEST cannot be. */
int q2_entry_check(struct q2 *s, uint64_t guest, const struct q2_entry *e);
int q2_entry_get(struct q2 *s, uint64_t guest, struct q2_entry *e);
/* The L2 table must be there: q2_l2_make(). */
int q2_entry_set(struct q2 *s, uint64_t guest, const struct q2_entry *e);
int q2_l2_make(struct q2 *s, uint64_t guest);   /* there is an L2 table of our own for GUEST */
int q2_map_run(struct q2 *s, uint64_t guest, uint64_t len, struct q2_run *out);
struct blk *q2_try_map(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off);
int q2_co_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out);

/* crypt.c */
int q2_crypt_open(struct q2 *s, struct err *err);
void q2_crypt_close(struct q2 *s);
/* Bytes of data at HOST, encrypted or not. */
int q2_data_read(struct q2 *s, uint64_t host, uint64_t len, struct blk_vec v);
int q2_data_write(struct q2 *s, uint64_t host, uint64_t len, struct blk_vec v);
int q2_crypt_create(const struct blk_creating *c, const struct q2 *s, struct err *err);

/* read.c, write.c, zero.c */
int q2_read(struct q2 *s, uint64_t off, uint64_t len, struct blk_vec v);        /* any alignment, no range lock */
int q2_write(struct q2 *s, uint64_t off, uint64_t len, struct blk_vec v);       /* range locked by the caller */
int q2_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
int q2_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
int q2_co_discard(struct blk *b, uint64_t off, uint64_t len);
int q2_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap);
enum q2_drop { Q2_DROP_ZERO, Q2_DROP_FULL };    /* reads as zeroes then; or comes from the backing image again */
int q2_drop(struct q2 *s, uint64_t off, uint64_t len, enum q2_drop how, bool may_discard);
int q2_zero(struct q2 *s, uint64_t off, uint64_t len, bool may_unmap);
/* Give up what E refers to. */
int q2_entry_release(struct q2 *s, const struct q2_entry *e, bool may_discard);

/* compressed.c: LEN bytes at SKIP of the compressed cluster E. */
int q2_inflate(struct q2 *s, const struct q2_entry *e, uint64_t skip, uint64_t len, struct blk_vec v);
/* All of FIRST, which is the cluster GUEST, and as many of those behind it as lie behind it in the file, too: *DONE
 * bytes of LEN, which is at least a cluster. */
int q2_inflate_run(struct q2 *s, const struct q2_entry *first, uint64_t guest, uint64_t len, struct blk_vec v,
		   uint64_t *done);
void q2_packed_range(const struct q2 *s, const struct q2_entry *e, uint64_t *off, uint64_t *len); /* sectors it touches */
/* Memory for one cluster in both forms, from a pool. Loop thread. */
struct q2_packer {
	struct q2_packer *next;         /* free */
	uint8_t *raw, *packed;          /* PACKED: twice as much, and what of its first and last sector is not its own */
};
struct q2_packer *q2_packer_get(struct q2 *s);  /* NULL: no memory */
void q2_packer_put(struct q2 *s, struct q2_packer *p);
void q2_packers_free(struct q2 *s);             /* and the codecs */

/* pack.c */
int q2_co_pwritev_compressed(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v);
int64_t q2_pack(struct blk *b, const uint8_t *in, uint8_t *out);
int q2_co_write_packed(struct blk *b, uint64_t off, const struct blk_packed *v, unsigned n);

/* codec.c: any thread, but for freeing. */
struct q2_codec *q2_codec_get(struct q2 *s);    /* NULL: no memory */
void q2_codec_put(struct q2 *s, struct q2_codec *k);
void q2_codecs_free(struct q2 *s);
/* The cluster at IN to OUT, which has room for as much: how many bytes, -ENOSPC if it would not be fewer. */
int64_t q2_codec_pack(const struct q2 *s, struct q2_codec *k, const uint8_t *in, uint8_t *out);
/* A cluster from IN_LEN bytes, at the end of which may be others. -EIO: they are none. */
int q2_codec_unpack(const struct q2 *s, struct q2_codec *k, const uint8_t *in, size_t in_len, uint8_t *out);

/* snapshot.c, snapshot_table.c */
int q2_snapshots_load(struct q2 *s, uint64_t file_size, struct err *err);
int q2_snapshots_store(struct q2 *s, struct err *err);
void q2_snapshot_free(struct q2_snapshot *sn);
int q2_co_snapshot_list(struct blk *b, struct blk_snapshot **list, unsigned *n, struct err *err);
int q2_co_snapshot_create(struct blk *b, struct blk_snapshot *s, struct err *err);
int q2_co_snapshot_apply(struct blk *b, const char *which, struct err *err);
int q2_co_snapshot_delete(struct blk *b, const char *which, struct err *err);
int q2_l1_replace(struct q2 *s, uint64_t *l1, uint32_t l1_size, uint64_t size, struct err *err); /* takes L1 */

/* marks.c: compare the marks of the active tables with what is counted; FIX as of blk_check(). N_WRONG: marked
 * and counted more than once, N_SAFE: the other way round; both are added to. */
int q2_marks_check(struct q2 *s, unsigned fix, uint64_t *n_wrong, uint64_t *n_safe);
int q2_marks_clear(struct q2 *s);       /* all of them */

/* bitmap.c */
int q2_co_bitmap_read(struct blk *b, const char *name, uint8_t **bits, uint32_t *granularity, struct err *err);
int q2_bitmaps_load(struct q2 *s, uint64_t file_size, struct err *err);
int q2_bitmaps_begin(struct q2 *s);     /* a session that writes starts: those that record are in use */
int q2_bitmaps_store(struct q2 *s, bool is_end);        /* it ends; or it goes on, and they stay in use */
int q2_bitmap_release(struct q2 *s, const struct q2_bitmap *m); /* what M refers to, when that is durable */
uint64_t q2_bitmap_bytes(const struct q2_bitmap *m, uint64_t size);
enum { Q2_BITMAP_BYTES_MAX = 64 << 20, Q2_BITMAP_NAME_MAX = 1023 };
enum { Q2_BITMAP_IN_USE = 1, Q2_BITMAP_AUTO = 2, Q2_BITMAP_EXTRA_COMPATIBLE = 4 };
int q2_bitmaps_resize(struct q2 *s, uint64_t size, struct err *err);
void q2_bitmaps_mark(struct q2 *s, uint64_t off, uint64_t len);
void q2_bitmaps_free(struct q2 *s);

/* bitmap_edit.c: as blk_driver has them */
int q2_co_bitmap_add(struct blk *b, const char *name, uint64_t granularity, struct err *err);
int q2_co_bitmap_remove(struct blk *b, const char *name, struct err *err);
int q2_co_bitmap_take(struct blk *b, const char *name, struct blk_bits *out, struct err *err);
void q2_co_bitmap_give(struct blk *b, const char *name, const struct blk_bits *bits);

/* resize.c, check.c, create.c, amend.c */
int q2_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err);
int q2_preallocate(struct q2 *s, uint64_t off, uint64_t len, enum blk_prealloc prealloc, struct err *err);
int q2_co_check(struct blk *b, unsigned fix, struct blk_check *check, struct err *err);
int q2_co_create(struct blk_creating *c, struct err *err);
int q2_co_change_backing(struct blk *b, const char *name, const char *format, struct err *err);
int q2_co_amend(struct blk *b, const struct blk_opts *opts, struct err *err);
int q2_co_make_empty(struct blk *b, struct err *err);
int q2_co_info(struct blk *b, struct json_t *out, struct err *err);
extern const struct blk_opt q2_open_opts[], q2_create_opts[];

#endif
