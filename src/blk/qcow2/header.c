/* SPDX-License-Identifier: Apache-2.0 */
/* header.c - the header cluster: sections "Header" and "Header extensions".
 *
 * All that a running image changes stands in the first 512 bytes, so that each change of it is one
 * sector that is written or not. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blk/luks/luks.h"

enum { V2_LEN = 72, V3_LEN = 104 };
enum {
	EXT_END = 0, EXT_BACKING_FORMAT = (int)0xe2792aca, EXT_FEATURES = 0x6803f857, EXT_BITMAPS = 0x23852875,
	EXT_CRYPTO = 0x0537be77, EXT_DATA_FILE = 0x44415441,
};

/* Section "Feature name table". */
static const struct { uint8_t type, bit; const char *name; } header_features[] = {
	{ 0, 0, "dirty bit" }, { 0, 1, "corrupt bit" }, { 0, 2, "external data file" },
	{ 0, 3, "compression type" }, { 0, 4, "extended L2 entries" },
	{ 1, 0, "lazy refcounts" },
	{ 2, 0, "bitmaps" }, { 2, 1, "raw external data" },
};
enum { FEATURE_LEN = 48 };

void q2_geometry(struct q2 *s)
{
	bool is_extended = s->incompatible & Q2_INCOMPAT_EXTENDED_L2;

	s->cluster_size = 1u << s->cluster_bits;
	s->entry_size = is_extended ? 16 : 8;
	s->l2_bits = s->cluster_bits - (is_extended ? 4 : 3);
	s->n_sub = is_extended ? 32 : 1;
	s->sub_bits = s->cluster_bits - (is_extended ? 5 : 0);
	s->sub_size = 1u << s->sub_bits;
	s->page_size = s->cluster_size < Q2_PAGE_MAX ? s->cluster_size : Q2_PAGE_MAX;
	s->ref_bits = s->cluster_bits + 3 - s->refcount_order;
	s->ref_max = s->refcount_order == 6 ? INT64_MAX : (1ull << (1u << s->refcount_order)) - 1;
	s->rt_size = (uint32_t)(((uint64_t)s->rt_clusters << s->cluster_bits) / 8);
	s->has_raw_data = s->autoclear & Q2_AUTOCLEAR_RAW_DATA;
}

/* The names of incompatible bits that we do not know: the image may bring them. */
static int header_refuse_features(const struct q2 *s, const uint8_t *table, size_t len, struct err *err)
{
	uint64_t unknown = s->incompatible & ~(uint64_t)Q2_INCOMPAT_KNOWN;
	char names[300] = "";

	if (!unknown)
		return 0;
	for (unsigned bit = 0; bit < 64; bit++) {
		char name[FEATURE_LEN] = "";
		size_t n = strlen(names);

		if (!(unknown >> bit & 1))
			continue;
		for (size_t at = 0; at + FEATURE_LEN <= len; at += FEATURE_LEN)
			if (table[at] == 0 && table[at + 1] == bit)
				memcpy(name, table + at + 2, FEATURE_LEN - 2);
		for (char *p = name; *p; p++)
			*p = *p < ' ' || *p > '~' ? '?' : *p;
		snprintf(names + n, sizeof(names) - n, "%s%s%s%s (bit %u)", n ? ", " : "", name[0] ? "'" : "",
			 name[0] ? name : "a feature without a name", name[0] ? "'" : "", bit);
	}
	return err_set(err, -ENOTSUP, "'%s' needs what is not supported: %s", s->b->name, names);
}

