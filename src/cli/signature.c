/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "node/program.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

enum {
	NOBODY = 65534, SECONDS_MAX = 30, KEYRING_MAX = 4 << 20, STATUS_MAX = 64 << 10,
	/* Descriptors of the child, and how it names them. */
	FD_KEYRING = 3, FD_TEXT, FD_DETACHED, FD_STATUS, FD_FIRST_FREE,
};

/* --- files in memory ---------------------------------------------------- */

static int memory_of(const char *data, size_t len, struct err *err)
{
	AUTO_FD int fd = memfd_create("viv-signature", MFD_CLOEXEC);

	while (fd >= 0 && len) {
		ssize_t n = write(fd, data, len);

		if (n < 0)
			break;
		data += n;
		len -= (size_t)n;
	}
	if (fd < 0 || len || lseek(fd, 0, SEEK_SET) < 0)
		return err_set(err, -errno, "cannot keep a signed text in memory: %s", strerror(errno));
	return take_fd(&fd);
}

/* All that is in FD, from malloc(). */
static char *content_of(int fd, size_t max, size_t *len)
{
	struct stat st;
	size_t size = fstat(fd, &st) < 0 || (uint64_t)st.st_size > max ? SIZE_MAX : (size_t)st.st_size;
	AUTO(free) char *text = size == SIZE_MAX ? NULL : malloc(size + 1);

	if (!text || pread(fd, text, size, 0) != (ssize_t)size)
		return NULL;
	text[size] = 0;
	*len = size;
	return take_ptr(&text);
}

static int keyring_of(const char *path, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO(free) char *keys = malloc(KEYRING_MAX + 1);
	ssize_t n = fd < 0 || !keys ? -1 : io_read_full(fd, keys, KEYRING_MAX + 1);

	if (fd < 0)
		return err_set(err, -ENOENT, "cannot open the keyring '%s': %s", path, strerror(errno));
	if (n < 0 || n > KEYRING_MAX)
		return err_set(err, -EINVAL, "cannot read the keyring '%s', or it is too long", path);
	return memory_of(keys, (size_t)n, err);
}

/* --- the child ---------------------------------------------------- */

/* No file is changed, made or removed, and no TCP. Where the kernel has no Landlock, the rest stands. */
static void confine(void)
{
	struct { uint64_t fs, net; } set = { .fs = (1ull << 13) - 1, .net = 3 };
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	set.fs &= ~(uint64_t)(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_EXECUTE);
	int fd = version < 1 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &set, version >= 4 ? 16 : 8, 0);
	if (fd >= 0)
		syscall(SYS_landlock_restrict_self, fd, 0);
}

static void limit(int what, rlim_t max)
{
	struct rlimit l = { max, max };

	setrlimit((__rlimit_resource_t)what, &l);
}

