/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_server.c - connections of the NBD server: what comes in is parsed as it lies in the buffer, what it brings
 * the disk to do is done in one batch, and what comes of that goes out in one call. */
#include "blk/nbd_server.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include "blk/nbd_server_priv.h"
#include "util/checked.h"
#include "util/log.h"
#include "util/unixsock.h"

enum { OUT_IOV = 128, RX_ROUNDS = 4 };

/* --- requests and answers ------------------------------------------------------------------------- */

struct nbd_req *nbd_req_get(struct nbd_conn *c, size_t cap)
{
	struct nbd_req *q = c->free;
	uint8_t *buf;

	if (q) {
		c->free = q->next;
		c->s->n_kept -= q->cap;
	} else {
		q = malloc(sizeof(*q));
		if (!q)
			return NULL;
		q->buf = NULL;
		q->cap = 0;
	}
	buf = q->buf;
	if (q->cap < cap) {
		free(buf);
		buf = aligned_alloc(4096, align_up(cap, 4096));
		q->cap = buf ? align_up(cap, 4096) : 0;
	}
	c->n_bytes += q->cap;
	c->s->n_bytes += q->cap;
	q->c = c;
	q->next = NULL;
	q->buf = buf;
	q->is_request = false;
	q->refusal = 0;
	q->flags = 0;
	q->head_len = q->body_len = 0;
	if (cap && !buf) {
		nbd_req_put(q);
		return NULL;
	}
	return q;
}

void nbd_req_put(struct nbd_req *q)
{
	struct nbd_conn *c = q->c;
	struct nbd_server *s = c->s;

	c->n_bytes -= q->cap;
	s->n_bytes -= q->cap;
	if (q->is_request)
		c->n_requests--;
	if (q->cap > NBD_KEPT_MAX || s->n_kept + q->cap > NBD_SERVER_KEPT_MAX) {
		free(q->buf);
		q->buf = NULL;
		q->cap = 0;
	}
	s->n_kept += q->cap;
	q->next = c->free;
	c->free = q;
}

void nbd_send(struct nbd_req *q)
{
	struct nbd_conn *c = q->c;

	if (c->h.fd < 0) {
		nbd_req_put(q);
		return;
	}
	q->next = NULL;
	*c->out_tail = q;
	c->out_tail = &q->next;
}

/* --- out ------------------------------------------------------------------------------------------ */

static int out_gather(const struct nbd_conn *c, struct iovec *iov)
{
	size_t skip = c->out_sent;
	int n = 0;

	for (const struct nbd_req *q = c->out; q && n + 2 <= OUT_IOV; q = q->next) {
		struct iovec parts[2] = { { (void *)(uintptr_t)q->head, q->head_len }, { q->buf, q->body_len } };

		for (int i = 0; i < 2; i++) {
			size_t some = skip < parts[i].iov_len ? skip : parts[i].iov_len;

			skip -= some;
			if (parts[i].iov_len > some)
				iov[n++] = (struct iovec){ (char *)parts[i].iov_base + some, parts[i].iov_len - some };
		}
	}
	return n;
}

/* N bytes more are sent. */
static void out_advance(struct nbd_conn *c, size_t n)
{
	c->out_sent += n;
	while (c->out && c->out_sent >= c->out->head_len + c->out->body_len) {
		struct nbd_req *q = c->out;

		c->out_sent -= q->head_len + q->body_len;
		c->out = q->next;
		if (!c->out)
			c->out_tail = &c->out;
		nbd_req_put(q);
	}
}

