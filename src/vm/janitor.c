/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/janitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/fatal.h"
#include "vm/config.h"
#include "vm/group.h"
#include "vm/jail.h"

enum { PATHS_MAX = CONFIG_CONSOLES_MAX + 3, FINISH_MS = 1000, JANITOR_FD = 0, JANITOR_END_FD = 1, JANITOR_KILL_FD = 2 };
/* Of a group: how often is looked whether all have gone, how long they may take by themselves, and after that. */
enum { GROUP_PAUSE_MS = 5, GROUP_GRACE_MS = 2000, GROUP_PATIENCE_MS = 10000 };
_Static_assert((int)PATHS_MAX + (int)GROUP_HIERARCHIES <= (int)JAIL_REMOVABLE_MAX, "all of them");

/* What a byte says: 0, that the sockets are there; else why the machine has ended. */
static const char *const end_reasons[] = { NULL, "power off", "reset", "crash", "error", "exit port", "quit", "signal", "saved", "migrated" };

struct janitor_paths {
	const char *path[PATHS_MAX];
	struct stat st[PATHS_MAX];      /* what was there when all of them were ours; st_ino 0: nothing */
	unsigned n;
	const char *group[GROUP_HIERARCHIES];
	unsigned n_groups;
	int kill;                       /* the file by which version 2 kills all in a group; -1: there is none */
};

static void janitor_collect_group(struct janitor_paths *p, const struct group *g)
{
	char path[GROUP_PATH_MAX + 16];

	p->kill = -1;
	for (; g && p->n_groups < g->n; p->n_groups++) {
		p->group[p->n_groups] = g->folder[p->n_groups];
		snprintf(path, sizeof(path), "%s/cgroup.kill", p->group[p->n_groups]);
		if (p->kill < 0)
			p->kill = open(path, O_WRONLY | O_CLOEXEC);
	}
}

static void janitor_collect(struct janitor_paths *p, const struct config *cfg)
{
	static const char prefix[] = "socket:";

	if (cfg->control)
		p->path[p->n++] = cfg->control;
	if (cfg->keeps_incoming && !strncmp(cfg->incoming, "unix:", 5))
		p->path[p->n++] = cfg->incoming + 5;
	if (cfg->vsock)
		p->path[p->n++] = cfg->vsock;
	for (unsigned i = 0; i < cfg->n_consoles; i++) {
		if (!strncmp(cfg->consoles[i].target, prefix, strlen(prefix)))
			p->path[p->n++] = cfg->consoles[i].target + strlen(prefix);
	}
}

/* --- the other process --- */

static void janitor_look(struct janitor_paths *p)
{
	for (unsigned i = 0; i < p->n; i++) {
		if (lstat(p->path[i], &p->st[i]) < 0 || !S_ISSOCK(p->st[i].st_mode))
			p->st[i].st_ino = 0;
	}
}

/* Another machine may have taken a place by now. */
static void janitor_remove(const struct janitor_paths *p)
{
	for (unsigned i = 0; i < p->n; i++) {
		struct stat now;

		if (p->st[i].st_ino && !lstat(p->path[i], &now) && now.st_ino == p->st[i].st_ino && now.st_dev == p->st[i].st_dev)
			unlink(p->path[i]);
	}
}

static void janitor_write_end(unsigned char reason)
{
	char line[32];

	if (reason >= ARRAY_LEN(end_reasons))
		return;
	int n = snprintf(line, sizeof(line), "%s\n", end_reasons[reason]);
	/* Nobody is left to tell of a failure. */
	if (write(JANITOR_END_FD, line, (size_t)n) < 0)
		return;
}

/* Its processes end by themselves, but it takes them a moment. One that hangs is killed. */
static void janitor_remove_group(const struct janitor_paths *p)
{
	bool is_there = p->n_groups;

	for (int ms = 0; is_there && ms < GROUP_PATIENCE_MS; ms += GROUP_PAUSE_MS) {
		is_there = false;
		for (unsigned i = 0; i < p->n_groups; i++)
			is_there |= rmdir(p->group[i]) < 0 && errno != ENOENT;
		if (is_there)
			(void)nanosleep(&(struct timespec){ .tv_nsec = GROUP_PAUSE_MS * 1000000L }, NULL);
		if (ms >= GROUP_GRACE_MS && p->kill >= 0 && write(JANITOR_KILL_FD, "1", 1) < 0)
			return;
	}
}

