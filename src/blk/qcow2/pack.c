/* SPDX-License-Identifier: Apache-2.0 */
/* pack.c - writing clusters compressed.
 *
 * They are laid one behind the other, and what follows each other goes to the file in one write; each counts a
 * reference to every host cluster that it touches. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <string.h>

enum { PACK_RUN_MAX = 32, PACK_RUN_BYTES = 64 << 10 };

/* Room for LEN bytes behind the last compressed cluster, or in new clusters. A reference to each host
 * cluster that they touch is counted. */
static int pack_place(struct q2 *s, uint64_t len, uint64_t *off)
{
	uint64_t at = s->compressed_at, in_cluster = at & (s->cluster_size - 1), got, fresh_off;
	uint64_t room = at && in_cluster ? s->cluster_size - in_cluster : 0;
	bool is_fresh;
	int r;

	if (room >= len) {
		r = q2_ref_add(s, at, 1, 1);
		if (!r) {
			*off = at;
			s->compressed_at = at + len;
			return 0;
		}
		if (r != -E2BIG)
			return r;
		room = 0;
	}
	r = q2_alloc(s, 1, false, &fresh_off, &got, &is_fresh);
	if (r < 0)
		return r;
	if (room && fresh_off == at + room) {
		r = q2_ref_add(s, at, 1, 1);
		if (r < 0 && r != -E2BIG)
			return r;
		if (!r) {
			*off = at;
			s->compressed_at = at + len;
			return 0;
		}
	}
	*off = fresh_off;
	s->compressed_at = fresh_off + len;
	return 0;
}

/* Clusters that go to the file together. */
struct pack_run {
	uint64_t guest;                 /* of the first */
	const struct blk_packed *v;
	unsigned n, n_linked;
	uint64_t off[PACK_RUN_MAX];     /* host, of each; 0: none yet */
};

/* How many from R->guest on are packed and go where nothing is yet, for one write. */
static int run_count(struct q2 *s, struct pack_run *r, unsigned limit)
{
	uint64_t bytes = 0;

	for (r->n = 0; r->n < limit && r->n < PACK_RUN_MAX; r->n++) {
		uint32_t len = r->v[r->n].len;
		struct q2_entry old;

		if (!len || (r->n && bytes + len > PACK_RUN_BYTES))
			break;
		int e = q2_entry_get(s, r->guest + ((uint64_t)r->n << s->cluster_bits), &old);

		if (e < 0)
			return e;
		if (old.has_host)
			break;
		bytes += len;
	}
	return 0;
}

/* One behind the other, whoever else is looking for room. */
static int run_place(struct q2 *s, struct pack_run *r)
{
	int e = 0;

	for (unsigned i = 0; !e && i < r->n; i++)
		e = q2_l2_make(s, r->guest + ((uint64_t)i << s->cluster_bits));
	co_mutex_lock(&s->compress_lock);
	for (unsigned i = 0; !e && i < r->n; i++)
		e = pack_place(s, r->v[i].len, &r->off[i]);
	co_mutex_unlock(&s->compress_lock);
	return e;
}

static int run_write(struct q2 *s, const struct pack_run *r)
{
	struct iovec iov[PACK_RUN_MAX];
	int e = 0;

	for (unsigned i = 0, n; !e && i < r->n; i += n) {
		uint64_t len = 0;

		for (n = 0; i + n < r->n && r->off[i + n] == r->off[i] + len; n++) {
			iov[n] = (struct iovec){ (void *)(uintptr_t)r->v[i + n].packed, r->v[i + n].len };
			len += r->v[i + n].len;
		}
		e = blk_co_pwritev(s->b->file, r->off[i], len, (struct blk_vec){ .iov = iov, .n = (int)n });
	}
	return e;
}