void nbd_flush_out(struct nbd_conn *c)
{
	struct iovec iov[OUT_IOV];

	while (c->out && c->h.fd >= 0) {
		struct msghdr m = { .msg_iov = iov, .msg_iovlen = (size_t)out_gather(c, iov) };
		ssize_t n = sendmsg(c->h.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			nbd_conn_kill(c);
		else
			out_advance(c, (size_t)n);
	}
}

/* --- in --------------------------------------------------------------------------------------------- */

/* Has the client as much going on as it may have? The answer to a request of its own is what it goes on after. */
static bool conn_is_full(const struct nbd_conn *c)
{
	return c->n_requests >= NBD_REQUESTS_MAX || c->n_bytes >= NBD_BYTES_MAX ||
	       (c->n_requests && c->s->n_bytes >= NBD_SERVER_BYTES_MAX);
}

/* Bytes of the buffer that belong to the payload that is awaited. */
static void rx_fill_payload(struct nbd_conn *c)
{
	struct nbd_req *q = c->filling;
	size_t want = (size_t)q->len - c->filled, have = c->rx_end - c->rx_at, n = want < have ? want : have;

	memcpy(q->buf + c->filled, c->rx + c->rx_at, n);
	c->filled += n;
	c->rx_at += n;
}

/* Use what is in the buffer. */
static void conn_parse(struct nbd_conn *c)
{
	if (c->is_parsing)
		return;
	c->is_parsing = true;
	while (c->h.fd >= 0 && !c->is_ending) {
		ssize_t n;

		if (c->filling) {
			rx_fill_payload(c);
			if (c->filled < c->filling->len)
				break;
			nbd_payload_is_there(take_ptr(&c->filling));
			continue;
		}
		if (conn_is_full(c))
			break;
		n = (c->state == NBD_TRANSMISSION ? nbd_request : nbd_handshake)(c, c->rx + c->rx_at,
										 c->rx_end - c->rx_at);
		if (n <= 0)
			break;
		c->rx_at += (size_t)n;
	}
	if (c->rx_at == c->rx_end)
		c->rx_at = c->rx_end = 0;
	c->is_parsing = false;
}

/* Receive: first what is missing of a payload, then into the buffer. 0: nothing (more) is there. */
static size_t conn_receive(struct nbd_conn *c)
{
	struct nbd_req *q = c->filling;
	struct iovec iov[2];
	int n_iov = 0;
	size_t want = 0;

	if (c->rx_at) {
		memmove(c->rx, c->rx + c->rx_at, c->rx_end - c->rx_at);
		c->rx_end -= c->rx_at;
		c->rx_at = 0;
	}
	if (q && !c->rx_end) {
		want = (size_t)q->len - c->filled;
		iov[n_iov++] = (struct iovec){ q->buf + c->filled, want };
	}
	iov[n_iov++] = (struct iovec){ c->rx + c->rx_end, NBD_RX_LEN - c->rx_end };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = (size_t)n_iov };
	ssize_t n = recvmsg(c->h.fd, &m, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		nbd_conn_kill(c);
		return 0;
	}
	size_t of_payload = (size_t)n < want ? (size_t)n : want;

	c->filled += of_payload;
	c->rx_end += (size_t)n - of_payload;
	return (size_t)n;
}

static bool conn_can_read(const struct nbd_conn *c)
{
	return !c->is_ending && (c->filling || !conn_is_full(c)) && c->rx_end - c->rx_at < NBD_RX_LEN;
}

void nbd_conn_watch(struct nbd_conn *c)
{
	unsigned events = (conn_can_read(c) ? LOOP_IN : 0u) | (c->out ? LOOP_OUT : 0u);

	if (c->h.fd >= 0 && events != c->h.events)
		loop_fd_mod(&c->h, events);
}

static void conn_free(struct nbd_conn *c)
{
	struct nbd_server *s = c->s;
	struct nbd_req *q;

	*(c->prev ? &c->prev->next : &s->conns) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	s->n_conns--;
	while ((q = c->free)) {
		c->free = q->next;
		s->n_kept -= q->cap;
		free(q->buf);
		free(q);
	}
	free(c->rx);
	free(c);
}

/* Close what is over. C may be gone afterwards. */
static void conn_settle(struct nbd_conn *c)
{
	if (c->in_batch)
		return;
	/* What is sent makes room for requests that lie in the buffer. */
	for (bool is_more = true; is_more;) {
		nbd_flush_out(c);
		is_more = c->h.fd >= 0 && !c->out && c->rx_end > c->rx_at && !conn_is_full(c) && !c->is_parsing;
		if (is_more)
			conn_parse(c);
		is_more = is_more && c->out;
	}
	if (c->h.fd >= 0 && c->is_ending && !c->out && c->n_requests == (c->filling != NULL))
		nbd_conn_kill(c);
	if (c->h.fd < 0 && !c->n_requests)
		conn_free(c);
	else
		nbd_conn_watch(c);
}

