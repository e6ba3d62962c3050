/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/proto/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "util/err.h"

enum { DIAL_ADDRESSES = 8, DIAL_PROBES = 3, DIAL_SILENT_S = 20 };

struct dial_address { struct sockaddr_storage addr; socklen_t len; };

struct blk_dialer {
	int sock;                       /* to the process: SOCK_SEQPACKET */
	unsigned silent_s;
	struct dial_address at[DIAL_ADDRESSES];
	int n;
};

/* --- in the process: only calls that are safe after fork() ---------------------------------------- */

/* Probes go out while nothing does; what was sent has to be confirmed by the other host, not by the server's program, which
 * may take as long as its disk does. */
void blk_dialer_keep(int fd, unsigned silent_s)
{
	unsigned silent_ms = silent_s * 1000;
	int one = 1, probes = DIAL_PROBES, pause = silent_s > DIAL_PROBES ? (int)(silent_s / (DIAL_PROBES + 1)) : 1;

	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &pause, sizeof(pause));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &pause, sizeof(pause));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent_ms, sizeof(silent_ms));
}

static int dial_one(const struct dial_address *a, unsigned silent_s, int timeout_ms)
{
	int one = 1, e = 0, fd = socket(a->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(e);

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&a->addr, a->len) < 0) {
		e = errno;
		if (e == EINPROGRESS)
			e = poll(&p, 1, timeout_ms) <= 0 ? ETIMEDOUT :
			    getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0 ? errno : e;
	}
	if (e) {
		close(fd);
		return -e;
	}
	if (a->addr.ss_family != AF_UNIX) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		blk_dialer_keep(fd, silent_s);
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return fd;
}

static int dial_any(const struct blk_dialer *d, int timeout_ms)
{
	int r = -EHOSTUNREACH;

	for (int i = 0; i < d->n && r < 0; i++)
		r = dial_one(&d->at[i], d->silent_s, timeout_ms);
	return r;
}

