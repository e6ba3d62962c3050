/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - a process whose whole life, after a first trap, is a signal handler. */
#ifndef CPU_DIFF_CHILD_H
#define CPU_DIFF_CHILD_H

#include <signal.h>
#include <stdbool.h>

/*
 * Start a child, let MAP make its address space, and trap: HANDLER gets every exception from then on, on a stack of its
 * own, and ends the process with _exit(0) when it has done all. After SECONDS an alarm ends it.
 * 0, or -EIO when it ended otherwise, or the error of fork().
 */
int child_run(void (*handler)(int sig, siginfo_t *info, void *ctx), bool (*map)(void), unsigned seconds);

#endif
