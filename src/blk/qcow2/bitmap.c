/* SPDX-License-Identifier: Apache-2.0 */
/* bitmap.c - persistent dirty bitmaps: section "Bitmaps".
 *
 * A bitmap that records ("auto") is read into memory when the first write of a session comes, marked as in
 * use in the image, and written to new clusters when the session ends. One that does not record is left
 * alone. If the session does not end properly it stays marked, and nobody trusts it. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_LEN = 24 };

/* May we read and write it? */
static bool bitmap_is_usable(const struct q2_bitmap *m)
{
	return !(m->flags & Q2_BITMAP_IN_USE) && (!m->extra_len || m->flags & Q2_BITMAP_EXTRA_COMPATIBLE);
}

uint64_t q2_bitmap_bytes(const struct q2_bitmap *m, uint64_t size)
{
	uint64_t bits = (size >> m->granularity_bits) + ((size & ((1ull << m->granularity_bits) - 1)) != 0);

	return (bits + 7) / 8;
}

void q2_bitmaps_free(struct q2 *s)
{
	for (uint32_t i = 0; s->bitmaps && i < s->n_bitmaps; i++) {
		free(s->bitmaps[i].name);
		free(s->bitmaps[i].extra);
		free(s->bitmaps[i].bits);
	}
	free(s->bitmaps);
	s->bitmaps = NULL;
}

/* --- the directory ------------------------------------------------------------------------------ */

static uint64_t entry_len(const struct q2_bitmap *m)
{
	return align_up(ENTRY_LEN + m->extra_len + strlen(m->name), 8);
}

static int entry_parse(const struct q2 *s, struct q2_bitmap *m, const uint8_t *p, uint64_t left)
{
	if (left < ENTRY_LEN)
		return -EINVAL;
	uint32_t name_len = get_be16(p + 18);

	m->table_off = get_be64(p);
	m->table_size = get_be32(p + 8);
	m->flags = get_be32(p + 12);
	m->granularity_bits = p[17];
	m->extra_len = get_be32(p + 20);
	if (m->flags & ~7u || p[16] != 1 || m->granularity_bits < 9 || m->granularity_bits > 31 || !name_len ||
	    name_len > Q2_BITMAP_NAME_MAX || m->table_off & (s->cluster_size - 1) ||
	    !range_fits(m->table_off, (uint64_t)m->table_size * 8, 1ull << 56) || m->table_size > 1 << 24 ||
	    m->extra_len > left - ENTRY_LEN || name_len > left - ENTRY_LEN - m->extra_len)
		return -EINVAL;
	m->extra = malloc(m->extra_len ? m->extra_len : 1);
	m->name = strndup((const char *)p + ENTRY_LEN + m->extra_len, name_len);
	if (!m->extra || !m->name)
		return -ENOMEM;
	memcpy(m->extra, p + ENTRY_LEN, m->extra_len);
	return strlen(m->name) == name_len ? 0 : -EINVAL;
}

static uint8_t *entry_write(const struct q2_bitmap *m, uint8_t *p)
{
	put_be64(p, m->table_off);
	put_be32(p + 8, m->table_size);
	put_be32(p + 12, m->flags);
	p[16] = 1;
	p[17] = m->granularity_bits;
	put_be16(p + 18, (uint16_t)strlen(m->name));
	put_be32(p + 20, m->extra_len);
	memcpy(p + ENTRY_LEN, m->extra, m->extra_len);
	memcpy(p + ENTRY_LEN + m->extra_len, m->name, strlen(m->name));
	return p + entry_len(m);
}

