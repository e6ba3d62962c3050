/* SPDX-License-Identifier: Apache-2.0 */
#include "util/frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/endian.h"

enum { HEAD = 4, OUT_MIN = 4096 };

union frames_control {
	char buf[CMSG_SPACE(FRAMES_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int frames_init(struct frames *f, int fd, size_t in_max, size_t out_max)
{
	*f = (struct frames){ .fd = fd, .in_max = in_max, .out_max = out_max, .in = malloc(in_max + HEAD) };
	return f->in ? 0 : -ENOMEM;
}

void frames_fini(struct frames *f)
{
	for (unsigned i = 0; i < f->n_fds; i++)
		close(f->fds[i].fd);
	free(f->in);
	free(f->out);
	*f = (struct frames){ .fd = -1 };
}

/* --- reading --- */

/* Drop the messages that have been handed out. */
static void frames_compact(struct frames *f)
{
	memmove(f->in, f->in + f->in_taken, f->in_len - f->in_taken);
	for (unsigned i = 0; i < f->n_fds; i++)
		f->fds[i].at -= f->in_taken;
	f->in_len -= f->in_taken;
	f->in_taken = 0;
}

/* The kernel ends a read after the bytes that carry descriptors, so these belong to the message
 * with the last byte that has come. */
static int frames_take_fds(struct frames *f, struct msghdr *m)
{
	int r = m->msg_flags & MSG_CTRUNC ? -EMFILE : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (unsigned i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (f->n_fds == FRAMES_FDS_MAX) {
				close(fd);
				r = -EMFILE;
				continue;
			}
			f->fds[f->n_fds].fd = fd;
			f->fds[f->n_fds++].at = f->in_len - 1;
		}
	}
	return r;
}

int frames_read(struct frames *f)
{
	union frames_control control;

	frames_compact(f);
	struct iovec iov = { f->in + f->in_len, f->in_max + HEAD - f->in_len };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf),
	};
	if (!iov.iov_len)
		return 0;
	ssize_t n = recvmsg(f->fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (!n)
		return -EPIPE;
	f->in_len += (size_t)n;
	int r = frames_take_fds(f, &m);
	return r < 0 ? r : 1;
}

int frames_next(struct frames *f, const uint8_t **msg, size_t *len, int *fds, unsigned *n_fds)
{
	size_t start = f->in_taken, have = f->in_len - start;
	unsigned kept = 0;

	*n_fds = 0;
	if (have < HEAD)
		return 0;
	size_t n = get_le32(f->in + start);
	if (n > f->in_max)
		return -EMSGSIZE;
	if (have - HEAD < n)
		return 0;
	f->in_taken += HEAD + n;
	for (unsigned i = 0; i < f->n_fds; i++) {
		if (f->fds[i].at < f->in_taken)
			fds[(*n_fds)++] = f->fds[i].fd;
		else
			f->fds[kept++] = f->fds[i];
	}
	f->n_fds = kept;
	*msg = f->in + start + HEAD;
	*len = n;
	return 1;
}

/* --- writing --- */

int frames_queue(struct frames *f, const void *msg, size_t len)
{
	size_t need = f->out_len + HEAD + len;

	if (len > UINT32_MAX || need > f->out_max)
		return -ENOBUFS;
	if (f->out_pos)
		memmove(f->out, f->out + f->out_pos, f->out_len);
	f->out_pos = 0;
	if (need > f->out_cap) {
		size_t cap = need < OUT_MIN ? OUT_MIN : 2 * need;
		uint8_t *p = realloc(f->out, cap);

		if (!p)
			return -ENOMEM;
		f->out = p;
		f->out_cap = cap;
	}
	put_le32(f->out + f->out_len, (uint32_t)len);
	memcpy(f->out + f->out_len + HEAD, msg, len);
	f->out_len = need;
	return 0;
}

int frames_flush(struct frames *f)
{
	while (f->out_len) {
		ssize_t n = send(f->fd, f->out + f->out_pos, f->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		f->out_pos += (size_t)n;
		f->out_len -= (size_t)n;
	}
	return 1;
}

/* --- clients --- */

static int frames_send_bytes(int fd, const uint8_t *p, size_t len)
{
	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int frames_send(int fd, const void *msg, size_t len, const int *fds, unsigned n)
{
	union frames_control control = { .buf = "" };
	uint8_t head[HEAD];
	struct iovec iov = { head, HEAD };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (len > UINT32_MAX || n > FRAMES_FDS_MAX)
		return -EMSGSIZE;
	put_le32(head, (uint32_t)len);
	if (n) {
		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	ssize_t sent;
	do
		sent = sendmsg(fd, &m, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	int r = frames_send_bytes(fd, head + sent, HEAD - (size_t)sent);
	return r < 0 ? r : frames_send_bytes(fd, msg, len);
}

/* All of LEN bytes: 1; the end before the first: 0. */
static int frames_receive_bytes(int fd, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (uint8_t *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return done ? -EPIPE : 0;
		done += (size_t)n;
	}
	return 1;
}

int frames_receive(int fd, size_t max, char **msg, size_t *len)
{
	uint8_t head[HEAD];
	int r = frames_receive_bytes(fd, head, HEAD);

	if (r <= 0)
		return r;
	size_t n = get_le32(head);
	if (n > max)
		return -EMSGSIZE;
	AUTO(free) char *buf = malloc(n + 1);

	if (!buf)
		return -ENOMEM;
	r = n ? frames_receive_bytes(fd, buf, n) : 1;
	if (r <= 0)
		return r ? r : -EPIPE;
	buf[n] = '\0';
	*msg = take_ptr(&buf);
	*len = n;
	return 1;
}
