/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_socket.c - requests to an NBD server over a socket that was handed over ("Transmission phase", simple replies).
 *
 * Coroutines send one after the other; the handler of the socket takes replies apart and wakes those whose they are. It
 * notes whom to wake and does that last: whoever is woken may close the disk. */
#include "blk/nbd_socket_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/log.h"

enum { RANGE_MAX = 1 << 30 };           /* bytes to zero or discard in one request */

struct nbd_socket_cmd {
	struct nbd_socket *n;
	struct co *co;
	struct nbd_socket_cmd *next;    /* of those under way, then of those to be woken */
	uint64_t cookie, off, len;
	uint16_t type, flags;
	void *buf;
	bool is_sending, is_over;
	bool is_lost;                   /* with the connection: it may be sent again */
	int result;
};

/* --- who is to be woken --------------------------------------------------------------------------- */

struct wakes {
	struct co *waiting;             /* for the socket to take or give more */
	struct nbd_socket_cmd *over;
};

/* Nothing of the node is touched after this. */
static void wake(struct wakes w)
{
	if (w.waiting)
		co_wake(w.waiting);
	while (w.over) {
		struct nbd_socket_cmd *c = w.over;

		w.over = c->next;
		co_wake(c->co);
	}
}

static void cmd_unlink(struct nbd_socket_cmd *c)
{
	struct nbd_socket_cmd **at = &c->n->cmds;

	while (*at && *at != c)
		at = &(*at)->next;
	if (*at)
		*at = c->next;
}

/* One that is still being sent is woken by that, and sees it. */
static void cmd_end(struct nbd_socket_cmd *c, int result, struct wakes *w)
{
	cmd_unlink(c);
	c->result = result;
	c->is_over = true;
	if (c->is_sending)
		return;
	c->next = w->over;
	w->over = c;
}

/* --- the end of the connection -------------------------------------------------------------------- */

static void lose(struct nbd_socket *n, int error, struct wakes *w)
{
	if (n->error)
		return;
	n->error = error;
	if (n->is_watched)
		blk_watch_del(n->b, &n->watch);
	n->is_watched = false;
	loop_timer_cancel(&n->silence);
	if (n->is_open)
		log_error("disk '%s': the connection is lost: %s", n->b->name, strerror(-error));
	w->waiting = take_ptr(&n->waiting);
	while (n->cmds) {
		n->cmds->is_lost = true;
		cmd_end(n->cmds, error, w);
	}
}

void nbd_socket_lose(struct nbd_socket *n, int error)
{
	struct wakes w = { .over = NULL };

	nbd_socket_forget_dialer(n);
	lose(n, error, &w);
	wake(w);
}

static void silence(struct loop_timer *t)
{
	nbd_socket_lose(container_of(t, struct nbd_socket, silence), -ETIMEDOUT);
}

void nbd_socket_listen(struct nbd_socket *n)
{
	loop_timer_set(&n->silence, loop_now_ns() + NBD_SOCKET_SILENCE_S * 1000000000ull);
}

/* --- replies -------------------------------------------------------------------------------------- */

