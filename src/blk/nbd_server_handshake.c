/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_server_handshake.c - section "Fixed newstyle negotiation": options until the client has chosen. */
#include <stdio.h>
#include <string.h>
#include "blk/nbd_server_priv.h"

enum { OPTION_HEAD = 16, BLOCK_MIN = 1, BLOCK_BEST = 4096 };

uint16_t nbd_export_flags(const struct nbd_conn *c)
{
	const struct nbd_server *s = c->s;
	/* A flush by one client covers the writes of all: they use one disk, in one thread. */
	unsigned flags = NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA | NBD_CAN_MULTI_CONN |
			 (c->is_structured ? NBD_SEND_DF : 0u);

	return (uint16_t)(flags | (s->c.is_readonly ? (unsigned)NBD_READ_ONLY : NBD_SEND_TRIM | NBD_SEND_WRITE_ZEROES));
}

void nbd_greet(struct nbd_conn *c)
{
	struct nbd_req *q = nbd_req_get(c, 0);

	if (!q) {
		nbd_conn_kill(c);
		return;
	}
	put_be64(q->head, NBD_MAGIC);
	put_be64(q->head + 8, NBD_OPTION_MAGIC);
	put_be16(q->head + 16, NBD_HELLO_FIXED | NBD_HELLO_NO_ZEROES);
	q->head_len = 18;
	nbd_send(q);
}

/* --- answers -------------------------------------------------------------------------------------- */

static ssize_t option_reply(struct nbd_conn *c, uint32_t option, int type, const void *data, size_t len)
{
	struct nbd_req *q = nbd_req_get(c, len);

	if (!q) {
		nbd_conn_kill(c);
		return -1;
	}
	put_be64(q->head, NBD_OPTION_REPLY_MAGIC);
	put_be32(q->head + 8, option);
	put_be32(q->head + 12, (uint32_t)type);
	put_be32(q->head + 16, (uint32_t)len);
	q->head_len = 20;
	if (len)
		memcpy(q->buf, data, len);
	q->body_len = len;
	nbd_send(q);
	return 0;
}

static ssize_t option_error(struct nbd_conn *c, uint32_t option, int type, const char *sentence)
{
	return option_reply(c, option, type, sentence, strlen(sentence));
}

/* --- exports -------------------------------------------------------------------------------------- */

/* "" is whatever there is. */
static bool export_is(const struct nbd_conn *c, const uint8_t *name, size_t len)
{
	return !len || (len == strlen(c->s->c.name) && !memcmp(name, c->s->c.name, len));
}

static void enter_transmission(struct nbd_conn *c)
{
	c->state = NBD_TRANSMISSION;
	loop_timer_cancel(&c->deadline);
}

static ssize_t option_export_name(struct nbd_conn *c, const uint8_t *data, size_t len)
{
	struct nbd_req *q;

	/* This option has no errors: the connection ends. Without structured replies it stays so. */
	if (!export_is(c, data, len) || c->is_extended) {
		nbd_conn_end(c);
		return -1;
	}
	q = nbd_req_get(c, 0);
	if (!q) {
		nbd_conn_kill(c);
		return -1;
	}
	memset(q->head, 0, sizeof(q->head));
	put_be64(q->head, c->s->size);
	put_be16(q->head + 8, nbd_export_flags(c));
	q->head_len = c->has_no_zeroes ? 10 : 10 + 124;
	nbd_send(q);
	enter_transmission(c);
	return 0;
}

static ssize_t option_list(struct nbd_conn *c, uint32_t option, size_t len)
{
	uint8_t data[4 + NBD_NAME_MAX];
	size_t n = strlen(c->s->c.name);

	if (len)
		return option_error(c, option, NBD_REP_ERR_INVALID, "a list takes no data");
	put_be32(data, (uint32_t)n);
	memcpy(data + 4, c->s->c.name, n);
	return option_reply(c, option, NBD_REP_SERVER, data, 4 + n) < 0 ? -1 :
		option_reply(c, option, NBD_REP_ACK, NULL, 0);
}

