/* SPDX-License-Identifier: Apache-2.0 */
/* The system-call filters: one table, a row per call with who may make it and with which arguments. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/err.h"
#include "vm/jail.h"

/* Who makes the call: ALL, also processors' threads; or only the loop, I/O and saving threads. */
enum { ALL = 1, NOT_VCPU = 0 };

#define NO_ARG { 0, SCMP_CMP_EQ, 0, 0 }
#define ARG_IS(n, value) { n, SCMP_CMP_EQ, value, 0 }
#define ARG_WITHOUT(n, bits) { n, SCMP_CMP_MASKED_EQ, bits, 0 }
#define ARG_WITH(n, bits) { n, SCMP_CMP_MASKED_EQ, bits, bits }

/* A call may have several rows: any of them lets it through. */
static const struct jail_row {
	int nr;
	int who;
	bool has_arg;
	struct scmp_arg_cmp arg;
} rows[] = {
	/* memory: nothing new may be executed */
	{ SCMP_SYS(mmap), ALL, true, ARG_WITHOUT(2, PROT_EXEC) },
	{ SCMP_SYS(mprotect), ALL, true, ARG_WITHOUT(2, PROT_EXEC) },
	{ SCMP_SYS(munmap), ALL, false, NO_ARG },
	{ SCMP_SYS(mremap), ALL, false, NO_ARG },
	{ SCMP_SYS(madvise), ALL, false, NO_ARG },
	{ SCMP_SYS(mincore), ALL, false, NO_ARG },
	{ SCMP_SYS(brk), ALL, false, NO_ARG },
	{ SCMP_SYS(membarrier), ALL, false, NO_ARG },
	/* threads, time, signals */
	{ SCMP_SYS(futex), ALL, false, NO_ARG },
	{ SCMP_SYS(sched_yield), ALL, false, NO_ARG },
	{ SCMP_SYS(sched_getaffinity), ALL, false, NO_ARG },
	{ SCMP_SYS(sched_getattr), ALL, true, ARG_IS(0, 0) },      /* their own turns: thread_be_prompt() */
	{ SCMP_SYS(sched_setattr), ALL, true, ARG_IS(0, 0) },
	{ SCMP_SYS(clock_gettime), ALL, false, NO_ARG },
	{ SCMP_SYS(clock_nanosleep), ALL, false, NO_ARG },
	{ SCMP_SYS(nanosleep), ALL, false, NO_ARG },
	{ SCMP_SYS(gettimeofday), ALL, false, NO_ARG },
	{ SCMP_SYS(getpid), ALL, false, NO_ARG },
	{ SCMP_SYS(gettid), ALL, false, NO_ARG },
	{ SCMP_SYS(rt_sigaction), ALL, false, NO_ARG },
	{ SCMP_SYS(rt_sigprocmask), ALL, false, NO_ARG },
	{ SCMP_SYS(rt_sigreturn), ALL, false, NO_ARG },
	{ SCMP_SYS(sigaltstack), ALL, false, NO_ARG },
	{ SCMP_SYS(restart_syscall), ALL, false, NO_ARG },
	{ SCMP_SYS(set_robust_list), ALL, false, NO_ARG },
	{ SCMP_SYS(rseq), ALL, false, NO_ARG },
	{ SCMP_SYS(arch_prctl), ALL, false, NO_ARG },
	{ SCMP_SYS(prctl), ALL, true, ARG_IS(0, PR_SET_NAME) },
	{ SCMP_SYS(prctl), ALL, true, ARG_IS(0, PR_GET_NAME) },    /* whose last words they are: fatal_tell() */
	{ SCMP_SYS(getrandom), ALL, false, NO_ARG },
	{ SCMP_SYS(exit), ALL, false, NO_ARG },
	{ SCMP_SYS(exit_group), ALL, false, NO_ARG },
	{ SCMP_SYS(clone), NOT_VCPU, true, ARG_WITH(0, CLONE_THREAD | CLONE_VM) },      /* saving, disk I/O */
	{ SCMP_SYS(wait4), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(seccomp), NOT_VCPU, false, NO_ARG },         /* only ever takes away: jail_filter_vcpu() */
	/* descriptors that are open */
	{ SCMP_SYS(read), ALL, false, NO_ARG },
	{ SCMP_SYS(write), ALL, false, NO_ARG },
	{ SCMP_SYS(writev), ALL, false, NO_ARG },
	{ SCMP_SYS(poll), ALL, false, NO_ARG },
	{ SCMP_SYS(ppoll), ALL, false, NO_ARG },
	{ SCMP_SYS(close), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(readv), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(pread64), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(pwrite64), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(preadv), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(pwritev), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(preadv2), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(pwritev2), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(lseek), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(fstat), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(newfstatat), NOT_VCPU, true, ARG_WITH(3, 0x1000 /* AT_EMPTY_PATH: fstat() of newer libraries */) },
	{ SCMP_SYS(fsync), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(fdatasync), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(fallocate), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(utimensat), NOT_VCPU, true, ARG_IS(1, 0) },  /* futimens(): an image that was looked at, not written */
	{ SCMP_SYS(ftruncate), NOT_VCPU, false, NO_ARG },
	/* no owner that a descriptor's signals go to: whoever that is, and SIGKILL, may be chosen freely */
	{ SCMP_SYS(fcntl), NOT_VCPU, true, ARG_IS(1, F_DUPFD) },
	{ SCMP_SYS(fcntl), NOT_VCPU, true, ARG_IS(1, F_DUPFD_CLOEXEC) },
	{ SCMP_SYS(fcntl), NOT_VCPU, true, ARG_IS(1, F_GETFD) },
	{ SCMP_SYS(fcntl), NOT_VCPU, true, ARG_IS(1, F_SETFD) },
	{ SCMP_SYS(fcntl), NOT_VCPU, true, ARG_IS(1, F_GETFL) },
	{ SCMP_SYS(fcntl), NOT_VCPU, true, ARG_IS(1, F_SETFL) },
	{ SCMP_SYS(fcntl), NOT_VCPU, true, ARG_IS(1, F_OFD_SETLK) },
	{ SCMP_SYS(fcntl), NOT_VCPU, true, ARG_IS(1, 1034 /* F_GET_SEALS */) },
	{ SCMP_SYS(dup), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(getcwd), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(epoll_wait), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(epoll_pwait), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(epoll_ctl), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(timerfd_settime), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(io_uring_enter), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(eventfd2), NOT_VCPU, false, NO_ARG },
	/* sockets that are open: clients of consoles and of the control socket, passt */
	{ SCMP_SYS(accept4), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(recvmsg), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(sendmsg), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(recvfrom), NOT_VCPU, true, ARG_IS(4, 0) },
	{ SCMP_SYS(sendto), NOT_VCPU, true, ARG_IS(4, 0) },     /* without an address */
	{ SCMP_SYS(getsockopt), NOT_VCPU, false, NO_ARG },
	{ SCMP_SYS(shutdown), NOT_VCPU, false, NO_ARG },
	/* terminals; offloads of a tap; the kernel's own engine */
	{ SCMP_SYS(ioctl), NOT_VCPU, true, ARG_IS(1, TCGETS) },
	{ SCMP_SYS(ioctl), NOT_VCPU, true, ARG_IS(1, TCSETS) },
	{ SCMP_SYS(ioctl), NOT_VCPU, true, ARG_IS(1, TCSETSF) },
	{ SCMP_SYS(ioctl), NOT_VCPU, true, ARG_IS(1, TIOCGWINSZ) },
	{ SCMP_SYS(ioctl), NOT_VCPU, true, ARG_IS(1, 0x400454d0u /* TUNSETOFFLOAD */) },
	{ SCMP_SYS(ioctl), NOT_VCPU, true, ARG_IS(1, 0x800454d2u /* TUNGETIFF */) },
	{ SCMP_SYS(ioctl), NOT_VCPU, true, ARG_IS(1, 0x400454d8u /* TUNSETVNETHDRSZ */) },
	/* memory that comes while the guest runs (mem/lazy.c) */
	{ SCMP_SYS(ioctl), NOT_VCPU, true, { 1, SCMP_CMP_MASKED_EQ, 0xff00, 0xaa00 /* UFFDIO */ } },
	/* what a block device is that is handed over as an image */
	{ SCMP_SYS(ioctl), NOT_VCPU, true, ARG_IS(1, BLKGETSIZE64) },
	{ SCMP_SYS(ioctl), NOT_VCPU, true, ARG_IS(1, BLKSSZGET) },
	{ SCMP_SYS(ioctl), NOT_VCPU, true, ARG_IS(1, BLKPBSZGET) },
	{ SCMP_SYS(ioctl), ALL, true, { 1, SCMP_CMP_MASKED_EQ, 0xff00, 0xae00 /* KVMIO */ } },
};

