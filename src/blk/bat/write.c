/* SPDX-License-Identifier: Apache-2.0 */
/* write.c - writing: in place, or to new blocks, which are filled from what the disk shows there now. */
#include "blk/bat/bat_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WRITE_BLOCKS_MAX = 256, FILL_CHUNK = 1 << 20, FILL_INLINE = 1 << 20 };

/* [AT, END), beginning in block FIRST of N: all in place at HOST, or all new. */
struct write_part {
	uint64_t at, end, first, n, host;
	bool is_new, is_fresh;
	struct bat_entry e;
};

int bat_prepare(struct bat *t)
{
	int r = 0;

	if (t->is_damaged)
		return -EIO;
	if (t->is_prepared)
		return 0;
	co_mutex_lock(&t->prepare_lock);
	if (!t->is_prepared)
		r = t->f && t->f->prepare ? t->f->prepare(t) : 0;
	if (!t->is_prepared && !r && !t->is_flat)
		r = bat_scan(t);
	t->is_prepared = !r;
	co_mutex_unlock(&t->prepare_lock);
	return r;
}

/* --- where ------------------------------------------------------------------------------------ */

static int part_size(struct bat *t, struct write_part *p)
{
	int r = bat_entry_get(t, p->first, &p->e);

	if (r < 0)
		return r;
	p->is_new = !bat_has_place(&p->e);
	p->host = p->e.host;
	for (p->n = 1; p->n < WRITE_BLOCKS_MAX && (p->first + p->n) * t->block_size < p->end; p->n++) {
		struct bat_entry next;

		r = bat_entry_get(t, p->first + p->n, &next);
		if (r < 0)
			return r;
		if (bat_has_place(&next) == p->is_new || (p->is_new && next.kind != p->e.kind) ||
		    (!p->is_new && (next.kind != p->e.kind || next.host != p->host + p->n * t->block_size)))
			break;
	}
	return 0;
}

static void part_cut(const struct bat *t, struct write_part *p)
{
	uint64_t end = (p->first + p->n) * t->block_size;

	p->end = p->end < end ? p->end : end;
}

/* There are pages for the entries of P. */
static int part_pages(struct bat *t, const struct write_part *p)
{
	uint64_t last = bat_page_of(t, bat_slot(t, p->first + p->n - 1));
	int r = 0;

	if (!t->f->make_page)
		return 0;
	for (uint64_t no = bat_page_of(t, bat_slot(t, p->first)); !r && no <= last; no++) {
		if (bat_page_place(t, false, no))
			continue;
		co_mutex_lock(&t->page_lock);
		if (!bat_page_place(t, false, no))
			r = t->f->make_page(t, no);
		co_mutex_unlock(&t->page_lock);
	}
	return r;
}

/* --- filling ---------------------------------------------------------------------------------- */

/* What the disk shows at AT, which is in a block that has no place: bytes, or known to be zeroes. */
static bool fill_is_zero(const struct bat *t, const struct bat_entry *e, uint64_t at)
{
	return e->kind == BAT_ZERO ||
	       (e->kind == BAT_NONE && (!t->b->backing || t->base + at >= t->b->backing->size));
}

/* Fill [AT, AT+LEN) of a new block at HOST, in pieces: what is large. */
static int fill_large(struct bat *t, const struct write_part *p, uint64_t at, uint64_t len, uint64_t host)
{
	int r = 0;

	if (fill_is_zero(t, &p->e, at))
		return p->is_fresh ? 0 : blk_co_zeroes(t->file, host, len, true);
	AUTO(free) uint8_t *buf = aligned_alloc(4096, FILL_CHUNK);

	if (!buf)
		return -ENOMEM;
	for (uint64_t done = 0, n; !r && done < len; done += n) {
		struct iovec iov;
		struct blk_vec v = blk_vec_of(&iov, buf, FILL_CHUNK);

		n = len - done < FILL_CHUNK ? len - done : FILL_CHUNK;
		r = bat_read(t, at + done, n, v);
		if (r < 0)
			break;
		if (blk_vec_is_zero(v, n))
			r = p->is_fresh ? 0 : blk_co_zeroes(t->file, host + done, n, true);
		else
			r = blk_co_pwrite(t->file, host + done, buf, n);
	}
	return r;
}

/* FILL bytes, request, FILL bytes as one write. */
static int write_vector(struct bat *t, uint64_t host, struct blk_vec v, uint64_t len, uint8_t *head, uint64_t n_head,
			uint8_t *tail, uint64_t n_tail)
{
	AUTO(free) struct iovec *iov = calloc((size_t)v.n + 2, sizeof(*iov));
	int n = 0;

	if (!iov)
		return -ENOMEM;
	if (n_head)
		iov[n++] = (struct iovec){ head, n_head };
	for (uint64_t left = len; left && v.n > 0; v.iov++, v.n--) {
		uint64_t piece = v.iov->iov_len > v.skip ? v.iov->iov_len - v.skip : 0;

		piece = piece < left ? piece : left;
		if (piece)
			iov[n++] = (struct iovec){ (char *)v.iov->iov_base + v.skip, piece };
		v.skip = v.skip > v.iov->iov_len ? v.skip - v.iov->iov_len : 0;
		left -= piece;
	}
	if (n_tail)
		iov[n++] = (struct iovec){ tail, n_tail };
	return blk_co_pwritev(t->file, host, n_head + len + n_tail, (struct blk_vec){ .iov = iov, .n = n });
}