/* One answer: -errno, or 0 and a descriptor with it. */
static void dial_answer(int sock, int result)
{
	union { char buf[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = { .buf = "" };
	int code = result < 0 ? result : 0;
	struct iovec iov = { &code, sizeof(code) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (result >= 0) {
		m.msg_control = control.buf;
		m.msg_controllen = sizeof(control.buf);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &result, sizeof(int));
	}
	(void)!sendmsg(sock, &m, MSG_NOSIGNAL);
	if (result >= 0)
		close(result);
}

/* What serving takes, and no more from now on: it cannot open, start or signal anything. Without memory of its own, as after fork(). Where
 * filters are not to be had it stays as it was started. */
static void dial_confine(void)
{
	static const unsigned calls[] = {
		SYS_recvfrom, SYS_sendmsg, SYS_socket, SYS_connect, SYS_poll, SYS_getsockopt, SYS_setsockopt, SYS_fcntl, SYS_close, SYS_exit_group,
		SYS_rt_sigreturn, SYS_restart_syscall, SYS_futex,       /* a sanitizer's locks: refused, it would try again for ever */
	};
	enum { HEAD = 4, N = sizeof(calls) / sizeof(calls[0]) };
	struct sock_filter code[HEAD + N + 2] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};

	for (unsigned i = 0; i < N; i++)        /* on to the last, which lets through */
		code[HEAD + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], (uint8_t)(N - i), 0);
	code[HEAD + N] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	code[HEAD + N + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	(void)prctl(PR_SET_NAME, "viv-dial", 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		(void)prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &(struct sock_fprog){ .len = HEAD + N + 2, .filter = code });
}

_Noreturn static void dial_serve(const struct blk_dialer *d, int sock)
{
	int timeout_ms;

	setsid();               /* its owner may be another process than the one that a terminal's signals are for */
	dup2(sock, 0);
	syscall(SYS_close_range, 1u, ~0u, 0u);
	dial_confine();
	while (recv(0, &timeout_ms, sizeof(timeout_ms), 0) == sizeof(timeout_ms))
		dial_answer(0, dial_any(d, timeout_ms));
	_exit(0);
}

/* --- the owner ------------------------------------------------------------------------------------ */

static int dial_resolve(struct blk_dialer *d, const char *host, uint16_t port, struct err *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *list = NULL;
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	int r = getaddrinfo(host, service, &hints, &list);

	if (r)
		return err_set(err, -EHOSTUNREACH, "cannot find the host '%s': %s", host, gai_strerror(r));
	for (struct addrinfo *a = list; a && d->n < DIAL_ADDRESSES; a = a->ai_next) {
		if (a->ai_addrlen > sizeof(d->at[0].addr))
			continue;
		memcpy(&d->at[d->n].addr, a->ai_addr, a->ai_addrlen);
		d->at[d->n++].len = a->ai_addrlen;
	}
	freeaddrinfo(list);
	return 0;
}

static int dial_unix(struct blk_dialer *d, const char *path, struct err *err)
{
	struct sockaddr_un *a = (struct sockaddr_un *)&d->at[0].addr;
	AUTO(free) char *full = realpath(path, NULL);

	if (!full)
		return err_set(err, -errno, "cannot find the socket '%s': %s", path, strerror(errno));
	if (strlen(full) >= sizeof(a->sun_path))
		return err_set(err, -ENAMETOOLONG, "the name of the socket '%s' is longer than %zu", full,
			       sizeof(a->sun_path) - 1);
	a->sun_family = AF_UNIX;
	strcpy(a->sun_path, full);
	d->at[0].len = sizeof(*a);
	d->n = 1;
	return 0;
}

/* The process is nobody's child, so that nobody has to wait for its end. */
static int dial_start(struct blk_dialer *d, struct err *err)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(err, -errno, "cannot make a socket: %s", strerror(errno));
	pid_t pid = fork();

	if (!pid) {
		pid = fork();
		if (!pid)
			dial_serve(d, pair[1]);
		_exit(pid < 0);
	}
	int status = 1, r = pid < 0 ? -errno : 0;

	close(pair[1]);
	d->sock = pair[0];
	if (!r && (waitpid(pid, &status, 0) != pid || status))
		r = -EAGAIN;
	return r < 0 ? err_set(err, r, "cannot start a process: %s", strerror(-r)) : 0;
}

int blk_dialer_new(struct blk_dialer **out, const struct blk_dial *to, struct err *err)
{
	struct blk_dialer *d = calloc(1, sizeof(*d));
	int r = 0;

	if (!d)
		return err_set(err, -ENOMEM, "out of memory");
	d->sock = -1;
	d->silent_s = to->silent_s ? to->silent_s : DIAL_SILENT_S;
	r = to->host ? dial_resolve(d, to->host, to->port, err) : dial_unix(d, to->path, err);
	if (!r)
		r = dial_start(d, err);
	if (r < 0)
		blk_dialer_free(d);
	else
		*out = d;
	return r;
}

void blk_dialer_free(struct blk_dialer *d)
{
	if (!d)
		return;
	if (d->sock >= 0)
		close(d->sock);
	free(d);
}

int blk_dialer_part(struct blk_dialer *d)
{
	int sock = d->sock;

	free(d);
	return sock;
}

int blk_dialer_connect(struct blk_dialer *d, int timeout_ms)
{
	return blk_dialer_ask(d->sock, timeout_ms);
}

int blk_dialer_ask(int sock, int timeout_ms)
{
	union { char buf[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = { .buf = "" };
	int code = -EPIPE, fd = -1;
	struct iovec iov = { &code, sizeof(code) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
			    .msg_controllen = sizeof(control.buf) };

	if (send(sock, &timeout_ms, sizeof(timeout_ms), MSG_NOSIGNAL) < 0)
		return -errno;
	ssize_t n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);

	if (n != sizeof(code))
		return n < 0 ? -errno : -EPIPE;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return code < 0 ? code : fd;
}