static int jail_add_rows(scmp_filter_ctx f, bool is_vcpu)
{
	int r = 0;

	for (size_t i = 0; !r && i < ARRAY_LEN(rows); i++) {
		if (!is_vcpu || rows[i].who == ALL)
			r = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, rows[i].nr, rows[i].has_arg, &rows[i].arg);
	}
	/* To this process only: aborting, and kicking a processor out of the kernel. */
	if (!r)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
	/* Its flags lie in memory, where no filter can look: the library takes clone() instead. */
	if (!r)
		r = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return r;
}

/* F, taken, for all threads or this one; R: what has become of it so far. */
static int jail_load(scmp_filter_ctx f, int r, bool is_for_all, struct err *err)
{
	if (!r && is_for_all)
		r = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
	if (!r)
		r = seccomp_attr_set(f, SCMP_FLTATR_CTL_NNP, 0);        /* jail_enter() has done that */
	if (!r)
		r = seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);   /* a binary tree: a few comparisons per call */
	if (!r)
		r = seccomp_load(f);
	seccomp_release(f);
	return r < 0 ? err_set(err, r, "jail: the system-call filter is refused: %s; '--jail off' does without a jail",
			       strerror(-r)) : 0;
}

int jail_filter(struct err *err)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));

	return jail_load(f, f ? jail_add_rows(f, false) : -ENOMEM, true, err);
}