static int run_link(struct q2 *s, struct pack_run *r)
{
	int e = 0;

	for (unsigned i = 0; !e && i < r->n; i++) {
		uint64_t off = r->off[i];
		struct q2_entry new = { .is_compressed = true, .has_host = true, .alloc = q2_all_subs(s), .host = off };

		new.n_sectors = (uint32_t)((off + r->v[i].len - 1) / BLK_SECTOR - off / BLK_SECTOR + 1);
		e = q2_entry_set(s, r->guest + ((uint64_t)i << s->cluster_bits), &new);
		if (!e)
			r->n_linked++;
	}
	return e;
}

static int run_store(struct q2 *s, struct pack_run *r)
{
	int e = q2_balance(s);

	if (!e)
		e = run_place(s, r);
	if (!e)
		e = run_write(s, r);
	if (!e)
		e = run_link(s, r);
	for (unsigned i = r->n_linked; e < 0 && i < r->n && r->off[i]; i++)
		q2_free_now(s, r->off[i], r->v[i].len);
	return e;
}

/* As many of the N clusters from GUEST on as go in one, *DONE: packed ones, or one that is as it is. */
static int pack_store(struct q2 *s, uint64_t guest, const struct blk_packed *v, unsigned n, unsigned *done)
{
	struct pack_run run = { .guest = guest, .v = v };
	struct blk_range range;
	struct iovec iov;

	blk_range_lock(s->b, &range, guest, (uint64_t)n << s->cluster_bits, true);
	int r = q2_prepare(s);

	if (!r)
		r = run_count(s, &run, n);
	*done = run.n ? run.n : 1;
	uint64_t len = (uint64_t)*done << s->cluster_bits;

	len = len < s->b->size - guest ? len : s->b->size - guest;
	if (!r && run.n) {
		q2_bitmaps_mark(s, guest, len);
		r = run_store(s, &run);
	} else if (!r) {
		r = q2_write(s, guest, len, blk_vec_of(&iov, v->raw, len));
	}
	blk_range_unlock(s->b, &range);
	return r;
}

int64_t q2_pack(struct blk *b, const uint8_t *in, uint8_t *out)
{
	struct q2 *s = b->priv;
	struct q2_codec *k = q2_codec_get(s);

	if (!k)
		return -ENOMEM;
	int64_t r = q2_codec_pack(s, k, in, out);

	q2_codec_put(s, k);
	return r;
}

int q2_co_write_packed(struct blk *b, uint64_t off, const struct blk_packed *v, unsigned n)
{
	struct q2 *s = b->priv;
	int r = b->data || s->luks ? -ENOTSUP : 0;

	for (unsigned done; !r && n; n -= done) {
		r = pack_store(s, off, v, n, &done);
		off += (uint64_t)done << s->cluster_bits;
		v += done;
	}
	return r;
}

struct pack_one { struct blk *b; const uint8_t *in; uint8_t *out; };

static int64_t pack_one(void *arg)
{
	struct pack_one *p = arg;

	return q2_pack(p->b, p->in, p->out);
}

int q2_co_pwritev_compressed(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct q2 *s = b->priv;
	const uint8_t *direct = len == s->cluster_size ? blk_vec_memory(v, len) : NULL;

	if (off & (s->cluster_size - 1) || len > s->cluster_size || (len < s->cluster_size && off + len != b->size))
		return -EINVAL;
	struct q2_packer *p = q2_packer_get(s);

	if (!p)
		return -ENOMEM;
	if (!direct) {
		memset(p->raw, 0, s->cluster_size);
		blk_vec_get(v, p->raw, len);
	}
	struct pack_one one = { .b = b, .in = direct ? direct : p->raw, .out = p->packed };
	int64_t n = blk_co_call(b, pack_one, &one);
	struct blk_packed packed = { .raw = one.in, .packed = one.out, .len = n > 0 ? (uint32_t)n : 0 };
	int r = n < 0 && n != -ENOSPC ? (int)n : q2_co_write_packed(b, off, &packed, 1);

	q2_packer_put(s, p);
	return r;
}