/* Some bytes; 0: none are there now. */
static ssize_t receive(struct nbd_socket *n, void *buf, size_t len)
{
	ssize_t r = recv(n->fd, buf, len, MSG_DONTWAIT);

	if (r < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return r ? r : -ECONNRESET;
}

/* The protocol's numbers of errors are those of Linux; there are few ("Error values"). */
static int reply_error(uint32_t e)
{
	static const int known[] = { EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, EOPNOTSUPP, ESHUTDOWN };

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (e == (uint32_t)known[i])
			return -known[i];
	return e ? -EIO : 0;
}

static int reply_begin(struct nbd_socket *n, struct wakes *w)
{
	struct nbd_socket_cmd *c = n->cmds;
	int result = reply_error(get_be32(n->head + 4));

	while (c && c->cookie != get_be64(n->head + 8))
		c = c->next;
	if (get_be32(n->head) != NBD_SIMPLE_MAGIC || !c || c->is_sending)
		return -EPROTO;
	n->head_len = 0;
	if (result || c->type != NBD_CMD_READ) {
		cmd_end(c, result, w);
	} else {
		n->filling = c;
		n->filled = 0;
	}
	return 0;
}

/* 1: there may be more; 0; -errno: the connection is of no use. */
static int reply_step(struct nbd_socket *n, struct wakes *w)
{
	struct nbd_socket_cmd *c = n->filling;
	ssize_t got = c ? receive(n, (uint8_t *)c->buf + n->filled, c->len - n->filled) :
			  receive(n, n->head + n->head_len, sizeof(n->head) - n->head_len);

	if (got <= 0)
		return (int)got;
	if (!c) {
		n->head_len += (size_t)got;
		return n->head_len < sizeof(n->head) || !(got = reply_begin(n, w)) ? 1 : (int)got;
	}
	n->filled += (size_t)got;
	if (n->filled == c->len) {
		n->filling = NULL;
		cmd_end(c, 0, w);
	}
	return 1;
}

void nbd_socket_event(struct loop_fd *h, unsigned events)
{
	struct nbd_socket *n = container_of(container_of(h, struct blk_watch, h), struct nbd_socket, watch);
	struct wakes w = { .over = NULL };
	int r = 1;

	/* Nobody waits for replies in the handshake. */
	while (n->is_open && events & (LOOP_IN | LOOP_HUP) && r > 0)
		r = reply_step(n, &w);
	if (n->is_open && r < 0)
		lose(n, r, &w);
	else if (n->is_open && n->cmds)
		nbd_socket_listen(n);
	else if (n->is_open)
		loop_timer_cancel(&n->silence);
	if (!n->error && (!n->is_open || events & (LOOP_OUT | LOOP_HUP)))
		w.waiting = take_ptr(&n->waiting);
	if (n->is_watched && n->watch.h.events != LOOP_IN && !n->waiting)
		blk_watch_mod(n->b, &n->watch, LOOP_IN);
	wake(w);
}

/* --- sending -------------------------------------------------------------------------------------- */

static void wait_for(struct nbd_socket *n, unsigned events)
{
	n->waiting = co_self();
	if (n->watch.h.events != events)
		blk_watch_mod(n->b, &n->watch, events);
	co_yield();
}

int nbd_socket_co_send(struct nbd_socket *n, const void *head, size_t head_len, const void *body, size_t body_len)
{
	for (size_t sent = 0; sent < head_len + body_len;) {
		size_t of_body = sent > head_len ? sent - head_len : 0, of_head = sent - of_body;
		struct iovec iov[2] = {
			{ (void *)((uintptr_t)head + of_head), head_len - of_head },
			{ (void *)((uintptr_t)body + of_body), body_len - of_body },
		};
		const struct msghdr m = { .msg_iov = iov, .msg_iovlen = body_len ? 2 : 1 };

		if (n->error)
			return n->error;
		ssize_t r = sendmsg(n->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (r < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (r < 0)
			wait_for(n, n->is_open ? LOOP_IN | LOOP_OUT : LOOP_OUT);
		else
			sent += (size_t)r;
	}
	return 0;
}

int nbd_socket_co_receive(struct nbd_socket *n, void *buf, size_t len)
{
	while (len) {
		ssize_t r = n->error ? n->error : receive(n, buf, len);

		if (r < 0)
			return (int)r;
		if (!r)
			wait_for(n, LOOP_IN);
		buf = (uint8_t *)buf + r;
		len -= (size_t)r;
	}
	return 0;
}

static void put_request(uint8_t head[28], const struct nbd_socket_cmd *c)
{
	put_be32(head, NBD_REQUEST_MAGIC);
	put_be16(head + 4, c->flags);
	put_be16(head + 6, c->type);
	put_be64(head + 8, c->cookie);
	put_be64(head + 16, c->off);
	put_be32(head + 24, (uint32_t)c->len);
}

static void co_send_cmd(struct nbd_socket *n, struct nbd_socket_cmd *c)
{
	struct wakes w = { .over = NULL };
	uint8_t head[28];
	int r;

	co_mutex_lock(&n->sending);
	put_request(head, c);
	r = c->is_over ? 0 : nbd_socket_co_send(n, head, sizeof(head), c->buf, c->type == NBD_CMD_WRITE ? c->len : 0);
	if (r < 0)
		lose(n, r, &w);
	c->is_sending = false;
	co_mutex_unlock(&n->sending);
	wake(w);
}

static int co_cmd_once(struct nbd_socket_cmd *c)
{
	struct nbd_socket *n = c->n;

	c->is_over = c->is_lost = false;
	c->co = co_self();
	c->cookie = ++n->last_cookie;
	c->is_sending = true;
	if (!n->cmds)
		nbd_socket_listen(n);
	c->next = n->cmds;
	n->cmds = c;
	co_send_cmd(n, c);
	while (!c->is_over)
		co_yield();
	return c->result;
}

/* Doing a request twice does no harm: reading, writing the same bytes. */
static int co_cmd(struct nbd_socket_cmd *c)
{
	struct nbd_socket *n = c->n;

	for (;;) {
		int r = n->error ? nbd_socket_co_mend(n) : 0;

		if (r < 0)
			return r;
		r = co_cmd_once(c);
		if (!c->is_lost || !n->is_kept)
			return r;
	}
}

/* --- the driver ----------------------------------------------------------------------------------- */

static int co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct nbd_socket_cmd c = { .n = b->priv, .type = NBD_CMD_READ, .off = off, .len = len, .buf = v.iov->iov_base };

	return co_cmd(&c);
}

static int co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	struct nbd_socket_cmd c = { .n = b->priv, .type = NBD_CMD_WRITE, .off = off, .len = len, .buf = v.iov->iov_base };

	c.n->has_unflushed = true;
	return co_cmd(&c);
}

static int co_flush(struct blk *b)
{
	struct nbd_socket *n = b->priv;
	struct nbd_socket_cmd c = { .n = n, .type = NBD_CMD_FLUSH };

	/* A server without it keeps nothing back. */
	if (!(n->flags & NBD_SEND_FLUSH))
		return n->error ? nbd_socket_co_mend(n) : 0;
	n->has_unflushed = false;
	int r = co_cmd(&c);

	n->has_unflushed |= r < 0;
	return r;
}

static int co_range(struct blk *b, uint16_t type, uint64_t off, uint64_t len, uint16_t flags)
{
	int r = 0;

	for (uint64_t n; !r && len; off += n, len -= n) {
		n = len < RANGE_MAX ? len : RANGE_MAX;
		struct nbd_socket_cmd c = { .n = b->priv, .type = type, .off = off, .len = n, .flags = flags };

		r = co_cmd(&c);
	}
	return r;
}

static int co_discard(struct blk *b, uint64_t off, uint64_t len)
{
	const struct nbd_socket *n = b->priv;
	int r = n->flags & NBD_SEND_TRIM ? co_range(b, NBD_CMD_TRIM, off, len, 0) : 0;

	return r == -EOPNOTSUPP ? 0 : r;
}

static int co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	const struct nbd_socket *n = b->priv;

	if (!(n->flags & NBD_SEND_WRITE_ZEROES))
		return -ENOTSUP;
	return co_range(b, NBD_CMD_WRITE_ZEROES, off, len, may_unmap ? 0 : NBD_FLAG_NO_HOLE);
}

