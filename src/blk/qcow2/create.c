/* SPDX-License-Identifier: Apache-2.0 */
/* create.c - a new image, and options changed after the fact.
 *
 * A new file is: header, refcount table, its first blocks, L1 table - the rest is a hole. It is written
 * by hand: opening and growing it would write most of that more than once. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "blk/luks/luks.h"
#include "blk/secret.h"

static const char *const create_compats[] = { "0.10", "1.1", NULL };
static const char *const create_preallocs[] = { "off", "metadata", "falloc", "full", NULL };
static const char *const create_crypts[] = { "luks", NULL };
static const char *const create_compressions[] = { "zlib", "zstd", NULL };

const struct blk_opt q2_create_opts[] = {
	{ "compat", BLK_OPT_CHOICE, "1.1", "0.10 (version 2) or 1.1 (version 3)", 0, 0,
	  create_compats },
	{ "cluster_size", BLK_OPT_SIZE, "64K", "unit of allocation, a power of two", 512, 2 << 20,
	  NULL },
	{ "refcount_bits", BLK_OPT_NUMBER, "16", "width of a reference count: 1, 2, 4, ... 64", 1,
	  64, NULL },
	{ "lazy_refcounts", BLK_OPT_BOOL, "off", "write reference counts on closing only", 0, 0,
	  NULL },
	{ "extended_l2", BLK_OPT_BOOL, "off", "allocate 32 parts of a cluster on their own", 0, 0,
	  NULL },
	{ "compression_type", BLK_OPT_CHOICE, "zlib", "of compressed clusters: zlib or zstd", 0, 0,
	  create_compressions },
	{ "preallocation", BLK_OPT_CHOICE, "off",
	  "off, metadata, falloc (space reserved) or full (zeroes written)", 0, 0,
	  create_preallocs },
	{ "data_file", BLK_OPT_STRING, NULL, "keep the data in this file of its own", 0, 0, NULL },
	{ "data_file_raw", BLK_OPT_BOOL, "off", "that file can be used as a raw image", 0, 0,
	  NULL },
	{ "encrypt.format", BLK_OPT_CHOICE, NULL, "luks: encrypt the data", 0, 0, create_crypts },
	BLK_SECRET_OPTS,
	LUKS_CREATE_OPTS("encrypt."),
	{ .name = NULL },
};

static unsigned create_log2(uint64_t v)
{
	return 63 - (unsigned)__builtin_clzll(v);
}

static int create_check(const struct blk_creating *c, struct q2 *s, struct err *err)
{
	const struct blk_opts *o = c->opts;
	uint64_t cluster = blk_opts_num(o, "cluster_size"), bits = blk_opts_num(o, "refcount_bits");
	bool is_v2 = blk_opts_num(o, "compat") == 0;

	if (!is_pow2(cluster) || !is_pow2(bits))
		return err_set(err, -EINVAL, "cluster_size and refcount_bits are powers of two");
	if (is_v2 && (bits != 16 || blk_opts_num(o, "lazy_refcounts") || blk_opts_num(o, "extended_l2") ||
		      blk_opts_num(o, "compression_type") || blk_opts_str(o, "data_file")))
		return err_set(err, -EINVAL,
			       "refcount_bits, lazy_refcounts, extended_l2, compression_type and "
			       "data_file "
			       "need compat=1.1");
	if (blk_opts_num(o, "extended_l2") && cluster < 16 << 10)
		return err_set(err, -EINVAL, "extended_l2 needs clusters of at least 16 KiB");
	if (blk_opts_num(o, "data_file_raw") && !blk_opts_str(o, "data_file"))
		return err_set(err, -EINVAL, "data_file_raw needs data_file");
	if (blk_opts_num(o, "data_file_raw") && c->args->backing)
		return err_set(err, -EINVAL, "a raw data file cannot have a backing image behind it");
	if (c->args->backing && blk_opts_num(o, "preallocation") && !blk_opts_num(o, "extended_l2"))
		return err_set(err, -EINVAL,
			       "preallocation with a backing image would hide it; extended_l2=on "
			       "can have both");
	if (c->args->backing && strlen(c->args->backing) > Q2_BACKING_NAME_MAX)
		return err_set(err, -EINVAL, "the name of the backing image is longer than %d", Q2_BACKING_NAME_MAX);
	if (blk_opts_is_set(o, "encrypt.format") &&
	    (blk_opts_num(o, "preallocation") || blk_opts_num(o, "data_file_raw")))
		return err_set(err, -EINVAL, "an encrypted image can have neither preallocation nor a raw data file");
	s->crypt_method = blk_opts_is_set(o, "encrypt.format") ? Q2_CRYPT_LUKS : 0;
	s->version = is_v2 ? 2 : 3;
	s->cluster_bits = create_log2(cluster);
	s->refcount_order = create_log2(bits);
	s->compression = (uint8_t)blk_opts_num(o, "compression_type");
	s->incompatible = (s->compression ? Q2_INCOMPAT_COMPRESSION : 0u) |
			  (blk_opts_num(o, "extended_l2") ? Q2_INCOMPAT_EXTENDED_L2 : 0u) |
			  (blk_opts_str(o, "data_file") ? Q2_INCOMPAT_DATA_FILE : 0u);
	s->compatible = blk_opts_num(o, "lazy_refcounts") ? Q2_COMPAT_LAZY : 0;
	s->autoclear = blk_opts_num(o, "data_file_raw") ? Q2_AUTOCLEAR_RAW_DATA : 0;
	return 0;
}

/* Where everything goes: header 1 | refcount table | refcount blocks | L1 table | LUKS header. CRYPT_LEN is set. */
static int create_layout(struct q2 *s, uint64_t size, uint64_t *n_blocks, uint64_t *n_clusters, struct err *err)
{
	uint64_t per_l2, l1_clusters, crypt_clusters, table = 1, blocks = 1, all;

	q2_geometry(s);
	s->size = size;
	per_l2 = 1ull << (s->cluster_bits + s->l2_bits);
	if (size / per_l2 + 1 > Q2_L1_MAX)
		return err_set(err, -EFBIG, "a disk of %" PRIu64 " bytes needs larger clusters than %u bytes", size,
			       s->cluster_size);
	s->l1_size = (uint32_t)(size / per_l2 + (size % per_l2 != 0));
	if (!s->l1_size)
		s->l1_size = 1;
	l1_clusters = q2_cluster_of(s, q2_cluster_up(s, (uint64_t)s->l1_size * 8));
	crypt_clusters = q2_cluster_of(s, q2_cluster_up(s, s->crypt_len));
	for (;;) {
		all = 1 + table + blocks + l1_clusters + crypt_clusters;
		uint64_t b = (all + (1ull << s->ref_bits) - 1) >> s->ref_bits;
		uint64_t t = (b * 8 + s->cluster_size - 1) >> s->cluster_bits;

		if (b == blocks && t == table)
			break;
		blocks = b > blocks ? b : blocks;
		table = t > table ? t : table;
	}
	s->rt_off = s->cluster_size;
	s->rt_clusters = (uint32_t)table;
	s->l1_off = (1 + table + blocks) << s->cluster_bits;
	s->crypt_off = s->crypt_len ? s->l1_off + (l1_clusters << s->cluster_bits) : 0;
	*n_blocks = blocks;
	*n_clusters = all;
	return 0;
}