static ssize_t info_send(struct nbd_conn *c, uint32_t option, bool wants_name)
{
	uint8_t export[12], block[14], name[2 + NBD_NAME_MAX];
	size_t n = strlen(c->s->c.name);

	put_be16(export, NBD_INFO_EXPORT);
	put_be64(export + 2, c->s->size);
	put_be16(export + 10, nbd_export_flags(c));
	put_be16(block, NBD_INFO_BLOCK_SIZE);
	put_be32(block + 2, BLOCK_MIN);
	put_be32(block + 6, BLOCK_BEST);
	put_be32(block + 10, NBD_PAYLOAD_MAX);
	put_be16(name, NBD_INFO_NAME);
	memcpy(name + 2, c->s->c.name, n);
	if (option_reply(c, option, NBD_REP_INFO, export, sizeof(export)) < 0 ||
	    option_reply(c, option, NBD_REP_INFO, block, sizeof(block)) < 0 ||
	    (wants_name && option_reply(c, option, NBD_REP_INFO, name, 2 + n) < 0))
		return -1;
	return option_reply(c, option, NBD_REP_ACK, NULL, 0);
}

/* INFO and GO: length, name, number of informations, their types. */
static ssize_t option_info(struct nbd_conn *c, uint32_t option, const uint8_t *data, size_t len)
{
	size_t name_len = len >= 6 ? get_be32(data) : 0, n;
	bool wants_name = false;

	if (len < 6 || name_len > len - 6 || (n = get_be16(data + 4 + name_len)) * 2 != len - 6 - name_len)
		return option_error(c, option, NBD_REP_ERR_INVALID, "the lengths do not fit together");
	if (!export_is(c, data + 4, name_len))
		return option_error(c, option, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
	for (size_t i = 0; i < n; i++)
		wants_name |= get_be16(data + 6 + name_len + i * 2) == NBD_INFO_NAME;
	if (info_send(c, option, wants_name) < 0)
		return -1;
	if (option == NBD_OPT_GO)
		enter_transmission(c);
	return 0;
}

/* --- contexts --------------------------------------------------------------------------------------- */

/* Does QUERY ask for context NAME? As a list, "base:" and "qemu:dirty-bitmap:" ask for all of theirs. */
static bool query_is(const uint8_t *query, size_t len, const char *name, bool is_list)
{
	size_t n = strlen(name);

	return (len == n && !memcmp(query, name, n)) ||
	       (is_list && len && len < n && query[len - 1] == ':' && !memcmp(query, name, len));
}

static ssize_t context_send(struct nbd_conn *c, uint32_t option, uint32_t id, const char *name)
{
	uint8_t data[4 + 64 + NBD_NAME_MAX];
	size_t n = strlen(name);

	put_be32(data, option == NBD_OPT_SET_META_CONTEXT ? id : 0);
	memcpy(data + 4, name, n);
	return option_reply(c, option, NBD_REP_META_CONTEXT, data, 4 + n);
}

/* Which contexts the queries of P ask for, by id. -1: the lengths do not fit together. */
static int context_queries(const struct nbd_conn *c, const uint8_t *p, size_t len, const char *bitmap, bool is_list)
{
	uint32_t n = get_be32(p);
	int found = !n && is_list ? 1 << NBD_CONTEXT_ALLOCATION | (c->s->bitmap ? 1 << NBD_CONTEXT_BITMAP : 0) : 0;

	p += 4;
	len -= 4;
	for (; n; n--) {
		size_t query = len >= 4 ? get_be32(p) : 0;

		if (len < 4 || query > len - 4)
			return -1;
		if (query_is(p + 4, query, "base:allocation", is_list))
			found |= 1 << NBD_CONTEXT_ALLOCATION;
		if (c->s->bitmap && query_is(p + 4, query, bitmap, is_list))
			found |= 1 << NBD_CONTEXT_BITMAP;
		p += 4 + query;
		len -= 4 + query;
	}
	return len ? -1 : found;
}

static ssize_t option_contexts(struct nbd_conn *c, uint32_t option, const uint8_t *data, size_t len)
{
	bool is_list = option == NBD_OPT_LIST_META_CONTEXT;
	size_t name_len = len >= 8 ? get_be32(data) : 0;
	char bitmap[64 + NBD_NAME_MAX];
	int found = -1;

	snprintf(bitmap, sizeof(bitmap), "qemu:dirty-bitmap:%s", c->s->c.bitmap ? c->s->c.bitmap : "");
	if (!is_list)
		c->has_allocation = c->has_bitmap = false;
	if (!c->is_structured)
		return option_error(c, option, NBD_REP_ERR_INVALID, "structured replies come first");
	if (len >= 8 && name_len <= len - 8)
		found = context_queries(c, data + 4 + name_len, len - 4 - name_len, bitmap, is_list);
	if (found < 0)
		return option_error(c, option, NBD_REP_ERR_INVALID, "the lengths do not fit together");
	if (!export_is(c, data + 4, name_len))
		return option_error(c, option, NBD_REP_ERR_UNKNOWN, "there is no export of this name");
	if (!is_list) {
		c->has_allocation = found & 1 << NBD_CONTEXT_ALLOCATION;
		c->has_bitmap = found & 1 << NBD_CONTEXT_BITMAP;
	}
	if ((found & 1 << NBD_CONTEXT_ALLOCATION &&
	     context_send(c, option, NBD_CONTEXT_ALLOCATION, "base:allocation") < 0) ||
	    (found & 1 << NBD_CONTEXT_BITMAP && context_send(c, option, NBD_CONTEXT_BITMAP, bitmap) < 0))
		return -1;
	return option_reply(c, option, NBD_REP_ACK, NULL, 0);
}

/* --- options -------------------------------------------------------------------------------------- */

static ssize_t option_switch(struct nbd_conn *c, uint32_t option, size_t len)
{
	if (len)
		return option_error(c, option, NBD_REP_ERR_INVALID, "it takes no data");
	if (option == NBD_OPT_STRUCTURED_REPLY && c->is_extended)
		return option_error(c, option, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers were chosen");
	c->is_structured = true;
	c->is_extended |= option == NBD_OPT_EXTENDED_HEADERS;
	return option_reply(c, option, NBD_REP_ACK, NULL, 0);
}

static ssize_t option_run(struct nbd_conn *c, uint32_t option, const uint8_t *data, size_t len)
{
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		return option_export_name(c, data, len);
	case NBD_OPT_ABORT:
		option_reply(c, option, NBD_REP_ACK, NULL, 0);
		nbd_conn_end(c);
		return -1;
	case NBD_OPT_LIST:
		return option_list(c, option, len);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return option_info(c, option, data, len);
	case NBD_OPT_STRUCTURED_REPLY:
	case NBD_OPT_EXTENDED_HEADERS:
		return option_switch(c, option, len);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return option_contexts(c, option, data, len);
	default:
		return option_error(c, option, NBD_REP_ERR_UNSUP, "not supported here");
	}
}

ssize_t nbd_handshake(struct nbd_conn *c, const uint8_t *p, size_t len)
{
	if (c->state == NBD_HELLO) {
		if (len < 4)
			return 0;
		uint32_t flags = get_be32(p);

		/* Clients of before the fixed handshake are gone since 2013. */
		if (!(flags & NBD_HELLO_FIXED) || flags & ~(uint32_t)(NBD_HELLO_FIXED | NBD_HELLO_NO_ZEROES)) {
			nbd_conn_kill(c);
			return -1;
		}
		c->has_no_zeroes = flags & NBD_HELLO_NO_ZEROES;
		c->state = NBD_OPTIONS;
		return 4;
	}
	if (len < OPTION_HEAD)
		return 0;
	uint32_t option = get_be32(p + 8), data_len = get_be32(p + 12);

	if (get_be64(p) != NBD_OPTION_MAGIC || data_len > NBD_OPTION_MAX || ++c->n_options > NBD_OPTIONS_MAX) {
		nbd_conn_kill(c);
		return -1;
	}
	if (len - OPTION_HEAD < data_len) {
		c->n_options--;
		return 0;
	}
	return option_run(c, option, p + OPTION_HEAD, data_len) < 0 ? -1 : (ssize_t)(OPTION_HEAD + data_len);
}