/* Is one request all that C has going on, and nothing to be done for it but to send the answer, or to receive the
 * rest? Then what comes next comes soon, or the client is through. One that has several under way needs no haste:
 * what comes meanwhile is done in one go. */
static bool conn_waits_for_us(const struct nbd_conn *c)
{
	return c->h.fd >= 0 && !c->is_ending && c->n_requests == 1 && (c->filling || (c->out && !c->out->next));
}

static void conn_event(struct loop_fd *h, unsigned events)
{
	struct nbd_conn *c = container_of(h, struct nbd_conn, h);
	struct blk *b = c->s->c.blk;
	bool has_progress = false;

	c->in_batch = true;
	blk_batch_begin(b);
	for (unsigned i = 0; i < RX_ROUNDS && c->h.fd >= 0 && events & (LOOP_IN | LOOP_HUP); i++) {
		size_t n = conn_can_read(c) ? conn_receive(c) : 0;

		has_progress |= n;
		conn_parse(c);
		if (n < NBD_RX_LEN / 2)
			break;
	}
	/* A peer that is gone while nothing may be read: nobody is left to answer. */
	if (events & LOOP_HUP && c->h.fd >= 0 && !conn_can_read(c))
		nbd_conn_kill(c);
	blk_batch_end(b);
	c->in_batch = false;
	if (has_progress && conn_waits_for_us(c))
		loop_linger(&c->h);
	conn_settle(c);
}

void nbd_conn_done(struct nbd_conn *c)
{
	conn_settle(c);
}

void nbd_conn_end(struct nbd_conn *c)
{
	c->is_ending = true;
}

void nbd_conn_kill(struct nbd_conn *c)
{
	if (c->h.fd < 0)
		return;
	loop_timer_cancel(&c->deadline);
	loop_fd_del(&c->h);
	close(c->h.fd);
	c->h.fd = -1;
	c->is_ending = true;
	if (c->filling)
		nbd_req_put(take_ptr(&c->filling));
	while (c->out) {
		struct nbd_req *q = c->out;

		c->out = q->next;
		nbd_req_put(q);
	}
	c->out_tail = &c->out;
}

/* --- connecting ------------------------------------------------------------------------------------- */

static void conn_too_slow(struct loop_timer *t)
{
	struct nbd_conn *c = container_of(t, struct nbd_conn, deadline);

	nbd_conn_kill(c);
	conn_settle(c);
}

int nbd_server_add(struct nbd_server *s, int fd, struct err *err)
{
	struct nbd_conn *c = s->n_conns < NBD_CLIENTS_MAX ? calloc(1, sizeof(*c)) : NULL;
	int one = 1;

	if (c)
		c->rx = malloc(NBD_RX_LEN);
	if (!c || !c->rx) {
		free(c);
		close(fd);
		return err_set(err, -EMFILE, "no more than %d clients at a time", NBD_CLIENTS_MAX);
	}
	c->s = s;
	c->out_tail = &c->out;
	c->next = s->conns;
	if (c->next)
		c->next->prev = c;
	s->conns = c;
	s->n_conns++;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	loop_timer_init(s->c.loop, &c->deadline, conn_too_slow);
	int r = loop_fd_add(s->c.loop, &c->h, fd, LOOP_IN, conn_event);

	c->h.fd = fd;
	if (r < 0) {
		close(fd);
		c->h.fd = -1;
		conn_free(c);
		return err_set(err, r, "cannot watch a client: %s", strerror(-r));
	}
	loop_timer_set(&c->deadline, loop_now_ns() + NBD_HANDSHAKE_NS);
	nbd_greet(c);
	conn_settle(c);
	return 0;
}

static void server_accept(struct loop_fd *h, unsigned events)
{
	struct nbd_server *s = container_of(h, struct nbd_server, listener);
	struct err err = ERR_INIT;
	int fd = accept4(h->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0 && nbd_server_add(s, fd, &err) < 0)
		log_warn("NBD: %s", err.msg);
}