int jail_filter_vcpu(struct err *err)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));

	return jail_load(f, f ? jail_add_rows(f, true) : -ENOMEM, false, err);
}

/* CALLS with whatever arguments, and writing to FDS, two of them. */
static int jail_filter_few(const int *calls, size_t n, const int fds[2], bool may_signal_itself, struct err *err)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = f ? 0 : -ENOMEM;

	for (size_t i = 0; !r && i < n; i++)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i], 0);
	for (size_t i = 0; !r && i < 2; i++)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(write), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)fds[i], 0));
	if (!r && may_signal_itself)
		r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
	return jail_load(f, r, true, err);
}

int jail_filter_remover(struct err *err)
{
	static const int calls[] = {
		SCMP_SYS(read), SCMP_SYS(lstat), SCMP_SYS(newfstatat), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(exit_group),
		SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall), SCMP_SYS(sigaltstack), SCMP_SYS(close), SCMP_SYS(rmdir),
		SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
	};

	return jail_filter_few(calls, ARRAY_LEN(calls), (const int[]){ STDOUT_FILENO, STDERR_FILENO }, false, err);
}

int jail_filter_front(int fd, struct err *err)
{
	static const int calls[] = {
		SCMP_SYS(rt_sigtimedwait), SCMP_SYS(wait4), SCMP_SYS(pidfd_send_signal), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
		SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(close_range), SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn),
		SCMP_SYS(restart_syscall), SCMP_SYS(sigaltstack),
	};

	return jail_filter_few(calls, ARRAY_LEN(calls), (const int[]){ fd, fd }, true, err);
}

/* Passt, of whatever version, has a list of what it may; here is what nobody who forwards packets ever does. */
int jail_filter_keeper(struct err *err)
{
	static const int calls[] = {
		SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(kcmp), SCMP_SYS(pidfd_getfd),
		SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load),
		SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(acct), SCMP_SYS(quotactl), SCMP_SYS(bpf),
		SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup), SCMP_SYS(add_key), SCMP_SYS(request_key),
		SCMP_SYS(keyctl), SCMP_SYS(open_by_handle_at), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(modify_ldt), SCMP_SYS(settimeofday),
		SCMP_SYS(clock_settime), SCMP_SYS(clock_adjtime), SCMP_SYS(adjtimex), SCMP_SYS(mknod), SCMP_SYS(mknodat), SCMP_SYS(syslog),
	};
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
	int r = f ? 0 : -ENOMEM;

	for (size_t i = 0; !r && i < ARRAY_LEN(calls); i++)
		r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), calls[i], 0);
	return jail_load(f, r, true, err);
}
