/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_FAILED = 1, EXIT_SKIPPED = 77, DEFAULT_SECONDS = 10 };

static struct test_case *first, **tail = &first;

void test_register(struct test_case *t)
{
	*tail = t;
	tail = &t->next;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "# %s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(EXIT_FAILED);
}

void test_skip(const char *reason)
{
	fprintf(stderr, "# skipped: %s\n", reason);
	exit(EXIT_SKIPPED);
}

static unsigned time_limit(const struct test_case *t)
{
	const char *s = getenv("VIV_TEST_TIMEOUT");
	unsigned n = s ? (unsigned)strtoul(s, NULL, 10) : DEFAULT_SECONDS;

	return (n ? n : DEFAULT_SECONDS) * (unsigned)t->factor;
}

/* Wait for PID at most SECONDS; the wait status, or -1 when the time ran out (PID is killed). */
static int wait_limited(pid_t pid, unsigned seconds)
{
	sigset_t set;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (;;) {
		struct timespec left = { .tv_sec = seconds };

		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		if (sigtimedwait(&set, NULL, &left) < 0 && errno == EAGAIN) {
			killpg(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -1;
		}
	}
}

static bool run_case(const struct test_case *t, int number)
{
	fflush(stdout);
	fflush(stderr);
	pid_t pid = fork();

	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid == 0) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		setpgid(0, 0);
		t->fn();
		exit(0);
	}
	setpgid(pid, pid);
	unsigned limit = time_limit(t);
	int status = wait_limited(pid, limit);
	bool is_ok = status >= 0 && WIFEXITED(status) &&
		     (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_SKIPPED);

	printf("%s %d - %s", is_ok ? "ok" : "not ok", number, t->name);
	if (status < 0)
		printf(" # took longer than %u s", limit);
	else if (WIFSIGNALED(status))
		printf(" # killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == EXIT_SKIPPED)
		printf(" # SKIP");
	putchar('\n');
	return is_ok;
}

int main(int argc, char **argv)
{
	bool is_ok = true;
	sigset_t set;
	int n = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (argc > 1 && !strcmp(argv[1], "--list")) {
		for (struct test_case *t = first; t; t = t->next)
			puts(t->name);
		return 0;
	}
	for (int i = 1; i < argc; i++) {
		struct test_case *t = first;

		while (t && strcmp(t->name, argv[i]))
			t = t->next;
		if (!t) {
			fprintf(stderr, "no test is called '%s'; --list shows them\n", argv[i]);
			return 2;
		}
		is_ok &= run_case(t, ++n);
	}
	for (struct test_case *t = argc > 1 ? NULL : first; t; t = t->next)
		is_ok &= run_case(t, ++n);
	printf("1..%d\n", n);
	return is_ok ? 0 : 1;
}
