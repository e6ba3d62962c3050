/* SPDX-License-Identifier: Apache-2.0 */
/* fatal.h - a process that a signal ends says so first: which, where, and what that usually means.
 *
 * Without it a process that faults is gone without a word. Who installs the handler decides what else has to be put in order; what
 * is here has no state of its own, takes no lock and allocates nothing. SIGKILL, as by a host that is out of memory, tells nobody. */
#ifndef UTIL_FATAL_H
#define UTIL_FATAL_H

#include <signal.h>
#include <stdbool.h>

/* HANDLER for each signal that ends a process because of an error of its own, where nobody has one already: on the stack of
 * fatal_stack_new(), if the thread has one. It should call fatal_tell() and then let the signal do what it does by default. */
void fatal_catch(void (*handler)(int signo, siginfo_t *info, void *context));

/* Take those signals, but the terminal's SIGQUIT, out of a SET that is about to be blocked: one that comes while it is blocked ends the process without a word. */
void fatal_unblock(sigset_t *set);

/* Is SIGNO one of those? */
bool fatal_is(int signo);

/* Write to the log what INFO and CONTEXT (a ucontext_t) of a handler say, and where calls came from. */
void fatal_tell(int signo, const siginfo_t *info, const void *context);

/* A stack of its own for the handler in the calling thread, so that it runs after an overflow too, and never on a stack pointer
 * that is the guest's. NULL: there is none, and the thread's own is used. The same thread frees it; NULL is fine. */
void *fatal_stack_new(void);
void fatal_stack_free(void *stack);

#endif
