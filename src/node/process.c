/* SPDX-License-Identifier: Apache-2.0 */
#include "node/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/log.h"

enum { EXIT_NO_EXEC = 127, PATH_CAP = 1024 };

static void process_ready(struct loop_fd *h, unsigned events)
{
	struct process *p = container_of(h, struct process, watch);
	int status = -1;

	(void)events;
	if (p->is_child && waitpid(p->pid, &status, WNOHANG) != p->pid)
		return;
	p->status = p->is_child ? status : -1;
	process_forget(p);
	p->ended(p);
}

static int process_watch(struct process *p, struct loop *l, pid_t pid, bool is_child, struct err *err)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	int r = fd < 0 ? -errno : loop_fd_add(l, &p->watch, fd, LOOP_IN, process_ready);

	if (r < 0) {
		auto_fd(&fd);
		return err_set(err, r, "cannot watch process %d: %s", (int)pid, strerror(-r));
	}
	p->pid = pid;
	p->is_child = is_child;
	return 0;
}

void process_forget(struct process *p)
{
	if (!p->pid)
		return;
	int fd = p->watch.fd;

	loop_fd_del(&p->watch);
	close(fd);
	p->pid = 0;
}

void process_kill(struct process *p, int signo)
{
	if (p->pid && syscall(SYS_pidfd_send_signal, p->watch.fd, signo, NULL, 0) < 0 && errno != ESRCH)
		log_warn("cannot signal process %d: %s", (int)p->pid, strerror(errno));
}

void process_kill_group(struct process *p, int signo)
{
	/* It leads a session, so its number is its group's for as long as the process is there. */
	if (p->pid && kill(-p->pid, signo) < 0 && errno != ESRCH)
		log_warn("cannot signal process group %d: %s", (int)p->pid, strerror(errno));
}

/* What runs between fork and exec: only what a signal handler might do. LOCK is open for reading alone, as programs are there
 * that write to their standard input (dnsmasq, when an interface gets an address while it starts); NUMBER is the same file. */
static void __attribute__((noreturn)) process_child(int lock, int number, int log, char *const *argv)
{
	char text[16];
	sigset_t none;
	int null = log >= 0 ? log : open("/dev/null", O_WRONLY);

	sigemptyset(&none);
	setsid();
	for (int signo = 1; signo < SIGRTMIN; signo++)
		signal(signo, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (pwrite(number, text, (size_t)len, 0) == len && dup2(lock, STDIN_FILENO) >= 0 &&
	    dup2(null, STDOUT_FILENO) >= 0 && dup2(null, STDERR_FILENO) >= 0) {
		syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0);
		execv(argv[0], argv);
	}
	_exit(EXIT_NO_EXEC);
}

int process_start(struct process *p, struct loop *l, const struct process_spec *s, struct err *err)
{
	AUTO_FD int lock = open(s->lock_path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), log = -1;
	AUTO_FD int number = open(s->lock_path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	if (lock < 0 || number < 0)
		return err_set(err, -errno, "cannot open '%s': %s", s->lock_path, strerror(errno));
	if (flock(lock, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY, "'%s' is locked: its process is there already", s->lock_path);
	if (access(s->argv[0], X_OK) < 0)
		return err_set(err, -errno, "cannot start '%s': %s", s->argv[0], strerror(errno));
	if (s->log_path && (log = open(s->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600)) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", s->log_path, strerror(errno));
	/* The number of an earlier process must not be taken for this one's. */
	if (ftruncate(number, 0) < 0)
		return err_set(err, -errno, "cannot empty '%s': %s", s->lock_path, strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		return err_set(err, -errno, "cannot start '%s': %s", s->argv[0], strerror(errno));
	if (!pid)
		process_child(lock, number, log, s->argv);
	int r = process_watch(p, l, pid, true, err);
	if (r < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return r;
}

int process_find(struct process *p, struct loop *l, const char *lock_path, struct err *err)
{
	AUTO_FD int lock = open(lock_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[16] = "";

	if (lock < 0)
		return errno == ENOENT ? 0 : err_set(err, -errno, "cannot open '%s': %s", lock_path, strerror(errno));
	if (!flock(lock, LOCK_EX | LOCK_NB))
		return 0;
	ssize_t len = pread(lock, text, sizeof(text) - 1, 0);
	pid_t pid = len > 0 && strchr(text, '\n') ? (pid_t)strtol(text, NULL, 10) : 0;
	if (pid <= 0)
		return err_set(err, -EAGAIN, "the process of '%s' is being started", lock_path);
	int r = process_watch(p, l, pid, false, err);
	/* It may have ended since, and its number may be another's by now: the lock tells. */
	if (!r && !flock(lock, LOCK_EX | LOCK_NB)) {
		process_forget(p);
		return 0;
	}
	/* Its own children may have the lock a moment longer. */
	return r == -ESRCH ? -EAGAIN : r < 0 ? r : 1;
}

/* Is WORD one of the command line of PID? */
static bool process_has_word(pid_t pid, const char *word)
{
	char path[32], text[4096];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(text + at) + 1) {
		text[len] = 0;
		if (!strcmp(text + at, word))
			return true;
	}
	return false;
}

int process_find_word(struct process *p, struct loop *l, const char *lock_path, const char *word, struct err *err)
{
	char text[16] = "";
	int r = process_find(p, l, lock_path, err);

	if (r)
		return r;
	AUTO_FD int lock = open(lock_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	pid_t pid = lock >= 0 && pread(lock, text, sizeof(text) - 1, 0) > 0 ? (pid_t)strtol(text, NULL, 10) : 0;
	r = pid > 0 ? process_watch(p, l, pid, false, NULL) : -ESRCH;
	/* Only now its number cannot become another's. */
	if (!r && process_has_word(pid, word))
		return 1;
	if (!r)
		process_forget(p);
	return 0;
}

/* The length of what our own programs begin an error with: in a sentence of the daemon's it tells nobody anything. */
static size_t own_name(const char *line)
{
	static const char *const names[] = { "viv: error: ", "viv-vmm: error: " };

	for (size_t k = 0; k < ARRAY_LEN(names); k++)
		if (!strncmp(line, names[k], strlen(names[k])))
			return strlen(names[k]);
	return 0;
}

void process_last_words(const char *dir, const char *file, char *buf, size_t cap)
{
	char path[PATH_CAP], text[1024];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	off_t from = size > (off_t)sizeof(text) - 1 ? size - (off_t)sizeof(text) + 1 : 0;
	ssize_t len = fd < 0 ? 0 : pread(fd, text, sizeof(text) - 1, from);

	buf[0] = 0;
	while (len > 0 && text[len - 1] == '\n')
		len--;
	if (len <= 0)
		return;
	text[len] = 0;
	const char *last = strrchr(text, '\n'), *line = last ? last + 1 : text;
	snprintf(buf, cap, "%s", line + own_name(line));
}
