/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_server_status.c - what is where: section "NBD_CMD_BLOCK_STATUS", a reply per context. */
#include <errno.h>
#include <string.h>
#include "blk/nbd_server_priv.h"
#include "util/checked.h"

struct status {
	struct nbd_req *answer;         /* its body grows */
	uint64_t last_len;              /* of the extent at the end */
	uint32_t last_state;
	unsigned n;
	bool is_extended, is_one;
};

static size_t extent_len(const struct status *st)
{
	return st->is_extended ? 16 : 8;
}

static void extent_put(struct status *st)
{
	struct nbd_req *a = st->answer;
	uint8_t *p = a->buf + a->body_len;

	if (st->is_extended) {
		put_be64(p, st->last_len);
		put_be64(p + 8, st->last_state);
	} else {
		put_be32(p, (uint32_t)st->last_len);
		put_be32(p + 4, st->last_state);
	}
	a->body_len += extent_len(st);
	st->n++;
	st->last_len = 0;
}

/* LEN bytes more are in STATE. False: no more extents are wanted. */
static bool status_add(struct status *st, uint64_t len, uint32_t state)
{
	/* In the short form a length has 32 bits; the client asked for no more. */
	if (st->last_len && st->last_state != state)
		extent_put(st);
	if (st->n == (st->is_one ? 1u : NBD_EXTENTS_MAX))
		return false;
	st->last_len += len;
	st->last_state = state;
	return true;
}

static int status_begin(struct status *st, struct nbd_req *q, uint32_t context)
{
	struct nbd_conn *c = q->c;

	*st = (struct status){ .is_extended = c->is_extended, .is_one = q->flags & NBD_FLAG_REQ_ONE };
	st->answer = nbd_req_get(c, 4 + 4 + NBD_EXTENTS_MAX * extent_len(st));
	if (!st->answer)
		return -ENOMEM;
	put_be32(st->answer->buf, context);
	st->answer->body_len = c->is_extended ? 8 : 4;
	return 0;
}

static void status_send(struct status *st, struct nbd_req *q, bool is_last)
{
	struct nbd_req *a = st->answer;

	if (st->last_len)
		extent_put(st);
	if (st->is_extended)
		put_be32(a->buf + 4, st->n);
	a->cookie = q->cookie;
	a->off = q->off;
	a->head_len = nbd_put_chunk(a, a->head, is_last ? NBD_CHUNK_DONE : 0,
				    st->is_extended ? NBD_CHUNK_STATUS_EXT : NBD_CHUNK_STATUS, a->body_len);
	nbd_send(a);
}

static int status_allocation(struct status *st, struct nbd_req *q)
{
	struct blk *b = q->c->s->c.blk;
	uint64_t off = q->off / BLK_SECTOR * BLK_SECTOR, end = q->off + q->len;

	while (off < end && off < blk_size(b)) {
		uint64_t at = off > q->off ? off : q->off, next;
		struct blk_extent e;
		int r = blk_map(b, off, align_up(end, BLK_SECTOR) - off, true, &e);
		uint32_t state = 0;

		if (r < 0)
			return r;
		next = off + e.len < end ? off + e.len : end;
		if (!(e.flags & BLK_EXT_DATA))
			state = NBD_STATE_ZERO | (e.flags & BLK_EXT_ALLOCATED && !(e.flags & BLK_EXT_HOST) ? 0u :
						  NBD_STATE_HOLE);
		if (!status_add(st, next - at, state))
			break;
		off += e.len;
	}
	return 0;
}

static void status_bitmap(struct status *st, struct nbd_req *q)
{
	const struct nbd_server *s = q->c->s;
	uint64_t g = s->bitmap_granularity, end = q->off + q->len;

	for (uint64_t at = q->off, next; at < end; at = next) {
		uint64_t bit = at / g;

		next = (bit + 1) * g < end ? (bit + 1) * g : end;
		if (!status_add(st, next - at, s->bitmap[bit / 8] >> bit % 8 & 1 ? NBD_STATE_DIRTY : 0u))
			break;
	}
}

int nbd_co_status(struct nbd_req *q)
{
	struct nbd_conn *c = q->c;
	struct status st;
	int r = 0;

	if (c->has_allocation) {
		r = status_begin(&st, q, NBD_CONTEXT_ALLOCATION);
		if (!r) {
			r = status_allocation(&st, q);
			if (r < 0)
				nbd_req_put(st.answer);
			else
				status_send(&st, q, false);
		}
	}
	if (!r && c->has_bitmap) {
		r = status_begin(&st, q, NBD_CONTEXT_BITMAP);
		if (!r) {
			status_bitmap(&st, q);
			status_send(&st, q, false);
		}
	}
	return r;       /* the chunk that ends the reply is that of any request */
}
