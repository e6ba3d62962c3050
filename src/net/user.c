/* SPDX-License-Identifier: Apache-2.0 */
/* user.c - network without privileges: a passt process per device.
 *
 * passt(1) translates frames to sockets of the host; it brings DHCP, DNS and port forwards. Each
 * frame on its stream socket follows its length as a big-endian 32-bit number. It ends when our end
 * closes (passt.h); when it dies before, it is started again, in a jail by the keeper (keeper.h).
 * Runs on the loop thread.
 *
 * Our end of the socket pair is all that another process needs to go on with it, and the guest's connections
 * with that, as long as both agree where a frame begins: user_settle(). */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "net/keeper.h"
#include "net/net_priv.h"
#include "net/passt.h"
#include "net/service.h"
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/log.h"
#include "util/loop.h"

enum {
	USER_LEN = 4,                           /* the length in front of a frame */
	USER_FRAME_MAX = 65535,                 /* what passt sends and takes at most */
	USER_RX_BUF = 2 * (USER_LEN + USER_FRAME_MAX),
	USER_SETTLE_MS = 1000,
	USER_IOV_MAX = 256,
};
#define USER_RETRY_FIRST_NS 1000000000ull
#define USER_RETRY_MAX_NS 60000000000ull

struct user {
	struct net net;
	struct net_forward forward[PASST_FORWARDS_MAX];
	unsigned n_forward;
	pid_t pid;                      /* 0: not running, or not started here */
	struct loop_fd sock, pidfd, errors, keeper; /* fd < 0: not open */
	struct loop_timer rx_again;     /* whole frames may be in rx_buf */
	struct loop_timer retry;        /* start passt again */
	uint64_t retry_ns;              /* wait before the next attempt */
	struct net_service *service;    /* NULL: what is at its address is behind passt */
	bool was_refused;               /* net_send() has said -EAGAIN */
	size_t tx_off, tx_len;          /* the rest of a frame that the socket took in part */
	size_t rx_len;
	uint8_t tx_buf[USER_LEN + USER_FRAME_MAX];
	uint8_t rx_buf[USER_RX_BUF];
};

static struct user *user_of(struct net *n)
{
	return container_of(n, struct user, net);
}

/* ---- the process ---- */

static void user_fd_close(struct loop_fd *h)
{
	int fd = h->fd;

	loop_fd_del(h);
	if (fd >= 0)
		close(fd);
	h->fd = -1;
}

/* End the child and forget what was under way. It goes by itself when the socket closes. */
static void user_stop(struct user *u)
{
	user_fd_close(&u->sock);
	passt_end(u->pid, u->pidfd.fd);
	u->pid = 0;
	user_fd_close(&u->pidfd);
	user_fd_close(&u->errors);
	loop_timer_cancel(&u->rx_again);
	u->tx_len = u->rx_len = 0;
}

static void user_event(struct loop_fd *h, unsigned events);
static void user_died(struct loop_fd *h, unsigned events);
static void user_complained(struct loop_fd *h, unsigned events);

/* Watch FD (taken on success). */
static int user_watch(struct user *u, struct loop_fd *h, int *fd, void (*fn)(struct loop_fd *h, unsigned events))
{
	int r = *fd < 0 ? -EBADF : loop_fd_add(u->net.loop, h, *fd, LOOP_IN, fn);

	if (r < 0)
		h->fd = -1;
	else
		take_fd(fd);
	return r;
}

static int user_start(struct user *u, struct err *err)
{
	struct passt p;
	int r = passt_start(&p, u->forward, u->n_forward, err);

	if (r < 0)
		return r;
	AUTO_FD int pidfd = (int)syscall(SYS_pidfd_open, p.pid, 0), sock = p.sock, errors = p.errors;

	u->pid = p.pid;
	r = user_watch(u, &u->pidfd, &pidfd, user_died);
	if (!r)
		r = user_watch(u, &u->sock, &sock, user_event);
	if (!r)
		r = user_watch(u, &u->errors, &errors, user_complained);
	if (r < 0) {
		auto_fd(&sock);
		user_stop(u);
		return err_set(err, r, "cannot watch passt: %s", strerror(-r));
	}
	return 0;
}

