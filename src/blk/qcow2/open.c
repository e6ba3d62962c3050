/* SPDX-License-Identifier: Apache-2.0 */
/* open.c - the qcow2 driver: opening, closing, telling. */
#include "blk/qcow2/qcow2.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blk/luks/luks.h"
#include "blk/qcow2/qcow2_priv.h"
#include "blk/secret.h"
#include "util/log.h"

enum { TABLE_BYTES = 64 << 10 };

const struct blk_opt q2_open_opts[] = {
	{ "cache_size", BLK_OPT_SIZE, "32M", "memory for L2 tables and reference counts", 64 << 10,
	  16ull << 30, NULL },
	BLK_SECRET_OPTS,
	{ "lazy_refcounts", BLK_OPT_BOOL, NULL,
	  "write reference counts on closing only (default: as the image says)", 0, 0, NULL },
	{ .name = NULL },
};

int q2_barrier(struct q2 *s)
{
	return blk_co_flush(s->b->file);
}

int q2_read_table(struct q2 *s, uint64_t off, uint64_t n, uint64_t *out)
{
	uint8_t *buf = (uint8_t *)out;
	int r = blk_co_pread(s->b->file, off, buf, n * 8);

	for (uint64_t i = 0; !r && i < n; i++)
		out[i] = get_be64(buf + i * 8);
	return r;
}

int q2_write_table(struct q2 *s, uint64_t off, uint64_t n, const uint64_t *in)
{
	AUTO(free) uint8_t *buf = malloc(TABLE_BYTES);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t done = 0, some; !r && done < n; done += some) {
		some = n - done < TABLE_BYTES / 8 ? n - done : TABLE_BYTES / 8;
		for (uint64_t i = 0; i < some; i++)
			put_be64(buf + i * 8, in[done + i]);
		r = blk_co_pwrite(s->b->file, off + done * 8, buf, some * 8);
	}
	return r;
}

/* --- damage ------------------------------------------------------------------------------------- */

int q2_corrupt(struct q2 *s, const char *fmt, ...)
{
	char what[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (s->is_corrupt || s->is_checking)
		return -EIO;
	log_error("disk '%s' is damaged: %s; it takes no more writes; repair it with: viv disk check --repair",
		  s->b->name, what);
	s->is_corrupt = true;
	if (s->version == 3 && !s->b->is_readonly && s->b->is_open) {
		s->incompatible |= Q2_INCOMPAT_CORRUPT;
		q2_header_update(s);
	}
	return -EIO;
}

/* What has to stand in the header before anything else changes. */
static int prepare_locked(struct q2 *s)
{
	uint64_t incompatible = s->incompatible, autoclear = s->autoclear;
	int r = q2_bitmaps_begin(s);

	if (r < 0)
		return r;
	s->autoclear &= Q2_AUTOCLEAR_KNOWN;
	if (s->is_lazy)
		s->incompatible |= Q2_INCOMPAT_DIRTY;
	if (s->incompatible == incompatible && s->autoclear == autoclear)
		return 0;
	r = q2_header_update(s);
	return r ? r : q2_barrier(s);
}

int q2_prepare(struct q2 *s)
{
	int r = 0;

	if (s->is_corrupt)
		return -EIO;
	if (s->is_prepared)
		return 0;
	co_mutex_lock(&s->prepare_lock);
	if (!s->is_prepared)
		r = prepare_locked(s);
	s->is_prepared = !r;
	co_mutex_unlock(&s->prepare_lock);
	return r;
}

/* --- opening ------------------------------------------------------------------------------------ */

static int open_header(struct q2 *s, struct err *err)
{
	uint64_t file_size = s->b->file->size;
	size_t len = file_size < 2 << 20 ? (size_t)file_size : 2 << 20;
	AUTO(free) uint8_t *buf = malloc(len ? len : 1);
	int r = buf ? blk_co_pread(s->b->file, 0, buf, len) : -ENOMEM;

	if (r < 0)
		return err_set(err, r, "cannot read the header of '%s': %s", s->b->name, strerror(-r));
	return q2_header_parse(s, buf, len, file_size, err);
}

static int open_table(struct q2 *s, const char *what, uint64_t off, uint64_t n, uint64_t **table, uint8_t **dirty,
		      struct err *err)
{
	*table = calloc(n + 1, 8);
	*dirty = calloc(n / 64 + 1, 1);
	if (!*table || !*dirty)
		return err_set(err, -ENOMEM, "out of memory");
	if (!n)
		return 0;
	/* What is behind the end of the file is nothing; a table there is damage, not an empty table. */
	if (!range_fits(off, n * 8, s->b->file->size) && off >= s->b->file->size && !s->b->is_repairing)
		return err_set(err, -EINVAL, "the %s of '%s' lies behind the end of the file", what, s->b->name);
	int r = q2_read_table(s, off, n, *table);

	return r < 0 ? err_set(err, r, "cannot read the %s of '%s': %s", what, s->b->name, strerror(-r)) : 0;
}

/* Entries that cannot be are left out when repairing, and reason to refuse else. */
static int open_check_entries(struct q2 *s, const char *what, uint64_t *table, uint64_t n, uint64_t reserved,
			      struct err *err)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t off = table[i] & Q2_OFF_MASK;

		if (!(table[i] & reserved) && !(off & (s->cluster_size - 1)))
			continue;
		if (s->b->is_repairing)
			continue;
		if (!s->b->is_readonly)
			return err_set(err, -EINVAL,
				       "'%s' is damaged: entry %" PRIu64 " of its %s is 0x%" PRIx64
				       "; repair it "
				       "with: viv disk check --repair, or open it with readonly=on",
				       s->b->name, i, what, table[i]);
	}
	return 0;
}