static int ext_string(char **out, const uint8_t *data, uint32_t len, uint32_t max, struct q2 *s, struct err *err)
{
	if (len > max || memchr(data, 0, len))
		return err_set(err, -EINVAL, "a name in the header of '%s' is too long or broken", s->b->name);
	free(*out);
	*out = strndup((const char *)data, len);
	return *out ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int ext_bitmaps(struct q2 *s, const uint8_t *data, uint32_t len, struct err *err)
{
	if (len != 24)
		return err_set(err, -EINVAL, "the bitmaps extension of '%s' is broken", s->b->name);
	s->n_bitmaps = get_be32(data);
	s->bitmap_dir_len = get_be64(data + 8);
	s->bitmap_dir_off = get_be64(data + 16);
	return 0;
}

static int ext_crypto(struct q2 *s, const uint8_t *data, uint32_t len, struct err *err)
{
	if (len != 16)
		return err_set(err, -EINVAL, "the encryption extension of '%s' is broken", s->b->name);
	s->crypt_off = get_be64(data);
	s->crypt_len = get_be64(data + 8);
	return 0;
}

static int ext_keep(struct q2 *s, uint32_t type, const uint8_t *data, uint32_t len, struct err *err)
{
	struct q2_extension **at = &s->extensions, *x = calloc(1, sizeof(*x));

	if (x)
		x->data = malloc(len ? len : 1);
	if (!x || !x->data) {
		free(x);
		return err_set(err, -ENOMEM, "out of memory");
	}
	x->type = type;
	x->len = len;
	memcpy(x->data, data, len);
	while (*at)
		at = &(*at)->next;
	*at = x;
	return 0;
}

/* BUF is the header cluster, extensions are from AT to END. */
static int header_extensions(struct q2 *s, const uint8_t *buf, size_t at, size_t end, struct err *err)
{
	const uint8_t *features = NULL;
	size_t features_len = 0;
	int r = 0;

	while (!r && at + 8 <= end) {
		uint32_t type = get_be32(buf + at), len = get_be32(buf + at + 4);
		const uint8_t *data = buf + at + 8;

		if (type == EXT_END)
			break;
		if (len > end - at - 8)
			return err_set(err, -EINVAL,
				       "a header extension of '%s' is longer than the header",
				       s->b->name);
		if (type == (uint32_t)EXT_BACKING_FORMAT) {
			r = ext_string(&s->b->backing_format, data, len, 63, s, err);
		} else if (type == EXT_DATA_FILE) {
			r = ext_string(&s->data_name, data, len, Q2_BACKING_NAME_MAX, s, err);
		} else if (type == EXT_BITMAPS) {
			r = ext_bitmaps(s, data, len, err);
		} else if (type == EXT_CRYPTO) {
			r = ext_crypto(s, data, len, err);
		} else if (type == EXT_FEATURES) {
			features = data;
			features_len = len;
		} else {
			r = ext_keep(s, type, data, len, err);
		}
		at += 8 + align_up(len, 8);
	}
	return r ? r : header_refuse_features(s, features, features_len, err);
}

static int header_fields(struct q2 *s, const struct q2_header *h, struct err *err)
{
	const char *name = s->b->name;

	s->version = be32_get(h->version);
	s->cluster_bits = be32_get(h->cluster_bits);
	s->size = be64_get(h->size);
	s->crypt_method = be32_get(h->crypt_method);
	s->l1_size = be32_get(h->l1_size);
	s->l1_off = be64_get(h->l1_table_offset);
	s->rt_off = be64_get(h->refcount_table_offset);
	s->rt_clusters = be32_get(h->refcount_table_clusters);
	s->n_snapshots = be32_get(h->nb_snapshots);
	s->snapshots_off = be64_get(h->snapshots_offset);
	s->refcount_order = 4;
	s->header_len = V2_LEN;
	if (be32_get(h->magic) != Q2_MAGIC)
		return err_set(err, -EINVAL, "'%s' is not a qcow2 image", name);
	if (s->version != 2 && s->version != 3)
		return err_set(err, -ENOTSUP, "'%s' is qcow2 version %u; 2 and 3 are supported%s", name, s->version,
			       s->b->is_probed ? "; if it is a raw disk that looks so by chance, say that it is raw" : "");
	if (s->version == 3) {
		s->incompatible = be64_get(h->incompatible_features);
		s->compatible = be64_get(h->compatible_features);
		s->autoclear = be64_get(h->autoclear_features);
		s->refcount_order = be32_get(h->refcount_order);
		s->header_len = be32_get(h->header_length);
		s->compression = s->header_len > V3_LEN ? h->compression_type : 0;
	}
	if (s->cluster_bits < 9 || s->cluster_bits > 21)
		return err_set(err, -ENOTSUP, "'%s' has clusters of 2^%u bytes; 512 bytes to 2 MiB are supported", name,
			       s->cluster_bits);
	if (s->version == 3 && (s->header_len < V3_LEN || s->header_len % 8 || s->header_len > 1u << s->cluster_bits))
		return err_set(err, -EINVAL, "the header of '%s' has the impossible length %u", name, s->header_len);
	if (s->refcount_order > 6)
		return err_set(err, -EINVAL, "'%s' has reference counts of 2^%u bits", name, s->refcount_order);
	if (s->crypt_method && s->crypt_method != Q2_CRYPT_LUKS)
		return err_set(err, -ENOTSUP, "'%s' is encrypted with %s; only LUKS is supported in qcow2", name,
			       s->crypt_method == 1 ? "AES of the old kind, which is not safe" : "an unknown method");
	return 0;
}

/* An aligned table of LEN bytes at OFF that ends where offsets still can be. */
static int header_table(const struct q2 *s, const char *what, uint64_t off, uint64_t len, uint64_t max, struct err *err)
{
	if (len > max)
		return err_set(err, -EFBIG, "the %s of '%s' is too large (%" PRIu64 " bytes)", what, s->b->name, len);
	if (off & (s->cluster_size - 1) || !range_fits(off, len, 1ull << 56) || (len && !off))
		return err_set(err, -EINVAL,
			       "the %s of '%s' is at the impossible offset 0x%" PRIx64, what,
			       s->b->name, off);
	return 0;
}

static int header_check(struct q2 *s, struct err *err)
{
	uint64_t per_l2 = 1ull << (s->cluster_bits + s->l2_bits);
	uint64_t l1_needed = s->size / per_l2 + (s->size % per_l2 != 0);
	int r = 0;

	if (s->incompatible & Q2_INCOMPAT_EXTENDED_L2 && s->cluster_bits < 14)
		return err_set(err, -EINVAL, "'%s' has extended L2 entries with clusters below 16 KiB", s->b->name);
	if (!!(s->incompatible & Q2_INCOMPAT_COMPRESSION) != !!s->compression || s->compression > 1)
		return err_set(err, -ENOTSUP, "'%s' has compression type %u%s", s->b->name, s->compression,
			       s->compression > 1 ? ", which is not supported" : ", and says otherwise elsewhere");
	if (s->autoclear & Q2_AUTOCLEAR_RAW_DATA && !(s->incompatible & Q2_INCOMPAT_DATA_FILE))
		s->autoclear &= ~(uint64_t)Q2_AUTOCLEAR_RAW_DATA;
	if (s->size > INT64_MAX - BLK_SECTOR || l1_needed > Q2_L1_MAX)
		return err_set(err, -EFBIG, "the disk of '%s' is too large (%" PRIu64 " bytes)", s->b->name, s->size);
	if (s->l1_size < l1_needed)
		return err_set(err, -EINVAL, "the L1 table of '%s' has %u entries, the disk needs %" PRIu64, s->b->name,
			       s->l1_size, l1_needed);
	r = header_table(s, "L1 table", s->l1_off, (uint64_t)s->l1_size * 8, Q2_L1_MAX * 8ull, err);
	if (!r && !s->rt_clusters && !s->b->is_repairing)
		r = err_set(err, -EINVAL, "'%s' has no reference counts; repair it with: viv disk check --repair",
			    s->b->name);
	if (!r)
		r = header_table(s, "refcount table", s->rt_off, (uint64_t)s->rt_clusters << s->cluster_bits,
				 Q2_RT_MAX * 8ull, err);
	if (!r && s->crypt_method)
		r = header_table(s, "encryption header", s->crypt_off, s->crypt_len, LUKS_HEADER_MAX, err);
	if (!r && !!s->crypt_method != !!s->crypt_len)
		r = err_set(err, -EINVAL, "'%s' %s an encryption header, but its header says otherwise", s->b->name,
			    s->crypt_len ? "has" : "has not");
	if (!r && s->n_snapshots > Q2_SNAPSHOTS_MAX)
		r = err_set(err, -EFBIG, "'%s' has too many snapshots", s->b->name);
	if (!r && s->n_snapshots)
		r = header_table(s, "snapshot table", s->snapshots_off, 1, 1, err);
	return r;
}

static int header_backing(struct q2 *s, const struct q2_header *h, const uint8_t *buf, size_t len, size_t *ext_end,
			  struct err *err)
{
	uint64_t off = be64_get(h->backing_file_offset);
	uint32_t n = be32_get(h->backing_file_size);

	*ext_end = len;
	if (!off || !n)
		return 0;
	if (n > Q2_BACKING_NAME_MAX || off < s->header_len || !range_fits(off, n, len))
		return err_set(err, -EINVAL, "the backing image's name in '%s' is outside of the header", s->b->name);
	*ext_end = off;
	return ext_string(&s->b->backing_name, buf + off, n, Q2_BACKING_NAME_MAX, s, err);
}

int q2_header_parse(struct q2 *s, const uint8_t *buf, size_t len, uint64_t file_size, struct err *err)
{
	struct q2_header h = { 0 };
	size_t ext_end = 0;

	if (len < V2_LEN)
		return err_set(err, -EINVAL, "'%s' is too short for a qcow2 image", s->b->name);
	memcpy(&h, buf, len < sizeof(h) ? len : sizeof(h));
	int r = header_fields(s, &h, err);

	if (r < 0)
		return r;
	q2_geometry(s);
	if (len > s->cluster_size)
		len = s->cluster_size;
	if (s->header_len > len)
		return err_set(err, -EINVAL, "'%s' ends in its header", s->b->name);
	r = header_backing(s, &h, buf, len, &ext_end, err);
	if (!r)
		r = header_extensions(s, buf, s->header_len, ext_end, err);
	if (!r)
		r = header_check(s, err);
	if (!r && s->version == 3 && !(s->autoclear & Q2_AUTOCLEAR_BITMAPS))
		s->n_bitmaps = 0;       /* "considered inconsistent": leaks, which check finds */
	return r;
}

/* --- writing -------------------------------------------------------------------------------- */

struct header_out { uint8_t *buf; size_t at, cap; bool is_full; };

static uint8_t *out_take(struct header_out *o, size_t n)
{
	uint8_t *p = o->buf + o->at;

	if (n > o->cap - o->at) {
		o->is_full = true;
		return NULL;
	}
	o->at += n;
	memset(p, 0, n);
	return p;
}

static void out_extension(struct header_out *o, uint32_t type, const void *data, uint32_t len)
{
	uint8_t *p = out_take(o, 8 + align_up(len, 8));

	if (!p)
		return;
	put_be32(p, type);
	put_be32(p + 4, len);
	if (len)
		memcpy(p + 8, data, len);
}

static void out_features(struct header_out *o)
{
	uint8_t table[ARRAY_LEN(header_features)][FEATURE_LEN] = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(header_features); i++) {
		table[i][0] = header_features[i].type;
		table[i][1] = header_features[i].bit;
		memcpy(table[i] + 2, header_features[i].name, strlen(header_features[i].name));
	}
	out_extension(o, EXT_FEATURES, table, sizeof(table));
}