static int create_write(struct blk *file, struct q2 *s, uint64_t n_blocks, uint64_t n_clusters)
{
	uint64_t first_block = 1 + s->rt_clusters, len = (first_block + n_blocks) << s->cluster_bits;
	AUTO(free) uint8_t *buf = calloc(1, len);

	if (!buf)
		return -ENOMEM;
	if (!q2_header_build(s, buf, s->cluster_size))
		return -ENOSPC;
	for (uint64_t i = 0; i < n_blocks; i++)
		put_be64(buf + s->rt_off + i * 8, (first_block + i) << s->cluster_bits);
	for (uint64_t i = 0; i < n_clusters; i++)
		q2_ref_write(s, buf + (first_block << s->cluster_bits), i, 1);
	uint64_t end = n_clusters << s->cluster_bits;
	int r = blk_co_truncate(file, end, BLK_PREALLOC_OFF, NULL);

	/* The L1 table is a hole; on a block device anything may be there. */
	if (!r)
		r = blk_co_zeroes(file, len, end - len, true);
	return r ? r : blk_co_pwrite(file, 0, buf, len);
}

static int create_data_file(struct blk_creating *c, struct err *err)
{
	const char *name = blk_opts_str(c->opts, "data_file");
	enum blk_prealloc p = (enum blk_prealloc)blk_opts_num(c->opts, "preallocation");
	struct blk *data = NULL;

	if (!name)
		return 0;
	int r = blk_co_create_file(c, name, &data, err);

	if (r < 0)
		return r;
	r = blk_co_truncate(data, c->size, p == BLK_PREALLOC_METADATA ? BLK_PREALLOC_OFF : p, err);
	blk_co_close(data);
	return r;
}

/* Space for all of the disk: with the image opened as what it is. */
static int create_preallocate(struct blk_creating *c, struct err *err)
{
	enum blk_prealloc p = (enum blk_prealloc)blk_opts_num(c->opts, "preallocation");
	struct blk *b = NULL;

	if (p == BLK_PREALLOC_OFF)
		return 0;
	int r = blk_co_open_new(c, &b, err);

	if (r < 0)
		return r;
	r = q2_preallocate(b->priv, 0, b->size, p, err);
	b->is_readonly = r < 0;         /* it goes: nothing need be written any more */
	blk_co_close(b);
	return r;
}

