/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/pidns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/err.h"
#include "util/fatal.h"
#include "util/log.h"
#include "util/fds.h"

/* The descriptors, by place: the janitor's, a pipe that closes when the one in front ends, the keeper's by interface. */
enum { JANITOR, FRONT, KEEPER, SLOTS = KEEPER + NET_KEEPER_MAX, TEXT_CAP = SLOTS * 12 };
static const char variable[] = "VIV_VMM_OUTSIDE";

static int front = -1;          /* inside: that pipe */

void pidns_inherit(struct pidns *p)
{
	const char *text = getenv(variable);
	int slot[SLOTS];
	char *end;

	memset(slot, 0xff, sizeof(slot));
	/* Whoever is not the first in a namespace has this from somebody else. */
	p->is_inside = text && getpid() == 1;
	for (unsigned i = 0; i < SLOTS && p->is_inside && *text; i++, text = end + (*end == ',')) {
		slot[i] = (int)strtol(text, &end, 10);
		if (slot[i] >= 0)
			(void)fcntl(slot[i], F_SETFD, FD_CLOEXEC);
	}
	unsetenv(variable);
	p->janitor = slot[JANITOR];
	front = slot[FRONT];
	memcpy(p->keeper, slot + KEEPER, sizeof(p->keeper));
	if (!p->is_inside)
		return;
	(void)prctl(PR_SET_NAME, "viv-vmm", 0, 0, 0);           /* not by what it was executed, /proc/self/exe */
	fds_close_others(slot, SLOTS);
}

int pidns_stay_bound(void)
{
	struct pollfd p = { .fd = front };

	if (front < 0)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return -errno;
	return poll(&p, 1, 0) ? -ECHILD : 0;    /* it ended before that */
}

pid_t pidns_number(void)
{
	char text[16] = "";
	ssize_t len = readlink("/proc/self", text, sizeof(text) - 1);
	long number = len > 0 ? strtol(text, NULL, 10) : 0;

	return number > 0 ? (pid_t)number : getpid();
}

/* --- the child, until it executes: nothing but system calls, as it was not made by fork() --- */

