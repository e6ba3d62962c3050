/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits in front of a machine that was started by hand. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "util/err.h"
#include "util/fatal.h"
#include "util/fds.h"
#include "util/log.h"
#include "util/pid.h"
#include "vm/jail.h"
#include "vm/pidns.h"

enum { ENDED_BY = 128 };        /* and the signal's number, as shells have it */

/* Inside: the number of the one in front, and a pipe that closes when it ends. */
static pid_t front_number;
static int front_pipe = -1;
/* Of both: the signal that ended the machine, which as the first of a namespace can send itself none. */
static _Atomic int *front_told;

pid_t pidns_front_number(void)
{
	return front_number;
}

int pidns_stay_bound(void)
{
	struct pollfd p = { .fd = front_pipe };

	if (front_pipe < 0)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return -errno;
	return poll(&p, 1, 0) ? -ECHILD : 0;    /* it ended before that */
}

void pidns_end_by(int signo)
{
	if (front_told)
		atomic_store(front_told, signo);
	_exit(ENDED_BY + signo);
}

/* --- the one in front --- */

struct front {
	int machine;            /* a pidfd */
	pid_t pid;
};

static void front_send(const struct front *f, int signo)
{
	(void)syscall(SYS_pidfd_send_signal, f->machine, signo, NULL, 0);
}

/* Both stop, as one would; the machine goes on when this one does. A signal that stops by default does nothing to the first of a
 * namespace. */
static void front_stop(const struct front *f)
{
	front_send(f, SIGSTOP);
	(void)raise(SIGSTOP);
	front_send(f, SIGCONT);
}

/* What somebody sends to this one is for the machine; what a terminal sends has gone to both. False: it ends both. */
static bool front_take(const struct front *f, const siginfo_t *info)
{
	int signo = info->si_signo;

	switch (signo) {
	case SIGCHLD:
	case SIGURG:
	case SIGPIPE:
		return true;
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
		front_stop(f);
		return true;
	case SIGTERM:
	case SIGINT:
	case SIGHUP:
	case SIGWINCH:
	case SIGCONT:
		break;
	default:
		if (!fatal_is(signo))
			return false;
	}
	if (info->si_code != SI_KERNEL)
		front_send(f, signo);
	return true;
}

static void __attribute__((noreturn)) front_end_by(int signo)
{
	sigset_t one;

	(void)signal(signo, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, signo);
	(void)sigprocmask(SIG_UNBLOCK, &one, NULL);
	(void)raise(signo);
	_exit(ENDED_BY + signo);
}

static void __attribute__((noreturn)) front_wait(const struct front *f, const sigset_t *all)
{
	siginfo_t info;
	int how = 0;

	while (waitpid(f->pid, &how, WNOHANG) != f->pid) {
		if (sigwaitinfo(all, &info) >= 0 && !front_take(f, &info)) {
			front_send(f, SIGKILL);
			front_end_by(info.si_signo);
		}
	}
	if (WIFSIGNALED(how))
		front_end_by(WTERMSIG(how));
	int told = atomic_load(front_told);
	if (told > 0 && told < SIGRTMIN && WEXITSTATUS(how) == ENDED_BY + told)
		front_end_by(told);
	_exit(WEXITSTATUS(how));
}

static void __attribute__((noreturn)) front_give_up(const char *why)
{
	log_error("cannot wait for the machine's process: %s", why);
	_exit(1);
}

/* What is to be done in it. */
struct front_work {
	void (*started)(void *arg, pid_t pid);
	void *arg;
	bool has_jail;
};

/* GO: the machine begins when a byte comes, and ends when it is closed. */
static void __attribute__((noreturn)) front_main(pid_t pid, int go, const struct front_work *w, const sigset_t *all)
{
	struct front f = { .machine = (int)syscall(SYS_pidfd_open, pid, 0), .pid = pid };
	struct err err = ERR_INIT;

	(void)prctl(PR_SET_NAME, "viv-front", 0, 0, 0);
	if (f.machine < 0)
		front_give_up("the kernel has no descriptors of processes");
	if (write(go, "", 1) != 1)
		front_give_up(strerror(errno));
	w->started(w->arg, pid);
	if (w->has_jail && jail_enter_front(go, &err) < 0)
		front_give_up(err.msg);
	/* Who else has them open would not see that the machine has ended. */
	fds_close_others((const int[]){ f.machine, go }, 2);
	front_wait(&f, all);
}

/* --- the machine --- */

static void front_follow(const int *go)
{
	char byte;

	close(go[1]);
	front_pipe = go[0];
	/* Without the one in front nobody would know this one. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || read(go[0], &byte, 1) != 1)
		_exit(1);
}

int pidns_front(bool has_jail, void (*started)(void *arg, pid_t pid), void *arg, struct err *err)
{
	struct front_work work = { started, arg, has_jail };
	sigset_t all, before;
	pid_t self = pid_of_self();
	int go[2];

	front_told = mmap(NULL, sizeof(*front_told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (front_told == MAP_FAILED) {
		front_told = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	if (pipe2(go, O_CLOEXEC) < 0)
		return err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	if (unshare(CLONE_NEWPID) < 0) {
		log_info("no PID namespace of its own: %s", strerror(errno));
		close(go[0]);
		close(go[1]);
		return 0;
	}
	sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, &before);
	(void)signal(SIGCHLD, SIG_DFL);         /* whoever ignores it never hears how a child has ended */
	pid_t pid = fork();
	if (pid > 0)
		front_main(pid, go[1], &work, &all);
	if (pid < 0)
		return err_set(err, -errno, "cannot start the machine's process: %s", strerror(errno));
	front_follow(go);
	front_number = self;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	return 1;
}