/* The request of P with N_HEAD and N_TAIL bytes of what is around it. */
static int write_filled(struct bat *t, const struct write_part *p, uint64_t n_head, uint64_t n_tail, struct blk_vec v)
{
	uint64_t len = p->end - p->at, host = p->host + (p->at - n_head - p->first * t->block_size);
	AUTO(free) uint8_t *buf = malloc(n_head + n_tail + 1);
	struct iovec iov;
	int r = buf ? 0 : -ENOMEM;

	if (!r && n_head)
		r = bat_read(t, p->at - n_head, n_head, blk_vec_of(&iov, buf, n_head));
	if (!r && n_tail)
		r = bat_read(t, p->end, n_tail, blk_vec_of(&iov, buf + n_head, n_tail));
	return r ? r : write_vector(t, host, v, len, buf, n_head, buf + n_head, n_tail);
}

/* Data and what surrounds it to the new blocks of P. */
static int write_new(struct bat *t, const struct write_part *p, struct blk_vec v)
{
	uint64_t lo = p->first * t->block_size, hi = (p->first + p->n) * t->block_size;
	uint64_t start = p->host - lo;  /* wraps: HOST = START + place on the disk */
	int r = 0;

	for (uint64_t i = 0; !r && t->lead && i < p->n; i++)
		r = bat_write_lead(t, p->host + i * t->stride);
	if (r < 0)
		return r;
	/* What is behind the end of the disk stays as it is. */
	uint64_t shown = hi < t->size ? hi : t->size, n_head = p->at - lo, n_tail = shown - p->end;
	bool is_inline = n_head + n_tail <= FILL_INLINE;

	if (n_head && (!is_inline || fill_is_zero(t, &p->e, lo))) {
		r = fill_large(t, p, lo, n_head, p->host);
		n_head = 0;
	}
	if (!r && n_tail && (!is_inline || fill_is_zero(t, &p->e, p->end))) {
		r = fill_large(t, p, p->end, n_tail, start + p->end);
		n_tail = 0;
	}
	return r ? r : write_filled(t, p, n_head, n_tail, v);
}

static int write_link(struct bat *t, const struct write_part *p)
{
	int r = 0;

	for (uint64_t i = 0; !r && i < p->n; i++) {
		struct bat_entry e = { .kind = BAT_DATA, .host = p->host + i * t->stride };

		r = bat_entry_set(t, p->first + i, &e);
	}
	if (p->e.kind == BAT_PACKED)
		t->unpacked_block = 0;
	return r;
}

static int write_part_new(struct bat *t, struct write_part *p, struct blk_vec v)
{
	uint64_t got = 0;
	int r = p->e.kind == BAT_PACKED ? (p->n = 1, 0) : 0;

	if (!r)
		r = part_pages(t, p);
	if (!r)
		r = bat_alloc(t, p->n, &p->host, &got, &p->is_fresh);
	if (r < 0)
		return r;
	p->n = got;
	part_cut(t, p);
	r = write_new(t, p, v);
	if (!r)
		return write_link(t, p);
	for (uint64_t i = p->n; i-- > 0;)
		bat_free_now(t, p->host + i * t->stride);
	return r;
}

/* In place; what the bitmap says is not there is there afterwards. */
static int write_part_old(struct bat *t, struct write_part *p, struct blk_vec v)
{
	uint64_t bits;

	if (p->e.kind == BAT_PARTIAL)
		p->n = 1;
	part_cut(t, p);
	uint64_t in_block = p->at - p->first * t->block_size, len = p->end - p->at;
	int r = blk_co_pwritev(t->file, p->host + in_block, len, v);

	if (r < 0 || p->e.kind != BAT_PARTIAL)
		return r;
	r = bat_bits_of(t, p->first, &p->e, &bits);
	return r ? r : bat_bits_set(t, bits, (uint32_t)(in_block / BLK_SECTOR), (uint32_t)(len / BLK_SECTOR));
}

int bat_write(struct bat *t, uint64_t at, uint64_t len, struct blk_vec v)
{
	int r = bat_prepare(t);

	if (t->is_flat)
		return r ? r : blk_co_pwritev(t->file, t->data_off + at, len, v);

	while (!r && len) {
		struct write_part p = { .at = at, .end = at + len, .first = at / t->block_size };

		r = bat_relieve(t);
		if (!r)
			r = part_size(t, &p);
		if (!r)
			r = p.is_new ? write_part_new(t, &p, v) : write_part_old(t, &p, v);
		if (r < 0)
			break;
		at = p.end;
		len -= p.end - p.at;
		v = blk_vec_at(v, p.end - p.at);
	}
	return r;
}

int bat_preallocate(struct bat *t, uint64_t at, uint64_t len, enum blk_prealloc prealloc)
{
	uint64_t end = at + len;
	int r = bat_prepare(t);

	for (uint64_t block = at / t->block_size; !t->is_flat && !r && block * t->block_size < end; block++) {
		struct write_part p = { .at = block * t->block_size, .first = block, .n = 1 };
		uint64_t got, from = t->file->size;

		r = bat_relieve(t);
		if (!r)
			r = bat_entry_get(t, block, &p.e);
		if (r < 0 || bat_has_place(&p.e))
			continue;
		r = part_pages(t, &p);
		if (!r)
			r = bat_alloc(t, 1, &p.host, &got, &p.is_fresh);
		if (!r)
			r = bat_write_lead(t, p.host);
		if (!r && !p.is_fresh)
			r = blk_co_zeroes(t->file, p.host, t->block_size, false);
		if (!r && t->file->size < t->alloc_end)
			r = blk_co_truncate(t->file, t->alloc_end, BLK_PREALLOC_OFF, NULL);
		if (!r && prealloc >= BLK_PREALLOC_FALLOC && from < t->alloc_end)
			r = blk_co_zeroes(t->file, p.host, t->block_size, false);
		if (!r)
			r = write_link(t, &p);
	}
	return r;
}