static void janitor_take_fds(int fd, int end, int kill)
{
	static const int none[] = { JANITOR_END_FD, JANITOR_KILL_FD };
	const int from[] = { end, kill };

	dup2(fd, JANITOR_FD);
	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		if (from[i] >= 0)
			dup2(from[i], none[i]);
		else
			close(none[i]);
	}
	(void)close_range(JANITOR_KILL_FD + 1, ~0u, 0);
}

__attribute__((noreturn)) static void janitor_main(int fd, int end, struct janitor_paths *p)
{
	struct jail_removable what = { p->path, p->group, p->n, p->n_groups };
	sigset_t all;
	unsigned char byte;
	ssize_t n;

	sigfillset(&all);       /* the terminal's signals are for the machine */
	fatal_unblock(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_NAME, "viv-janitor", 0, 0, 0);
	janitor_take_fds(fd, end, p->kill);
	if (jail_enter_remover(&what, NULL) < 0)
		_exit(1);       /* rather a socket that stays; and what refuses this will refuse the machine its own jail, which tells */
	do {
		n = read(JANITOR_FD, &byte, 1);
		if (n == 1 && byte)
			janitor_write_end(byte);
		else if (n == 1)
			janitor_look(p);
	} while (n > 0 || (n < 0 && errno == EINTR));
	janitor_remove(p);
	close(JANITOR_FD);              /* who waits for that much may end, and with it leave the group */
	janitor_remove_group(p);
	_exit(0);
}

/* --- this one --- */

/* END: the file for the reason; -1: none. */
static int janitor_fork(struct janitor *j, struct janitor_paths *p, int end, struct err *err)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return err_set(err, -errno, "cannot make a pair of sockets: %s", strerror(errno));
	pid_t pid = fork();
	if (!pid)
		janitor_main(sv[1], end, p);
	int r = pid < 0 ? -errno : 0;
	close(sv[1]);
	j->fd = sv[0];
	j->pid = pid > 0 ? pid : 0;
	return r < 0 ? err_set(err, r, "cannot start the process that removes sockets: %s", strerror(-r)) : 0;
}

int janitor_start(struct janitor *j, const struct config *cfg, const struct group *g, struct err *err)
{
	const char *end_file = cfg ? cfg->end_file : NULL;
	struct janitor_paths p = { .n = 0 };

	j->fd = -1;
	if (cfg)
		janitor_collect(&p, cfg);
	if (!p.n && !end_file && (!g || !g->n))
		return 0;
	AUTO_FD int end = end_file ? open(end_file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;
	if (end_file && end < 0)
		return err_set(err, -errno, "cannot open '%s', where the reason of the end shall be: %s", end_file, strerror(errno));
	janitor_collect_group(&p, g);
	int r = janitor_fork(j, &p, end, err);
	auto_fd(&p.kill);
	return r;
}

void janitor_note(struct janitor *j)
{
	if (j->fd >= 0)
		(void)send(j->fd, "", 1, MSG_NOSIGNAL);
}

void janitor_note_end(struct janitor *j, const char *reason)
{
	for (unsigned char i = 1; j->fd >= 0 && reason && i < ARRAY_LEN(end_reasons); i++)
		if (!strcmp(reason, end_reasons[i]))
			(void)send(j->fd, &i, 1, MSG_NOSIGNAL);
}

void janitor_finish(struct janitor *j)
{
	struct pollfd p = { .fd = j->fd, .events = POLLIN };

	if (j->fd < 0)
		return;
	shutdown(j->fd, SHUT_WR);
	(void)poll(&p, 1, FINISH_MS);   /* until it has gone */
	close(j->fd);
	j->fd = -1;
}

int janitor_adopt(struct janitor *j, int fd)
{
	j->fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd >= 0 && j->fd < 0 ? -errno : 0;
}

void janitor_forget(struct janitor *j)
{
	if (j->fd >= 0)
		close(j->fd);
	j->fd = -1;
}
