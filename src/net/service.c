/* SPDX-License-Identifier: Apache-2.0 */
#include "net/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "net/net.h"
#include "net/service_packet.h"
#include "util/checked.h"
#include "util/loop.h"

enum {
	BUF_MAX = 16 << 10,             /* bytes of an answer that the guest has not acknowledged */
	WINDOW = 8 << 10,               /* what we say that we take; the socket takes it at once */
	MSS_DEFAULT = 536, MSS_MAX = 1400,
	TICK_MS = 100, RESEND_MS = 400, RESENDS_MAX = 7, ASK_MS = 5000, IDLE_MS = 60000,
	ASIDE_MAX = 16,                 /* answers to frames of no connection that wait */
	TTL = 64,
};

enum conn_state { CONN_FREE, CONN_BEGINS, CONN_OPEN };

struct conn {
	enum conn_state state;
	struct net_service *s;
	struct packet_ends ends;        /* the guest's and ours */
	struct loop_fd io;              /* fd owned */
	bool is_watched;
	unsigned mss;
	uint32_t rcv_nxt;               /* what the guest sends next */
	uint32_t una, nxt, max;         /* ours: acknowledged up to, sent next, sent at most */
	uint32_t window;                /* that the guest takes behind UNA */
	bool owes_ack, owes_syn;
	bool has_asked;                 /* a byte has come */
	bool has_ended;                 /* the socket has said all */
	bool is_fin_sent, is_fin_acked, has_peer_ended;
	bool has_ttl;
	uint8_t ttl;
	unsigned resends;
	uint64_t resend_ns, idle_ns;
	size_t len;                     /* of BUF, which begins with the byte UNA (of the answer) */
	uint8_t buf[BUF_MAX];
};

struct net_service {
	struct loop *loop;
	struct net_client *client;
	struct loop_timer soon, tick;
	struct conn conn[NET_SERVICE_CONNS];
	int socket[NET_SERVICE_SOCKETS];
	unsigned n_sockets;
	struct packet aside[ASIDE_MAX];
	unsigned n_aside;
};

static void run_soon(struct net_service *s)
{
	loop_timer_set(&s->soon, 1);
}

/* --- connections ---------------------------------------------------- */

static void conn_watch(struct conn *c, bool on)
{
	int fd = c->io.fd;

	if (on == c->is_watched)
		return;
	if (c->is_watched)
		loop_fd_del(&c->io);
	c->io.fd = fd;
	c->is_watched = on && !loop_fd_add(c->s->loop, &c->io, fd, LOOP_IN, c->io.fn);
	c->io.fd = fd;
}

static void conn_drop(struct conn *c)
{
	conn_watch(c, false);
	if (c->io.fd >= 0)
		close(c->io.fd);
	c->io.fd = -1;
	c->state = CONN_FREE;
}

/* An answer to nobody in particular: a reset, or an address. */
static void put_aside(struct net_service *s, const struct packet *p)
{
	if (s->n_aside < ASIDE_MAX)
		s->aside[s->n_aside++] = *p;
	run_soon(s);
}

static void conn_reset(struct conn *c)
{
	struct packet p = { .ends = c->ends, .flags = TCP_RST | TCP_ACK, .seq = c->nxt, .ack = c->rcv_nxt, .ttl = TTL };

	put_aside(c->s, &p);
	conn_drop(c);
}

/* What the socket says goes into BUF. */
static void conn_ready(struct loop_fd *h, unsigned events)
{
	struct conn *c = container_of(h, struct conn, io);
	uint8_t first;
	ssize_t n = 1;

	(void)events;
	if (!c->has_ttl) {
		n = recv(h->fd, &first, 1, MSG_DONTWAIT);
		c->has_ttl = n == 1;
		c->ttl = n == 1 && first ? first : TTL;
	}
	if (n > 0 && c->len < BUF_MAX) {
		n = recv(h->fd, c->buf + c->len, BUF_MAX - c->len, MSG_DONTWAIT);
		c->len += n > 0 ? (size_t)n : 0;
	}
	c->has_ended |= !n || (n < 0 && errno != EAGAIN && errno != EINTR);
	if (c->has_ended || c->len == BUF_MAX)
		conn_watch(c, false);
	run_soon(c->s);
}

