/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/vsock_conn.c - the connections of the socket device: states, credit (5.10.6.3), resets.
 *
 * Each has a stream socket of the host. What the guest sends goes there, and into a ring of VIRTIO_VSOCK_BUF bytes, which is
 * the credit that the guest has, when it takes less; a guest that sends more loses the connection. What the host sends is
 * read when the guest has credit and buffers for it, not before. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "util/err.h"
#include "virtio/vsock_priv.h"

enum {
	PORT_FIRST = 0x40000000,        /* of the host, for its own connections */
	PACKET_MAX = 64 << 10,
	PATIENCE_S = 10,                /* with a guest that does not answer */
};

static struct log_guest guest_foreign = LOG_GUEST("virtio-vsock: packet from another address");

static void conn_event(struct loop_fd *h, unsigned events);

/* --- table and list --- */

static struct vsock_conn **conn_bucket(struct virtio_vsock *v, uint32_t host_port, uint32_t guest_port)
{
	return &v->bucket[(host_port * 31 + guest_port) % VSOCK_BUCKETS];
}

static struct vsock_conn *conn_find(struct virtio_vsock *v, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *k = *conn_bucket(v, host_port, guest_port);

	while (k && (k->host_port != host_port || k->guest_port != guest_port))
		k = k->next;
	return k;
}

static void conn_leave_ready(struct vsock_conn *k)
{
	struct virtio_vsock *v = k->v;

	if (!k->is_ready)
		return;
	*(k->prev_ready ? &k->prev_ready->next_ready : &v->ready) = k->next_ready;
	*(k->next_ready ? &k->next_ready->prev_ready : &v->ready_tail) = k->prev_ready;
	k->next_ready = k->prev_ready = NULL;
	k->is_ready = false;
}

static void conn_join_ready(struct vsock_conn *k)
{
	struct virtio_vsock *v = k->v;

	if (k->is_ready)
		return;
	k->is_ready = true;
	k->prev_ready = v->ready_tail;
	*(v->ready_tail ? &v->ready_tail->next_ready : &v->ready) = k;
	v->ready_tail = k;
}

static void conn_close_host(struct vsock_conn *k)
{
	int fd = k->host.fd;

	loop_fd_del(&k->host);
	if (fd >= 0)
		close(fd);
	k->host.fd = -1;
	k->is_host_gone = true;
}

static void conn_free(struct vsock_conn *k)
{
	struct vsock_conn **at = conn_bucket(k->v, k->host_port, k->guest_port);

	while (*at != k)
		at = &(*at)->next;
	*at = k->next;
	conn_leave_ready(k);
	conn_close_host(k);
	k->v->n_conns--;
	free(k->buf);
	free(k);
}

/* FD is taken on success. NULL: no room. */
static struct vsock_conn *conn_new(struct virtio_vsock *v, int fd, uint32_t host_port, uint32_t guest_port, enum vsock_state state)
{
	struct vsock_conn *k = v->n_conns < VIRTIO_VSOCK_CONNS_MAX ? calloc(1, sizeof(*k)) : NULL;

	if (!k)
		return NULL;
	*k = (struct vsock_conn){ .v = v, .host_port = host_port, .guest_port = guest_port, .state = state, .host.fd = -1 };
	if (loop_fd_add(v->dev.env.loop, &k->host, fd, 0, conn_event) < 0) {
		free(k);
		return NULL;
	}
	struct vsock_conn **at = conn_bucket(v, host_port, guest_port);
	k->next = *at;
	*at = k;
	v->n_conns++;
	return k;
}

/* --- credit --- */

/* Bytes that the guest takes now. Its counters may be nonsense. */
static uint32_t conn_credit(const struct vsock_conn *k)
{
	uint32_t unread = k->tx_cnt - k->peer_fwd;

	return unread < k->peer_alloc ? k->peer_alloc - unread : 0;
}

static bool conn_may_read(const struct vsock_conn *k)
{
	return k->state == VSOCK_OPEN && !k->is_host_eof && !(k->guest_shut & SHUTDOWN_RECEIVE);
}

static bool conn_has_packet(const struct vsock_conn *k)
{
	return k->pending || (k->has_data && conn_may_read(k) && conn_credit(k));
}

/* --- state --- */