int q2_co_create(struct blk_creating *c, struct err *err)
{
	struct blk names = { .name = (char *)(uintptr_t)c->args->path,
			     .backing_name = (char *)(uintptr_t)c->args->backing,
			     .backing_format = (char *)(uintptr_t)(c->args->backing ? c->args->backing_format : NULL) };
	struct q2 s = { .b = &names };
	uint64_t n_blocks = 0, n_clusters = 0;
	int r = create_check(c, &s, err);

	s.crypt_len = q2_crypt_room(c);
	if (!r)
		r = create_layout(&s, c->size, &n_blocks, &n_clusters, err);
	if (!r)
		r = create_data_file(c, err);
	if (r < 0)
		return r;
	s.data_name = (char *)(uintptr_t)blk_opts_str(c->opts, "data_file");
	r = create_write(c->file, &s, n_blocks, n_clusters);
	if (r == -ENOSPC && n_clusters - q2_cluster_of(&s, s.crypt_len) < 100 && s.cluster_size < 4096)
		return err_set(err, r,
			       "a cluster of %u bytes has no room for the header and its names",
			       s.cluster_size);
	if (r < 0)
		return err_set(err, r, "cannot write '%s': %s", c->args->path, strerror(-r));
	r = q2_crypt_create(c, &s, err);
	return r ? r : create_preallocate(c, err);
}

/* --- changing --------------------------------------------------------------------------------- */

static int change_string(char **to, const char *from, struct err *err)
{
	char *copy = from ? strdup(from) : NULL;

	if (from && !copy)
		return err_set(err, -ENOMEM, "out of memory");
	free(*to);
	*to = copy;
	return 0;
}

int q2_co_change_backing(struct blk *b, const char *name, const char *format, struct err *err)
{
	struct q2 *s = b->priv;

	if (name && strlen(name) > Q2_BACKING_NAME_MAX)
		return err_set(err, -EINVAL, "the name of the backing image is longer than %d", Q2_BACKING_NAME_MAX);
	if (name && !format)
		return err_set(err, -EINVAL, "say the format of the backing image '%s'", name);
	if (name && s->has_raw_data)
		return err_set(err, -EINVAL, "'%s' has a raw data file, which cannot have a backing image", b->name);
	int r = q2_prepare(s);

	if (!r)
		r = q2_settle(s);
	if (r < 0)
		return err_set(err, r, "cannot write '%s': %s", b->name, strerror(-r));
	r = change_string(&b->backing_name, name, err);
	if (!r)
		r = change_string(&b->backing_format, name ? format : NULL, err);
	if (!r)
		r = q2_header_write(s, err);
	if (!r && q2_barrier(s) < 0)
		r = err_set(err, -EIO, "cannot write '%s'", b->name);
	return r;
}

static int amend_check(const struct q2 *s, const struct blk_opts *o, struct err *err)
{
	static const char *const fixed[] = { "cluster_size", "refcount_bits", "extended_l2", "compression_type",
					     "preallocation", "data_file", "data_file_raw",
					     "encrypt.format", "encrypt.cipher-alg", "encrypt.cipher-mode",
					     "encrypt.hash-alg" };

	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		if (blk_opts_is_set(o, fixed[i]))
			return err_set(err, -ENOTSUP, "%s cannot be changed in place: convert '%s'",
				       fixed[i], s->b->name);
	if (blk_opts_is_set(o, "compat") && blk_opts_num(o, "compat") == 0 && s->version == 3)
		return err_set(err, -ENOTSUP, "'%s' cannot go back to version 2 in place: convert it", s->b->name);
	if (blk_opts_is_set(o, "lazy_refcounts") && blk_opts_num(o, "lazy_refcounts") && s->version == 2 &&
	    !(blk_opts_is_set(o, "compat") && blk_opts_num(o, "compat")))
		return err_set(err, -EINVAL, "lazy_refcounts needs compat=1.1");
	return 0;
}

int q2_co_amend(struct blk *b, const struct blk_opts *o, struct err *err)
{
	struct q2 *s = b->priv;
	int r = amend_check(s, o, err);

	if (r < 0)
		return r;
	r = q2_prepare(s);
	if (!r)
		r = q2_settle(s);
	if (r < 0)
		return err_set(err, r, "cannot write '%s': %s", b->name, strerror(-r));
	if (blk_opts_is_set(o, "compat") && s->version == 2) {
		s->version = 3;
		s->header_len = sizeof(struct q2_header);
	}
	if (blk_opts_is_set(o, "lazy_refcounts"))
		s->compatible = (s->compatible & ~(uint64_t)Q2_COMPAT_LAZY) |
				(blk_opts_num(o, "lazy_refcounts") ? Q2_COMPAT_LAZY : 0);
	r = q2_header_write(s, err);
	if (!r && q2_barrier(s) < 0)
		r = err_set(err, -EIO, "cannot write '%s'", b->name);
	return r;
}
