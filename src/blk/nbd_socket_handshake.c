/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_socket_handshake.c - choosing the export ("Fixed newstyle negotiation"): one NBD_OPT_GO, and what it answers. */
#include "blk/nbd_socket_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"

enum {
	REPLIES_MAX = 32,               /* to one option */
	REPLY_MAX = 8 << 10,            /* bytes of one; names and sentences have 4096 at most */
	NAME_MAX_LEN = 4096,
	SAID_MAX = 200,                 /* of a sentence of the server */
};
enum { NBD_REP_ERR_TLS_REQD = (int)0x80000005 };

struct handshake {
	struct nbd_socket *n;
	const char *address;
	struct err *err;
	uint8_t reply[REPLY_MAX];
	bool has_export;
};

/* --- addresses ------------------------------------------------------------------------------------ */

int blk_nbd_socket_check(const char *address, struct err *err)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };
	int r = blk_url_parse(&u, address, err);

	if (r < 0)
		return r;
	if (!strcmp(u.scheme, "nbds"))
		return err_set(err, -ENOTSUP, "'%s': a connection with TLS cannot be handed to a machine; let something "
			       "on this host carry it, and name that as nbd+unix://", address);
	if (!strcmp(u.scheme, "http") || !strcmp(u.scheme, "https"))
		return err_set(err, -EROFS, "'%s' can only be read", address);
	if (strcmp(u.scheme, "nbd") != 0 && strcmp(u.scheme, "nbd+unix") != 0)
		return err_set(err, -ENOTSUP, "a machine does not reach '%s' by itself; serve it with 'viv disk serve "
			       "--nbd unix:PATH', and name 'nbd+unix:///?socket=PATH'", address);
	if (u.options)
		return err_set(err, -EINVAL, "'%s': a connection that is handed over has no options", address);
	if (u.path && strlen(u.path) > NAME_MAX_LEN)
		return err_set(err, -ENAMETOOLONG, "the name of an export has %d characters at most", NAME_MAX_LEN);
	return 0;
}

/* --- failures ------------------------------------------------------------------------------------- */

static int broken(struct handshake *s, int error)
{
	return err_set(s->err, error, "cannot use the connection to '%s': %s", s->address, error == -ETIMEDOUT ?
		       "the server says nothing" : strerror(-error));
}

static int unclear(struct handshake *s)
{
	return err_set(s->err, -EPROTO, "what is at the other end of '%s' does not speak NBD as it should", s->address);
}

/* The server's own sentence, which may be anything. */
static int refused(struct handshake *s, int type, size_t len)
{
	char said[SAID_MAX + 1];

	len = len < SAID_MAX ? len : SAID_MAX;
	for (size_t i = 0; i < len; i++)
		said[i] = s->reply[i] >= ' ' && s->reply[i] < 0x7f ? (char)s->reply[i] : '?';
	said[len] = '\0';
	if (type == NBD_REP_ERR_UNKNOWN)
		return err_set(s->err, -ENOENT, "the server of '%s' has no such export%s%s", s->address, len ? ": " : "", said);
	if (type == NBD_REP_ERR_TLS_REQD)
		return err_set(s->err, -ENOTSUP, "the server of '%s' wants TLS, which a connection that is handed over "
			       "does not have", s->address);
	return err_set(s->err, -EPROTO, "the server of '%s' refuses: %s", s->address, len ? said : "it does not say why");
}

/* --- steps ---------------------------------------------------------------------------------------- */

static int co_hello(struct handshake *s)
{
	uint8_t hello[18], answer[4];
	int r = nbd_socket_co_receive(s->n, hello, sizeof(hello));

	if (r < 0)
		return broken(s, r);
	if (get_be64(hello) != NBD_MAGIC || get_be64(hello + 8) != NBD_OPTION_MAGIC ||
	    !(get_be16(hello + 16) & NBD_HELLO_FIXED))
		return unclear(s);
	put_be32(answer, get_be16(hello + 16) & (NBD_HELLO_FIXED | NBD_HELLO_NO_ZEROES));
	r = nbd_socket_co_send(s->n, answer, sizeof(answer), NULL, 0);
	return r < 0 ? broken(s, r) : 0;
}