int q2_bitmaps_load(struct q2 *s, uint64_t file_size, struct err *err)
{
	uint64_t at = 0;
	int r = 0;

	if (!s->n_bitmaps)
		return 0;
	if (s->n_bitmaps > Q2_BITMAPS_MAX || s->bitmap_dir_len > Q2_BITMAP_DIR_MAX ||
	    s->bitmap_dir_len < s->n_bitmaps * (uint64_t)ENTRY_LEN || s->bitmap_dir_off & (s->cluster_size - 1) ||
	    !range_fits(s->bitmap_dir_off, s->bitmap_dir_len, file_size))
		return err_set(err, -EINVAL, "the bitmap directory of '%s' cannot be where it says", s->b->name);
	s->bitmaps = calloc(s->n_bitmaps, sizeof(*s->bitmaps));
	AUTO(free) uint8_t *buf = malloc(s->bitmap_dir_len);

	if (!buf || !s->bitmaps)
		return err_set(err, -ENOMEM, "out of memory");
	r = blk_co_pread(s->b->file, s->bitmap_dir_off, buf, s->bitmap_dir_len);
	for (uint32_t i = 0; !r && i < s->n_bitmaps; i++) {
		if (at > s->bitmap_dir_len)
			at = s->bitmap_dir_len;
		r = entry_parse(s, &s->bitmaps[i], buf + at, s->bitmap_dir_len - at);
		if (!r)
			at += entry_len(&s->bitmaps[i]);
	}
	return r < 0 ? err_set(err, r, "the bitmap directory of '%s' is broken", s->b->name) : 0;
}

static uint8_t *directory_build(const struct q2 *s, uint64_t *len, uint64_t *room)
{
	*len = 0;
	for (uint32_t i = 0; i < s->n_bitmaps; i++)
		*len += entry_len(&s->bitmaps[i]);
	*room = q2_cluster_up(s, *len);
	uint8_t *buf = calloc(1, *room ? *room : 1), *p = buf;

	for (uint32_t i = 0; buf && i < s->n_bitmaps; i++)
		p = entry_write(&s->bitmaps[i], p);
	return buf;
}

/* Flags have changed, nothing else: in place. */
static int directory_update(struct q2 *s)
{
	uint64_t len, room;
	AUTO(free) uint8_t *buf = directory_build(s, &len, &room);

	return buf ? blk_co_pwrite(s->b->file, s->bitmap_dir_off, buf, len) : -ENOMEM;
}

/* --- a session ---------------------------------------------------------------------------------- */

static int bitmap_read(struct q2 *s, struct q2_bitmap *m)
{
	uint64_t n = q2_bitmap_bytes(m, s->size);
	AUTO(free) uint64_t *table = calloc(m->table_size + 1ul, 8);
	int r = table ? q2_read_table(s, m->table_off, m->table_size, table) : -ENOMEM;

	if (r < 0 || n > Q2_BITMAP_BYTES_MAX)
		return r ? r : -EFBIG;
	m->n_bytes = n;
	m->bits = calloc(1, n ? n : 1);
	if (!m->bits)
		return -ENOMEM;
	for (uint32_t i = 0; !r && i < m->table_size && (uint64_t)i << s->cluster_bits < n; i++) {
		uint64_t at = (uint64_t)i << s->cluster_bits,
			 some = n - at < s->cluster_size ? n - at : s->cluster_size;
		uint64_t off = table[i] & Q2_OFF_MASK;

		if (off & (s->cluster_size - 1))
			r = -EIO;
		else if (off)
			r = blk_co_pread(s->b->file, off, m->bits + at, some);
		else if (table[i] & 1)
			memset(m->bits + at, 0xff, some);
	}
	if (r < 0) {
		free(m->bits);
		m->bits = NULL;
	}
	return r;
}