/* It has died: once more, after a while that grows with each failure. */
static void user_down(struct user *u, const char *why)
{
	log_error("network backend passt %s; starting it again in %llu s", why,
		  (unsigned long long)(u->retry_ns / 1000000000u));
	user_stop(u);
	loop_timer_set(&u->retry, loop_now_ns() + u->retry_ns);
	u->retry_ns = u->retry_ns * 2 < USER_RETRY_MAX_NS ? u->retry_ns * 2 : USER_RETRY_MAX_NS;
}

static void user_died(struct loop_fd *h, unsigned events)
{
	user_down(container_of(h, struct user, pidfd), "has ended");
}

static void user_is_back(struct user *u)
{
	log_info("passt is running again");
	if (u->was_refused) {
		u->was_refused = false;
		u->net.client->writable(u->net.client);
	}
}

static void user_stays_down(const char *why)
{
	log_error("network backend passt cannot be started again (%s): the interface stays down until the machine is upgraded, or "
		  "started anew", why);
}

/* What the keeper says. */
static void user_kept(struct loop_fd *h, unsigned events)
{
	struct user *u = container_of(h, struct user, keeper);
	struct err err = ERR_INIT;
	AUTO_FD int fd = net_keeper_answer(h->fd, &err);

	if (fd == -EPIPE) {
		user_fd_close(h);
		user_stays_down(err.msg);
		return;
	}
	if (u->sock.fd >= 0)            /* nobody has asked */
		return;
	int r = fd < 0 ? fd : user_watch(u, &u->sock, &fd, user_event);

	if (r < 0)
		user_down(u, err.code ? err.msg : "cannot be watched");
	else
		user_is_back(u);
}

static void user_retry(struct loop_timer *t)
{
	struct user *u = container_of(t, struct user, retry);
	struct err err = ERR_INIT;
	int r = u->keeper.fd >= 0 ? net_keeper_ask(u->keeper.fd) : user_start(u, &err);

	if (u->keeper.fd >= 0 && !r)
		return;                 /* user_kept() */
	if (u->keeper.fd >= 0 || r == -EPERM)
		user_stays_down(u->keeper.fd >= 0 ? strerror(-r) : "the machine is in a jail");
	else if (r < 0)
		user_down(u, err.msg);
	else
		user_is_back(u);
}

static void user_complained(struct loop_fd *h, unsigned events)
{
	char text[1024], line[256];
	ssize_t n = read(h->fd, text, sizeof(text) - 1);

	if (n > 0) {
		text[n] = '\0';
		passt_last_line(text, line, sizeof(line));
		log_debug("passt: %s", line);
	} else if (n == 0 || errno != EAGAIN) {
		user_fd_close(h);
	}
}

/* ---- frames ---- */

static void user_set_events(struct user *u, unsigned set, unsigned clear)
{
	loop_fd_mod(&u->sock, (u->sock.events | set) & ~clear);
}

/* Hand over the whole frames in rx_buf. False: passt talks nonsense. */
static bool user_deliver(struct user *u)
{
	struct net_client *c = u->net.client;
	size_t at = 0;
	bool is_good = true;

	while (u->rx_len - at >= USER_LEN) {
		uint32_t len = get_be32(u->rx_buf + at);

		if (!len || len > USER_FRAME_MAX) {
			is_good = false;
			break;
		}
		if (u->rx_len - at - USER_LEN < len)
			break;
		if (!c->can_receive(c)) {
			user_set_events(u, 0, LOOP_IN);
			break;
		}
		c->receive(c, u->rx_buf + at + USER_LEN, len);
		at += USER_LEN + len;
	}
	memmove(u->rx_buf, u->rx_buf + at, u->rx_len - at);
	u->rx_len -= at;
	return is_good;
}

/* Read and deliver once; epoll is level-triggered and comes back for the rest. */
static void user_receive(struct user *u)
{
	ssize_t n = 1;

	/* What is not read yet may be another process's by the time that the client takes frames again. */
	if (!u->net.client->can_receive(u->net.client)) {
		user_set_events(u, 0, LOOP_IN);
		return;
	}
	if (u->rx_len < sizeof(u->rx_buf))
		n = recv(u->sock.fd, u->rx_buf + u->rx_len, sizeof(u->rx_buf) - u->rx_len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		user_down(u, "has closed its connection");
		return;
	}
	if (u->rx_len < sizeof(u->rx_buf))
		u->rx_len += (size_t)n;
	if (!user_deliver(u))
		user_down(u, "sent a frame of impossible length");
	else
		u->retry_ns = USER_RETRY_FIRST_NS;
}

