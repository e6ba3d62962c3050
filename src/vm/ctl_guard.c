/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_guard.c - what must not be left half done is done by a process of its own session, which goes on when whoever waits for it is
 * interrupted or killed, and undoes then what it has begun. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "util/checked.h"
#include "util/io.h"
#include "vm/ctl_priv.h"

struct guard_result {
	int r;
	struct err err;
};

bool ctl_guard_ends(const struct ctl_guard *g)
{
	struct pollfd p = { .fd = g->fd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;      /* nothing is ever said but the end */
}

/* Signals that end a program, but for those that this one has been told to ignore. */
static void guard_signals(sigset_t *out)
{
	static const int ends[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

	sigemptyset(out);
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		struct sigaction now;

		if (!sigaction(ends[i], NULL, &now) && now.sa_handler != SIG_IGN)
			sigaddset(out, ends[i]);
	}
}

__attribute__((noreturn)) static void guard_work(struct ctl_guard *g, int (*fn)(void *arg, const struct ctl_guard *g, struct err *err), void *arg)
{
	struct guard_result result = { .r = 0 };

	setsid();
	prctl(PR_SET_NAME, "viv-vmm-ctl", 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);       /* who reads what we print may have gone, too */
	result.r = fn(arg, g, &result.err);
	fflush(stdout);
	(void)send(g->fd, &result, sizeof(result), MSG_NOSIGNAL);
	_exit(0);
}

/* Until it has ended. The signal that has come meanwhile, and been passed on; 0: none. */
static int guard_wait(int fd, int signals, pid_t pid, struct guard_result *result)
{
	struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
	struct signalfd_siginfo info;
	int came = 0;

	while (!p[0].revents) {
		if (poll(p, ARRAY_LEN(p), -1) < 0 || !p[1].revents || read(signals, &info, sizeof(info)) != sizeof(info))
			continue;
		came = came ? came : (int)info.ssi_signo;
		shutdown(fd, SHUT_WR);
	}
	if (io_read_full(fd, result, sizeof(*result)) != sizeof(*result)) {
		result->r = -ECHILD;
		err_set(&result->err, -ECHILD, "process %d, which did it, has been killed, and nothing is undone: look whether the machine is "
			"paused, and for files that are left", (int)pid);
	}
	waitpid(pid, NULL, 0);
	return came;
}

int ctl_guarded(int (*fn)(void *arg, const struct ctl_guard *g, struct err *err), void *arg, struct err *err)
{
	struct ctl_guard g;
	struct guard_result result;
	sigset_t ends;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(err, -errno, "cannot make a pair of sockets: %s", strerror(errno));
	guard_signals(&ends);
	sigprocmask(SIG_BLOCK, &ends, &g.signals);
	AUTO_FD int signals = signalfd(-1, &ends, SFD_CLOEXEC), ours = sv[0], its = sv[1];
	fflush(stdout);
	pid_t pid = signals < 0 ? -1 : fork();

	if (!pid) {
		g.fd = its;
		close(ours);
		guard_work(&g, fn, arg);
	}
	int e = errno;

	auto_fd(&its);
	its = -1;
	int came = pid < 0 ? 0 : guard_wait(ours, signals, pid, &result);
	sigprocmask(SIG_SETMASK, &g.signals, NULL);
	if (came)
		raise(came);
	if (pid < 0)
		return err_set(err, -e, "cannot start a process: %s", strerror(e));
	return result.r < 0 && result.err.code ? err_set(err, result.r, "%s", result.err.msg) : result.r;
}
