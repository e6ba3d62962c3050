/* SPDX-License-Identifier: Apache-2.0 */
/* `viv-vmm ctl SOCKET upgrade [BINARY]`: start another viv-vmm that takes the machine over. What fails before it has done so
 * leaves the machine where it is, and the other one ends. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include "util/cleanup.h"
#include "util/err.h"
#include "util/log.h"
#include "util/unixsock.h"
#include "vm/ctl_priv.h"
#include "vm/migrate.h"

extern char **environ;

enum { START_MS = 20000, POLL_MS = 5, END_MS = 5000 };

struct ctl_upgrade {
	pid_t pid;
	char path[UNIXSOCK_PATH_MAX + 16];      /* where it waits */
	char engine[32];
};

static int upgrade_spawn(struct ctl_upgrade *u, const char *binary, struct err *err)
{
	char address[sizeof(u->path) + 8];
	char *argv[] = { (char *)"viv-vmm", (char *)"--engine", u->engine, (char *)"--takeover", address, NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;

	snprintf(address, sizeof(address), "unix:%s", u->path);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	int r = posix_spawn(&u->pid, binary, &fa, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	return r ? err_set(err, -r, "cannot start '%s': %s", binary, strerror(r)) : 0;
}

/* A connected socket. */
static int upgrade_connect(const struct ctl_upgrade *u, const char *binary, struct err *err)
{
	for (int ms = 0; ms < START_MS; ms += POLL_MS) {
		int fd = unixsock_connect(u->path, NULL);

		if (fd >= 0)
			return fd;
		if (waitpid(u->pid, NULL, WNOHANG) != 0)
			return err_set(err, -ECHILD, "'%s' has ended at once", binary);
		nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000 }, NULL);
	}
	return err_set(err, -ETIMEDOUT, "'%s' does not wait for a machine", binary);
}

/* It has no machine: it ends by itself, or it hangs and is of no use. */
static void upgrade_give_up(const struct ctl_upgrade *u)
{
	for (int ms = 0; ms < END_MS; ms += POLL_MS) {
		if (waitpid(u->pid, NULL, WNOHANG) != 0)
			return;
		nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000 }, NULL);
	}
	kill(u->pid, SIGKILL);
	waitpid(u->pid, NULL, 0);
}

/* The machine's process, if the one that answers is what was started, or behind it; 0: another answers, or none. */
static pid_t upgrade_find(const struct ctl_upgrade *u, const char *socket)
{
	json_t *info = NULL;
	pid_t pid = 0;

	if (!ctl_ask(socket, "info", NULL, -1, &info, NULL))
		pid = (pid_t)json_integer_value(json_object_get(info, "pid"));
	if (pid != u->pid && json_integer_value(json_object_get(info, "front")) != u->pid)
		pid = 0;
	json_decref(info);
	return pid;
}

static void upgrade_print_pid(const struct ctl_upgrade *u, const char *socket)
{
	pid_t pid = upgrade_find(u, socket);

	printf("pid: %d\n", (int)(pid ? pid : u->pid));
}

/* The old process ended before it answered. It may have handed the machine over, which the new one alone knows: that ends by itself
 * if it has none, and is not to be killed if it has. 0: it has. */
static int upgrade_settle(struct ctl_upgrade *u, const char *socket, struct err *err)
{
	for (int ms = 0; ms < END_MS; ms += POLL_MS) {
		if (waitpid(u->pid, NULL, WNOHANG) != 0) {
			u->pid = 0;
			return err->code;
		}
		if (upgrade_find(u, socket))
			return 0;
		nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000 }, NULL);
	}
	return err_wrap(err, err->code, "process %d was to take the machine over, and neither ends nor answers on '%s'; look whether the machine "
			"runs there before you end it", (int)u->pid, socket);
}

/* What became of the request, which failed with R: is the new process, which was connected, of no use? */
static int upgrade_failed(struct ctl_upgrade *u, const char *socket, int r, struct err *err)
{
	if (r == -EIO)                  /* an answer: the machine is where it was */
		return r;
	if (r == -EINPROGRESS) {        /* an answer that says that it does not know */
		u->pid = 0;
		return r;
	}
	r = upgrade_settle(u, socket, err);
	if (!r) {
		log_warn("the old process ended before it answered; the machine runs in the new one");
		upgrade_print_pid(u, socket);
	} else {
		u->pid = 0;
	}
	return r;
}

static int upgrade_run(struct ctl_upgrade *u, const char *socket, const char *binary, struct err *err)
{
	json_t *info = NULL, *result = NULL;
	int r = ctl_ask(socket, "info", NULL, -1, &info, err);

	if (!r)
		snprintf(u->engine, sizeof(u->engine), "%s", json_string_value(json_object_get(info, "engine")));
	json_decref(info);
	if (!r)
		r = upgrade_spawn(u, binary, err);
	if (r < 0)
		return r;
	AUTO_FD int fd = upgrade_connect(u, binary, err);
	if (fd < 0)
		return fd;
	r = ctl_ask(socket, "upgrade", NULL, fd, &result, err);
	auto_fd(&fd);                   /* the machine has it, or nobody: who waits at the other end hears that */
	fd = -1;
	if (!r) {
		upgrade_print_pid(u, socket);
		printf("pause_ns: %" JSON_INTEGER_FORMAT "\n", json_integer_value(json_object_get(result, "pause_ns")));
	}
	json_decref(result);
	return r ? upgrade_failed(u, socket, r, err) : 0;
}

int ctl_upgrade(const char *socket, int argc, char **argv, struct err *err)
{
	const char *binary = argc ? argv[0] : "/proc/self/exe";
	struct ctl_upgrade u = { .pid = 0 };

	if (argc > 1 || (argc && argv[0][0] == '-')) {
		err_set(err, -EINVAL, "usage: viv-vmm ctl SOCKET upgrade [BINARY]");
		return CTL_USAGE;
	}
	if ((size_t)snprintf(u.path, sizeof(u.path), "%s.up%d", socket, (int)getpid()) > UNIXSOCK_PATH_MAX) {
		err_set(err, -ENAMETOOLONG, "'%s' is too long for another socket beside it", socket);
		return CTL_USAGE;
	}
	int r = upgrade_run(&u, socket, binary, err);
	if (r < 0 && u.pid > 0)
		upgrade_give_up(&u);
	(void)unlink(u.path);
	return r < 0 ? CTL_REFUSED : CTL_DONE;
}