static void out_bitmaps(struct header_out *o, const struct q2 *s)
{
	uint8_t ext[24] = { 0 };

	put_be32(ext, s->n_bitmaps);
	put_be64(ext + 8, s->bitmap_dir_len);
	put_be64(ext + 16, s->bitmap_dir_off);
	out_extension(o, EXT_BITMAPS, ext, sizeof(ext));
}

static void out_crypto(struct header_out *o, const struct q2 *s)
{
	uint8_t data[16];

	put_be64(data, s->crypt_off);
	put_be64(data + 8, s->crypt_len);
	out_extension(o, EXT_CRYPTO, data, sizeof(data));
}

static void header_fill(const struct q2 *s, struct q2_header *h, uint32_t len)
{
	*h = (struct q2_header){
		.magic = be32_of(Q2_MAGIC), .version = be32_of(s->version), .cluster_bits = be32_of(s->cluster_bits),
		.size = be64_of(s->size), .crypt_method = be32_of(s->crypt_method), .l1_size = be32_of(s->l1_size),
		.l1_table_offset = be64_of(s->l1_off), .refcount_table_offset = be64_of(s->rt_off),
		.refcount_table_clusters = be32_of(s->rt_clusters), .nb_snapshots = be32_of(s->n_snapshots),
		.snapshots_offset = be64_of(s->snapshots_off),
		.incompatible_features = be64_of(s->incompatible), .compatible_features = be64_of(s->compatible),
		.autoclear_features = be64_of(s->autoclear), .refcount_order = be32_of(s->refcount_order),
		.header_length = be32_of(len), .compression_type = s->compression,
	};
}

