/* SPDX-License-Identifier: Apache-2.0 */
#include "node/program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "util/cleanup.h"
#include "util/err.h"

extern char **environ;

enum { WAIT_MS = 30000, STOP_MS = 200 };

/* A file in memory takes any amount without anybody having to read at the same time. */
static int open_memory(const char *text, struct err *err)
{
	AUTO_FD int fd = memfd_create("viv-program", MFD_CLOEXEC);
	size_t len = text ? strlen(text) : 0;

	if (fd < 0 || (len && write(fd, text, len) != (ssize_t)len) || lseek(fd, 0, SEEK_SET) < 0)
		return err_set(err, -errno, "cannot keep a program's text in memory: %s", strerror(errno));
	return take_fd(&fd);
}

static char *read_memory(int fd, size_t *len)
{
	struct stat st;
	char *text = fstat(fd, &st) < 0 ? NULL : malloc((size_t)st.st_size + 1);
	ssize_t n = text ? pread(fd, text, (size_t)st.st_size, 0) : -1;

	if (n < 0) {
		free(text);
		return NULL;
	}
	text[n] = 0;
	*len = (size_t)n;
	return text;
}

static int spawn(pid_t *pid, char *const argv[], int in, int out, int complaints)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, dflt;

	sigemptyset(&none);
	sigemptyset(&dflt);
	sigaddset(&dflt, SIGPIPE);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, complaints, STDERR_FILENO);
	posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &dflt);
	int r = posix_spawn(pid, argv[0], &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

/* Its exit status as of waitpid(). STOP (NULL: nothing) is looked at now and then. */
static int wait_end(pid_t pid, const char *name, int wait_ms, const atomic_bool *stop, int *status, struct err *err)
{
	AUTO_FD int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	bool is_there = fd >= 0, is_stopped = false;

	for (int left = wait_ms; is_there && left > 0 && !is_stopped; left -= STOP_MS) {
		is_there = poll(&p, 1, stop && left > STOP_MS ? STOP_MS : left) == 0;
		is_stopped = stop && atomic_load(stop);
		left = stop ? left : 0;
	}
	if (is_there)
		kill(pid, SIGKILL);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		continue;
	if (is_there && is_stopped)
		return err_set(err, -ECANCELED, "'%s' was ended, as it was not wanted any more", name);
	return is_there ? err_set(err, -ETIME, "'%s' took more than %d s and was killed", name, wait_ms / 1000) : 0;
}

static int run(char *const argv[], const char *in, int wait_ms, const atomic_bool *stop, char **out, size_t *len, struct err *err)
{
	AUTO_FD int in_fd = open_memory(in, err);
	AUTO_FD int out_fd = in_fd < 0 ? -1 : open_memory(NULL, err);
	AUTO_FD int said_fd = out_fd < 0 ? -1 : open_memory(NULL, err);
	pid_t pid = 0;
	int status = 0;
	size_t n = 0;

	if (said_fd < 0)
		return -ENOMEM;
	int r = spawn(&pid, argv, in_fd, out_fd, said_fd);
	if (r < 0)
		return err_set(err, r, "cannot start '%s': %s", argv[0], strerror(-r));
	r = wait_end(pid, argv[0], wait_ms, stop, &status, err);
	if (!r && (!WIFEXITED(status) || WEXITSTATUS(status))) {
		AUTO(free) char *said = read_memory(said_fd, &n);

		return err_set(err, -EIO, "'%s' has failed: %.*s", argv[0], said ? (int)strcspn(said, "\n") : 0,
			       said ? said : "");
	}
	if (!r && out && !(*out = read_memory(out_fd, len)))
		r = err_set(err, -ENOMEM, "out of memory");
	return r;
}

int program_run(char *const argv[], const char *in, char **out, size_t *len, struct err *err)
{
	return run(argv, in, WAIT_MS, NULL, out, len, err);
}

int program_run_until(char *const argv[], unsigned seconds, const atomic_bool *stop, char **out, size_t *len, struct err *err)
{
	return run(argv, NULL, (int)seconds * 1000, stop, out, len, err);
}

int program_find(char **out, const char *name, const char *package, struct err *err)
{
	static const char *const dirs[] = { "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin" };

	for (unsigned i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		AUTO(free) char *path = NULL;

		if (asprintf(&path, "%s/%s", dirs[i], name) < 0)
			return err_set(err, -ENOMEM, "out of memory");
		if (!access(path, X_OK)) {
			*out = take_ptr(&path);
			return 0;
		}
	}
	return err_set(err, -ENOENT, "the program '%s' is not installed; install the package '%s'", name, package);
}