static void co_close(struct blk *b)
{
	const struct nbd_socket_cmd bye = { .type = NBD_CMD_DISC };
	struct nbd_socket *n = b->priv;
	uint8_t head[28];

	put_request(head, &bye);
	if (n->is_open && !n->error)
		(void)!send(n->fd, head, sizeof(head), MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n->silence.loop)
		loop_timer_cancel(&n->silence);
	nbd_socket_forget_dialer(n);
	nbd_socket_part(n);
	if (n->dialer >= 0)
		close(n->dialer);
}

static const struct blk_driver nbd_socket_driver = {
	.name = "nbd",
	.title = "a disk of an NBD server, by a socket",
	.flags = BLK_DRIVER_PROTOCOL,
	.priv_size = sizeof(struct nbd_socket),
	.co_close = co_close,
	.co_preadv = co_preadv,
	.co_pwritev = co_pwritev,
	.co_flush = co_flush,
	.co_discard = co_discard,
	.co_zeroes = co_zeroes,
	.submit = blk_proto_submit,
};

/* FD, ours from now on, is a connection, or what is asked for one. */
static int co_open(struct blk *b, int fd, struct err *err)
{
	struct nbd_socket *n = b->priv;
	socklen_t len = sizeof(int);
	int type = 0;

	loop_timer_init(b->ctx->loop, &n->silence, silence);
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
		n->fd = fd;
	else
		n->dialer = fd;
	return nbd_socket_co_connect(n, err);
}

int blk_nbd_co_open_socket(struct blk **out, struct blk_ctx *c, int fd, const char *address, struct err *err)
{
	const struct blk_options o = { .fd = -1 };
	struct blk *b = NULL;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0), r = own < 0 ? -errno : 0;

	if (r < 0)
		return err_set(err, r, "cannot keep the connection to '%s': %s", address, strerror(-r));
	r = blk_node_new(&b, c, &nbd_socket_driver, address, &o, err);
	if (r < 0) {
		close(own);
		return r;
	}
	struct nbd_socket *n = b->priv;

	n->b = b;
	n->fd = n->dialer = -1;
	r = co_open(b, own, err);
	if (r < 0)
		blk_co_close(b);
	else
		*out = b;
	return r;
}

bool blk_nbd_socket_can_mend(const struct blk *b)
{
	const struct nbd_socket *n = b->priv;

	return b->drv == &nbd_socket_driver && n->dialer >= 0;
}

void blk_nbd_socket_keep(struct blk *b)
{
	struct nbd_socket *n = b->priv;

	nbd_socket_forget_dialer(n);
	n->is_kept = n->dialer >= 0;
}