static void conn_wait(struct vsock_conn *k)
{
	struct virtio_vsock *v = k->v;

	k->deadline_ns = loop_now_ns() + PATIENCE_S * 1000000000ull;
	if (!v->deadlines.deadline_ns)
		loop_timer_set(&v->deadlines, loop_now_ns() + 1000000000u);
}

/* It is over: the guest is told, when it can be, and the host's end closes. */
static void conn_kill(struct vsock_conn *k)
{
	k->state = VSOCK_GONE;
	k->pending = 1 << OP_RST;
	k->deadline_ns = 0;
	conn_close_host(k);
}

/* What the guest has shut down, as far as the host may know: not before it has all that came before. */
static void conn_pass_shutdown(struct vsock_conn *k)
{
	if (k->state != VSOCK_OPEN || k->buf_len)
		return;
	if ((k->guest_shut & SHUTDOWN_BOTH) == SHUTDOWN_BOTH) {
		conn_kill(k);
		return;
	}
	if (k->guest_shut & SHUTDOWN_SEND && !k->is_told_end) {
		k->is_told_end = true;
		(void)shutdown(k->host.fd, SHUT_WR);
	}
}

/* After any change: what is watched, and whether there is something to be sent. */
static void conn_update(struct vsock_conn *k)
{
	unsigned want = 0;

	conn_pass_shutdown(k);
	/* The guest is told of room before it believes that there is none. */
	if (k->state == VSOCK_OPEN && k->rx_cnt - k->told_fwd > VIRTIO_VSOCK_BUF / 2 && k->told_fwd != k->fwd_cnt)
		k->pending |= 1 << OP_CREDIT_UPDATE;
	if (conn_may_read(k) && !k->has_data)
		want |= LOOP_IN;
	if (k->buf_len)
		want |= LOOP_OUT;
	if (!k->is_host_gone && k->host.events != want)
		(void)loop_fd_mod(&k->host, want);
	if (conn_has_packet(k))
		conn_join_ready(k);
	else
		conn_leave_ready(k);
}

void vsock_settle(struct vsock_conn *k)
{
	if (k->state == VSOCK_GONE && !k->pending) {
		conn_free(k);
		return;
	}
	conn_leave_ready(k);    /* others first */
	conn_update(k);
}

/* --- guest -> host --- */

static void conn_keep(struct vsock_conn *k, const struct vq_chain *c, size_t off, size_t len)
{
	while (len) {
		size_t at = (k->buf_pos + k->buf_len) % VIRTIO_VSOCK_BUF;
		size_t n = len < VIRTIO_VSOCK_BUF - at ? len : VIRTIO_VSOCK_BUF - at;

		vq_chain_read(c, off, k->buf + at, n);
		k->buf_len += n;
		off += n;
		len -= n;
	}
}

