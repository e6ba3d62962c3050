/* SPDX-License-Identifier: Apache-2.0 */
#include "util/fatal.h"

#include <execinfo.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <ucontext.h>
#include "util/checked.h"
#include "util/log.h"

/* Whatever the stack pointer is - translated code has the guest's, which may be any number -, the handler begins at the top. */
#define AUTODISARM (1u << 31)           /* SS_AUTODISARM: Linux 4.7 */

enum { STACK_BYTES = 256 << 10, TEXT_MAX = 512, FRAMES_MAX = 20 };

/* Signals by their meaning; SIGQUIT is the terminal's. */
static const struct {
	int signo;
	const char *name;
} signals[] = {
	{ SIGSEGV, "SIGSEGV" }, { SIGBUS, "SIGBUS" }, { SIGILL, "SIGILL" }, { SIGFPE, "SIGFPE" }, { SIGTRAP, "SIGTRAP" },
	{ SIGABRT, "SIGABRT" }, { SIGSYS, "SIGSYS" }, { SIGQUIT, "SIGQUIT" },
};

/* The linker's: where this program begins, and where its code ends. */
extern const char __executable_start[], etext[];

/* --- a line, without the library's printf() --- */

struct text {
	char buf[TEXT_MAX];
	size_t n;
};

static void put(struct text *t, const char *s)
{
	while (*s && t->n < sizeof(t->buf))
		t->buf[t->n++] = *s++;
}

static void put_number(struct text *t, uint64_t val, unsigned base)
{
	char digits[21];
	size_t n = sizeof(digits);

	digits[--n] = '\0';
	do
		digits[--n] = "0123456789abcdef"[val % base];
	while (val /= base);
	put(t, base == 16 ? "0x" : "");
	put(t, digits + n);
}

/* Within the program as `addr2line -e` takes it, else as it is. */
static void put_place(struct text *t, uintptr_t at)
{
	uintptr_t start = (uintptr_t)__executable_start;
	bool is_ours = at >= start && at < (uintptr_t)etext;

	put(t, is_ours ? "program+" : "");
	put_number(t, is_ours ? at - start : at, 16);
}

/* --- what happened --- */

static const char *signal_name(int signo)
{
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (signals[i].signo == signo)
			return signals[i].name;
	return "?";
}

static void put_cause(struct text *t, int signo, const siginfo_t *info)
{
	if (info->si_code == SI_USER || info->si_code == SI_QUEUE || info->si_code == SI_TKILL) {
		put(t, signo == SIGABRT ? ": the program gave up, or process " : ", sent by process ");
		put_number(t, (uint64_t)info->si_pid, 10);
		put(t, signo == SIGABRT ? " told it to" : "");
	} else if (signo == SIGSYS) {
		put(t, ": the kernel's filter refuses system call ");
		put_number(t, (uint64_t)info->si_syscall, 10);
	} else if (signo == SIGBUS) {
		put(t, ": there is no memory behind ");
		put_number(t, (uintptr_t)info->si_addr, 16);
		put(t, "; a file that is mapped has become shorter, or its disk, the host's memory or a limit of it is used up");
	} else {
		put(t, ": address ");
		put_number(t, (uintptr_t)info->si_addr, 16);
	}
}

static void tell_what(int signo, const siginfo_t *info, uintptr_t at)
{
	struct text t = { .n = 0 };
	char name[17] = "";

	(void)prctl(PR_GET_NAME, name, 0, 0, 0);
	put(&t, "the process ends: signal ");
	put_number(&t, (uint64_t)signo, 10);
	put(&t, " (");
	put(&t, signal_name(signo));
	put(&t, ") in thread '");
	put(&t, name);
	put(&t, "' at ");
	put_place(&t, at);
	put_cause(&t, signo, info);
	log_text(LOG_ERROR, t.buf, t.n);
}

/* The unwinder looks at memory that may be wrong: what matters has been told before. */
static void tell_calls(void)
{
	struct text t = { .n = 0 };
	void *frame[FRAMES_MAX];
	int n = backtrace(frame, FRAMES_MAX);

	put(&t, "called from");
	for (int i = 0; i < n; i++) {
		put(&t, " ");
		put_place(&t, (uintptr_t)frame[i]);
	}
	log_text(LOG_ERROR, t.buf, t.n);
}

void fatal_tell(int signo, const siginfo_t *info, const void *context)
{
	const ucontext_t *u = context;

	tell_what(signo, info, (uintptr_t)u->uc_mcontext.gregs[REG_RIP]);
	tell_calls();
}

/* --- handlers and their stacks --- */

void fatal_catch(void (*handler)(int signo, siginfo_t *info, void *context))
{
	void *frame[1];

	(void)backtrace(frame, 1);      /* loads its library now: later there may be no file to open, and no memory */
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK }, old;

		if (!sigaction(signals[i].signo, NULL, &old) && old.sa_handler == SIG_DFL)
			sigaction(signals[i].signo, &sa, NULL);
	}
}

bool fatal_is(int signo)
{
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (signals[i].signo == signo)
			return true;
	return false;
}

void fatal_unblock(sigset_t *set)
{
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (signals[i].signo != SIGQUIT)
			sigdelset(set, signals[i].signo);
}

void *fatal_stack_new(void)
{
	void *p = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	stack_t stack = { .ss_sp = p, .ss_size = STACK_BYTES, .ss_flags = (int)AUTODISARM }, old;

	if (p == MAP_FAILED)
		return NULL;
	/* A sanitizer has one of its own. */
	if (sigaltstack(NULL, &old) < 0 || !(old.ss_flags & SS_DISABLE) || sigaltstack(&stack, NULL) < 0) {
		munmap(p, STACK_BYTES);
		return NULL;
	}
	return p;
}

void fatal_stack_free(void *stack)
{
	if (!stack)
		return;
	(void)sigaltstack(&(stack_t){ .ss_flags = SS_DISABLE }, NULL);
	munmap(stack, STACK_BYTES);
}