static int co_go(struct handshake *s, const char *name)
{
	uint32_t len = (uint32_t)strlen(name);
	AUTO(free) uint8_t *option = malloc(16 + 4 + len + 4);

	if (!option)
		return err_set(s->err, -ENOMEM, "out of memory");
	put_be64(option, NBD_OPTION_MAGIC);
	put_be32(option + 8, NBD_OPT_GO);
	put_be32(option + 12, 4 + len + 4);
	put_be32(option + 16, len);
	memcpy(option + 20, name, len);
	put_be16(option + 20 + len, 1);
	put_be16(option + 22 + len, NBD_INFO_BLOCK_SIZE);
	int r = nbd_socket_co_send(s->n, option, 24 + len, NULL, 0);

	return r < 0 ? broken(s, r) : 0;
}

static int take_export(struct handshake *s)
{
	struct blk *b = s->n->b;

	s->has_export = true;
	b->size = get_be64(s->reply + 2);
	s->n->flags = get_be16(s->reply + 10);
	b->can_discard = s->n->flags & NBD_SEND_TRIM;
	if (s->n->flags & NBD_READ_ONLY)
		return err_set(s->err, -EROFS, "the server gives '%s' for reading only", s->address);
	if (b->size > INT64_MAX || b->size % BLK_SECTOR)
		return err_set(s->err, -EINVAL, "'%s' has %" PRIu64 " bytes, which is no size of a disk", s->address, b->size);
	return 0;
}

static int take_block_size(struct handshake *s)
{
	uint32_t min = get_be32(s->reply + 2), preferred = get_be32(s->reply + 6), max = get_be32(s->reply + 10);
	struct blk *b = s->n->b;

	if (!is_pow2(min) || min > 64 << 10 || max < min)
		return err_set(s->err, -ENOTSUP, "the server of '%s' wants blocks of %" PRIu32 " bytes", s->address, min);
	b->io_align = min;
	b->io_max = max & ~(min - 1);
	if (is_pow2(preferred) && preferred >= BLK_SECTOR && preferred <= 1 << 20)
		b->block_size = preferred;
	return 0;
}

static int take_info(struct handshake *s, size_t len)
{
	unsigned what = len >= 2 ? get_be16(s->reply) : 0;

	if (len >= 12 && what == NBD_INFO_EXPORT)
		return take_export(s);
	if (len >= 14 && what == NBD_INFO_BLOCK_SIZE)
		return take_block_size(s);
	return len < 2 || what == NBD_INFO_EXPORT || what == NBD_INFO_BLOCK_SIZE ? unclear(s) : 0;
}

/* One reply to the option: 1, more follow; 0: that was the last. */
static int co_reply(struct handshake *s)
{
	uint8_t head[20];
	int r = nbd_socket_co_receive(s->n, head, sizeof(head));

	if (r < 0)
		return broken(s, r);
	int type = (int)get_be32(head + 12);
	size_t len = get_be32(head + 16);

	if (get_be64(head) != NBD_OPTION_REPLY_MAGIC || get_be32(head + 8) != NBD_OPT_GO || len > REPLY_MAX)
		return unclear(s);
	r = nbd_socket_co_receive(s->n, s->reply, len);
	if (r < 0)
		return broken(s, r);
	if (type < 0)
		return refused(s, type, len);
	if (type == NBD_REP_ACK)
		return s->has_export ? 0 : unclear(s);
	r = type == NBD_REP_INFO ? take_info(s, len) : 0;
	return r < 0 ? r : 1;
}

static int co_agree(struct handshake *s, const char *name)
{
	int r = co_hello(s);

	if (!r)
		r = co_go(s, name);
	if (r < 0)
		return r;
	for (int i = 0; i < REPLIES_MAX; i++) {
		r = co_reply(s);
		if (r <= 0)
			return r;
	}
	return unclear(s);
}

int nbd_socket_co_handshake(struct nbd_socket *n, const char *address, struct err *err)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };
	AUTO(free) struct handshake *s = calloc(1, sizeof(*s));
	int r = s ? blk_nbd_socket_check(address, err) : err_set(err, -ENOMEM, "out of memory");

	if (!r)
		r = blk_url_parse(&u, address, err);
	if (r < 0)
		return r;
	s->n = n;
	s->address = address;
	s->err = err;
	n->b->block_size = 4096;
	n->b->io_align = 1;
	n->b->io_max = NBD_PAYLOAD_MAX;
	nbd_socket_listen(n);           /* for all of it */
	return co_agree(s, u.path && u.path[0] ? u.path + 1 : "");
}