/* LEN bytes from OFF of the chain's readable part to the host, as many as it takes; or -errno. */
static ssize_t conn_send(struct vsock_conn *k, const struct vq_chain *c, size_t off, size_t len)
{
	struct iovec iov[VSOCK_IOV_MAX];
	struct msghdr m = { .msg_iov = iov };

	for (unsigned i = 0; i < c->n_out && len; i++) {
		struct iovec v = c->iov[i];

		if (off >= v.iov_len) {
			off -= v.iov_len;
			continue;
		}
		size_t n = v.iov_len - off < len ? v.iov_len - off : len;
		iov[m.msg_iovlen++] = (struct iovec){ (uint8_t *)v.iov_base + off, n };
		len -= n;
		off = 0;
	}
	ssize_t n = sendmsg(k->host.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

static void conn_take_data(struct vsock_conn *k, const struct vq_chain *c, uint32_t len)
{
	ssize_t n = 0;

	if (k->state != VSOCK_OPEN || k->guest_shut & SHUTDOWN_SEND || len > VIRTIO_VSOCK_BUF - (k->rx_cnt - k->fwd_cnt)) {
		conn_kill(k);
		return;
	}
	if (!k->buf_len && len)
		n = conn_send(k, c, sizeof(struct vsock_hdr), len);
	if (n >= 0 && (uint32_t)n < len && !k->buf)
		k->buf = malloc(VIRTIO_VSOCK_BUF);
	if (n < 0 || ((uint32_t)n < len && !k->buf)) {
		conn_kill(k);
		return;
	}
	conn_keep(k, c, sizeof(struct vsock_hdr) + (size_t)n, len - (size_t)n);
	k->rx_cnt += len;
	k->fwd_cnt += (uint32_t)n;
}

/* What waits for the host. */
static void conn_flush(struct vsock_conn *k)
{
	while (k->buf_len) {
		size_t part = VIRTIO_VSOCK_BUF - k->buf_pos;
		ssize_t n = send(k->host.fd, k->buf + k->buf_pos, k->buf_len < part ? k->buf_len : part, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			conn_kill(k);
			return;
		}
		k->buf_pos = (k->buf_pos + (size_t)n) % VIRTIO_VSOCK_BUF;
		k->buf_len -= (size_t)n;
		k->fwd_cnt += (uint32_t)n;
	}
}

/* --- host -> guest --- */

/* Up to ROOM bytes into IOV. 0: the end; -EAGAIN. */
static ssize_t conn_read(struct vsock_conn *k, const struct iovec *iov, int n_iov, size_t room)
{
	struct iovec to[VSOCK_IOV_MAX];
	struct msghdr m = { .msg_iov = to };

	for (int i = 0; i < n_iov && room; i++) {
		size_t n = iov[i].iov_len < room ? iov[i].iov_len : room;

		to[m.msg_iovlen++] = (struct iovec){ iov[i].iov_base, n };
		room -= n;
	}
	ssize_t n = recvmsg(k->host.fd, &m, MSG_DONTWAIT);
	return n >= 0 ? n : errno == EAGAIN || errno == EINTR ? -EAGAIN : 0;
}

/* Data, or the bit for the end of it. */
static ssize_t conn_read_packet(struct vsock_conn *k, const struct iovec *iov, int n_iov, size_t room)
{
	uint32_t credit = conn_credit(k), max = credit < PACKET_MAX ? credit : PACKET_MAX;

	if (!k->has_data || !conn_may_read(k) || !max)
		return -EAGAIN;
	ssize_t n = conn_read(k, iov, n_iov, room < max ? room : max);
	if (n > 0) {
		k->tx_cnt += (uint32_t)n;
		return n;
	}
	k->has_data = false;
	if (!n) {
		k->is_host_eof = true;
		k->host_shut = k->is_host_gone ? SHUTDOWN_BOTH : SHUTDOWN_SEND;
		k->pending |= 1 << OP_SHUTDOWN;
	}
	return -EAGAIN;
}

/* The most urgent of the bits. 0: none is set. */
static enum vsock_op conn_take_pending(struct vsock_conn *k)
{
	static const uint8_t order[] = { OP_RST, OP_REQUEST, OP_RESPONSE, OP_CREDIT_UPDATE, OP_SHUTDOWN };

	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		if (!(k->pending & 1u << order[i]))
			continue;
		k->pending &= (uint8_t)~(1u << order[i]);
		return (enum vsock_op)order[i];
	}
	return (enum vsock_op)0;
}

ssize_t vsock_next_packet(struct vsock_conn *k, struct vsock_hdr *h, const struct iovec *iov, int n_iov, size_t room)
{
	enum vsock_op op = conn_take_pending(k);
	ssize_t len = 0;

	if (!op) {
		len = conn_read_packet(k, iov, n_iov, room);
		op = len > 0 ? OP_RW : conn_take_pending(k);
		if (!op)
			return -EAGAIN;
		len = len > 0 ? len : 0;
	}
	if (op == OP_SHUTDOWN && k->host_shut == SHUTDOWN_BOTH)
		conn_wait(k);
	*h = (struct vsock_hdr){
		.src_port = le32_of(k->host_port), .dst_port = le32_of(k->guest_port),
		.type = le16_of(VSOCK_STREAM), .op = le16_of((uint16_t)op),
		.flags = le32_of(op == OP_SHUTDOWN ? k->host_shut : 0),
		.buf_alloc = le32_of(VIRTIO_VSOCK_BUF), .fwd_cnt = le32_of(k->fwd_cnt),
	};
	k->told_fwd = k->fwd_cnt;
	return len;
}

/* --- events of the host's end --- */

static void conn_event(struct loop_fd *h, unsigned events)
{
	struct vsock_conn *k = container_of(h, struct vsock_conn, host);
	struct virtio_vsock *v = k->v;

	virtio_lock(&v->dev);
	if (events & LOOP_OUT)
		conn_flush(k);
	if (events & (LOOP_IN | LOOP_HUP))
		k->has_data = true;
	if (events & LOOP_HUP && k->state == VSOCK_CONNECTING)
		conn_kill(k);
	if (events & LOOP_HUP && !k->is_host_gone) {
		int fd = h->fd;

		loop_fd_del(h); /* it would be told again and again */
		h->fd = fd;
		k->is_host_gone = true;
		k->buf_len = 0; /* nobody will read it */
	}
	conn_update(k);
	vsock_send(v);
	virtio_unlock(&v->dev);
}

void vsock_go_on(struct virtio_vsock *v)
{
	for (unsigned b = 0; b < VSOCK_BUCKETS; b++) {
		for (struct vsock_conn *k = v->bucket[b]; k; k = k->next)
			conn_update(k);
	}
	vsock_send(v);
}

void vsock_close_all(struct virtio_vsock *v)
{
	for (unsigned b = 0; b < VSOCK_BUCKETS; b++) {
		while (v->bucket[b])
			conn_free(v->bucket[b]);
	}
}

void vsock_deadlines(struct loop_timer *t)
{
	struct virtio_vsock *v = container_of(t, struct virtio_vsock, deadlines);
	uint64_t now = loop_now_ns();
	bool is_more = false;

	virtio_lock(&v->dev);
	for (unsigned b = 0; b < VSOCK_BUCKETS; b++) {
		for (struct vsock_conn *k = v->bucket[b]; k; k = k->next) {
			if (k->deadline_ns && k->deadline_ns <= now) {
				conn_kill(k);
				conn_update(k);
			}
			is_more |= k->deadline_ns != 0;
		}
	}
	if (is_more)
		loop_timer_set(t, now + 1000000000u);
	vsock_send(v);
	virtio_unlock(&v->dev);
}

/* --- the host's programs that wait --- */

static void waiter_free(struct vsock_waiter *w)
{
	struct vsock_waiter **at = &w->v->waiters;
	int fd = w->host.fd;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	w->v->n_waiters--;
	loop_fd_del(&w->host);
	if (fd >= 0)
		close(fd);
	free(w);
}

void vsock_drop_waiters(struct virtio_vsock *v)
{
	while (v->waiters)
		waiter_free(v->waiters);
}

static void waiter_event(struct loop_fd *h, unsigned events)
{
	struct vsock_waiter *w = container_of(h, struct vsock_waiter, host);
	struct virtio_dev *d = &w->v->dev;

	virtio_lock(d);
	if (events & LOOP_HUP)
		waiter_free(w);
	virtio_unlock(d);
}

int virtio_vsock_wait(struct virtio_dev *d, int fd, uint32_t port, struct err *err)
{
	struct virtio_vsock *v = vsock_of(d);
	struct vsock_waiter *w = v->n_waiters < VIRTIO_VSOCK_WAITERS_MAX ? calloc(1, sizeof(*w)) : NULL;

	if (!w)
		return err_set(err, -EBUSY, "too many wait for connections of the guest");
	*w = (struct vsock_waiter){ .v = v, .port = port };
	int r = loop_fd_add(d->env.loop, &w->host, fd, 0, waiter_event);
	if (r < 0) {
		free(w);
		return err_set(err, r, "cannot watch a socket: %s", strerror(-r));
	}
	virtio_lock(d);
	struct vsock_waiter **at = &v->waiters;
	while (*at)
		at = &(*at)->next;
	*at = w;
	v->n_waiters++;
	virtio_unlock(d);
	return 0;
}

/* "WORD PORT\n" to the host's program. */
static bool host_tell(int fd, const char *word, uint32_t port)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%s %" PRIu32 "\n", word, port);

	return send(fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) == n;
}

