/* SPDX-License-Identifier: Apache-2.0 */
/* metadata_server.c - sockets and connections of the metadata service.
 *
 * A connection reads its request, writes the answer, and then waits for the other side to close, as data that nobody reads would
 * make the kernel reset the connection before the answer has arrived. The address of its other side is who asks: rules let no
 * other come by the bridge, and the socket takes nothing that comes by another way, but from the host itself, whose addresses
 * are no machine's. */
#include "node/metadata_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "node/metadata.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/loop.h"

enum { BACKLOG = 64, ACCEPTS = 16, PAUSE_MS = 1000, REPLY_HEAD_MAX = 512, HOPS = 64, DRAIN_MAX = 64 << 10 };

struct conn {
	struct metadata_server *s;
	struct conn *next, **at;
	struct loop_fd io;
	struct loop_timer end;
	struct in_addr from;
	bool is_idle;                   /* of a server without a bridge: nobody asks yet */
	bool is_answered;
	size_t len, sent, drained;      /* LEN: of what has come, or of REPLY */
	char *reply;                    /* head and body */
	char head[METADATA_HEAD_MAX];
};

struct metadata_server {
	struct metadata_server_config c;
	int fd;
	unsigned ifindex;
	struct loop_fd io;
	struct loop_timer again;        /* no descriptor was left */
	struct conn *conns;
	unsigned n;
};

/* --- a connection ---------------------------------------------------- */

static void conn_close(struct conn *c)
{
	struct metadata_server *s = c->s;

	loop_fd_del(&c->io);
	loop_timer_cancel(&c->end);
	close(c->io.fd);
	*c->at = c->next;
	if (c->next)
		c->next->at = c->at;
	s->n--;
	free(c->reply);
	free(c);
	if (s->c.fewer)
		s->c.fewer(s->c.arg);
}

static void conn_late(struct loop_timer *t)
{
	conn_close(container_of(t, struct conn, end));
}

static const char *words_of(int status)
{
	static const struct {
		int status;
		const char *words;
	} all[] = {
		{ 200, "OK" }, { 400, "Bad Request" }, { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
		{ 405, "Method Not Allowed" }, { 414, "URI Too Long" }, { 431, "Request Header Fields Too Large" },
		{ 503, "Service Unavailable" },
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i].status == status)
			return all[i].words;
	return "Error";
}

/* Head and body of R in one piece. False: out of memory. */
static bool conn_compose(struct conn *c, const struct metadata_reply *r, bool is_head)
{
	const char *words = words_of(r->status), *body = r->body ? r->body : words;
	size_t body_len = r->body ? r->len : strlen(words);
	char head[REPLY_HEAD_MAX], ttl[80] = "";

	if (r->ttl)
		snprintf(ttl, sizeof(ttl), "X-aws-ec2-metadata-token-ttl-seconds: %u\r\n", r->ttl);
	int len = snprintf(head, sizeof(head),
			   "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
			   "%sConnection: close\r\n\r\n", r->status, words, body_len, ttl);
	size_t before = c->s->fd < 0;   /* how far it may go, where that is not the socket's to say */
	c->reply = malloc(before + (size_t)len + body_len);
	if (!c->reply)
		return false;
	if (before)
		c->reply[0] = r->ttl ? 1 : HOPS;
	memcpy(c->reply + before, head, (size_t)len);
	c->len = before + (size_t)len;
	c->sent = 0;
	c->is_answered = true;
	if (is_head)
		return true;
	memcpy(c->reply + c->len, body, body_len);
	c->len += body_len;
	return true;
}

/* STATUS: what metadata_parse() refuses it with, negated; or it is to be answered. */
static bool conn_answer(struct conn *c, const struct metadata_request *rq, int status)
{
	struct metadata_reply r = { .status = -status };
	int one = 1;

	if (status > 0)
		c->s->c.ask(c->s->c.arg, c->from, rq, &r);
	/* A token stays in the machine: who is behind it, as a router or a container's host, does not get it. */
	bool is_good = (!r.ttl || c->s->fd < 0 || !setsockopt(c->io.fd, IPPROTO_IP, IP_TTL, &one, sizeof(one))) &&
		       conn_compose(c, &r, status > 0 && rq->method == METADATA_HEAD);

	free(r.body);
	if (is_good)
		loop_timer_set(&c->end, loop_after_ms(METADATA_ANSWER_MS));
	return is_good;
}

/* False: the connection is to be closed. */
static bool conn_read(struct conn *c)
{
	struct metadata_request rq;
	ssize_t n = recv(c->io.fd, c->head + c->len, sizeof(c->head) - c->len, MSG_DONTWAIT);

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	if (c->is_idle) {
		c->is_idle = false;
		loop_timer_set(&c->end, loop_after_ms(METADATA_ASK_MS));
		c->s->c.fewer(c->s->c.arg);
	}
	c->len += (size_t)n;
	int r = metadata_parse(&rq, c->head, c->len);

	return !r || conn_answer(c, &rq, r);
}