/* The image as the header has it was not closed properly, or was found damaged. */
static int open_check_state(struct q2 *s, struct err *err)
{
	if (s->b->is_readonly || s->b->is_repairing)
		return 0;
	if (s->incompatible & Q2_INCOMPAT_CORRUPT)
		return err_set(err, -EROFS,
			       "'%s' is marked as corrupt; repair it with: viv disk check "
			       "--repair, or open it "
			       "with readonly=on",
			       s->b->name);
	return 0;
}

/* Reference counts were not written when the image was used last: count again. */
static int open_recount(struct q2 *s, struct err *err)
{
	struct blk_check c = { .report = NULL };

	if (!(s->incompatible & Q2_INCOMPAT_DIRTY) || s->b->is_readonly || s->b->is_repairing)
		return 0;
	log_info("disk '%s' was not closed: counting its clusters", s->b->name);
	int r = q2_co_check(s->b, BLK_FIX_ALL, &c, err);

	if (!r && c.n_errors)
		r = err_set(err, -EIO,
			    "'%s' was not closed properly and is damaged; repair it with: viv disk "
			    "check --repair",
			    s->b->name);
	return r;
}

static int open_meta(struct q2 *s, struct err *err)
{
	int r = 0;

	if (s->b->is_readonly)
		return 0;
	for (uint64_t i = 0; !r && i < s->rt_size; i++)
		if (s->rt[i] & ~Q2_RT_RESERVED)
			r = q2_meta_add(s, s->rt[i] & ~Q2_RT_RESERVED);
	for (uint64_t i = 0; !r && i < s->l1_size; i++)
		if (s->l1[i] & Q2_OFF_MASK)
			r = q2_meta_add(s, s->l1[i] & Q2_OFF_MASK);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

static int open_data_file(struct q2 *s, struct err *err)
{
	if (!(s->incompatible & Q2_INCOMPAT_DATA_FILE))
		return 0;
	if (!s->data_name)
		return err_set(err, -EINVAL, "'%s' keeps its data in another file and does not say which", s->b->name);
	return blk_co_open_file(s->b, s->data_name, NULL, &s->b->data, err);
}

static int q2_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	struct q2 *s = b->priv;

	s->b = b;
	pthread_mutex_init(&s->codec_lock, NULL);
	int r = open_header(s, err);

	if (!r && q2_cache_init(s, blk_opts_num(opts, "cache_size")) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	if (!r)
		r = open_check_state(s, err);
	if (!r)
		r = open_table(s, "L1 table", s->l1_off, s->l1_size, &s->l1, &s->l1_dirty, err);
	if (!r)
		r = open_table(s, "refcount table", s->rt_off, s->rt_size, &s->rt, &s->rt_dirty, err);
	if (!r)
		r = open_check_entries(s, "L1 table", s->l1, s->l1_size, Q2_L1_RESERVED, err);
	if (!r)
		r = open_check_entries(s, "refcount table", s->rt, s->rt_size, Q2_RT_RESERVED, err);
	if (!r)
		r = open_meta(s, err);
	if (!r)
		r = q2_snapshots_load(s, b->file->size, err);
	if (!r)
		r = q2_crypt_open(s, err);
	if (!r)
		r = open_data_file(s, err);
	if (!r)
		r = q2_bitmaps_load(s, b->file->size, err);
	if (r < 0)
		return r;
	b->size = align_up(s->size, BLK_SECTOR);
	b->cluster_size = s->cluster_size;
	b->can_discard = !b->is_readonly;
	s->alloc_end = 0;
	s->is_corrupt = s->incompatible & Q2_INCOMPAT_CORRUPT && !b->is_repairing;
	s->is_lazy = s->version == 3 &&
		     (blk_opts_is_set(opts, "lazy_refcounts") ? blk_opts_num(opts, "lazy_refcounts")
							      : s->compatible & Q2_COMPAT_LAZY);
	s->is_checking = b->is_repairing;
	return open_recount(s, err);
}

static int q2_co_flush(struct blk *b)
{
	struct q2 *s = b->priv;
	int r = q2_writeback(s);

	/* What can be given back now is written next time: it is not needed for what was flushed. */
	return r ? r : q2_apply_frees(s);
}

/* The session ends well: bitmaps are kept, and the header says that all is in order. */
static void close_session(struct q2 *s)
{
	int r = s->is_prepared && !s->is_corrupt ? q2_bitmaps_store(s, true) : 0;

	if (!r)
		r = q2_settle(s);
	if (!r && s->incompatible & Q2_INCOMPAT_DIRTY && !s->is_corrupt && s->is_prepared) {
		r = q2_barrier(s);
		if (!r) {
			s->incompatible &= ~(uint64_t)Q2_INCOMPAT_DIRTY;
			r = q2_header_update(s);
		}
	}
	if (!r)
		r = q2_barrier(s);
	if (r < 0)
		log_error("disk '%s': cannot write back on closing: %s", s->b->name, strerror(-r));
}

static void q2_co_close(struct blk *b)
{
	struct q2 *s = b->priv;

	if (b->is_open && !b->is_readonly)
		close_session(s);
	if (s->slots && s->hash)
		q2_cache_fini(s);
	for (uint32_t i = 0; s->snapshots && i < s->n_snapshots; i++)
		q2_snapshot_free(&s->snapshots[i]);
	free(s->snapshots);
	q2_bitmaps_free(s);
	q2_header_free(s);
	q2_crypt_close(s);
	q2_packers_free(s);
	pthread_mutex_destroy(&s->codec_lock);
	free(s->inflated);
	free(s->meta);
	free(s->pending.v);
	free(s->freeable.v);
	free(s->l1);
	free(s->rt);
	free(s->l1_dirty);
	free(s->rt_dirty);
}

static int q2_probe(const struct blk_probe *p)
{
	if (p->head_len < 8 || get_be32(p->head) != Q2_MAGIC)
		return 0;
	/* Of whatever version: opening names those that are not known, and nobody takes the bytes of one for a disk. */
	return 100;
}

/* --- telling ------------------------------------------------------------------------------------ */

static json_t *info_bitmaps(const struct q2 *s)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < s->n_bitmaps; i++) {
		const struct q2_bitmap *m = &s->bitmaps[i];
		json_t *flags = json_array(), *o = json_object();

		if (m->flags & 1)
			json_array_append_new(flags, json_string("in-use"));
		if (m->flags & 2)
			json_array_append_new(flags, json_string("auto"));
		json_object_set_new(o, "flags", flags);
		json_object_set_new(o, "name", json_string(m->name));
		json_object_set_new(o, "granularity", json_integer((json_int_t)1 << m->granularity_bits));
		json_array_append_new(list, o);
	}
	return list;
}

