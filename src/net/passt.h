/* SPDX-License-Identifier: Apache-2.0 */
/* passt.h - start and end a passt process; what goes over its socket is user.c's.
 *
 * passt(1) gets one end of a Unix stream socket pair (--fd), and ends when the other one closes, so it cannot outlive whoever has
 * that. It writes its process number to its standard output (--pid) once ports are bound, which tells that it is ready; its
 * complaints are on standard error. Run by root, it becomes 'nobody' by itself. Any thread; starting waits for seconds at most. */
#ifndef NET_PASST_H
#define NET_PASST_H

#include <stddef.h>
#include <sys/types.h>

struct err;
struct net_forward;

enum { PASST_FORWARDS_MAX = 64, PASST_START_MS = 5000, PASST_STOP_MS = 1000 };

struct passt {
	pid_t pid;              /* 0: none */
	int sock, errors;       /* the ends of the socket and of its standard error, which do not block; owned, -1: none */
};

/* A ready one with these forwards. *P is written on success only. -ENOENT: it is not installed; -EADDRINUSE: a port is taken;
 * -EPERM: this process may start none. */
int passt_start(struct passt *p, const struct net_forward *forward, unsigned n_forward, struct err *err);
/* End our child PID, whose socket has been closed: it goes by itself, else it is told to. Who may not tell it, in a jail, waits for
 * some seconds and leaves it to itself. PIDFD: for waiting, or -1. */
void passt_end(pid_t pid, int pidfd);
/* The last line of what it has said, TEXT, that says something, into OUT; TEXT is changed. */
void passt_last_line(char *text, char *out, size_t cap);

#endif
