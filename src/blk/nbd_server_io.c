/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_server_io.c - section "Transmission": requests to the disk, and answers back. */
#include <errno.h>
#include <string.h>
#include "blk/nbd_server_priv.h"
#include "util/checked.h"

enum { REQUEST_LEN = 28, REQUEST_EXT_LEN = 32, PAGE = 4096 };

/* --- answers -------------------------------------------------------------------------------------- */

/* The few numbers that the protocol has ("Error values"). */
static uint32_t error_number(int result)
{
	switch (-result) {
	case EPERM: case EROFS: case EACCES:
		return 1;
	case ENOMEM:
		return 12;
	case EINVAL:
		return 22;
	case ENOSPC: case EDQUOT: case EFBIG:
		return 28;
	case EOVERFLOW:
		return 75;
	case ENOTSUP:
		return 95;
	default:
		return 5;
	}
}

size_t nbd_put_chunk(const struct nbd_req *q, uint8_t *head, unsigned flags, unsigned type, uint64_t len)
{
	put_be16(head + 4, (uint16_t)flags);
	put_be16(head + 6, (uint16_t)type);
	put_be64(head + 8, q->cookie);
	if (q->c->is_extended) {
		put_be32(head, NBD_CHUNK_EXT_MAGIC);
		put_be64(head + 16, q->off);
		put_be64(head + 24, len);
		return 32;
	}
	put_be32(head, NBD_CHUNK_MAGIC);
	put_be32(head + 16, (uint32_t)len);
	return 20;
}

static void put_simple(struct nbd_req *q, uint32_t error)
{
	put_be32(q->head, NBD_SIMPLE_MAGIC);
	put_be32(q->head + 4, error);
	put_be64(q->head + 8, q->cookie);
	q->head_len = 16;
}

/* Q is over: the answer. */
static void request_answer(struct nbd_req *q, int result)
{
	bool is_read = q->type == NBD_CMD_READ;
	const struct nbd_conn *c = q->c;

	q->body_len = 0;
	if (!c->is_structured || (!c->is_extended && !is_read && q->type != NBD_CMD_BLOCK_STATUS)) {
		put_simple(q, result < 0 ? error_number(result) : 0);
	} else if (result < 0) {
		size_t n = nbd_put_chunk(q, q->head, NBD_CHUNK_DONE, NBD_CHUNK_ERROR, 6);

		put_be32(q->head + n, error_number(result));
		put_be16(q->head + n + 4, 0);
		q->head_len = n + 6;
	} else if (is_read && q->len) {
		size_t n = nbd_put_chunk(q, q->head, NBD_CHUNK_DONE, NBD_CHUNK_DATA, 8 + q->len);

		put_be64(q->head + n, q->off);
		q->head_len = n + 8;
	} else {
		q->head_len = nbd_put_chunk(q, q->head, NBD_CHUNK_DONE, NBD_CHUNK_NONE, 0);
	}
	if (is_read && !result)
		q->body_len = (size_t)q->len;
	nbd_send(q);
}

static void request_over(struct nbd_req *q, int result)
{
	struct nbd_conn *c = q->c;

	/* Forced unit access: what was written is durable before it is answered. */
	if (!result && q->flags & NBD_FLAG_FUA && q->r.op != BLK_FLUSH && q->type != NBD_CMD_READ) {
		q->flags &= (uint16_t)~NBD_FLAG_FUA;
		q->r.op = BLK_FLUSH;
		q->r.len = q->r.off = 0;
		blk_submit(c->s->c.blk, &q->r);
		return;
	}
	request_answer(q, result);
	nbd_conn_done(c);
}

static void request_done(struct blk_req *r, int result)
{
	request_over(container_of(r, struct nbd_req, r), result);
}

/* --- to the disk ------------------------------------------------------------------------------------ */