int q2_co_bitmap_read(struct blk *b, const char *name, uint8_t **bits, uint32_t *granularity, struct err *err)
{
	struct q2 *s = b->priv;
	struct q2_bitmap *m = NULL;

	for (uint32_t i = 0; !m && i < s->n_bitmaps; i++)
		m = strcmp(s->bitmaps[i].name, name) ? NULL : &s->bitmaps[i];
	if (!m)
		return err_set(err, -ENOENT, "'%s' has no bitmap '%s'", b->name, name);
	/* What records already is in memory. */
	if (!m->bits && !bitmap_is_usable(m))
		return err_set(err, -EINVAL, "the bitmap '%s' of '%s' was not closed, and cannot be trusted", name, b->name);
	struct q2_bitmap copy = *m;
	int r = m->bits ? 0 : bitmap_read(s, &copy);

	if (!r && m->bits) {
		copy.bits = malloc(m->n_bytes ? m->n_bytes : 1);
		r = copy.bits ? 0 : -ENOMEM;
		if (!r)
			memcpy(copy.bits, m->bits, m->n_bytes);
	}
	if (r < 0)
		return err_set(err, r, "cannot read the bitmap '%s' of '%s': %s", name, b->name, strerror(-r));
	*bits = copy.bits;
	*granularity = 1u << m->granularity_bits;
	return 0;
}

static int bitmaps_begin(struct q2 *s, bool all)
{
	bool is_changed = false;
	int r = 0;

	for (uint32_t i = 0; !r && i < s->n_bitmaps; i++) {
		struct q2_bitmap *m = &s->bitmaps[i];

		if (m->bits || !bitmap_is_usable(m) || !(all || m->flags & Q2_BITMAP_AUTO))
			continue;
		r = bitmap_read(s, m);
		m->flags |= r ? 0 : Q2_BITMAP_IN_USE;
		is_changed = true;
	}
	return !r && is_changed ? directory_update(s) : r;
}

int q2_bitmaps_begin(struct q2 *s)
{
	return bitmaps_begin(s, false);
}

void q2_bitmaps_mark(struct q2 *s, uint64_t off, uint64_t len)
{
	for (uint32_t i = 0; len && i < s->n_bitmaps; i++) {
		struct q2_bitmap *m = &s->bitmaps[i];

		if (!m->bits || !(m->flags & Q2_BITMAP_AUTO))
			continue;
		for (uint64_t bit = off >> m->granularity_bits; bit <= (off + len - 1) >> m->granularity_bits &&
		     bit / 8 < m->n_bytes; bit++)
			m->bits[bit / 8] |= (uint8_t)(1u << bit % 8);
	}
}

int q2_bitmaps_resize(struct q2 *s, uint64_t size, struct err *err)
{
	int r = bitmaps_begin(s, true);

	if (!r)
		r = q2_barrier(s);
	for (uint32_t i = 0; !r && i < s->n_bitmaps; i++) {
		struct q2_bitmap *m = &s->bitmaps[i];
		uint64_t n = q2_bitmap_bytes(m, size);
		uint8_t *bits;

		if (!m->bits)
			return err_set(err, -ENOTSUP, "'%s' has bitmap '%s', which cannot be used and so not resized; "
				       "remove it first", s->b->name, m->name);
		bits = n <= Q2_BITMAP_BYTES_MAX ? calloc(1, n ? n : 1) : NULL;
		if (!bits)
			return err_set(err, -ENOMEM, "bitmap '%s' of '%s' would be too large", m->name, s->b->name);
		memcpy(bits, m->bits, n < m->n_bytes ? n : m->n_bytes);
		/* Bits behind the end are zero. */
		if (n < m->n_bytes && (size >> m->granularity_bits) % 8 && n)
			bits[n - 1] &= (uint8_t)((1u << (((size - 1) >> m->granularity_bits) % 8 + 1)) - 1);
		free(m->bits);
		m->bits = bits;
		m->n_bytes = n;
	}
	return r < 0 ? err_set(err, r, "cannot read the bitmaps of '%s': %s", s->b->name, strerror(-r)) : 0;
}

/* --- writing ------------------------------------------------------------------------------------ */

static bool is_all_zero(const uint8_t *p, uint64_t n)
{
	return !n || (!p[0] && !memcmp(p, p + 1, n - 1));
}