/* One that somebody still has the other end of; -1: none. */
static int take_socket(struct net_service *s)
{
	while (s->n_sockets) {
		int fd = s->socket[--s->n_sockets];
		uint8_t byte;

		if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN)
			return fd;
		close(fd);
	}
	return -1;
}

static struct conn *find(struct net_service *s, const struct packet_ends *e)
{
	for (unsigned i = 0; i < NET_SERVICE_CONNS; i++) {
		struct conn *c = &s->conn[i];

		if (c->state != CONN_FREE && c->ends.guest_ip == e->guest_ip && c->ends.guest_port == e->guest_port)
			return c;
	}
	return NULL;
}

static void conn_begin(struct net_service *s, const struct packet *p)
{
	struct conn *c = s->conn;

	while (c->state != CONN_FREE && c < s->conn + NET_SERVICE_CONNS - 1)
		c++;
	int fd = c->state == CONN_FREE ? take_socket(s) : -1;
	/* Somebody is there, and brings another: the guest asks again in a second. */
	for (unsigned i = 0; fd < 0 && i < NET_SERVICE_CONNS; i++)
		if (s->conn[i].state != CONN_FREE)
			return;
	if (fd < 0) {
		struct packet no = { .ends = p->ends, .flags = TCP_RST | TCP_ACK, .ack = p->seq + 1, .ttl = TTL };

		put_aside(s, &no);
		return;
	}
	/* Nothing guards these numbers: the only ones who could guess them are the guest and its programs. */
	uint32_t start = (uint32_t)(loop_now_ns() >> 12);
	unsigned mss = p->mss ? p->mss : MSS_DEFAULT;
	*c = (struct conn){ .state = CONN_BEGINS, .s = s, .ends = p->ends, .rcv_nxt = p->seq + 1, .una = start, .nxt = start, .max = start,
			    .window = p->window, .mss = mss < MSS_MAX ? mss : MSS_MAX, .owes_syn = true, .ttl = TTL,
			    .idle_ns = loop_after_ms(ASK_MS) };
	c->mss = c->mss < 64 ? 64 : c->mss;
	c->io.fd = fd;
	c->io.fn = conn_ready;
}

/* --- what the guest sends ---------------------------------------------------- */

static void take_ack(struct conn *c, const struct packet *p)
{
	uint32_t acked = p->ack - c->una;

	if (!(p->flags & TCP_ACK) || acked > c->max - c->una)
		return;
	c->window = p->window;
	if (!acked)
		return;
	if (p->ack - c->una > c->nxt - c->una)
		c->nxt = p->ack;
	c->una = p->ack;
	c->resends = 0;
	c->resend_ns = loop_after_ms(RESEND_MS);
	if (c->state == CONN_BEGINS) {
		c->state = CONN_OPEN;
		c->owes_syn = false;
		acked--;
		conn_watch(c, true);
	}
	size_t data = acked < c->len ? acked : c->len;
	c->is_fin_acked |= acked > data;
	c->len -= data;
	memmove(c->buf, c->buf + data, c->len);
	if (data && !c->has_ended)
		conn_watch(c, true);
}