/* Zeroes for parts of sectors at either end. */
static int co_zero_bytes(struct nbd_req *q)
{
	static const uint8_t zero[BLK_SECTOR];
	struct blk *b = q->c->s->c.blk;
	uint64_t off = q->off, end = q->off + q->len;
	int r = 0;

	while (!r && off < end) {
		uint64_t n = BLK_SECTOR - off % BLK_SECTOR;

		n = n < end - off ? n : end - off;
		if (n == BLK_SECTOR && end - off > BLK_SECTOR) {
			n = (end - off) / BLK_SECTOR * BLK_SECTOR;
			r = blk_zeroes(b, off, n, !(q->flags & NBD_FLAG_NO_HOLE));
		} else {
			r = blk_pwrite(b, off, zero, n);
		}
		off += n;
	}
	return r;
}

/* What is not sectors, and questions about what is where. */
static int request_co_run(struct nbd_req *q)
{
	struct nbd_server *s = q->c->s;
	uint64_t from = align_up(q->off, BLK_SECTOR), to = (q->off + q->len) / BLK_SECTOR * BLK_SECTOR;
	int r;

	switch (q->type) {
	case NBD_CMD_READ:
		return blk_pread(s->c.blk, q->off, q->buf, (size_t)q->len);
	case NBD_CMD_TRIM:
		return to > from ? blk_discard(s->c.blk, from, to - from) : 0;
	case NBD_CMD_WRITE:
	case NBD_CMD_WRITE_ZEROES:
		co_mutex_lock(&s->partial_lock);
		r = q->type == NBD_CMD_WRITE ? blk_pwrite(s->c.blk, q->off, q->buf, (size_t)q->len) : co_zero_bytes(q);
		co_mutex_unlock(&s->partial_lock);
		return r;
	default:
		return nbd_co_status(q);
	}
}

static void request_co_main(void *arg)
{
	struct nbd_req *q = arg;

	request_over(q, request_co_run(q));
}

static void request_start(struct nbd_req *q)
{
	static const enum blk_op ops[] = {
		[NBD_CMD_READ] = BLK_READ, [NBD_CMD_WRITE] = BLK_WRITE, [NBD_CMD_FLUSH] = BLK_FLUSH,
		[NBD_CMD_TRIM] = BLK_DISCARD, [NBD_CMD_WRITE_ZEROES] = BLK_ZEROES,
	};
	bool is_whole = !((q->off | q->len) % BLK_SECTOR) && q->type != NBD_CMD_BLOCK_STATUS;

	q->iov = (struct iovec){ q->buf, (size_t)q->len };
	q->r = (struct blk_req){ .op = q->type == NBD_CMD_BLOCK_STATUS ? BLK_READ : ops[q->type], .off = q->off,
				 .len = q->len,
				 .iov = &q->iov, .n_iov = 1, .done = request_done,
				 .may_unmap = !(q->flags & NBD_FLAG_NO_HOLE) };
	if (q->type == NBD_CMD_FLUSH)
		q->r.off = q->r.len = 0;
	if (is_whole || q->type == NBD_CMD_FLUSH) {
		blk_submit(q->c->s->c.blk, &q->r);
		return;
	}
	int r = co_start(request_co_main, q);

	if (r < 0)
		request_over(q, r);
}

void nbd_payload_is_there(struct nbd_req *q)
{
	if (q->refusal)
		request_over(q, q->refusal);
	else
		request_start(q);
}

/* --- from the client -------------------------------------------------------------------------------- */

static unsigned flags_allowed(uint16_t type)
{
	switch (type) {
	case NBD_CMD_READ:
		return NBD_FLAG_DF | NBD_FLAG_FUA;
	case NBD_CMD_WRITE:
		return NBD_FLAG_FUA | NBD_FLAG_PAYLOAD_LEN;
	case NBD_CMD_WRITE_ZEROES:
		return NBD_FLAG_FUA | NBD_FLAG_NO_HOLE;
	case NBD_CMD_TRIM:
		return NBD_FLAG_FUA;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_FLAG_REQ_ONE;
	case NBD_CMD_FLUSH:
		return NBD_FLAG_FUA;    /* means nothing; nbd-client sends it */
	default:
		return 0;
	}
}