/* The guest connects: to the first of those who wait that is still there. */
static struct vsock_conn *conn_accept(struct virtio_vsock *v, uint32_t host_port, uint32_t guest_port)
{
	for (struct vsock_waiter *w = v->waiters, *next; w; w = next) {
		next = w->next;
		if (w->port != host_port)
			continue;
		int fd = w->host.fd;
		loop_fd_del(&w->host);
		w->host.fd = -1;
		waiter_free(w);
		struct vsock_conn *k = host_tell(fd, "CONNECTED", guest_port) ? conn_new(v, fd, host_port, guest_port, VSOCK_OPEN) : NULL;
		if (k) {
			k->pending = 1 << OP_RESPONSE;
			return k;
		}
		close(fd);
		if (v->n_conns == VIRTIO_VSOCK_CONNS_MAX)
			break;
	}
	return NULL;
}

/* --- packets --- */

static void vsock_reset_stranger(struct virtio_vsock *v, const struct vsock_hdr *h)
{
	if (le16_get(h->op) != OP_RST && v->n_resets < VSOCK_RESETS_MAX)
		v->resets[v->n_resets++] = (struct vsock_reset){ le32_get(h->dst_port), le32_get(h->src_port), le16_get(h->type) };
}

static void conn_opened(struct vsock_conn *k)
{
	k->state = VSOCK_OPEN;
	k->deadline_ns = 0;
	if (!host_tell(k->host.fd, "OK", k->host_port))
		conn_kill(k);
}