/* In order alone: what is ahead of its time is sent once more. */
static void take_data(struct conn *c, const struct packet *p)
{
	uint32_t old = c->rcv_nxt - p->seq;

	if (!p->len && !(p->flags & TCP_FIN))
		return;
	c->owes_ack = true;
	if (c->has_peer_ended || old > p->len)
		return;
	size_t len = p->len - old;
	ssize_t n = len ? send(c->io.fd, p->data + old, len, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
	/* Nobody reads any more what the guest says; what it is told may still be on its way. */
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		n = (ssize_t)len;
	if (n > 0) {
		c->rcv_nxt += (uint32_t)n;
		c->has_asked = true;
	}
	if (p->flags & TCP_FIN && (n < 0 ? 0 : (size_t)n) == len) {
		c->rcv_nxt++;
		c->has_peer_ended = true;
		(void)shutdown(c->io.fd, SHUT_WR);
	}
}

static void take_segment(struct net_service *s, const struct packet *p)
{
	struct conn *c = find(s, &p->ends);

	if (p->flags & TCP_RST) {
		if (c && (p->seq == c->rcv_nxt || p->ack == c->nxt))
			conn_drop(c);
		return;
	}
	if (p->flags & TCP_SYN) {
		if (c && c->state == CONN_BEGINS && p->seq + 1 == c->rcv_nxt) {
			c->owes_syn = true;
		} else {
			if (c)
				conn_drop(c);
			conn_begin(s, p);
		}
		return;
	}
	if (!c) {
		struct packet no = { .ends = p->ends, .flags = TCP_RST | TCP_ACK, .seq = p->ack, .ttl = TTL,
				     .ack = p->seq + (uint32_t)p->len + !!(p->flags & TCP_FIN) };

		put_aside(s, &no);
		return;
	}
	take_ack(c, p);
	if (c->state == CONN_OPEN)
		take_data(c, p);
	/* Who says nothing holds it for a moment only. */
	if (c->has_asked)
		c->idle_ns = loop_after_ms(IDLE_MS);
}

bool net_service_takes(struct net_service *s, const struct iovec *iov, int n_iov)
{
	struct packet p;
	uint8_t frame[PACKET_FRAME_MAX];

	switch (packet_read(&p, frame, iov, n_iov)) {
	case PACKET_OTHER:
		return false;
	case PACKET_ARP:
		put_aside(s, &p);
		break;
	case PACKET_TCP:
		take_segment(s, &p);
		run_soon(s);
		break;
	case PACKET_DROP:
		break;
	}
	return true;
}

/* --- what it is sent ---------------------------------------------------- */

/* False: not now. */
static bool put(struct net_service *s, const struct packet *p)
{
	uint8_t frame[PACKET_FRAME_MAX];

	if (!s->client->can_receive(s->client))
		return false;
	s->client->receive(s->client, frame, packet_write(frame, p));
	return true;
}

static bool conn_put(struct conn *c, unsigned flags, const uint8_t *data, size_t len)
{
	struct packet p = { .ends = c->ends, .flags = flags | TCP_ACK, .seq = c->nxt, .ack = c->rcv_nxt, .window = WINDOW, .ttl = c->ttl,
			    .mss = flags & TCP_SYN ? MSS_MAX : 0, .data = data, .len = len };

	if (!put(c->s, &p))
		return false;
	if (c->nxt == c->una)
		c->resend_ns = loop_after_ms(RESEND_MS << c->resends);
	c->nxt += (uint32_t)len + !!(flags & (TCP_SYN | TCP_FIN));
	if (c->nxt - c->una > c->max - c->una)
		c->max = c->nxt;
	c->owes_ack = false;
	return true;
}

/* What may be sent now of C. False: the client takes no more. */
static bool conn_send(struct conn *c)
{
	if (c->state == CONN_BEGINS) {
		bool is_sent = !c->owes_syn;

		if (c->owes_syn) {
			c->nxt = c->una;
			is_sent = conn_put(c, TCP_SYN, NULL, 0);
			c->owes_syn = !is_sent;
		}
		return is_sent;
	}
	for (;;) {
		size_t sent = c->nxt - c->una, room = c->window > sent ? c->window - sent : 0, n = c->len > sent ? c->len - sent : 0;

		n = n < room ? n : room;
		n = n < c->mss ? n : c->mss;
		if (!n)
			break;
		if (!conn_put(c, TCP_PSH, c->buf + sent, n))
			return false;
	}
	if (c->has_ended && !c->is_fin_sent && c->nxt - c->una == c->len) {
		if (!conn_put(c, TCP_FIN, NULL, 0))
			return false;
		c->is_fin_sent = true;
	}
	return !c->owes_ack || conn_put(c, 0, NULL, 0);
}

static bool send_aside(struct net_service *s)
{
	unsigned n = 0;

	while (n < s->n_aside && put(s, &s->aside[n]))
		n++;
	memmove(s->aside, s->aside + n, (s->n_aside - n) * sizeof(s->aside[0]));
	s->n_aside -= n;
	return !s->n_aside;
}

static void service_soon(struct loop_timer *t)
{
	struct net_service *s = container_of(t, struct net_service, soon);
	bool goes_on = send_aside(s), is_busy = false;

	for (unsigned i = 0; i < NET_SERVICE_CONNS; i++) {
		struct conn *c = &s->conn[i];

		if (c->state != CONN_FREE && goes_on)
			goes_on = conn_send(c);
		if (c->state != CONN_FREE && c->is_fin_acked && c->has_peer_ended && !c->owes_ack)
			conn_drop(c);
		is_busy |= c->state != CONN_FREE;
	}
	/* Not put off: a guest that talks all the time would otherwise stop what is measured by it. */
	if (is_busy && !s->tick.deadline_ns)
		loop_timer_set(&s->tick, loop_after_ms(TICK_MS));
}

/* What was lost is sent again; a window of nothing is tried with a byte. */
static void service_tick(struct loop_timer *t)
{
	struct net_service *s = container_of(t, struct net_service, tick);
	uint64_t now = loop_now_ns();

	for (unsigned i = 0; i < NET_SERVICE_CONNS; i++) {
		struct conn *c = &s->conn[i];
		bool waits = c->state == CONN_BEGINS || c->max != c->una || (c->state == CONN_OPEN && c->len && !c->window);

		if (c->state == CONN_FREE)
			continue;
		if (now > c->idle_ns || c->resends > RESENDS_MAX) {
			conn_reset(c);
		} else if (waits && now > c->resend_ns) {
			c->resends++;
			c->nxt = c->una;
			c->is_fin_sent = c->is_fin_acked;
			c->owes_syn = c->state == CONN_BEGINS;
			c->window = c->window ? c->window : 1;
			c->resend_ns = now + ((uint64_t)RESEND_MS << c->resends) * 1000000u;
		}
	}
	run_soon(s);
}

void net_service_resume(struct net_service *s)
{
	run_soon(s);
}

/* --- the whole ---------------------------------------------------- */

int net_service_give(struct net_service *s, int fd)
{
	if (s->n_sockets == NET_SERVICE_SOCKETS) {
		/* Those of somebody who has gone make room. */
		int alive = take_socket(s);

		if (alive >= 0)
			s->socket[s->n_sockets++] = alive;
	}
	if (s->n_sockets == NET_SERVICE_SOCKETS)
		return -ENOSPC;
	s->socket[s->n_sockets++] = fd;
	return 0;
}

struct net_service *net_service_new(struct loop *loop, struct net_client *client)
{
	struct net_service *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->loop = loop;
	s->client = client;
	for (unsigned i = 0; i < NET_SERVICE_CONNS; i++)
		s->conn[i].io.fd = -1;
	loop_timer_init(loop, &s->soon, service_soon);
	loop_timer_init(loop, &s->tick, service_tick);
	return s;
}

void net_service_free(struct net_service *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < NET_SERVICE_CONNS; i++)
		if (s->conn[i].state != CONN_FREE)
			conn_drop(&s->conn[i]);
	while (s->n_sockets)
		close(s->socket[--s->n_sockets]);
	loop_timer_cancel(&s->soon);
	loop_timer_cancel(&s->tick);
	free(s);
}