/* 0, or the error that the request gets without the disk hearing of it. */
static int request_check(const struct nbd_req *q)
{
	const struct nbd_conn *c = q->c;
	bool is_change = q->type == NBD_CMD_WRITE || q->type == NBD_CMD_TRIM || q->type == NBD_CMD_WRITE_ZEROES;

	if (q->flags & ~flags_allowed(q->type))
		return -EINVAL;
	if (q->type > NBD_CMD_BLOCK_STATUS || q->type == NBD_CMD_CACHE)
		return q->type == NBD_CMD_CACHE ? -ENOTSUP : -EINVAL;
	if (is_change && c->s->c.is_readonly)
		return -EPERM;
	if (q->type == NBD_CMD_FLUSH)
		return 0;
	if (!q->len && q->type == NBD_CMD_BLOCK_STATUS)
		return -EINVAL;
	if (!range_fits(q->off, q->len, c->s->size))
		return q->type == NBD_CMD_WRITE || q->type == NBD_CMD_WRITE_ZEROES ? -ENOSPC : -EINVAL;
	if (q->type == NBD_CMD_BLOCK_STATUS && !c->has_allocation && !c->has_bitmap)
		return -EINVAL;
	return (q->type == NBD_CMD_READ || q->type == NBD_CMD_WRITE) && q->len > NBD_PAYLOAD_MAX ? -EOVERFLOW : 0;
}

/* The header of a request, in either form. */
struct request_head { uint16_t flags, type; uint64_t cookie, off, len; };

static ssize_t request_parse(const struct nbd_conn *c, const uint8_t *p, size_t len, struct request_head *h)
{
	size_t n = c->is_extended ? REQUEST_EXT_LEN : REQUEST_LEN;

	if (len < n)
		return 0;
	if (get_be32(p) != (c->is_extended ? (uint32_t)NBD_REQUEST_EXT_MAGIC : (uint32_t)NBD_REQUEST_MAGIC))
		return -1;
	*h = (struct request_head){ .flags = get_be16(p + 4), .type = get_be16(p + 6), .cookie = get_be64(p + 8),
				    .off = get_be64(p + 16),
				    .len = c->is_extended ? get_be64(p + 24) : get_be32(p + 24) };
	/* LEN counts bytes that follow, and with extended headers it may for any command. */
	bool has_payload = h->type == NBD_CMD_WRITE || (c->is_extended && h->flags & NBD_FLAG_PAYLOAD_LEN);

	if (has_payload && (h->type != NBD_CMD_WRITE || h->len > NBD_PAYLOAD_MAX))
		return -1;              /* it would have to be received and thrown away */
	return (ssize_t)n;
}

ssize_t nbd_request(struct nbd_conn *c, const uint8_t *p, size_t len)
{
	struct request_head h;
	ssize_t n = request_parse(c, p, len, &h);

	if (n < 0)
		nbd_conn_kill(c);
	if (n <= 0)
		return n;
	if (h.type == NBD_CMD_DISC) {
		nbd_conn_end(c);
		return -1;
	}
	bool has_buf = h.type == NBD_CMD_WRITE || (h.type == NBD_CMD_READ && h.len <= NBD_PAYLOAD_MAX);
	struct nbd_req *q = nbd_req_get(c, has_buf ? (size_t)h.len : 0);

	if (!q) {
		nbd_conn_kill(c);
		return -1;
	}
	q->flags = h.flags;
	q->type = h.type;
	q->cookie = h.cookie;
	q->off = h.off;
	q->len = h.len;
	q->is_request = true;
	c->n_requests++;
	int r = request_check(q);

	if (h.type == NBD_CMD_WRITE && h.len) {
		/* What follows has to be received in any case. */
		q->refusal = r;
		c->filling = q;
		c->filled = 0;
	} else if (r < 0) {
		request_over(q, r);
	} else {
		request_start(q);
	}
	return n;
}
