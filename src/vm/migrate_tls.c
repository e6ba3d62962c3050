/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/migrate_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/err.h"
#include "util/fatal.h"
#include "util/log.h"
#include "vm/jail.h"
#include "vm/migrate.h"
#include "vm/tls.h"

enum {
	READY_FD = 3,           /* in the new process: how it went goes there; what listens passes connections over it */
	FIRST_FD = 4,
	CONNECTIONS_MAX = 64,   /* that a listening process carries in its life, as it makes the sockets before it is in the jail */
};

/* One connection in the new process. */
struct carried {
	struct tls_conn *c;
	int fd, plain;
	_Atomic unsigned *n;    /* how many there are */
	pthread_t thread;
};

/* --- in the new process --- */

static void *carry_main(void *arg)
{
	struct carried *c = arg;

	tls_carry(c->c, c->plain);
	tls_conn_free(c->c);
	close(c->fd);
	close(c->plain);
	if (c->n) {             /* nobody waits for this thread */
		pthread_detach(pthread_self());
		atomic_fetch_sub(c->n, 1);
		free(c);
	}
	return NULL;
}

/* Whoever reads what the machine says is not to wait for this process. */
static void child_drop_output(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = STDIN_FILENO; null >= 0 && fd <= STDOUT_FILENO; fd++)
		(void)dup2(null, fd);
	auto_fd(&null);
}

/* The descriptors in FD go to FIRST_FD and following, READY to READY_FD; the rest is closed. */
static void child_take_fds(const int *fd, unsigned n, int ready)
{
	enum { HIGH = 512 };

	for (unsigned i = 0; i < n; i++)
		(void)dup2(fd[i], HIGH + (int)i);
	(void)dup2(ready, READY_FD);
	for (unsigned i = 0; i < n; i++)
		(void)dup2(HIGH + (int)i, FIRST_FD + (int)i);
	(void)close_range(FIRST_FD + n, ~0u, 0);
}

static int child_begin(struct tls **tls, const struct migrate_tls *t, struct err *err)
{
	sigset_t all;

	sigfillset(&all);       /* the terminal's signals are for the machine; it ends when its connections do */
	fatal_unblock(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_NAME, "viv-tls", 0, 0, 0);
	log_set_fd(STDERR_FILENO);
	child_drop_output();
	int r = tls_open(tls, t->folder, err);
	if (!r && t->has_jail)
		r = jail_enter(err);
	if (!r && t->has_jail)
		r = jail_filter(err);
	return r;
}

/* ERR code 0: all is well. */
static void child_report(const struct err *err)
{
	(void)send(READY_FD, err, sizeof(*err), MSG_NOSIGNAL);
}

/* FIRST_FD and the N - 1 behind it are connections, the N behind them sockets to the machine. */
__attribute__((noreturn)) static void child_connect(unsigned n, const struct migrate_tls *t)
{
	struct carried c[MIGRATE_SOCKETS_MAX] = { { .n = NULL } };
	struct tls *tls = NULL;
	struct err err = ERR_INIT;
	int r = child_begin(&tls, t, &err);

	for (unsigned i = 0; !r && i < n; i++) {
		c[i] = (struct carried){ .fd = FIRST_FD + (int)i, .plain = FIRST_FD + (int)(n + i) };
		r = tls_greet(&c[i].c, tls, c[i].fd, t->peer, &err);
	}
	for (unsigned i = 0; !r && i < n; i++) {
		r = -pthread_create(&c[i].thread, NULL, carry_main, &c[i]);
		if (r < 0)
			err_set(&err, r, "cannot start a thread: %s", strerror(-r));
	}
	child_report(&err);
	close(READY_FD);
	for (unsigned i = 0; !r && i < n; i++)
		pthread_join(c[i].thread, NULL);
	_exit(r < 0);
}

static void child_pass(int plain)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .buf = "" };
	struct iovec iov = { (char[1]){ 0 }, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf) };

	*CMSG_FIRSTHDR(&m) = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &plain, sizeof(int));
	(void)sendmsg(READY_FD, &m, MSG_NOSIGNAL);
}

