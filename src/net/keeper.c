/* SPDX-License-Identifier: Apache-2.0 */
#include "net/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "net/net.h"
#include "net/passt.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/fatal.h"
#include "util/fds.h"

enum { KEEPER_PAUSE_MS = 1000, KEEPER_ANSWER_MS = 20000 };

/* An interface; in the other process. */
struct kept {
	int fd;                         /* poll() leaves out what is -1 */
	const struct net_forward *forward;
	unsigned n_forward;
	pid_t pid;                      /* of the passt that was started last; 0: none */
};

void net_keeper_init(struct net_keeper *k)
{
	k->pid = 0;
	for (unsigned i = 0; i < NET_KEEPER_MAX; i++)
		k->fd[i] = -1;
}

void net_keeper_fini(struct net_keeper *k)
{
	for (unsigned i = 0; i < NET_KEEPER_MAX; i++) {
		if (k->fd[i] >= 0)
			close(take_fd(&k->fd[i]));
	}
}

/* --- a message: a code (0, or a negated errno) and the sentence; with 0 a descriptor goes along --- */

static void keeper_reply(int to, int code, int fd, const char *text)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov[] = { { &code, sizeof(code) }, { (void *)text, strlen(text) } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

	if (fd >= 0) {
		m.msg_control = control;
		m.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	(void)sendmsg(to, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int keeper_received_fd(struct msghdr *m)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(m);
	int fd = -1;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(fd)))
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

int net_keeper_ask(int fd)
{
	return send(fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

int net_keeper_answer(int fd, struct err *err)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char text[sizeof(((struct err *)0)->msg)] = "";
	int code = 0;
	struct iovec iov[] = { { &code, sizeof(code) }, { text, sizeof(text) - 1 } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int got = n > 0 ? keeper_received_fd(&m) : -1;

	if (n >= (ssize_t)sizeof(code) && !code && got >= 0)
		return got;
	if (got >= 0)
		close(got);
	if (n < (ssize_t)sizeof(code) || code >= 0)
		return err_set(err, -EPIPE, "the process that starts passt again is gone");
	return err_set(err, code, "%s", text);
}

int net_keeper_get(int fd, struct err *err)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r = net_keeper_ask(fd);

	if (r < 0)
		return err_set(err, r, "cannot ask for passt: %s", strerror(-r));
	return poll(&p, 1, KEEPER_ANSWER_MS) == 1 ? net_keeper_answer(fd, err) :
						    err_set(err, -ETIMEDOUT, "passt was not started within %d s", KEEPER_ANSWER_MS / 1000);
}

/* --- the other process --- */

static void keeper_serve(struct kept *k)
{
	struct err err = ERR_INIT;
	struct passt p;
	char byte;
	ssize_t n = recv(k->fd, &byte, 1, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		close(take_fd(&k->fd));
		return;
	}
	passt_end(k->pid, -1);
	k->pid = 0;
	int r = passt_start(&p, k->forward, k->n_forward, &err);

	if (r < 0) {
		keeper_reply(k->fd, r, -1, err.msg);
	} else {
		k->pid = p.pid;
		keeper_reply(k->fd, 0, p.sock, "");
		close(p.sock);
		close(p.errors);
	}
	struct pollfd gone = { .fd = k->fd };   /* unless nobody is left to be kept from haste */

	(void)poll(&gone, 1, KEEPER_PAUSE_MS);
}

__attribute__((noreturn)) static void keeper_main(struct kept *kept, unsigned n, void (*confine)(void))
{
	struct pollfd p[NET_KEEPER_MAX];
	sigset_t all;
	bool is_needed = true;

	sigfillset(&all);       /* the terminal's signals are for the machine */
	fatal_unblock(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_NAME, "viv-keeper", 0, 0, 0);
	if (confine)
		confine();
	while (is_needed) {
		for (unsigned i = 0; i < n; i++)
			p[i] = (struct pollfd){ .fd = kept[i].fd, .events = POLLIN };
		(void)poll(p, n, -1);
		is_needed = false;
		for (unsigned i = 0; i < n; i++) {
			if (kept[i].fd >= 0 && p[i].revents)
				keeper_serve(&kept[i]);
			is_needed |= kept[i].fd >= 0;
		}
	}
	_exit(0);
}

/* Nothing stays open but what is KEPT. */
static void keeper_close_others(const struct kept *kept, unsigned n)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), keep[NET_KEEPER_MAX];

	for (int i = 0; null >= 0 && i <= STDERR_FILENO; i++)
		dup2(null, i);
	for (unsigned i = 0; i < n; i++)
		keep[i] = kept[i].fd;
	fds_close_others(keep, n);
}

/* --- this one --- */

int net_keeper_start(struct net_keeper *k, const struct net_forward *const *forward, const unsigned *n_forward, unsigned n,
		     void (*confine)(void), struct err *err)
{
	struct kept kept[NET_KEEPER_MAX];
	int sv[2], r = 0;
	bool is_needed = false;

	net_keeper_init(k);
	for (unsigned i = 0; i < n && i < NET_KEEPER_MAX; i++) {
		kept[i] = (struct kept){ .fd = -1, .forward = forward[i], .n_forward = n_forward[i] };
		if (!forward[i] || r < 0)
			continue;
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
			r = -errno;
			continue;
		}
		k->fd[i] = sv[0];
		kept[i].fd = sv[1];
		is_needed = true;
	}
	pid_t pid = r < 0 || !is_needed ? 1 : fork();

	if (!pid) {
		keeper_close_others(kept, n);
		keeper_main(kept, n, confine);
	}
	if (pid < 0)
		r = -errno;
	k->pid = pid > 1 ? pid : 0;
	for (unsigned i = 0; i < n && i < NET_KEEPER_MAX; i++) {
		if (kept[i].fd >= 0)
			close(kept[i].fd);
	}
	if (r < 0)
		net_keeper_fini(k);
	return r < 0 ? err_set(err, r, "cannot start the process that starts passt again: %s", strerror(-r)) : 0;
}
