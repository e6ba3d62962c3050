/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/pidns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/err.h"
#include "util/log.h"
#include "util/fds.h"

/* The descriptors, by place: the janitor's, the keeper's by interface. */
enum { JANITOR, KEEPER, SLOTS = KEEPER + NET_KEEPER_MAX, TEXT_CAP = SLOTS * 12 };
static const char variable[] = "VIV_VMM_OUTSIDE";

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
	memcpy(p->keeper, slot + KEEPER, sizeof(p->keeper));
	if (!p->is_inside)
		return;
	(void)prctl(PR_SET_NAME, "viv-vmm", 0, 0, 0);           /* not by what it was executed, /proc/self/exe */
	fds_close_others(slot, SLOTS);
}

/* --- the child that executes, until then: nothing but system calls, as it was not made by fork() --- */

static void __attribute__((noreturn)) pidns_child(const int *slot, const int *go, char **argv)
{
	char byte;

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

static int pidns_check(char **argv, struct err *err)
{
	for (char **a = argv; *a; a++) {
		if (strstr(*a, "fd:"))  /* it may have been read to its end */
			return err_set(err, -EINVAL, "'%s' names an open descriptor, which a machine that is detached does not get; give it a file, or leave "
				       "out '--pid-namespace detached'", *a);
	}
	if (!pidns_is_file(STDIN_FILENO))
		return err_set(err, -EINVAL, "with '--pid-namespace detached' standard input has to be the file for the machine's process number");
	return 0;
}

/* The number of a child of this process's parent, or -errno. */
static pid_t pidns_clone(void)
{
	struct clone_args a = { .flags = CLONE_NEWPID | CLONE_PARENT };
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

int pidns_detach(const struct pidns *p, char **argv, struct err *err)
{
	int slot[SLOTS], go[2];
	int r = pidns_check(argv, err);

	if (!r && pipe2(go, O_CLOEXEC) < 0)
		r = err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	if (r < 0)
		return r;
	slot[JANITOR] = p->janitor;
	memcpy(slot + KEEPER, p->keeper, sizeof(p->keeper));
	r = pidns_export(slot, err);
	if (r < 0) {
		close(go[0]);
		close(go[1]);
		return r;
	}
	pid_t pid = pidns_clone();
	if (!pid)
		pidns_child(slot, go, argv);
	unsetenv(variable);
	close(go[0]);
	AUTO_FD int begin = go[1];
	if (pid < 0) {
		log_info("no PID namespace of its own: %s", strerror(-pid));
		return 0;
	}
	r = pidns_write_numbers(pid, p->beside, err);
	if (!r && write(begin, "", 1) != 1)
		r = err_set(err, -errno, "cannot start the machine's process: %s", strerror(errno));
	if (r < 0)                              /* it goes when the pipe closes */
		return r;
	for (unsigned i = 0; i < SLOTS; i++) {
		if (slot[i] >= 0)
			close(slot[i]);         /* or nobody would ever see that the machine has ended */
	}
	return 1;
}
