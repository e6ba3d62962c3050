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

static int process_watch(struct process *p, struct loop *l, pid_t pid, bool is_child, struct err *err);

static pid_t process_read_number(int fd)
{
	char text[16] = "";
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);

	return len > 0 && strchr(text, '\n') ? (pid_t)strtol(text, NULL, 10) : 0;
}

static void process_read_beside(struct process *p)
{
	char text[64] = "";
	ssize_t len = pread(p->file, text, sizeof(text) - 1, 0);
	const char *line = text;

	for (unsigned i = 0; i < PROCESS_BESIDE; i++) {
		line = len > 0 && line ? strchr(line, '\n') : NULL;
		p->beside[i] = line ? (pid_t)strtol(++line, NULL, 10) : 0;
	}
}

/* Has nobody the lock? */
static bool process_is_free(int fd)
{
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return false;
	(void)flock(fd, LOCK_UN);
	return true;
}

bool process_is_settled(const struct process *p)
{
	pid_t now = p->has_file ? process_read_number(p->file) : 0;

	return !now || now == p->pid;
}

/* P has ended: is somebody else it from now on? */
static bool process_follow(struct process *p)
{
	pid_t next = p->has_file ? process_read_number(p->file) : 0;
	struct process after = { .ended = p->ended, .status = p->status, .file = p->file, .has_file = p->has_file };
	struct loop *l = p->watch.loop;

	if (next <= 0 || next == p->pid)
		return false;
	/* A child's number is its own until it has been waited for; another's only as long as it has the lock. */
	if (!p->is_child && process_is_free(p->file))
		return false;
	bool is_child = p->is_child, is_to_die = p->is_to_die;
	p->has_file = false;
	process_forget(p);
	*p = after;
	if (process_watch(p, l, next, is_child, NULL) < 0)
		return false;
	if (is_child || !process_is_free(p->file)) {
		process_read_beside(p);
		if (is_to_die)
			process_kill(p, SIGKILL);
		return true;
	}
	process_forget(p);
	return false;
}

static void process_ready(struct loop_fd *h, unsigned events)
{
	struct process *p = container_of(h, struct process, watch);
	int status = -1;

	(void)events;
	if (p->is_child && waitpid(p->pid, &status, WNOHANG) != p->pid)
		return;
	p->status = p->is_child ? status : -1;
	if (process_follow(p))
		return;
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
	p->is_to_die = false;
	return 0;
}

/* An open file of our own: the one that has the lock could not be asked who has it. */
static void process_keep_file(struct process *p, const char *path)
{
	p->file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	p->has_file = p->file >= 0;
	if (p->has_file)
		process_read_beside(p);
}

pid_t process_beside(const struct process *p, unsigned i)
{
	/* A number may be another's by now, who is not of the session that the machine was started in. */
	return p->pid > 0 && p->beside[i] > 0 && getsid(p->beside[i]) == getsid(p->pid) ? p->beside[i] : 0;
}

void process_forget(struct process *p)
{
	if (p->has_file)
		close(p->file);
	p->has_file = false;
	if (!p->pid)
		return;
	int fd = p->watch.fd;

	loop_fd_del(&p->watch);
	close(fd);
	p->pid = 0;
}

void process_kill(struct process *p, int signo)
{
	p->is_to_die |= signo == SIGKILL;
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
static void __attribute__((noreturn)) process_child(int lock, int number, int log, const struct process_spec *s)
{
	static const char outside[] = "vivd: the control group cannot be entered; it runs without\n";
	char text[16];
	sigset_t none;
	int null = log >= 0 ? log : open("/dev/null", O_WRONLY);

	bool is_inside = true;
	for (unsigned k = 0; k < s->n_groups; k++)
		is_inside &= write(s->groups[k], "0", 1) == 1;
	if (!is_inside && write(null, outside, sizeof(outside) - 1) < 0)
		_exit(EXIT_NO_EXEC);
	sigemptyset(&none);
	setsid();
	for (int signo = 1; signo < SIGRTMIN; signo++)
		signal(signo, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (pwrite(number, text, (size_t)len, 0) == len && dup2(lock, STDIN_FILENO) >= 0 &&
	    dup2(null, STDOUT_FILENO) >= 0 && dup2(null, STDERR_FILENO) >= 0) {
		syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0);
		execv(s->argv[0], s->argv);
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
		process_child(lock, number, log, s);
	int r = process_watch(p, l, pid, true, err);
	if (r < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	process_keep_file(p, s->lock_path);
	return 0;
}

bool process_is_there(const char *lock_path)
{
	AUTO_FD int lock = open(lock_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	return lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0;
}

int process_find(struct process *p, struct loop *l, const char *lock_path, struct err *err)
{
	AUTO_FD int lock = open(lock_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (lock < 0)
		return errno == ENOENT ? 0 : err_set(err, -errno, "cannot open '%s': %s", lock_path, strerror(errno));
	if (!flock(lock, LOCK_EX | LOCK_NB))
		return 0;
	pid_t pid = process_read_number(lock);
	if (pid <= 0)
		return err_set(err, -EAGAIN, "the process of '%s' is being started", lock_path);
	int r = process_watch(p, l, pid, false, err);
	/* It may have ended since, and its number may be another's by now: the lock tells. */
	if (!r && !flock(lock, LOCK_EX | LOCK_NB)) {
		process_forget(p);
		return 0;
	}
	if (!r)
		process_keep_file(p, lock_path);
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
	int r = process_find(p, l, lock_path, err);

	if (r)
		return r;
	AUTO_FD int lock = open(lock_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	pid_t pid = lock >= 0 ? process_read_number(lock) : 0;
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
