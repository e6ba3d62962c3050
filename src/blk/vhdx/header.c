/* SPDX-License-Identifier: Apache-2.0 */
/* header.c - the two headers and the two region tables, 2.2. */
#include "blk/vhdx/vhdx_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "util/crc32c.h"

enum { SUM_AT = 4, FILE_VERSION = 1, REGIONS_HEADER_LEN = 16, REGION_LEN = 32 };

/* 2DC27766-F623-4200-9D64-115E9BFD4A08, 8B7CA206-4790-4B9A-B8FE-575F050F886E */
const uint8_t vhdx_guid_bat[16] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42,
				    0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
const uint8_t vhdx_guid_meta[16] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
				     0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };

void vhdx_sum(uint8_t *buf, size_t len)
{
	put_le32(buf + SUM_AT, 0);
	put_le32(buf + SUM_AT, crc32c(0, buf, len));
}

bool vhdx_sum_is_good(uint8_t *buf, size_t len)
{
	uint32_t sum = get_le32(buf + SUM_AT);

	put_le32(buf + SUM_AT, 0);
	bool is_good = crc32c(0, buf, len) == sum;

	put_le32(buf + SUM_AT, sum);
	return is_good;
}

/* --- headers ---------------------------------------------------------------------------------- */

static int header_check(const struct vhdx *s, struct err *err)
{
	const struct vhdx_header *h = &s->header;
	uint64_t off = le64_get(h->log_off), len = le32_get(h->log_len);
	const char *name = s->t.b->name;

	if (le16_get(h->version) != FILE_VERSION || le16_get(h->log_version))
		return err_set(err, -ENOTSUP, "'%s' is a VHDX image of version %u with a log of version %u; 1 and 0 "
			       "are known",
			       name, le16_get(h->version), le16_get(h->log_version));
	if (!len || len % VHDX_MB || off % VHDX_MB || off < VHDX_MB || !range_fits(off, len, s->t.b->file->size))
		return err_set(err, -EINVAL, "the header of '%s' is damaged: a log of %" PRIu64 " bytes at %" PRIu64,
			       name, len,
			       off);
	return 0;
}

int vhdx_headers_load(struct vhdx *s, struct err *err)
{
	AUTO(free) struct vhdx_header *h = calloc(2, sizeof(*h));
	struct blk *file = s->t.b->file;
	bool is_good[2] = { false };
	int r = h ? 0 : -ENOMEM;

	for (unsigned i = 0; !r && i < 2; i++) {
		r = blk_co_pread(file, VHDX_HEADER_OFF + (uint64_t)i * VHDX_HEADER_STEP, &h[i], sizeof(h[i]));
		is_good[i] = !r && !memcmp(h[i].signature, "head", 4) && vhdx_sum_is_good((uint8_t *)&h[i],
			sizeof(h[i]));
	}
	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", file->name, strerror(-r));
	if (!is_good[0] && !is_good[1])
		return err_set(err, -EINVAL, "both headers of '%s' are damaged", file->name);
	s->current = !is_good[0] || (is_good[1] && le64_get(h[1].sequence) > le64_get(h[0].sequence));
	s->header = h[s->current];
	return header_check(s, err);
}

/* 2.2.2.1: the older one is overwritten; twice, so that both say the same. */
int vhdx_header_update(struct vhdx *s)
{
	int r = 0;

	for (int i = 0; !r && i < 2; i++) {
		unsigned other = !s->current;

		s->header.sequence = le64_of(le64_get(s->header.sequence) + 1);
		vhdx_sum((uint8_t *)&s->header, sizeof(s->header));
		r = blk_co_pwrite(s->t.b->file, VHDX_HEADER_OFF + (uint64_t)other * VHDX_HEADER_STEP, &s->header,
				  sizeof(s->header));
		if (!r)
			r = blk_co_flush(s->t.b->file);
		if (!r)
			s->current = other;
	}
	return r;
}