/* Somebody has connected: FD, taken. SV: a pair of sockets, taken if 0 is returned. */
static int child_serve(const struct tls *tls, int fd, const int sv[2], _Atomic unsigned *n, struct err *err)
{
	struct carried *c = calloc(1, sizeof(*c));
	int r = c ? tls_greet(&c->c, tls, fd, NULL, err) : err_set(err, -ENOMEM, "out of memory");

	if (!r) {
		c->fd = fd;
		c->plain = sv[0];
		c->n = n;
		atomic_fetch_add(n, 1);
		r = -pthread_create(&c->thread, NULL, carry_main, c);
		if (r < 0)
			atomic_fetch_sub(n, 1);
	}
	if (r < 0) {
		if (c)
			tls_conn_free(c->c);
		free(c);
		close(fd);
		return r;
	}
	child_pass(sv[1]);
	close(sv[1]);
	return 0;
}

static int child_make_pairs(int pair[CONNECTIONS_MAX][2], struct err *err)
{
	for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair[i]) < 0)
			return err_set(err, -errno, "cannot make a pair of sockets: %s", strerror(errno));
	}
	return 0;
}

/* FIRST_FD listens. */
__attribute__((noreturn)) static void child_listen(const struct migrate_tls *t)
{
	static _Atomic unsigned n;
	struct pollfd p[2] = { { .fd = FIRST_FD, .events = POLLIN }, { .fd = READY_FD } };
	int pair[CONNECTIONS_MAX][2];
	unsigned n_used = 0;
	struct tls *tls = NULL;
	struct err err = ERR_INIT;
	int r = child_make_pairs(pair, &err);

	if (!r)
		r = child_begin(&tls, t, &err);
	child_report(&err);
	while (!r && !(p[1].revents & (POLLHUP | POLLERR))) {
		struct err why = ERR_INIT;

		p[1].revents = 0;
		if (poll(p, 2, -1) <= 0 || !(p[0].revents & POLLIN))
			continue;
		int fd = migrate_accept(FIRST_FD, &why);
		if (fd < 0 || n_used == CONNECTIONS_MAX)
			auto_fd(&fd);
		else if (!child_serve(tls, fd, pair[n_used], &n, &why))
			n_used++;
		else
			log_warn("somebody who has connected is turned away: %s", why.msg);
	}
	close(FIRST_FD);
	while (!r && atomic_load(&n))   /* what is being carried */
		(void)poll(NULL, 0, 100);
	_exit(r < 0);
}

/* --- in this one --- */

/* How it went. */
static int parent_wait(int ready, struct err *err)
{
	struct err said = ERR_INIT;
	ssize_t n;

	do
		n = recv(ready, &said, sizeof(said), MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(said))
		return err_set(err, -ECHILD, "the process for TLS has ended at once");
	said.msg[sizeof(said.msg) - 1] = '\0';
	return said.code ? err_set(err, said.code, "%s", said.msg) : 0;
}

int migrate_tls_connect(int *fd, unsigned n, const struct migrate_tls *t, struct err *err)
{
	int all[2 * MIGRATE_SOCKETS_MAX], ours[MIGRATE_SOCKETS_MAX], sv[2];
	AUTO_FD int ready = -1;
	unsigned have = 0;
	int r = 0;

	for (; !r && have < n; have += !r) {
		r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0 ? -errno : 0;
		if (!r) {
			all[have] = fd[have];
			all[n + have] = sv[0];
			ours[have] = sv[1];
		}
	}
	if (!r)
		r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0 ? -errno : 0;
	pid_t pid = r < 0 ? 0 : fork();
	if (!r && !pid) {
		child_take_fds(all, 2 * n, sv[1]);
		child_connect(n, t);
	}
	if (!r) {
		ready = sv[0];
		close(sv[1]);
		r = pid < 0 ? -errno : 0;
	}
	if (r < 0)
		err_set(err, r, "cannot start the process for TLS: %s", strerror(-r));
	else
		r = parent_wait(ready, err);
	for (unsigned i = 0; i < have; i++) {
		close(all[n + i]);
		if (!r) {
			close(fd[i]);
			fd[i] = ours[i];
		} else {
			close(ours[i]);
		}
	}
	return r;
}

int migrate_tls_listen(int *listener, const struct migrate_tls *t, pid_t *helper, struct err *err)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(err, -errno, "cannot make a pair of sockets: %s", strerror(errno));
	pid_t pid = fork();
	if (!pid) {
		child_take_fds(listener, 1, sv[1]);
		child_listen(t);
	}
	int r = pid < 0 ? err_set(err, -errno, "cannot start the process for TLS: %s", strerror(errno)) : 0;
	close(sv[1]);
	if (!r)
		r = parent_wait(sv[0], err);
	if (r < 0) {
		close(sv[0]);
		return r;
	}
	close(*listener);
	*listener = sv[0];
	*helper = pid;
	return 0;
}