/* "HOST:PORT", "PORT", "[ADDRESS]:PORT" */
static int server_listen_tcp(const char *text, struct err *err)
{
	const char *colon = strrchr(text, ':'), *port = colon ? colon + 1 : text;
	size_t n = colon ? (size_t)(colon - text) : 0;
	bool has_brackets = n > 1 && text[0] == '[' && text[n - 1] == ']';
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV }, *a = NULL;
	char host[256];
	int one = 1;

	if (!*port)
		return err_set(err, -EINVAL, "the address 'tcp:%s' has no port", text);
	snprintf(host, sizeof(host), "%.*s", (int)(has_brackets ? n - 2 : n), text + has_brackets);
	int r = getaddrinfo(n ? host : "127.0.0.1", port, &hints, &a);

	if (r)
		return err_set(err, -EINVAL, "cannot use the address 'tcp:%s': %s", text, gai_strerror(r));
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, 16) < 0) {
		r = err_set(err, -errno, "cannot listen at 'tcp:%s': %s", text, strerror(errno));
		if (fd >= 0)
			close(fd);
		fd = r;
	}
	freeaddrinfo(a);
	return fd;
}

static int server_listen(struct nbd_server *s, struct err *err)
{
	const char *a = s->c.address;
	int fd;

	if (!a)
		return 0;               /* clients are added */
	if (!strncmp(a, "unix:", 5)) {
		fd = unixsock_listen(a + 5, 0600, 16, err);
		s->path = fd >= 0 ? strdup(a + 5) : NULL;
	} else if (!strncmp(a, "tcp:", 4)) {
		fd = server_listen_tcp(a + 4, err);
	} else {
		return err_set(err, -EINVAL, "'%s' is no address; it is unix:PATH or tcp:[HOST:]PORT", a);
	}
	if (fd < 0)
		return fd;
	int r = loop_fd_add(s->c.loop, &s->listener, fd, LOOP_IN, server_accept);

	s->listener.fd = fd;
	return r < 0 ? err_set(err, r, "cannot watch for clients: %s", strerror(-r)) : 0;
}

/* --- life ----------------------------------------------------------------------------------------- */

int nbd_server_open(struct nbd_server **out, const struct nbd_server_config *c, struct err *err)
{
	AUTO(nbd_server_close) struct nbd_server *s = calloc(1, sizeof(*s));
	int r = 0;

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->c = *c;
	s->listener.fd = -1;
	s->size = blk_size(c->blk);
	s->c.name = strdup(c->name ? c->name : "");
	s->c.bitmap = c->bitmap ? strdup(c->bitmap) : NULL;
	s->c.is_readonly |= blk_is_readonly(c->blk);
	if (!s->c.name || (c->bitmap && !s->c.bitmap))
		return err_set(err, -ENOMEM, "out of memory");
	if (strlen(s->c.name) > NBD_NAME_MAX || (c->bitmap && strlen(c->bitmap) > NBD_NAME_MAX))
		return err_set(err, -EINVAL, "a name has at most %d bytes", NBD_NAME_MAX);
	if (c->bitmap && !s->c.is_readonly)
		return err_set(err, -EINVAL, "a bitmap is offered as it is now, which takes a disk that is not "
			       "written: say --read-only");
	if (c->bitmap)
		r = blk_bitmap_read(c->blk, c->bitmap, &s->bitmap, &s->bitmap_granularity, err);
	if (!r)
		r = server_listen(s, err);
	if (r < 0)
		return r;
	*out = take_ptr(&s);
	return 0;
}

unsigned nbd_server_clients(const struct nbd_server *s)
{
	return s->n_conns;
}

void nbd_server_close(struct nbd_server *s)
{
	if (!s)
		return;
	if (s->listener.fd >= 0) {
		loop_fd_del(&s->listener);
		close(s->listener.fd);
	}
	if (s->path)
		unlink(s->path);
	for (struct nbd_conn *c = s->conns, *next; c; c = next) {
		next = c->next;
		nbd_conn_kill(c);
		conn_settle(c);
	}
	while (s->conns)                /* those whose requests are under way */
		blk_wait(s->c.blk);
	if (!s->c.is_readonly && blk_flush(s->c.blk) < 0)
		log_error("NBD: cannot flush '%s'", blk_name(s->c.blk));
	free(s->path);
	free((char *)(uintptr_t)s->c.name);
	free((char *)(uintptr_t)s->c.bitmap);
	free(s->bitmap);
	free(s);
}
