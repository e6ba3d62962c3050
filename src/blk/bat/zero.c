/* SPDX-License-Identifier: Apache-2.0 */
/* zero.c - zeroes and discards: by the table where it can say so, else in the blocks. */
#include "blk/bat/bat_priv.h"

#include <errno.h>

/* Is there something behind this image that a block without a place would show? */
static bool zero_has_behind(const struct bat *t)
{
	return t->b->backing || t->b->backing_name;
}

/* Can a block lose its place and read as zeroes then? */
static bool zero_by_table(const struct bat *t)
{
	return !t->f->is_kept && (t->f->has_zero || !zero_has_behind(t));
}

static int zero_drop(struct bat *t, uint64_t block, const struct bat_entry *old)
{
	struct bat_entry e = { .kind = zero_has_behind(t) ? BAT_ZERO : BAT_NONE };
	int r = 0;

	if (t->f->make_page && !bat_page_place(t, false, bat_page_of(t, bat_slot(t, block)))) {
		co_mutex_lock(&t->page_lock);
		if (!bat_page_place(t, false, bat_page_of(t, bat_slot(t, block))))
			r = t->f->make_page(t, bat_page_of(t, bat_slot(t, block)));
		co_mutex_unlock(&t->page_lock);
	}
	if (!r)
		r = bat_entry_set(t, block, &e);
	if (!r && old->kind == BAT_PACKED)
		t->unpacked_block = 0;
	return !r && bat_has_place(old) ? bat_free_later(t, old->host) : r;
}

/* Zeroes written as data: what has to be unpacked, or would show the image behind. */
static int zero_write(struct bat *t, uint64_t at, uint64_t len)
{
	static const uint8_t zero[64 << 10];
	struct iovec iov;
	int r = 0;

	for (uint64_t n; !r && len; at += n, len -= n) {
		n = len < sizeof(zero) ? len : sizeof(zero);
		r = bat_write(t, at, n, blk_vec_of(&iov, zero, n));
	}
	return r;
}

static int zero_in_place(struct bat *t, uint64_t at, uint64_t len, const struct bat_entry *e, bool may_unmap)
{
	uint64_t in_block = at % t->block_size, bits;
	int r = blk_co_zeroes(t->file, e->host + in_block, len, may_unmap);

	if (r < 0 || e->kind != BAT_PARTIAL)
		return r;
	r = bat_bits_of(t, at / t->block_size, e, &bits);
	return r ? r : bat_bits_set(t, bits, (uint32_t)(in_block / BLK_SECTOR), (uint32_t)(len / BLK_SECTOR));
}

/* [AT, AT+LEN) of one block. */
static int zero_block(struct bat *t, uint64_t at, uint64_t len, bool may_unmap)
{
	uint64_t block = at / t->block_size;
	struct bat_entry e;
	int r = bat_entry_get(t, block, &e);

	if (r < 0 || e.kind == BAT_ZERO || (e.kind == BAT_NONE && !zero_has_behind(t)))
		return r;
	bool is_whole = len == bat_block_len(t, block);

	if (is_whole && zero_by_table(t) && (may_unmap || !bat_has_place(&e)))
		return zero_drop(t, block, &e);
	if (bat_has_place(&e))
		return zero_in_place(t, at, len, &e, may_unmap);
	/* A block that shows the end of a shorter image behind is zero as well. */
	if (e.kind == BAT_NONE && t->b->backing && t->base + at >= t->b->backing->size)
		return 0;
	return zero_write(t, at, len);
}

int bat_zeroes(struct bat *t, uint64_t at, uint64_t len, bool may_unmap)
{
	int r = bat_prepare(t);

	if (t->is_flat)
		return r ? r : blk_co_zeroes(t->file, t->data_off + at, len, may_unmap);

	for (uint64_t n; !r && len; at += n, len -= n) {
		n = t->block_size - at % t->block_size;
		n = n < len ? n : len;
		r = bat_relieve(t);
		if (!r)
			r = zero_block(t, at, n, may_unmap);
	}
	return r;
}

int bat_discard(struct bat *t, uint64_t at, uint64_t len)
{
	int r = bat_prepare(t);

	if (t->is_flat)
		return r ? r : blk_co_discard(t->file, t->data_off + at, len);

	for (uint64_t n; !r && len; at += n, len -= n) {
		uint64_t block = at / t->block_size;
		struct bat_entry e;

		n = t->block_size - at % t->block_size;
		n = n < len ? n : len;
		if (n != bat_block_len(t, block))
			continue;
		r = bat_relieve(t);
		if (!r)
			r = bat_entry_get(t, block, &e);
		if (r < 0 || !bat_has_place(&e))
			continue;
		if (zero_by_table(t))
			r = zero_drop(t, block, &e);
		else if (e.kind == BAT_DATA)
			r = blk_co_discard(t->file, e.host, n);
	}
	return r;
}