size_t q2_header_build(struct q2 *s, uint8_t *buf, size_t cap)
{
	struct header_out o = { .buf = buf, .cap = cap };
	uint32_t len = s->version == 2 ? V2_LEN : s->header_len > sizeof(struct q2_header) ? s->header_len :
		       (uint32_t)sizeof(struct q2_header);
	struct q2_header h;

	if (!out_take(&o, len))
		return 0;
	header_fill(s, &h, len);
	if (s->n_bitmaps)
		out_bitmaps(&o, s);
	if (s->b->backing_format)
		out_extension(&o, (uint32_t)EXT_BACKING_FORMAT, s->b->backing_format,
			      (uint32_t)strlen(s->b->backing_format));
	if (s->data_name)
		out_extension(&o, EXT_DATA_FILE, s->data_name, (uint32_t)strlen(s->data_name));
	if (s->crypt_len)
		out_crypto(&o, s);
	for (struct q2_extension *x = s->extensions; x; x = x->next)
		out_extension(&o, x->type, x->data, x->len);
	if (s->version == 3 && cap - o.at >= 1024 + Q2_BACKING_NAME_MAX)
		out_features(&o);       /* "optional": only where there is room */
	out_extension(&o, EXT_END, NULL, 0);
	if (s->b->backing_name) {
		size_t n = strlen(s->b->backing_name);

		h.backing_file_offset = be64_of(o.at);
		h.backing_file_size = be32_of((uint32_t)n);
		uint8_t *p = out_take(&o, n);

		if (p)
			memcpy(p, s->b->backing_name, n);
	}
	s->header_len = len;
	memcpy(buf, &h, len < sizeof(h) ? len : sizeof(h));
	return o.is_full ? 0 : o.at;
}

