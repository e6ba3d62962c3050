/* SPDX-License-Identifier: Apache-2.0 */
/* Children that end by a signal, and what they have said. */
#include "util/fatal.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "test.h"
#include "util/log.h"

static void handler(int signo, siginfo_t *info, void *context)
{
	fatal_tell(signo, info, context);
	signal(signo, SIG_DFL);
	raise(signo);
}

/* What a child that does WRONG says into SAID, of LEN bytes; how it ended, as of waitpid(). */
static int last_words(void (*wrong)(void), char *said, size_t len)
{
	int p[2], status;
	size_t n = 0;
	ssize_t r;

	CHECK_EQ(pipe(p), 0);
	pid_t pid = fork();
	if (!pid) {
		static const int all[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS };

		for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
			signal(all[i], SIG_DFL);        /* a sanitizer's */
		close(p[0]);
		log_set_name("child");
		log_set_fd(p[1]);
		prctl(PR_SET_NAME, "wrongdoer", 0, 0, 0);
		(void)fatal_stack_new();
		fatal_catch(handler);
		wrong();
		_exit(0);
	}
	close(p[1]);
	while ((r = read(p[0], said + n, len - 1 - n)) > 0)
		n += (size_t)r;
	said[n] = '\0';
	close(p[0]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

#define CHECK_DIES(wrong, signo, ...)                                                   \
	do {                                                                            \
		static const char *const says_[] = { __VA_ARGS__ };                     \
		char said_[4096];                                                       \
		int status_ = last_words(wrong, said_, sizeof(said_));                  \
		CHECK(WIFSIGNALED(status_));                                            \
		CHECK_EQ(WTERMSIG(status_), signo);                                     \
		for (size_t i_ = 0; i_ < sizeof(says_) / sizeof(says_[0]); i_++)        \
			CHECK_HAS(said_, says_[i_]);                                    \
	} while (0)

static void store_at_page_5(void)
{
	*(volatile int *)(uintptr_t)0x5678 = 1;
}

static void read_behind_the_end(void)
{
	char path[] = "/tmp/viv-fatal-XXXXXX";
	int fd = mkstemp(path);

	unlink(path);
	if (fd < 0 || ftruncate(fd, 4096) < 0)
		_exit(9);
	volatile char *m = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
	(void)m[4096];
}

static void give_up(void)
{
	abort();
}

static void refused_call(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(9);
	(void)getppid();
}

static void sent_by_somebody(void)
{
	kill(getpid(), SIGSEGV);
}

/* NOLINTNEXTLINE(misc-no-recursion): that is the point */
static int overflow(volatile char *above, unsigned left)
{
	volatile char here[4096];

	here[0] = above[0];
	return left ? overflow(here, left - 1) + here[0] : 0;
}

static void use_up_the_stack(void)
{
	volatile char c = 0;

	(void)overflow(&c, 1u << 30);
}

static void fault_with_all_blocked(void)
{
	sigset_t all;

	sigfillset(&all);
	fatal_unblock(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	store_at_page_5();
}

TEST(a_wrong_address_is_told_with_the_thread_and_the_place)
{
	CHECK_DIES(store_at_page_5, SIGSEGV, "child: error: the process ends: signal 11 (SIGSEGV) in thread 'wrongdoer' at program+0x",
		   ": address 0x5678\n", "child: error: called from ", " program+0x");
}

TEST(a_file_that_became_shorter_is_told)
{
	CHECK_DIES(read_behind_the_end, SIGBUS, "(SIGBUS)", "there is no memory behind 0x", "has become shorter");
}

TEST(giving_up_is_told)
{
	CHECK_DIES(give_up, SIGABRT, "(SIGABRT)", "the program gave up");
}

TEST(a_system_call_that_a_filter_traps_is_told_with_its_number)
{
	char want[64];

	snprintf(want, sizeof(want), "refuses system call %d\n", SYS_getppid);
	char said[4096];
	int status = last_words(refused_call, said, sizeof(said));

	CHECK(WIFSIGNALED(status));
	CHECK_EQ(WTERMSIG(status), SIGSYS);
	CHECK_HAS(said, want);
}

TEST(a_signal_that_was_sent_names_the_sender)
{
	CHECK_DIES(sent_by_somebody, SIGSEGV, "(SIGSEGV)", "sent by process ");
}

TEST(an_overflow_of_the_stack_is_told)
{
	CHECK_DIES(use_up_the_stack, SIGSEGV, "(SIGSEGV)", ": address 0x");
}

TEST(a_fault_is_told_while_other_signals_are_blocked)
{
	CHECK_DIES(fault_with_all_blocked, SIGSEGV, "(SIGSEGV)", ": address 0x5678");
}

static void *thread_main(void *arg)
{
	void *stack = fatal_stack_new();
	stack_t now;

	(void)arg;
	CHECK_EQ(sigaltstack(NULL, &now), 0);
	CHECK(!(now.ss_flags & SS_DISABLE));
	fatal_stack_free(stack);
	CHECK_EQ(sigaltstack(NULL, &now), 0);
	CHECK(!stack || now.ss_flags & SS_DISABLE);
	return NULL;
}

TEST(a_thread_gives_its_stack_back)
{
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, thread_main, NULL), 0);
	CHECK_EQ(pthread_join(t, NULL), 0);
}