static void user_rx_again(struct loop_timer *t)
{
	struct user *u = container_of(t, struct user, rx_again);

	if (u->sock.fd >= 0 && !user_deliver(u))
		user_down(u, "sent a frame of impossible length");
}

/* Send what is left of the last frame; true when nothing is. */
static bool user_flush(struct user *u)
{
	while (u->tx_len) {
		ssize_t n = send(u->sock.fd, u->tx_buf + u->tx_off, u->tx_len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;   /* full, or dead: then the process number tells */
		u->tx_off += (size_t)n;
		u->tx_len -= (size_t)n;
	}
	return true;
}

static void user_event(struct loop_fd *h, unsigned events)
{
	struct user *u = container_of(h, struct user, sock);

	if (events & LOOP_OUT && user_flush(u)) {
		user_set_events(u, 0, LOOP_OUT);
		if (u->was_refused) {
			u->was_refused = false;
			u->net.client->writable(u->net.client);
		}
	}
	if (events & (LOOP_IN | LOOP_HUP))
		user_receive(u);
}

/* Keep what the socket did not take: everything after the first SENT bytes. */
static void user_keep_rest(struct user *u, const struct iovec *iov, int n_iov, size_t sent)
{
	u->tx_off = u->tx_len = 0;
	for (int i = 0; i < n_iov; i++) {
		size_t len = iov[i].iov_len, skip = sent < len ? sent : len;

		memcpy(u->tx_buf + u->tx_len, (const uint8_t *)iov[i].iov_base + skip, len - skip);
		u->tx_len += len - skip;
		sent -= skip;
	}
}

static int user_send(struct net *n, const struct iovec *iov, int n_iov)
{
	struct user *u = user_of(n);
	struct iovec all[USER_IOV_MAX + 1];
	uint8_t be_len[USER_LEN];
	size_t len = 0;
	ssize_t sent;

	if (u->service && net_service_takes(u->service, iov, n_iov))
		return 0;
	if (u->sock.fd < 0)
		return -EPIPE;
	if (n_iov < 1 || n_iov > USER_IOV_MAX)
		return -EINVAL;
	for (int i = 0; i < n_iov; i++) {
		all[i + 1] = iov[i];
		len += iov[i].iov_len;
	}
	if (!len || len > USER_FRAME_MAX)
		return -EMSGSIZE;
	if (u->tx_len) {
		u->was_refused = true;
		return -EAGAIN;
	}
	put_be32(be_len, (uint32_t)len);
	all[0] = (struct iovec){ be_len, USER_LEN };

	struct msghdr m = { .msg_iov = all, .msg_iovlen = (size_t)n_iov + 1 };

	do
		sent = sendmsg(u->sock.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent == (ssize_t)(len + USER_LEN))
		return 0;
	if (sent < 0 && errno != EAGAIN)
		return -errno;
	user_set_events(u, LOOP_OUT, 0);
	if (sent < 0) {
		u->was_refused = true;
		return -EAGAIN;
	}
	user_keep_rest(u, all, n_iov + 1, (size_t)sent);
	return 0;
}

static void user_rx_resume(struct net *n)
{
	struct user *u = user_of(n);

	if (u->service)
		net_service_resume(u->service);
	if (u->sock.fd < 0)
		return;
	user_set_events(u, LOOP_IN, 0);
	if (u->rx_len >= USER_LEN)
		loop_timer_set(&u->rx_again, 1);        /* soon, and not from inside this call */
}

/* ---- from one process to another ---- */

static bool user_wait_for(struct user *u, short events)
{
	struct pollfd p = { .fd = u->sock.fd, .events = events };

	return poll(&p, 1, USER_SETTLE_MS) > 0 && p.revents & events;
}

/* Bytes that the last frame in rx_buf lacks; 0: it is whole, or there is none. */
static size_t user_rx_lacks(const struct user *u)
{
	size_t at = 0;

	while (u->rx_len - at >= USER_LEN) {
		size_t whole = USER_LEN + (size_t)get_be32(u->rx_buf + at);

		if (u->rx_len - at < whole)
			return whole - (u->rx_len - at);
		at += whole;
	}
	return u->rx_len > at ? USER_LEN - (u->rx_len - at) : 0;
}

/* Both sides send whole frames without a pause, so the rest is there in no time. What has been received and not delivered is
 * lost to the other process, as on any wire. */
static void user_settle(struct net *n)
{
	struct user *u = user_of(n);
	size_t lacks;

	if (u->sock.fd < 0)
		return;
	while (!user_flush(u) && user_wait_for(u, POLLOUT))
		;
	while ((lacks = user_rx_lacks(u)) && lacks <= sizeof(u->rx_buf) - u->rx_len && user_wait_for(u, POLLIN)) {
		ssize_t got = recv(u->sock.fd, u->rx_buf + u->rx_len, lacks, MSG_DONTWAIT);

		if (got <= 0)
			break;
		u->rx_len += (size_t)got;
	}
}

static int user_fd(const struct net *n)
{
	int fd = container_of(n, const struct user, net)->sock.fd;

	return fd < 0 ? -ENOENT : fd;
}

static void user_forget(struct net *n)
{
	user_of(n)->pid = 0;            /* it goes on; our end of the socket closes */
}

int net_open_user(const struct net_forward *forward, unsigned n_forward, struct err *err)
{
	struct passt p;
	int r = passt_start(&p, forward, n_forward, err);

	if (r < 0)
		return r;
	close(p.errors);
	return p.sock;
}

static void user_close(struct net *n)
{
	struct user *u = user_of(n);

	user_stop(u);
	user_fd_close(&u->keeper);
	loop_timer_cancel(&u->retry);
	net_service_free(u->service);
	free(u);
}

static int user_give_metadata(struct net *n, int fd)
{
	struct user *u = user_of(n);

	return u->service ? net_service_give(u->service, fd) : -ENOTSUP;
}

static int user_open(struct net **out, struct loop *loop, struct net_client *client,
		     const struct net_options *o, struct err *err)
{
	if (o->n_forward > PASST_FORWARDS_MAX)
		return err_set(err, -EINVAL, "at most %d ports can be forwarded", PASST_FORWARDS_MAX);

	struct user *u = calloc(1, sizeof(*u));

	if (!u)
		return err_set(err, -ENOMEM, "out of memory");
	u->net = (struct net){ .ops = &net_user_ops, .loop = loop, .client = client };
	u->sock.fd = u->pidfd.fd = u->errors.fd = u->keeper.fd = -1;
	u->retry_ns = USER_RETRY_FIRST_NS;
	loop_timer_init(loop, &u->rx_again, user_rx_again);
	loop_timer_init(loop, &u->retry, user_retry);
	if (o->n_forward)
		memcpy(u->forward, o->forward, o->n_forward * sizeof(u->forward[0]));
	u->n_forward = o->n_forward;

	AUTO_FD int keeper = o->keeper > 0 ? fcntl(o->keeper, F_DUPFD_CLOEXEC, 0) : -1;
	int fd = o->fd, r = fd < 0 ? user_start(u, err) : user_watch(u, &u->sock, &fd, user_event);

	if (!r && o->has_metadata && !(u->service = net_service_new(loop, client)))
		r = err_set(err, -ENOMEM, "out of memory");
	if (!r && keeper >= 0)
		r = user_watch(u, &u->keeper, &keeper, user_kept);
	if (r < 0) {
		user_stop(u);
		net_service_free(u->service);
		free(u);
		return err && err->code ? r : err_set(err, r, "cannot watch passt: %s", strerror(-r));
	}
	*out = &u->net;
	return 0;
}

const struct net_ops net_user_ops = {
	.kind = "user",
	.open = user_open,
	.send = user_send,
	.rx_resume = user_rx_resume,
	.fd = user_fd,
	.settle = user_settle,
	.forget = user_forget,
	.give_metadata = user_give_metadata,
	.close = user_close,
};
