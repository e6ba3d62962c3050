/* SPDX-License-Identifier: Apache-2.0 */
/* Where the other side of a migration is. All of this happens outside of the jail: `viv-vmm ctl` connects for the
 * source, and a destination waits before it builds its machine. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "util/err.h"
#include "util/log.h"
#include "util/str.h"
#include "util/unixsock.h"
#include "vm/migrate.h"

enum { BACKLOG = MIGRATE_SOCKETS_MAX, HOST_MAX = 256 };

/* "HOST:PORT", the host in brackets when it has colons. */
static int addr_split(const char *text, char host[HOST_MAX], const char **port, struct err *err)
{
	const char *colon = strrchr(text, ':'), *end = colon;
	uint64_t n;

	if (!colon || str_parse_u64(&n, colon + 1, NULL) < 0 || n > 65535)
		return err_set(err, -EINVAL, "'tcp:%s' does not end with ':' and the number of a port", text);
	if (*text == '[' && colon > text && colon[-1] == ']') {
		text++;
		end--;
	}
	if (end - text >= HOST_MAX || end == text)
		return err_set(err, -EINVAL, "'tcp:%s' names no host", text);
	memcpy(host, text, (size_t)(end - text));
	host[end - text] = '\0';
	*port = colon + 1;
	return 0;
}

static int addr_resolve(struct addrinfo **out, const char *text, bool is_listening, struct err *err)
{
	struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV | (is_listening ? AI_PASSIVE : 0),
	};
	char host[HOST_MAX];
	const char *port = NULL;
	int r = addr_split(text, host, &port, err);

	if (r < 0)
		return r;
	r = getaddrinfo(host, port, &hints, out);
	return r ? err_set(err, -EHOSTUNREACH, "the address of '%s' is not known: %s", host, gai_strerror(r)) : 0;
}

static int addr_try(const struct addrinfo *a, bool is_listening)
{
	int one = 1, fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	int r = is_listening ? bind(fd, a->ai_addr, a->ai_addrlen) : connect(fd, a->ai_addr, a->ai_addrlen);
	if (!r && is_listening)
		r = listen(fd, BACKLOG);
	if (!r)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

static int addr_tcp(const char *text, bool is_listening, struct err *err)
{
	struct addrinfo *list = NULL;
	int fd = addr_resolve(&list, text, is_listening, err);

	if (fd < 0)
		return fd;
	fd = -EHOSTUNREACH;
	for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
		fd = addr_try(a, is_listening);
	freeaddrinfo(list);
	return fd < 0 ? err_set(err, fd, "cannot %s 'tcp:%s': %s", is_listening ? "listen on" : "connect to", text,
				strerror(-fd)) : fd;
}

static int addr_fd(const char *text, struct err *err)
{
	struct stat st;
	uint64_t n = 0;
	int r = str_parse_u64(&n, text, err);

	if (r < 0)
		return err_wrap(err, r, "fd:%s", text);
	if (n > INT32_MAX || fstat((int)n, &st) < 0 || !S_ISSOCK(st.st_mode))
		return err_set(err, -EBADF, "descriptor %s is not an open socket", text);
	r = fcntl((int)n, F_DUPFD_CLOEXEC, 0);
	return r < 0 ? err_set(err, -errno, "cannot duplicate descriptor %s: %s", text, strerror(errno)) : r;
}

static int addr_unknown(const char *address, struct err *err)
{
	return err_set(err, -EINVAL, "'%s' is no address of a migration; there are tcp:HOST:PORT, unix:PATH and fd:NUMBER",
		       address);
}

int migrate_connect(const char *address, struct err *err)
{
	if (!strncmp(address, "tcp:", 4))
		return addr_tcp(address + 4, false, err);
	if (!strncmp(address, "unix:", 5))
		return unixsock_connect(address + 5, err);
	return strncmp(address, "fd:", 3) ? addr_unknown(address, err) : addr_fd(address + 3, err);
}

static void addr_tell_port(int fd)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	char port[NI_MAXSERV] = "?";

	if (!getsockname(fd, (struct sockaddr *)&sa, &len) && sa.ss_family != AF_UNIX)
		(void)getnameinfo((struct sockaddr *)&sa, len, NULL, 0, port, sizeof(port), NI_NUMERICSERV);
	log_info("waiting for a machine%s%s", sa.ss_family == AF_UNIX ? "" : " on TCP port ",
		 sa.ss_family == AF_UNIX ? "" : port);
}

int migrate_listen(const char *address, bool *is_connected, struct err *err)
{
	bool is_unix = !strncmp(address, "unix:", 5);

	*is_connected = !strncmp(address, "fd:", 3);
	if (*is_connected)
		return addr_fd(address + 3, err);
	if (!is_unix && strncmp(address, "tcp:", 4))
		return addr_unknown(address, err);
	int fd = is_unix ? unixsock_listen(address + 5, 0600, BACKLOG, err) : addr_tcp(address + 4, true, err);
	if (fd < 0)
		return fd;
	addr_tell_port(fd);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	return fd;
}

/* A connection that another process has taken; -EPIPE: no more come. */
static int addr_receive(int from, struct err *err)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf) };
	ssize_t n;
	int fd;

	do
		n = recvmsg(from, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
		return err_set(err, -EPIPE, "the process for TLS has ended");
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

int migrate_accept(int listener, struct err *err)
{
	int fd, one = 1, listens = 0;
	socklen_t len = sizeof(listens);

	if (!getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) && !listens)
		return addr_receive(listener, err);
	do
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd < 0)
		return err_set(err, -errno, "cannot accept a connection: %s", strerror(errno));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));      /* a Unix socket has none */
	return fd;
}

char *migrate_host(const char *address, struct err *err)
{
	char host[HOST_MAX], *copy;
	const char *port;
	int r = strncmp(address, "tcp:", 4) ? err_set(err, -EINVAL, "'%s' names no host; give 'tls_name=NAME', which the certificate of the "
						      "other side must have", address) :
		addr_split(address + 4, host, &port, err);

	if (r < 0)
		return NULL;
	copy = strdup(host);
	if (!copy)
		err_set(err, -ENOMEM, "out of memory");
	return copy;
}

void migrate_unlisten(const char *address)
{
	if (!strncmp(address, "unix:", 5))
		(void)unlink(address + 5);
}
