/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_sweep.c - a process that removes the name of a socket that was plugged into a machine, when the machine ends.
 *
 * The machine in its jail can remove nothing, and its janitor (janitor.h) knows the sockets that it was started with. So whoever plugs
 * one leaves this process behind. It takes nothing from the machine: it waits for the end of its process, and then, as another may have
 * taken the machine over with the socket, until nobody has that open any more. An epoll set tells: what is in one is not kept
 * open by it, leaves it when the last who has it closes it, and /proc lists it. It ends as well when the name has gone. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "util/checked.h"
#include "vm/ctl_priv.h"

enum { LOOK_MS = 1000 };        /* after a live upgrade, which nothing tells of */

struct sweep {
	const char *path;               /* absolute */
	int name;                       /* O_PATH: the inode's number is not another's meanwhile */
	int set, list;                  /* the epoll set, and what /proc tells of it */
	int changed;                    /* inotify: the name has gone, maybe */
	int machine;                    /* pidfd; -1: unknown, or its process has ended */
};

/* --- the other process --- */

/* Is it still what we know under that name? */
static bool sweep_is_ours(const struct sweep *s)
{
	struct stat named, ours;

	return !lstat(s->path, &named) && !fstat(s->name, &ours) && named.st_ino == ours.st_ino && named.st_dev == ours.st_dev;
}

/* Has anybody the socket open? */
static bool sweep_is_used(const struct sweep *s)
{
	char text[512];
	ssize_t n = pread(s->list, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = 0;
	return n < 0 || strstr(text, "tfd:");
}

/* Nothing but what the loop below does. */
static int sweep_confine(void)
{
	static const int calls[] = {
		SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(poll), SCMP_SYS(lstat), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(unlink),
		SCMP_SYS(close), SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall),
	};
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = f ? prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) : -ENOMEM;

	for (size_t i = 0; !r && i < ARRAY_LEN(calls); i++)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i], 0);
	if (!r)
		r = seccomp_load(f);    /* no new privileges, too */
	seccomp_release(f);
	return r;
}

__attribute__((noreturn)) static void sweep_main(struct sweep *s)
{
	struct pollfd p[] = { { .fd = s->changed, .events = POLLIN }, { .fd = s->machine, .events = POLLIN } };
	char events[4096];

	if (sweep_confine() < 0)
		_exit(1);               /* rather a name that stays */
	while (sweep_is_ours(s)) {
		if (p[1].fd < 0 && !sweep_is_used(s)) {
			unlink(s->path);
			break;
		}
		(void)poll(p, ARRAY_LEN(p), p[1].fd < 0 ? LOOK_MS : -1);
		if (p[0].revents && read(s->changed, events, sizeof(events)) < 0)
			break;
		if (p[1].revents)
			p[1].fd = -1;
	}
	_exit(0);
}

/* Between two forks: nobody's child, and no more open than it needs. */
__attribute__((noreturn)) static void sweep_become(struct sweep *s)
{
	int *const keep[] = { &s->name, &s->set, &s->changed, &s->machine };
	char list[64];
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);     /* a terminal's */
	setsid();
	if (fork())
		_exit(0);
	prctl(PR_SET_NAME, "viv-sweep", 0, 0, 0);
	/* Those that are needed first, then one after the other to the front. */
	for (size_t i = 0; i < ARRAY_LEN(keep); i++)
		*keep[i] = *keep[i] < 0 ? -1 : fcntl(*keep[i], F_DUPFD, 100);
	for (size_t i = 0; i < ARRAY_LEN(keep); i++) {
		if (*keep[i] >= 0)
			*keep[i] = dup2(*keep[i], (int)i);
		else
			close((int)i);  /* the socket, for one, which nobody would miss then */
	}
	(void)close_range(ARRAY_LEN(keep), ~0u, 0);
	snprintf(list, sizeof(list), "/proc/self/fdinfo/%d", s->set);
	s->list = open(list, O_RDONLY | O_CLOEXEC);     /* what it shows is this process's */
	if (chdir("/") < 0 || s->name < 0 || s->set < 0 || s->list < 0 || s->changed < 0)
		_exit(1);
	sweep_main(s);
}

/* --- this one --- */

/* The process that listens at the other end of SOCK, unless that has been taken over since. */
static int sweep_find_machine(int sock)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || who.pid <= 0 ? -1 : (int)syscall(SYS_pidfd_open, who.pid, 0);
}

int ctl_sweep_start(const char *path, int listener, int sock, struct err *err)
{
	AUTO(free) char *full = realpath(path, NULL);
	AUTO_FD int name = full ? open(full, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1, set = epoll_create1(EPOLL_CLOEXEC);
	AUTO_FD int changed = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), machine = sweep_find_machine(sock);
	struct sweep s = { .path = full, .name = name, .set = set, .list = -1, .changed = changed, .machine = machine };
	bool is_set = name >= 0 && !epoll_ctl(set, EPOLL_CTL_ADD, listener, &(struct epoll_event){ .events = 0 }) &&
		      inotify_add_watch(changed, full, IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF) >= 0;
	int e = errno;

	fflush(stdout);
	pid_t pid = is_set ? fork() : -1;
	if (!pid)
		sweep_become(&s);
	if (is_set)
		e = errno;
	if (pid < 0)
		return err_set(err, -e, "cannot start the process that removes '%s' when the machine ends: %s", path, strerror(e));
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	return 0;
}
