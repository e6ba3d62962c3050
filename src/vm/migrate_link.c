/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/migrate_link.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/crc32c.h"
#include "util/err.h"

enum {
	GROW = 1 << 20,
	SLICE_MS = 500,         /* after which a call that waits looks whether it shall */
};

/* Longest payload of each type. */
static const size_t len_max[MIGRATE_N_TYPES] = {
	[MIGRATE_HELLO] = sizeof(struct migrate_hello),
	[MIGRATE_MACHINE] = MIGRATE_SECTIONS_MAX,
	[MIGRATE_PAGES] = sizeof(struct migrate_pages) + MIGRATE_PAGES_MAX,
	[MIGRATE_STATE] = MIGRATE_SECTIONS_MAX,
	[MIGRATE_FAIL] = MIGRATE_TEXT_MAX,
	[MIGRATE_HANDS] = MIGRATE_HANDS_MAX,
	[MIGRATE_PLAN] = sizeof(struct migrate_plan),
	[MIGRATE_OWED] = sizeof(struct migrate_owed) + MIGRATE_OWED_WORDS * 8,
	[MIGRATE_REQUEST] = MIGRATE_REQUEST_PAGES * 8,
	[MIGRATE_RECOVER] = MIGRATE_TOKEN_LEN,
	[MIGRATE_JOIN] = sizeof(struct migrate_join),
	[MIGRATE_DISKS] = MIGRATE_DISKS_MAX * sizeof(struct migrate_disk_row),
};

void migrate_link_init(struct migrate_link *l, int fd)
{
	*l = (struct migrate_link){ .fd = fd, .timeout_ms = MIGRATE_TIMEOUT_MS };
}

void migrate_link_fini(struct migrate_link *l)
{
	if (l->fd >= 0)
		close(l->fd);
	free(l->buf);
	*l = (struct migrate_link){ .fd = -1 };
}

void migrate_link_cancel(struct migrate_link *l)
{
	atomic_store(&l->is_cancelled, true);
	shutdown(l->fd, SHUT_RDWR);
}

static int link_broke(const struct migrate_link *l, int code, struct err *err)
{
	if (atomic_load(&l->is_cancelled))
		return err_set(err, -ECANCELED, "the migration was cancelled");
	if (code == -ECANCELED)
		return err_set(err, code, "another connection of the migration broke");
	if (code == -EPIPE)
		return err_set(err, code, "the other side has closed the connection");
	if (code == -ETIMEDOUT)
		return err_set(err, code, "the other side says nothing any more");
	return err_set(err, code, "the connection broke: %s", strerror(-code));
}

/* Wait until the socket is ready for EVENTS. */
static int link_wait(const struct migrate_link *l, short events)
{
	struct pollfd p = { .fd = l->fd, .events = events };

	for (unsigned left = l->timeout_ms; left && !atomic_load(&l->gives_up);) {
		unsigned ms = left < SLICE_MS ? left : SLICE_MS;
		int r = poll(&p, 1, (int)ms);

		if (r)
			return r > 0 || errno == EINTR ? 0 : -errno;
		left -= ms;
	}
	return atomic_load(&l->gives_up) ? -ECANCELED : -ETIMEDOUT;
}

/* --- sending --- */

union link_control {
	char buf[CMSG_SPACE(MIGRATE_FDS_MAX * sizeof(int))];
	struct cmsghdr align;
};