int q2_bitmap_release(struct q2 *s, const struct q2_bitmap *m)
{
	AUTO(free) uint64_t *table = calloc(m->table_size + 1ul, 8);
	int r = table ? q2_read_table(s, m->table_off, m->table_size, table) : -ENOMEM;

	for (uint32_t i = 0; !r && i < m->table_size; i++)
		if (table[i] & Q2_OFF_MASK)
			r = q2_free_later(s, table[i] & Q2_OFF_MASK, s->cluster_size, false);
	if (!r && m->table_size)
		r = q2_free_later(s, m->table_off, q2_cluster_up(s, (uint64_t)m->table_size * 8), false);
	return r;
}

/* The bits of M in new clusters, and a table of them; M says where. */
static int bitmap_write(struct q2 *s, struct q2_bitmap *m)
{
	uint64_t n = (m->n_bytes + s->cluster_size - 1) >> s->cluster_bits,
		 room = q2_cluster_up(s, n * 8), got, off = 0;
	AUTO(free) uint64_t *table = calloc(1, room + 8);
	AUTO(free) uint8_t *buf = malloc(s->cluster_size);
	bool is_fresh;
	int r = table && buf ? 0 : -ENOMEM;

	for (uint64_t i = 0; !r && i < n; i++) {
		uint64_t at = i << s->cluster_bits, some = m->n_bytes - at < s->cluster_size
								   ? m->n_bytes - at
								   : s->cluster_size;

		if (is_all_zero(m->bits + at, some))
			continue;
		memset(buf, 0, s->cluster_size);
		memcpy(buf, m->bits + at, some);
		r = q2_alloc(s, 1, false, &table[i], &got, &is_fresh);
		if (!r)
			r = blk_co_pwrite(s->b->file, table[i], buf, s->cluster_size);
	}
	if (!r && n)
		r = q2_alloc(s, q2_cluster_of(s, room), false, &off, &got, &is_fresh);
	if (!r && n)
		r = q2_write_table(s, off, room / 8, table);
	if (!r) {
		m->table_off = off;
		m->table_size = (uint32_t)n;
	}
	return r;
}

int q2_bitmaps_store(struct q2 *s, bool is_end)
{
	uint64_t old_off = s->bitmap_dir_off, old_len = s->bitmap_dir_len, off, len, room, got;
	AUTO(free) struct q2_bitmap *old = calloc(s->n_bitmaps + 1ul, sizeof(*old));
	bool is_fresh, is_changed = false;
	int r = old ? 0 : -ENOMEM;

	for (uint32_t i = 0; !r && i < s->n_bitmaps; i++) {
		old[i] = s->bitmaps[i];
		if (!s->bitmaps[i].bits)
			continue;
		r = bitmap_write(s, &s->bitmaps[i]);
		s->bitmaps[i].flags &= r || !is_end ? ~0u : ~(uint32_t)Q2_BITMAP_IN_USE;
		is_changed = true;
	}
	if (r || (is_end && !is_changed))
		return r;
	AUTO(free) uint8_t *buf = directory_build(s, &len, &room);

	if (!buf)
		return -ENOMEM;
	off = 0;
	r = room ? q2_alloc(s, q2_cluster_of(s, room), false, &off, &got, &is_fresh) : 0;
	if (!r && room)
		r = blk_co_pwrite(s->b->file, off, buf, room);
	if (!r)
		r = q2_settle(s);
	if (!r)
		r = q2_barrier(s);
	if (r < 0)
		return r;
	s->bitmap_dir_off = off;
	s->bitmap_dir_len = len;
	r = q2_header_write(s, NULL);
	if (!r)
		r = q2_barrier(s);
	for (uint32_t i = 0; !r && i < s->n_bitmaps; i++)
		if (s->bitmaps[i].bits)
			r = q2_bitmap_release(s, &old[i]);
	return r || !old_len ? r : q2_free_later(s, old_off, q2_cluster_up(s, old_len), false);
}