static void conn_take_packet(struct vsock_conn *k, const struct vsock_hdr *h, const struct vq_chain *c)
{
	switch (le16_get(h->op)) {
	case OP_RESPONSE:
		if (k->state == VSOCK_CONNECTING)
			conn_opened(k);
		else
			conn_kill(k);
		break;
	case OP_SHUTDOWN:
		k->guest_shut |= le32_get(h->flags) & SHUTDOWN_BOTH;
		if (k->state == VSOCK_CONNECTING)
			conn_kill(k);
		break;
	case OP_RW:
		conn_take_data(k, c, le32_get(h->len));
		break;
	case OP_CREDIT_REQUEST:
		k->pending |= 1 << OP_CREDIT_UPDATE;
		break;
	case OP_CREDIT_UPDATE:
		break;
	default:                        /* a second REQUEST, nonsense */
		conn_kill(k);
	}
}

void vsock_take_packet(struct virtio_vsock *v, const struct vsock_hdr *h, const struct vq_chain *c)
{
	uint32_t host_port = le32_get(h->dst_port), guest_port = le32_get(h->src_port);
	uint16_t op = le16_get(h->op);

	if (le64_get(h->src_cid) != v->guest_cid) {
		log_guest(&guest_foreign, le64_get(h->src_cid));
		return;
	}
	bool is_ours = le64_get(h->dst_cid) == VSOCK_CID_HOST && le16_get(h->type) == VSOCK_STREAM;
	struct vsock_conn *k = is_ours ? conn_find(v, host_port, guest_port) : NULL;
	if (!k && is_ours && op == OP_REQUEST)
		k = conn_accept(v, host_port, guest_port);
	else if (k && op == OP_RST) {
		conn_free(k);
		return;
	} else if (k && k->state != VSOCK_GONE)
		conn_take_packet(k, h, c);
	if (!k) {
		vsock_reset_stranger(v, h);
		return;
	}
	k->peer_alloc = le32_get(h->buf_alloc);
	k->peer_fwd = le32_get(h->fwd_cnt);
	conn_update(k);
}

/* --- the host connects --- */

int virtio_vsock_connect(struct virtio_dev *d, int fd, uint32_t port, struct err *err)
{
	struct virtio_vsock *v = vsock_of(d);
	int r = 0;

	virtio_lock(d);
	do
		v->next_port = (v->next_port + 1) % PORT_FIRST;
	while (conn_find(v, PORT_FIRST + v->next_port, port));
	struct vsock_conn *k = d->s.status & VIRTIO_DRIVER_OK ? conn_new(v, fd, PORT_FIRST + v->next_port, port, VSOCK_CONNECTING) : NULL;
	if (k) {
		k->pending = 1 << OP_REQUEST;
		conn_wait(k);
		conn_update(k);
		vsock_send(v);
	} else {
		r = d->s.status & VIRTIO_DRIVER_OK ? err_set(err, -EBUSY, "there are too many connections") :
		    err_set(err, -ENOTCONN, "the guest has no driver for sockets");
	}
	virtio_unlock(d);
	return r;
}