/* CONTROL: descriptors that go with these bytes; NULL: none. */
static int link_send_some(struct migrate_link *l, struct iovec *iov, int n, struct msghdr *control, ssize_t *done)
{
	struct msghdr m = control ? *control : (struct msghdr){ .msg_iov = NULL };

	m.msg_iov = iov;
	m.msg_iovlen = (size_t)n;

	*done = sendmsg(l->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (*done >= 0)
		return 0;
	*done = 0;
	return errno == EAGAIN ? link_wait(l, POLLOUT) : errno == EINTR ? 0 : -errno;
}

static int link_send(struct migrate_link *l, struct iovec *iov, int n, struct msghdr *control)
{
	while (n) {
		ssize_t done;
		int r = atomic_load(&l->is_cancelled) ? -ECANCELED : link_send_some(l, iov, n, control, &done);

		if (r < 0)
			return r;
		atomic_fetch_add_explicit(&l->sent, (uint64_t)done, memory_order_relaxed);
		if (done)
			control = NULL; /* they have gone along */
		for (; n && (size_t)done >= iov->iov_len; n--, iov++)
			done -= (ssize_t)iov->iov_len;
		if (n) {
			iov->iov_base = (char *)iov->iov_base + done;
			iov->iov_len -= (size_t)done;
		}
	}
	return 0;
}

static int link_send_record(struct migrate_link *l, enum migrate_type type, const void *a, size_t a_len, const void *b,
			    size_t b_len, struct msghdr *control, struct err *err)
{
	struct migrate_head h = { .type = le32_of(type), .len = le32_of((uint32_t)(a_len + b_len)) };
	struct iovec iov[3] = {
		{ &h, sizeof(h) }, { (void *)(uintptr_t)a, a_len }, { (void *)(uintptr_t)b, b_len },
	};
	uint32_t crc = crc32c(0, &h, sizeof(h));

	if (a_len)
		crc = crc32c(crc, a, a_len);
	if (b_len)
		crc = crc32c(crc, b, b_len);
	h.crc = le32_of(crc);
	int r = link_send(l, iov, 3, control);
	return r < 0 ? link_broke(l, r, err) : 0;
}

int migrate_send(struct migrate_link *l, enum migrate_type type, const void *a, size_t a_len, const void *b, size_t b_len,
		 struct err *err)
{
	return link_send_record(l, type, a, a_len, b, b_len, NULL, err);
}

int migrate_send_fds(struct migrate_link *l, enum migrate_type type, const void *p, size_t len, const int *fds, unsigned n,
		     struct err *err)
{
	union link_control control = { .buf = "" };
	struct msghdr m = { .msg_control = control.buf, .msg_controllen = CMSG_SPACE(n * sizeof(int)) };

	if (!n)
		return migrate_send(l, type, p, len, NULL, 0, err);
	*CMSG_FIRSTHDR(&m) = (struct cmsghdr){ CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, n * sizeof(int));
	return link_send_record(l, type, p, len, NULL, 0, &m, err);
}

void migrate_send_fail(struct migrate_link *l, const struct err *err)
{
	size_t len = strlen(err->msg);

	l->timeout_ms = 1000;           /* it may be the connection that failed */
	atomic_store(&l->gives_up, false);
	(void)migrate_send(l, MIGRATE_FAIL, err->msg, len < MIGRATE_TEXT_MAX ? len : MIGRATE_TEXT_MAX, NULL, 0, NULL);
}

/* --- receiving --- */

/* Descriptors that come beside bytes; those that are not expected go at once. */
struct link_fds {
	int *fd;
	unsigned n;
};

static void link_take_fds(struct msghdr *m, struct link_fds *fds)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (unsigned i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (fds->n < MIGRATE_FDS_MAX)
				fds->fd[fds->n++] = fd;
			else
				close(fd);
		}
	}
}

static ssize_t link_recv_some(const struct migrate_link *l, void *buf, size_t len, struct link_fds *fds)
{
	union link_control control;
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fds) {
		m.msg_control = control.buf;
		m.msg_controllen = sizeof(control.buf);
	}
	ssize_t n = recvmsg(l->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n > 0 && fds)
		link_take_fds(&m, fds);
	return n;
}

static int link_recv(struct migrate_link *l, void *buf, size_t len, struct link_fds *fds)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = atomic_load(&l->is_cancelled) ? 0 : link_recv_some(l, p, len, fds);
		int r = n > 0 ? 0 : !n ? -EPIPE : errno == EAGAIN ? link_wait(l, POLLIN) : errno == EINTR ? 0 : -errno;

		if (r < 0)
			return r;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

/* The payload, LEN bytes, which the peer has only promised so far. */
static int link_recv_payload(struct migrate_link *l, size_t len)
{
	for (size_t have = 0; have < len;) {
		size_t n = len - have < GROW ? len - have : GROW;

		if (have + n > l->cap) {
			uint8_t *p = realloc(l->buf, have + n);

			if (!p)
				return -ENOMEM;
			l->buf = p;
			l->cap = have + n;
		}
		int r = link_recv(l, l->buf + have, n, NULL);
		if (r < 0)
			return r;
		have += n;
	}
	return 0;
}

/* What the peer gave as its reason; its bytes are shown to people. */
static int link_failed(const struct migrate_record *rec, struct err *err)
{
	char text[MIGRATE_TEXT_MAX + 1];

	for (size_t i = 0; i < rec->len; i++)
		text[i] = rec->p[i] >= 0x20 && rec->p[i] != 0x7f ? (char)rec->p[i] : '?';
	text[rec->len] = '\0';
	return err_set(err, -EREMOTEIO, "the other side says: %s", rec->len ? text : "(nothing)");
}

static int link_recv_record(struct migrate_link *l, unsigned wanted, struct migrate_record *out, struct link_fds *fds,
			    struct err *err)
{
	struct migrate_head h;
	int r = link_recv(l, &h, sizeof(h), fds);       /* descriptors come with the first byte */