int q2_co_info(struct blk *b, json_t *out, struct err *err)
{
	const struct q2 *s = b->priv;

	json_object_set_new(out, "compat", json_string(s->version == 2 ? "0.10" : "1.1"));
	json_object_set_new(out, "refcount-bits", json_integer(1 << s->refcount_order));
	json_object_set_new(out, "compression-type", json_string(s->compression ? "zstd" : "zlib"));
	if (s->luks) {
		json_t *o = json_pack("{s:s}", "format", "luks");

		luks_co_info(s->luks, o);
		json_object_set_new(out, "encrypt", o);
	}
	if (s->version < 3)
		return 0;
	json_object_set_new(out, "lazy-refcounts", json_boolean(s->compatible & Q2_COMPAT_LAZY));
	json_object_set_new(out, "corrupt", json_boolean(s->incompatible & Q2_INCOMPAT_CORRUPT));
	json_object_set_new(out, "dirty", json_boolean(s->incompatible & Q2_INCOMPAT_DIRTY));
	json_object_set_new(out, "extended-l2", json_boolean(s->n_sub == 32));
	if (s->data_name) {
		json_object_set_new(out, "data-file", json_string(s->data_name));
		json_object_set_new(out, "data-file-raw", json_boolean(s->has_raw_data));
	}
	if (s->n_bitmaps)
		json_object_set_new(out, "bitmaps", info_bitmaps(s));
	return 0;
}