static void __attribute__((noreturn)) pidns_child(const int *slot, enum pidns_mode mode, const int *go, char **argv)
{
	char byte;

	/* Who waits in front of it may be killed, even before this. */
	if (mode == PIDNS_FRONT && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		_exit(1);
	close(go[1]);
	if (read(go[0], &byte, 1) != 1)         /* the other one is gone: nobody would know this one */
		_exit(1);
	for (unsigned i = 0; i < SLOTS; i++) {
		if (slot[i] >= 0)
			(void)fcntl(slot[i], F_SETFD, 0);
	}
	execv("/proc/self/exe", argv);
	_exit(1);
}

/* --- the one in front --- */

/* What somebody sends to this one is for the machine; what a terminal sends has gone to both. */
static void pidns_pass_on(int to, const siginfo_t *info)
{
	if (info->si_code != SI_KERNEL && info->si_signo != SIGCHLD)
		(void)syscall(SYS_pidfd_send_signal, to, info->si_signo, NULL, 0);
}

/* Until the machine has ended; *STATUS is what this one ends with, unless a signal ends it as well. */
static void pidns_wait(pid_t pid, int pidfd, const sigset_t *all, int *status)
{
	siginfo_t info;
	int how = 0;

	while (waitpid(pid, &how, WNOHANG) != pid) {
		if (sigwaitinfo(all, &info) >= 0)
			pidns_pass_on(pidfd, &info);
	}
	*status = WIFEXITED(how) ? WEXITSTATUS(how) : 1;
	if (WIFSIGNALED(how)) {
		sigset_t one;

		(void)signal(WTERMSIG(how), SIG_DFL);
		sigemptyset(&one);
		sigaddset(&one, WTERMSIG(how));
		(void)sigprocmask(SIG_UNBLOCK, &one, NULL);
		(void)raise(WTERMSIG(how));
	}
}

/* --- the one outside --- */

/* Others find the machine by the number in the file, and whether it is there by the file's lock. */
static int pidns_write_numbers(pid_t pid, const pid_t *beside, struct err *err)
{
	char text[16 * (1 + PIDNS_BESIDE)];
	int len = snprintf(text, sizeof(text), "%d\n", (int)pid);

	for (unsigned i = 0; i < PIDNS_BESIDE; i++)
		len += beside[i] ? snprintf(text + len, sizeof(text) - (size_t)len, "%d\n", (int)beside[i]) : 0;
	AUTO_FD int fd = open("/proc/self/fd/0", O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 || ftruncate(fd, 0) < 0 ? -1 : pwrite(fd, text, (size_t)len, 0);

	return n == len ? 0 : err_set(err, n < 0 ? -errno : -ENOSPC, "cannot write the machine's process number into the file that is standard input: %s",
				      strerror(n < 0 ? errno : ENOSPC));
}

static bool pidns_is_file(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode);
}

static int pidns_check(enum pidns_mode mode, char **argv, struct err *err)
{
	for (char **a = argv; *a; a++) {
		if (strstr(*a, "fd:"))  /* it may have been read to its end */
			return err_set(err, -EINVAL, "'%s' names an open descriptor, which a machine in a PID namespace of its own does not get; give it a "
				       "file, or leave out --pid-namespace", *a);
	}
	if (mode == PIDNS_DETACHED && !pidns_is_file(STDIN_FILENO))
		return err_set(err, -EINVAL, "with '--pid-namespace detached' standard input has to be the file for the machine's process number");
	return 0;
}

/* The number, or -errno. It is a child of this process or of its parent. */
static pid_t pidns_clone(enum pidns_mode mode, int *pidfd)
{
	struct clone_args a = {
		.flags = CLONE_NEWPID | CLONE_PIDFD | (mode == PIDNS_DETACHED ? CLONE_PARENT : 0),
		.pidfd = (uint64_t)(uintptr_t)pidfd, .exit_signal = mode == PIDNS_DETACHED ? 0 : SIGCHLD,
	};
	long pid = syscall(SYS_clone3, &a, sizeof(a));

	return pid < 0 ? -errno : (pid_t)pid;
}

static int pidns_export(const int *slot, struct err *err)
{
	char text[TEXT_CAP] = "";
	size_t len = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%d", i ? "," : "", slot[i]);
	return setenv(variable, text, 1) < 0 ? err_set(err, -errno, "out of memory") : 0;
}

int pidns_start(const struct pidns *p, enum pidns_mode mode, char **argv, int *status, struct err *err)
{
	int slot[SLOTS], go[2], pidfd = -1;
	sigset_t all;
	int r = pidns_check(mode, argv, err);

	if (!r && pipe2(go, O_CLOEXEC) < 0)
		r = err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	if (r < 0)
		return r;
	slot[JANITOR] = p->janitor;
	slot[FRONT] = mode == PIDNS_FRONT ? go[0] : -1;
	memcpy(slot + KEEPER, p->keeper, sizeof(p->keeper));
	r = pidns_export(slot, err);
	if (r < 0) {
		close(go[0]);
		close(go[1]);
		return r;
	}
	pid_t pid = pidns_clone(mode, &pidfd);
	if (!pid)
		pidns_child(slot, mode, go, argv);
	unsetenv(variable);
	close(go[0]);
	AUTO_FD int machine = pidfd, begin = go[1];
	if (pid < 0) {
		log_info("no PID namespace of its own: %s", strerror(-pid));
		return 0;
	}
	sigfillset(&all);
	fatal_unblock(&all);
	(void)sigprocmask(SIG_BLOCK, &all, NULL);
	if (mode == PIDNS_DETACHED)
		r = pidns_write_numbers(pid, p->beside, err);
	if (!r && write(begin, "", 1) != 1)
		r = err_set(err, -errno, "cannot start the machine's process: %s", strerror(errno));
	*status = 0;
	if (r < 0)                              /* it goes when the pipe closes */
		return r;
	for (unsigned i = 0; i < SLOTS; i++) {
		if (slot[i] >= 0 && i != FRONT)
			close(slot[i]);         /* or nobody would ever see that the machine has ended */
	}
	if (mode == PIDNS_FRONT)
		pidns_wait(pid, machine, &all, status);
	return 1;
}