	if (r < 0)
		return link_broke(l, r, err);
	uint32_t type = le32_get(h.type), len = le32_get(h.len), crc = le32_get(h.crc);
	if (!type || type >= MIGRATE_N_TYPES || !((wanted | MIGRATE_BIT(MIGRATE_FAIL)) >> type & 1) || len > len_max[type])
		return err_set(err, -EPROTO, "what came over the connection is no migration of a machine, or is out of order "
			       "(record %u of %u bytes)", type, len);
	r = link_recv_payload(l, len);
	if (r < 0)
		return link_broke(l, r, err);
	h.crc = le32_of(0);
	uint32_t sum = crc32c(0, &h, sizeof(h));
	if (len)
		sum = crc32c(sum, l->buf, len);
	if (sum != crc)
		return err_set(err, -EPROTO, "what came over the connection is damaged (record %u of %u bytes)", type, len);
	*out = (struct migrate_record){ .type = (enum migrate_type)type, .p = l->buf, .len = len };
	return type == MIGRATE_FAIL ? link_failed(out, err) : 0;
}

int migrate_recv(struct migrate_link *l, unsigned wanted, struct migrate_record *out, struct err *err)
{
	return link_recv_record(l, wanted, out, NULL, err);
}

bool migrate_link_has(const struct migrate_link *l, enum migrate_type type, unsigned ms)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };
	struct migrate_head h;
	struct iovec iov = { &h, sizeof(h) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	return poll(&p, 1, (int)ms) > 0 && recvmsg(l->fd, &m, MSG_DONTWAIT | MSG_PEEK) == sizeof(h) && le32_get(h.type) == type &&
	       !le32_get(h.len);
}

void migrate_recv_why(struct migrate_link *l, struct err *why)
{
	struct migrate_record rec;
	struct err said = ERR_INIT;

	if ((why->code == -EPIPE || why->code == -ECONNRESET) && migrate_recv(l, 0, &rec, &said) == -EREMOTEIO)
		*why = said;
}

int migrate_recv_fds(struct migrate_link *l, unsigned wanted, struct migrate_record *out, int *fds, unsigned *n,
		     struct err *err)
{
	struct link_fds all = { .fd = fds };
	int r = link_recv_record(l, wanted, out, &all, err);

	*n = all.n;
	return r;
}

/* --- hello --- */

static bool link_is_unix(const struct migrate_link *l)
{
	int domain = 0;
	socklen_t len = sizeof(domain);

	return !getsockopt(l->fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && domain == AF_UNIX;
}

/* The other's HELLO; what comes along is *LIFE if it can be. */
static int link_recv_hello(struct migrate_link *l, struct migrate_record *rec, int *life, struct err *err)
{
	int fds[MIGRATE_FDS_MAX];
	unsigned n = 0;
	int r = migrate_recv_fds(l, MIGRATE_BIT(MIGRATE_HELLO), rec, fds, &n, err);

	for (unsigned i = 0; i < n; i++) {
		struct stat st;

		if (!r && life && *life < 0 && !fstat(fds[i], &st) && S_ISFIFO(st.st_mode))
			*life = fds[i];
		else
			close(fds[i]);
	}
	return r;
}

int migrate_hello(struct migrate_link *l, bool is_source, uint64_t ram, uint32_t pid, int *life, struct migrate_hello *theirs,
		  struct err *err)
{
	struct migrate_hello ours = {
		.magic = "", .version = le32_of(MIGRATE_VERSION), .pid = le32_of(pid), .ram = le64_of(ram),
	};
	struct migrate_record rec = { .len = 0 };
	int r = 0;

	memcpy(ours.magic, MIGRATE_MAGIC, sizeof(ours.magic));
	if (is_source && life)
		*life = -1;
	if (is_source)
		r = migrate_send(l, MIGRATE_HELLO, &ours, sizeof(ours), NULL, 0, err);
	if (!r)
		r = link_recv_hello(l, &rec, is_source ? life : NULL, err);
	if (r < 0)
		return r;
	if (rec.len != sizeof(*theirs) || memcmp(rec.p, MIGRATE_MAGIC, sizeof(ours.magic)))
		return err_set(err, -EPROTO, "the other side does not speak of migrating a machine");
	memcpy(theirs, rec.p, sizeof(*theirs));
	if (le32_get(theirs->version) != MIGRATE_VERSION)
		return err_set(err, -EPROTO, "the other side speaks version %" PRIu32 " of the migration stream, this one %d",
			       le32_get(theirs->version), MIGRATE_VERSION);
	return is_source ? 0 : migrate_send_fds(l, MIGRATE_HELLO, &ours, sizeof(ours), life, life && link_is_unix(l) ? 1 : 0, err);
}

bool migrate_peer_is_own(const struct migrate_link *l, uid_t user)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);

	if (!link_is_unix(l) || getsockopt(l->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return false;
	return peer.uid == user || !peer.uid;
}
