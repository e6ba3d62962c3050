/* SPDX-License-Identifier: Apache-2.0 */
/* entry.c - entries of the table, and the sector bitmaps of blocks that are there in part. */
#include "blk/bat/bat_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "util/log.h"

int bat_damaged(struct bat *t, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (!t->is_damaged && !t->b->is_repairing)
		log_error("disk '%s' is damaged: %s; check it", t->b->name, what);
	t->is_damaged = true;
	return -EIO;
}

bool bat_entry_is_sane(const struct bat *t, const struct bat_entry *e)
{
	switch (e->kind) {
	case BAT_DATA:
	case BAT_PARTIAL:
		return e->host >= t->data_off + t->lead && e->host < t->file->size;
	case BAT_PACKED:
		return e->host < t->file->size && t->f->unpack;
	default:
		return true;
	}
}

static uint8_t *page_entry(const struct bat *t, struct bat_page *p, uint64_t slot)
{
	return p->data + slot % (t->page_size / t->f->entry_size) * t->f->entry_size;
}

bool bat_raw_peek(struct bat *t, uint64_t slot, uint8_t *raw)
{
	uint64_t no = bat_page_of(t, slot);
	struct bat_page *p = bat_page_peek(t, false, no);

	if (!p)
		return false;
	memcpy(raw, page_entry(t, p, slot), t->f->entry_size);
	return true;
}

int bat_raw_get(struct bat *t, uint64_t slot, uint8_t *raw)
{
	struct bat_page *p;

	if (bat_raw_peek(t, slot, raw))
		return 0;
	int r = bat_page_get(t, false, bat_page_of(t, slot), &p);

	if (r < 0)
		return r;
	memcpy(raw, page_entry(t, p, slot), t->f->entry_size);
	bat_page_put(p);
	return 0;
}

int bat_raw_set(struct bat *t, uint64_t slot, const uint8_t *raw)
{
	struct bat_page *p;
	int r = bat_page_get(t, false, bat_page_of(t, slot), &p);

	if (r < 0)
		return r;
	memcpy(page_entry(t, p, slot), raw, t->f->entry_size);
	bat_page_dirty(t, p);
	bat_page_put(p);
	return 0;
}

int bat_entry_get(struct bat *t, uint64_t block, struct bat_entry *e)
{
	uint8_t raw[8];
	int r = bat_raw_get(t, bat_slot(t, block), raw);

	if (r < 0)
		return r;
	*e = (struct bat_entry){ .kind = BAT_NONE };
	if (!t->f->decode(t, raw, e) || !bat_entry_is_sane(t, e))
		return bat_damaged(t, "block %" PRIu64 " cannot be at byte %" PRIu64, block, e->host);
	return 0;
}

int bat_entry_set(struct bat *t, uint64_t block, const struct bat_entry *e)
{
	uint64_t slot = bat_slot(t, block);
	uint8_t raw[8];
	struct bat_page *p;
	int r = bat_page_get(t, false, bat_page_of(t, slot), &p);

	if (r < 0)
		return r;
	memcpy(raw, page_entry(t, p, slot), t->f->entry_size);
	t->f->encode(t, e, raw);
	memcpy(page_entry(t, p, slot), raw, t->f->entry_size);
	bat_page_dirty(t, p);
	bat_page_put(p);
	return 0;
}

/* --- bitmaps ---------------------------------------------------------------------------------- */

static uint8_t bits_mask(const struct bat *t, uint32_t sector)
{
	return (uint8_t)(t->f->is_msb_first ? 0x80 >> sector % 8 : 1 << sector % 8);
}

/* The byte of SECTOR's bit, counted from the start of the file; which page and where in it. */
static uint64_t bits_place(const struct bat *t, uint64_t off, uint32_t sector, uint32_t *in_page)
{
	uint64_t byte = off + sector / 8;

	*in_page = (uint32_t)(byte % t->bits_page);
	return byte / t->bits_page;
}

bool bat_bits_peek(struct bat *t, uint64_t off, uint32_t first, uint32_t n)
{
	struct bat_page *p = NULL;
	uint64_t last = UINT64_MAX;

	for (uint32_t s = first; s < first + n; s++) {
		uint32_t in_page;
		uint64_t no = bits_place(t, off, s, &in_page);

		if (no != last)
			p = bat_page_peek(t, true, no);
		last = no;
		if (!p || !(p->data[in_page] & bits_mask(t, s)))
			return false;
	}
	return true;
}

int bat_bits_run(struct bat *t, uint64_t off, uint32_t first, uint32_t n, bool *is_set, uint32_t *run)
{
	*run = 0;
	while (*run < n) {
		uint32_t in_page, s = first + *run;
		struct bat_page *p;
		uint64_t no = bits_place(t, off, s, &in_page);
		int r = bat_page_get(t, true, no, &p);

		if (r < 0)
			return r;
		if (!*run)
			*is_set = p->data[in_page] & bits_mask(t, s);
		bool is_over = false;

		do {
			is_over = !!(p->data[in_page] & bits_mask(t, s)) != *is_set;
			*run += !is_over;
			s++;
		} while (!is_over && *run < n && bits_place(t, off, s, &in_page) == no);
		bat_page_put(p);
		if (is_over)
			break;
	}
	return 0;
}

int bat_bits_set(struct bat *t, uint64_t off, uint32_t first, uint32_t n)
{
	for (uint32_t s = first; s < first + n;) {
		uint32_t in_page;
		struct bat_page *p;
		uint64_t no = bits_place(t, off, s, &in_page);
		int r = bat_page_get(t, true, no, &p);

		if (r < 0)
			return r;
		do {
			if (!(p->data[in_page] & bits_mask(t, s))) {
				p->data[in_page] |= bits_mask(t, s);
				bat_page_dirty(t, p);
			}
			s++;
		} while (s < first + n && bits_place(t, off, s, &in_page) == no);
		bat_page_put(p);
	}
	return 0;
}

int bat_bits_of(struct bat *t, uint64_t block, const struct bat_entry *e, uint64_t *off)
{
	*off = t->f->bits_at(t, block, e);
	if (!*off && t->f->bits_load) {
		int r = t->f->bits_load(t, block);

		if (r < 0)
			return r;
		*off = t->f->bits_at(t, block, e);
	}
	if (*off && range_fits(*off, t->block_size / BLK_SECTOR / 8, t->file->size))
		return 0;
	return bat_damaged(t, "the sector bitmap of block %" PRIu64 " cannot be at byte %" PRIu64, block, *off);
}