const struct blk_driver blk_qcow2 = {
	.name = "qcow2",
	.title = "QEMU's image with snapshots, backing images and compression, version 2 and 3",
	.flags = BLK_DRIVER_BACKING | BLK_DRIVER_DEVICE,
	.priv_size = sizeof(struct q2),
	.open_opts = q2_open_opts,
	.create_opts = q2_create_opts,
	.probe = q2_probe,
	.co_open = q2_co_open,
	.co_close = q2_co_close,
	.try_map = q2_try_map,
	.co_preadv = q2_co_preadv,
	.co_pwritev = q2_co_pwritev,
	.co_pwritev_compressed = q2_co_pwritev_compressed,
	.pack = q2_pack,
	.co_write_packed = q2_co_write_packed,
	.co_flush = q2_co_flush,
	.co_discard = q2_co_discard,
	.co_zeroes = q2_co_zeroes,
	.co_map = q2_co_map,
	.co_truncate = q2_co_truncate,
	.co_check = q2_co_check,
	.co_info = q2_co_info,
	.co_snapshot_list = q2_co_snapshot_list,
	.co_snapshot_create = q2_co_snapshot_create,
	.co_snapshot_apply = q2_co_snapshot_apply,
	.co_snapshot_delete = q2_co_snapshot_delete,
	.co_bitmap_read = q2_co_bitmap_read,
	.co_change_backing = q2_co_change_backing,
	.co_amend = q2_co_amend,
	.co_make_empty = q2_co_make_empty,
	.co_create = q2_co_create,
	.co_bitmap_add = q2_co_bitmap_add,
	.co_bitmap_remove = q2_co_bitmap_remove,
	.co_bitmap_take = q2_co_bitmap_take,
	.co_bitmap_give = q2_co_bitmap_give,
};