/* Between fork and exec: ARGV with FDS as the enum says and OUT as its output. */
static void __attribute__((noreturn)) child(char *const *argv, const int fds[4], int out)
{
	static char home[] = "HOME=/nonexistent", gnupg[] = "GNUPGHOME=/nonexistent", lang[] = "LC_ALL=C";
	char *env[] = { home, gnupg, lang, NULL };
	int null = open("/dev/null", O_RDWR), high[4];
	sigset_t none;

	sigemptyset(&none);
	/* First out of the way of where they go. */
	for (int i = 0; i < 4; i++)
		high[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD, FD_FIRST_FREE + 8);
	if (dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
		_exit(127);
	for (int i = 0; i < 4; i++)
		if (high[i] >= 0 && dup2(high[i], FD_KEYRING + i) < 0)
			_exit(127);
	syscall(SYS_close_range, FD_FIRST_FREE, ~0u, 0);
	/* A namespace that cannot be had is one wall less. */
	if (geteuid()) {
		(void)!unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC);
	} else {
		(void)!unshare(CLONE_NEWNET | CLONE_NEWIPC);
		if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(127);
	}
	limit(RLIMIT_CPU, SECONDS_MAX);
	limit(RLIMIT_FSIZE, SIGNATURE_TEXT_MAX);
	limit(RLIMIT_CORE, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		_exit(127);
	confine();
	for (int signo = 1; signo < SIGRTMIN; signo++)
		signal(signo, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	alarm(SECONDS_MAX);
	execve(argv[0], argv, env);
	_exit(127);
}

/* --- its answer ---------------------------------------------------- */

/* gpgv's lines for programs: a good signature has both, and there is none that is not. */
static bool is_good(const char *status, char signer[SIGNATURE_SIGNER_LEN + 1])
{
	static const char valid[] = "[GNUPG:] VALIDSIG ";
	static const char *const bad[] = { "BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG" };
	const char *at = strstr(status, valid);
	char line[64];

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(line, sizeof(line), "[GNUPG:] %s ", bad[i]);
		if (strstr(status, line))
			return false;
	}
	if (!at || !strstr(status, "[GNUPG:] GOODSIG "))
		return false;
	snprintf(signer, SIGNATURE_SIGNER_LEN + 1, "%.*s", (int)strcspn(at + sizeof(valid) - 1, " \n"), at + sizeof(valid) - 1);
	return strlen(signer) == SIGNATURE_SIGNER_LEN;
}

/* What is wrong, for people. */
static const char *complaint(const char *status)
{
	if (strstr(status, "[GNUPG:] BADSIG "))
		return "it is not what was signed";
	if (strstr(status, "[GNUPG:] NO_PUBKEY "))
		return "it is by a key that is not in the keyring";
	if (strstr(status, "[GNUPG:] EXPKEYSIG ") || strstr(status, "[GNUPG:] EXPSIG ") || strstr(status, "[GNUPG:] REVKEYSIG "))
		return "the signature, or its key, has expired or was revoked";
	return "there is no signature that could be read";
}

static int run(char *const *argv, const int fds[4], int out, struct err *err)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return err_set(err, -errno, "cannot start '%s': %s", argv[0], strerror(errno));
	if (!pid)
		child(argv, fds, out);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(err, -EIO, "cannot run '%s'", argv[0]);
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : 1;
}

int signature_check(const struct signature *s, char **out, size_t *out_len, char signer[SIGNATURE_SIGNER_LEN + 1], struct err *err)
{
	AUTO(free) char *program = NULL, *status = NULL, *text = NULL;
	AUTO_FD int keys = keyring_of(s->keyring, err);
	AUTO_FD int text_fd = keys < 0 ? -1 : memory_of(s->text, s->len, err);
	AUTO_FD int detached = -1, status_fd = text_fd < 0 ? -1 : memory_of(NULL, 0, err);
	AUTO_FD int out_fd = status_fd < 0 ? -1 : memory_of(NULL, 0, err);
	char words[][40] = { "", "--quiet", "--status-fd=6", "--keyring=/proc/self/fd/3", "--output=-", "--", "/proc/self/fd/4" };
	char detached_words[][20] = { "/proc/self/fd/5", "/proc/self/fd/4" };
	size_t len = 0, text_len = 0;

	if (out_fd < 0)
		return keys < 0 ? keys : -ENOMEM;
	if (s->detached && (detached = memory_of(s->detached, s->detached_len, err)) < 0)
		return -ENOMEM;
	int r = program_find(&program, "gpgv", "gpgv", err);
	if (r < 0)
		return r;
	const int fds[] = { keys, text_fd, detached, status_fd };
	char *inline_argv[] = { program, words[1], words[2], words[3], words[4], words[5], words[6], NULL };
	char *detached_argv[] = { program, words[1], words[2], words[3], words[5], detached_words[0], detached_words[1], NULL };
	r = run(s->detached ? detached_argv : inline_argv, fds, out_fd, err);
	status = r < 0 ? NULL : content_of(status_fd, STATUS_MAX, &len);
	if (r < 0)
		return r;
	if (r > 0 || !status || !is_good(status, signer))
		return err_set(err, -EKEYREJECTED, "its signature is not good: %s ('%s')", complaint(status ? status : ""), s->keyring);
	text = content_of(s->detached ? text_fd : out_fd, SIGNATURE_TEXT_MAX, &text_len);
	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	*out = take_ptr(&text);
	*out_len = text_len;
	return 0;
}