int q2_header_write(struct q2 *s, struct err *err)
{
	AUTO(free) uint8_t *buf = calloc(1, s->cluster_size);

	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	if (!q2_header_build(s, buf, s->cluster_size))
		return err_set(err, -ENOSPC,
			       "the header of '%s' has no room for all that has to stand in it",
			       s->b->name);
	int r = blk_co_pwrite(s->b->file, 0, buf, s->cluster_size);

	return r < 0 ? err_set(err, r, "cannot write the header of '%s': %s", s->b->name, strerror(-r)) : 0;
}

int q2_header_update(struct q2 *s)
{
	uint8_t sector[BLK_SECTOR] __attribute__((aligned(512)));
	struct q2_header h, old;
	int r = blk_co_pread(s->b->file, 0, sector, sizeof(sector));

	if (r < 0)
		return r;
	memcpy(&old, sector, sizeof(old));
	header_fill(s, &h, s->header_len);
	h.backing_file_offset = old.backing_file_offset;
	h.backing_file_size = old.backing_file_size;
	memcpy(sector, &h, s->header_len < sizeof(h) ? s->header_len : sizeof(h));
	return blk_co_pwrite(s->b->file, 0, sector, sizeof(sector));
}

void q2_header_free(struct q2 *s)
{
	for (struct q2_extension *x = s->extensions, *next; x; x = next) {
		next = x->next;
		free(x->data);
		free(x);
	}
	free(s->data_name);
}
