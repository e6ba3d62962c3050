/* SPDX-License-Identifier: Apache-2.0 */
/* io.c - requests, taken apart at the borders of extents. */
#include "blk/vmdk/vmdk_priv.h"

#include <errno.h>

/* The extent of OFF, which is inside the disk. */
static struct vmdk_extent *extent_of(struct vmdk *s, uint64_t off)
{
	uint32_t lo = 0, hi = s->n_ext;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (s->ext[mid].t.base <= off)
			lo = mid;
		else
			hi = mid;
	}
	return &s->ext[lo];
}

static bool vmdk_is_clean(const struct vmdk *s)
{
	for (uint32_t i = 0; i < s->n_ext; i++)
		if (!bat_is_clean(&s->ext[i].t))
			return false;
	return true;
}

struct blk *vmdk_try_map(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off)
{
	struct vmdk *s = b->priv;

	if (op == BLK_FLUSH)
		return !b->n_extra && vmdk_is_clean(s) ? b->file : NULL;
	struct vmdk_extent *x = extent_of(s, off);

	if (x->kind == VMDK_ZERO || (s->is_stream && op != BLK_READ) || !range_fits(off - x->t.base, len, x->t.size))
		return NULL;
	return bat_try_map(&x->t, op, off - x->t.base, len, child_off);
}

struct piece {
	enum blk_op op;
	bool may_unmap;
	struct blk_vec v;
};

static int stream_zeroes(struct vmdk *s, struct vmdk_extent *x, uint64_t at, uint64_t len)
{
	static const uint8_t zero[64 << 10];
	struct iovec iov;
	int r = 0;

	for (uint64_t n; !r && len; at += n, len -= n) {
		n = len < sizeof(zero) ? len : sizeof(zero);
		r = vmdk_write_packed(s, x, at, n, blk_vec_of(&iov, zero, n));
	}
	return r;
}

static int piece_change(struct vmdk *s, struct vmdk_extent *x, uint64_t at, uint64_t len, const struct piece *p)
{
	bool is_packed = x->flags & VMDK_FLAG_COMPRESSED;
	int r;

	if (x->kind == VMDK_ZERO)
		return p->op == BLK_DISCARD ? 0 : -EROFS;
	if (is_packed)
		co_mutex_lock(&s->pack_lock);
	if (p->op == BLK_WRITE)
		r = is_packed ? vmdk_write_packed(s, x, at, len, p->v) : bat_write(&x->t, at, len, p->v);
	else if (p->op == BLK_ZEROES)
		r = is_packed ? stream_zeroes(s, x, at, len) : bat_zeroes(&x->t, at, len, p->may_unmap);
	else
		r = is_packed ? 0 : bat_discard(&x->t, at, len);
	if (is_packed)
		co_mutex_unlock(&s->pack_lock);
	return r;
}

static int piece_do(struct vmdk *s, struct vmdk_extent *x, uint64_t at, uint64_t len, const struct piece *p)
{
	struct blk_range range;
	int r = 0;

	if (p->op == BLK_READ) {
		blk_range_lock(s->b, &range, x->t.base + at, len, false);
		if (x->kind == VMDK_ZERO)
			blk_vec_zero(p->v, len);
		else
			r = bat_read(&x->t, at, len, p->v);
	} else {
		bat_lock_range(&x->t, &range, at, len);
		r = piece_change(s, x, at, len, p);
	}
	blk_range_unlock(s->b, &range);
	return r;
}

static int vmdk_each(struct blk *b, uint64_t off, uint64_t len, struct piece p)
{
	struct vmdk *s = b->priv;
	int r = 0;

	for (uint64_t n; !r && len; off += n, len -= n) {
		struct vmdk_extent *x = extent_of(s, off);
		uint64_t at = off - x->t.base;

		n = len < x->t.size - at ? len : x->t.size - at;
		r = piece_do(s, x, at, n, &p);
		p.v = blk_vec_at(p.v, p.v.n ? n : 0);
	}
	return r;
}

int vmdk_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	return vmdk_each(b, off, len, (struct piece){ .op = BLK_READ, .v = v });
}

int vmdk_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	return vmdk_each(b, off, len, (struct piece){ .op = BLK_WRITE, .v = v });
}

int vmdk_co_pwritev_compressed(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	const struct vmdk *s = b->priv;

	return s->is_stream ? vmdk_co_pwritev(b, off, len, v) : -ENOTSUP;
}

int vmdk_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	return vmdk_each(b, off, len, (struct piece){ .op = BLK_ZEROES, .may_unmap = may_unmap });
}

int vmdk_co_discard(struct blk *b, uint64_t off, uint64_t len)
{
	return vmdk_each(b, off, len, (struct piece){ .op = BLK_DISCARD });
}

int vmdk_co_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	struct vmdk_extent *x = extent_of(b->priv, off);
	uint64_t at = off - x->t.base;

	len = len < x->t.size - at ? len : x->t.size - at;
	if (x->kind != VMDK_ZERO)
		return bat_map(&x->t, at, len, out);
	out->len = len;
	out->flags = BLK_EXT_ZERO | BLK_EXT_ALLOCATED;
	return 0;
}

int vmdk_co_flush(struct blk *b)
{
	struct vmdk *s = b->priv;
	int r = 0;

	for (uint32_t i = 0; !r && i < s->n_ext; i++)
		if (!bat_is_clean(&s->ext[i].t))
			r = bat_flush(&s->ext[i].t);
	return r;
}