/* --- regions ---------------------------------------------------------------------------------- */

static int region_take(struct vhdx *s, const uint8_t *e, struct err *err)
{
	uint64_t off = get_le64(e + 16), len = get_le32(e + 24);
	bool is_bat = !memcmp(e, vhdx_guid_bat, 16), is_meta = !memcmp(e, vhdx_guid_meta, 16);
	const char *name = s->t.b->name;
	char text[BAT_UUID_TEXT];

	if (!is_bat && !is_meta)
		return get_le32(e + 28) & 1 ? err_set(err, -ENOTSUP, "'%s' has a region %s, which must be known and "
						      "is not",
						      name, bat_uuid_text(e, text)) : 0;
	if (off % VHDX_MB || len % VHDX_MB || off < VHDX_MB || !len || !range_fits(off, len, s->t.b->file->size) ||
	    range_overlaps(off, len, le64_get(s->header.log_off), le32_get(s->header.log_len)))
		return err_set(err, -EINVAL, "a region of '%s' is damaged: %" PRIu64 " bytes at %" PRIu64, name, len,
			       off);
	if (is_bat ? s->bat_len : s->meta_len)
		return err_set(err, -EINVAL, "'%s' has a region twice: %s", name, bat_uuid_text(e, text));
	if (is_bat) {
		s->bat_off = off;
		s->bat_len = (uint32_t)len;
	} else {
		s->meta_off = off;
		s->meta_len = (uint32_t)len;
	}
	return 0;
}

/* The first of the two that is good. */
static int regions_read(const struct vhdx *s, uint8_t *buf, bool *is_good)
{
	int r = 0;

	*is_good = false;
	for (unsigned i = 0; !r && !*is_good && i < 2; i++) {
		r = blk_co_pread(s->t.b->file, VHDX_REGIONS_OFF + (uint64_t)i * VHDX_REGIONS_LEN, buf, VHDX_REGIONS_LEN);
		*is_good = !r && !memcmp(buf, "regi", 4) && vhdx_sum_is_good(buf, VHDX_REGIONS_LEN);
	}
	return r;
}

int vhdx_regions_move_bat(const struct vhdx *s, uint64_t off, uint32_t len, uint8_t *table)
{
	bool is_good;
	int r = regions_read(s, table, &is_good);

	for (uint32_t i = 0; !r && is_good && i < get_le32(table + 8) && i < VHDX_REGIONS_MAX; i++) {
		uint8_t *e = table + REGIONS_HEADER_LEN + (size_t)i * REGION_LEN;

		if (memcmp(e, vhdx_guid_bat, 16))
			continue;
		put_le64(e + 16, off);
		put_le32(e + 24, len);
		vhdx_sum(table, VHDX_REGIONS_LEN);
		return 0;
	}
	return r ? r : -EIO;
}

int vhdx_regions_load(struct vhdx *s, struct err *err)
{
	AUTO(free) uint8_t *buf = malloc(VHDX_REGIONS_LEN);
	struct blk *file = s->t.b->file;
	bool is_good = false;
	int r = buf ? regions_read(s, buf, &is_good) : -ENOMEM;

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", file->name, strerror(-r));
	uint32_t n = get_le32(buf + 8);

	if (!is_good || n > VHDX_REGIONS_MAX)
		return err_set(err, -EINVAL, "both region tables of '%s' are damaged", file->name);
	for (uint32_t i = 0; !r && i < n; i++)
		r = region_take(s, buf + REGIONS_HEADER_LEN + (size_t)i * REGION_LEN, err);
	if (!r && (!s->bat_len || !s->meta_len))
		r = err_set(err, -EINVAL, "'%s' has no region for %s", file->name, s->bat_len ? "metadata" : "its "
			    "table");
	if (!r && range_overlaps(s->bat_off, s->bat_len, s->meta_off, s->meta_len))
		r = err_set(err, -EINVAL, "the regions of '%s' lie over each other", file->name);
	return r;
}