static bool conn_write(struct conn *c)
{
	ssize_t n = send(c->io.fd, c->reply + c->sent, c->len - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	c->sent += (size_t)n;
	if (c->sent < c->len)
		return true;
	loop_timer_set(&c->end, loop_after_ms(METADATA_ASK_MS));
	return !shutdown(c->io.fd, SHUT_WR);
}

static bool conn_drain(struct conn *c)
{
	ssize_t n = recv(c->io.fd, c->head, sizeof(c->head), MSG_DONTWAIT);

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	c->drained += (size_t)n;
	return c->drained <= DRAIN_MAX;
}

static void conn_ready(struct loop_fd *h, unsigned events)
{
	struct conn *c = container_of(h, struct conn, io);
	bool goes_on = true;

	if (!c->is_answered)
		goes_on = conn_read(c);
	else if (c->sent == c->len)
		goes_on = conn_drain(c);
	if (goes_on && c->is_answered && c->sent < c->len)
		goes_on = conn_write(c);
	bool is_writing = c->is_answered && c->sent < c->len;
	/* Who has hung up while the answer is on its way does not get the rest. */
	if (!goes_on || (is_writing && events & LOOP_HUP) || loop_fd_mod(h, is_writing ? LOOP_OUT : LOOP_IN) < 0)
		conn_close(c);
}

/* --- the listener ---------------------------------------------------- */

static bool has_room(const struct metadata_server *s, struct in_addr from)
{
	unsigned same = 0;

	for (const struct conn *c = s->conns; c; c = c->next)
		same += c->from.s_addr == from.s_addr;
	return s->n < METADATA_CONNECTIONS_MAX && same < METADATA_CONNECTIONS_EACH;
}

/* FD is taken on success. NULL: it cannot be watched. */
static struct conn *conn_new(struct metadata_server *s, int fd, struct in_addr from)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c || loop_fd_add(s->c.loop, &c->io, fd, LOOP_IN, conn_ready) < 0) {
		free(c);
		return NULL;
	}
	c->s = s;
	c->from = from;
	c->at = &s->conns;
	c->next = s->conns;
	if (c->next)
		c->next->at = &c->next;
	s->conns = c;
	s->n++;
	loop_timer_init(s->c.loop, &c->end, conn_late);
	return c;
}

/* FD is taken. */
static void server_begin(struct metadata_server *s, int fd, struct in_addr from)
{
	struct conn *c = has_room(s, from) ? conn_new(s, fd, from) : NULL;

	if (c)
		loop_timer_set(&c->end, loop_after_ms(METADATA_ASK_MS));
	else
		close(fd);
}

int metadata_server_add(struct metadata_server *s, int fd)
{
	struct conn *c = conn_new(s, fd, (struct in_addr){ INADDR_ANY });

	if (c)
		c->is_idle = true;
	return c ? 0 : -ENOMEM;
}

unsigned metadata_server_idle(const struct metadata_server *s)
{
	unsigned n = 0;

	for (const struct conn *c = s->conns; c; c = c->next)
		n += c->is_idle;
	return n;
}

static void server_ready(struct loop_fd *h, unsigned events)
{
	struct metadata_server *s = container_of(h, struct metadata_server, io);

	(void)events;
	for (unsigned i = 0; i < ACCEPTS; i++) {
		struct sockaddr_in from = { .sin_family = AF_UNSPEC };
		socklen_t len = sizeof(from);
		int fd = accept4(s->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0 && from.sin_family == AF_INET) {
			server_begin(s, fd, from.sin_addr);
		} else if (fd >= 0) {
			close(fd);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			loop_fd_mod(&s->io, 0);
			loop_timer_set(&s->again, loop_after_ms(PAUSE_MS));
			return;
		} else if (errno == EAGAIN) {
			return;
		}
	}
}

static void server_again(struct loop_timer *t)
{
	struct metadata_server *s = container_of(t, struct metadata_server, again);

	loop_fd_mod(&s->io, LOOP_IN);
}

static int server_listen(struct metadata_server *s, struct err *err)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = s->c.address, .sin_port = htons(METADATA_PORT) };
	char text[INET_ADDRSTRLEN];
	int one = 1;

	inet_ntop(AF_INET, &at.sin_addr, text, sizeof(text));
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* To the number of the interface, so nobody can slip another one under its name. */
	if (s->fd < 0 || setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    setsockopt(s->fd, SOL_SOCKET, SO_BINDTOIFINDEX, &s->ifindex, sizeof(s->ifindex)) < 0 ||
	    bind(s->fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(s->fd, BACKLOG) < 0)
		return err_set(err, -errno, "cannot listen at port %d of %s for metadata: %s", METADATA_PORT, text,
			       strerror(errno));
	return 0;
}

int metadata_server_open(struct metadata_server **out, const struct metadata_server_config *c, struct err *err)
{
	struct metadata_server *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->c = *c;
	s->c.bridge = NULL;
	s->fd = -1;
	if (!c->bridge) {
		*out = s;
		return 0;
	}
	s->ifindex = if_nametoindex(c->bridge);
	loop_timer_init(c->loop, &s->again, server_again);
	int r = s->ifindex ? server_listen(s, err) : err_set(err, -ENODEV, "there is no bridge '%s'", c->bridge);

	if (!r && (r = loop_fd_add(c->loop, &s->io, s->fd, LOOP_IN, server_ready)) < 0)
		err_set(err, r, "cannot watch the socket for metadata: %s", strerror(-r));
	if (r < 0) {
		metadata_server_close(s);
		return r;
	}
	*out = s;
	return 0;
}

bool metadata_server_is_at(const struct metadata_server *s, const char *bridge)
{
	return s->ifindex == if_nametoindex(bridge);
}

void metadata_server_close(struct metadata_server *s)
{
	if (!s)
		return;
	s->c.fewer = NULL;
	while (s->conns)
		conn_close(s->conns);
	loop_timer_cancel(&s->again);
	loop_fd_del(&s->io);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}
