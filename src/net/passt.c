/* SPDX-License-Identifier: Apache-2.0 */
#include "net/passt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "net/net.h"
#include "util/checked.h"
#include "util/err.h"

extern char **environ;

enum { PASST_CHILD_FD = 3 };            /* the socket in the child */

/* passt also reports that there is no syslog. */
void passt_last_line(char *text, char *out, size_t cap)
{
	char *save = NULL;

	snprintf(out, cap, "no reason given");
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		if (*l && strncmp(l, "Failed to send", 14) && strncmp(l, "Don't run as root", 17))
			snprintf(out, cap, "%s", l);
}

struct passt_pipes {
	int sock[2], ready[2], errors[2];       /* ours, the child's */
};

static void passt_pipes_close(struct passt_pipes *p)
{
	int *all[] = { p->sock, p->ready, p->errors };

	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		for (unsigned k = 0; k < 2; k++)
			if (all[i][k] >= 0)
				close(take_fd(&all[i][k]));
}

/* The child has them. */
static void passt_pipes_close_theirs(struct passt_pipes *p)
{
	close(take_fd(&p->ready[1]));
	close(take_fd(&p->errors[1]));
	close(take_fd(&p->sock[1]));
}

static int passt_pipes_open(struct passt_pipes *p, struct err *err)
{
	*p = (struct passt_pipes){ { -1, -1 }, { -1, -1 }, { -1, -1 } };
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->sock) < 0 ||
	    pipe2(p->ready, O_CLOEXEC) < 0 || pipe2(p->errors, O_CLOEXEC) < 0 ||
	    /* passt opens /dev/stdout by name, perhaps as 'nobody' already */
	    fchmod(p->ready[1], 0666) < 0 ||
	    fcntl(p->sock[0], F_SETFL, O_NONBLOCK) < 0 || fcntl(p->errors[0], F_SETFL, O_NONBLOCK) < 0) {
		int e = errno;

		passt_pipes_close(p);
		return err_set(err, -e, "cannot set up a connection to passt: %s", strerror(e));
	}
	return 0;
}

/* ARGV for N forwards F; their texts are kept in SPEC. */
static void passt_argv(const struct net_forward *f, unsigned n_forward, const char **argv, char spec[][80])
{
	static const char *const fixed[] = { "passt", "-f", "-q", "-P", "/dev/stdout", "--fd", "3" };
	unsigned n = 0;

	_Static_assert(PASST_CHILD_FD == 3, "as in the arguments");
	for (unsigned i = 0; i < ARRAY_LEN(fixed); i++)
		argv[n++] = fixed[i];
	for (unsigned i = 0; i < n_forward; i++, f++) {
		snprintf(spec[i], sizeof(spec[i]), "%s%s%u:%u", f->host_addr, f->host_addr[0] ? "/" : "",
			 f->host_port, f->guest_port);
		argv[n++] = f->is_udp ? "-u" : "-t";
		argv[n++] = spec[i];
	}
	argv[n] = NULL;
}

static int passt_spawn(pid_t *pid, const struct net_forward *f, unsigned n_forward, const struct passt_pipes *p, struct err *err)
{
	const char *argv[8 + 2 * PASST_FORWARDS_MAX];
	char spec[PASST_FORWARDS_MAX][80];
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;

	passt_argv(f, n_forward, argv, spec);
	sigemptyset(&none);
	sigfillset(&all);
	sigdelset(&all, SIGPIPE);       /* ignored here: nobody may be left to hear its complaints */
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&fa, p->ready[1], 1);
	posix_spawn_file_actions_adddup2(&fa, p->errors[1], 2);
	posix_spawn_file_actions_adddup2(&fa, p->sock[1], PASST_CHILD_FD);

	int e = posix_spawnp(pid, "passt", &fa, &attr, (char *const *)argv, environ);

	posix_spawn_file_actions_destroy(&fa);
	posix_spawnattr_destroy(&attr);
	if (!e)
		return 0;
	*pid = 0;
	if (e == ENOENT)
		return err_set(err, -ENOENT, "the program 'passt' is not installed; install the package 'passt', "
			       "or use net=tap or net=none");
	return err_set(err, -e, "cannot start passt: %s", strerror(e));
}

/* Wait until the child is ready. The pipe ends when it gives up. */
static int passt_wait_ready(const struct passt_pipes *p, struct err *err)
{
	struct pollfd pfd = { .fd = p->ready[0], .events = POLLIN };
	char text[2048], line[256];
	int r;

	do
		r = poll(&pfd, 1, PASST_START_MS);
	while (r < 0 && errno == EINTR);
	if (r > 0 && read(p->ready[0], text, sizeof(text)) > 0)
		return 0;
	if (!r)
		return err_set(err, -ETIMEDOUT, "passt is not ready after %d seconds", PASST_START_MS / 1000);

	ssize_t n = read(p->errors[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	passt_last_line(text, line, sizeof(line));
	if (strstr(line, "Failed to bind"))
		return err_set(err, -EADDRINUSE, "a forwarded port is taken by another program or needs root "
			       "(passt says: %s)", line);
	return err_set(err, -EIO, "passt gave up: %s", line);
}

int passt_start(struct passt *out, const struct net_forward *forward, unsigned n_forward, struct err *err)
{
	struct passt_pipes p;
	pid_t pid = 0;
	int r = n_forward <= PASST_FORWARDS_MAX ? passt_pipes_open(&p, err) :
		err_set(err, -EINVAL, "at most %d ports can be forwarded", PASST_FORWARDS_MAX);

	if (r < 0)
		return r;
	r = passt_spawn(&pid, forward, n_forward, &p, err);
	if (!r) {
		passt_pipes_close_theirs(&p);
		r = passt_wait_ready(&p, err);
	}
	if (!r)
		*out = (struct passt){ .pid = pid, .sock = take_fd(&p.sock[0]), .errors = take_fd(&p.errors[0]) };
	passt_pipes_close(&p);
	if (r < 0)
		passt_end(pid, -1);
	return r;
}

void passt_end(pid_t pid, int pidfd)
{
	static const int signals[] = { 0, SIGTERM, SIGKILL };
	bool has_to_end = false;

	for (unsigned i = 0; pid && i < ARRAY_LEN(signals); i++) {
		struct pollfd pfd = { .fd = pidfd, .events = POLLIN };

		if (signals[i])         /* a jail refuses that */
			has_to_end = !kill(pid, signals[i]) && signals[i] == SIGKILL;
		if (pidfd >= 0)
			poll(&pfd, 1, PASST_STOP_MS);
		if (waitpid(pid, NULL, has_to_end ? 0 : WNOHANG) != 0)
			pid = 0;
	}
}
