/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vsock_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/loop.h"
#include "util/str.h"
#include "util/unixsock.h"
#include "virtio/vsock.h"

enum { NEW_MAX = 64, BACKLOG = 64, LINE_MAX_LEN = 31, MODE = 0600 };

/* Has connected and not said its line yet. */
struct newcomer {
	struct vsock_host *host;        /* NULL: a free place */
	struct loop_fd h;               /* fd owned */
	char line[LINE_MAX_LEN + 1];
	size_t len;
};

struct vsock_host {
	struct loop *loop;
	struct virtio_dev *d;
	char *path;
	struct loop_fd listener;        /* fd owned */
	bool is_started;
	struct newcomer newcomer[NEW_MAX];
	unsigned n_new;
};

static void newcomer_leave(struct newcomer *n, bool closes)
{
	struct vsock_host *host = n->host;
	int fd = n->h.fd;

	loop_fd_del(&n->h);
	if (closes)
		close(fd);
	n->host = NULL;
	host->n_new--;
	if (host->is_started)
		(void)loop_fd_mod(&host->listener, LOOP_IN);
}

/* The whole line has come. */
static int newcomer_ask(struct newcomer *n, struct err *err)
{
	static const struct {
		const char *word;
		int (*fn)(struct virtio_dev *d, int fd, uint32_t port, struct err *err);
	} words[] = { { "CONNECT ", virtio_vsock_connect }, { "LISTEN ", virtio_vsock_wait } };

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		size_t len = strlen(words[i].word);
		struct virtio_dev *d = n->host->d;
		uint64_t port;

		if (strncmp(n->line, words[i].word, len))
			continue;
		int r = str_parse_u64(&port, n->line + len, err);
		if (!r && port >= UINT32_MAX)
			r = err_set(err, -ERANGE, "a port is less than %u", UINT32_MAX);
		if (r < 0)
			return r;
		int fd = n->h.fd;
		loop_fd_del(&n->h);     /* the device watches it from now on */
		n->h.fd = fd;
		return words[i].fn(d, fd, (uint32_t)port, err);
	}
	return err_set(err, -EINVAL, "say CONNECT PORT or LISTEN PORT");
}

/* Byte by byte: what follows the line is not ours. */
static void newcomer_event(struct loop_fd *h, unsigned events)
{
	struct newcomer *n = container_of(h, struct newcomer, h);
	struct err err = ERR_INIT;
	char c = '\0';

	while (n->len < LINE_MAX_LEN && c != '\n') {
		ssize_t r = recv(h->fd, &c, 1, MSG_DONTWAIT);

		if (r < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (r <= 0) {
			newcomer_leave(n, true);
			return;
		}
		n->line[n->len++] = c;
	}
	n->line[n->len - (c == '\n')] = '\0';
	if (c != '\n')
		err_set(&err, -EINVAL, "say CONNECT PORT or LISTEN PORT");
	else
		(void)newcomer_ask(n, &err);
	if (err.code) {
		char text[sizeof(err.msg) + 8];
		int len = snprintf(text, sizeof(text), "ERR %s\n", err.msg);
		ssize_t told = send(n->h.fd, text, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);

		(void)told;
	}
	newcomer_leave(n, err.code != 0);
}

static void host_accept(struct loop_fd *h, unsigned events)
{
	struct vsock_host *host = container_of(h, struct vsock_host, listener);
	struct newcomer *n = host->newcomer;

	while (n->host && n < host->newcomer + NEW_MAX - 1)
		n++;
	if (n->host)
		return;
	int fd = accept4(h->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	*n = (struct newcomer){ .host = host };
	host->n_new++;
	if (loop_fd_add(host->loop, &n->h, fd, LOOP_IN, newcomer_event) < 0) {
		n->h.fd = fd;
		newcomer_leave(n, true);
	} else if (host->n_new == NEW_MAX) {
		(void)loop_fd_mod(&host->listener, 0);  /* others wait in the queue */
	}
}

int vsock_host_listen(const char *path, struct err *err)
{
	return unixsock_listen(path, MODE, BACKLOG, err);
}

int vsock_host_open(struct vsock_host **out, struct loop *loop, struct virtio_dev *d, const char *path, int handed, struct err *err)
{
	int fd = handed >= 0 ? fcntl(handed, F_DUPFD_CLOEXEC, 0) : vsock_host_listen(path, err);

	if (fd < 0)
		return handed >= 0 ? err_set(err, -errno, "cannot take over '%s': %s", path, strerror(errno)) : fd;
	struct vsock_host *h = calloc(1, sizeof(*h));
	char *copy = strdup(path);
	if (!h || !copy) {
		close(fd);
		free(h);
		free(copy);
		return err_set(err, -ENOMEM, "out of memory");
	}
	h->loop = loop;
	h->d = d;
	h->path = copy;
	int r = loop_fd_add(loop, &h->listener, fd, 0, host_accept);
	h->listener.fd = fd;
	if (r < 0) {
		vsock_host_close(h, handed >= 0);
		return err_set(err, r, "cannot watch '%s': %s", path, strerror(-r));
	}
	*out = h;
	return 0;
}

void vsock_host_start(struct vsock_host *h)
{
	if (!h)
		return;
	h->is_started = true;
	(void)loop_fd_mod(&h->listener, LOOP_IN);
}

int vsock_host_fd(const struct vsock_host *h)
{
	return h ? h->listener.fd : -1;
}

void vsock_host_close(struct vsock_host *h, bool keeps_name)
{
	if (!h)
		return;
	h->is_started = false;
	for (unsigned i = 0; i < NEW_MAX; i++) {
		if (h->newcomer[i].host)
			newcomer_leave(&h->newcomer[i], true);
	}
	int fd = h->listener.fd;
	loop_fd_del(&h->listener);
	close(fd);
	if (!keeps_name)
		(void)unlink(h->path);  /* in a jail the janitor does it */
	free(h->path);
	free(h);
}
