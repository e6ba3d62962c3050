/* SPDX-License-Identifier: Apache-2.0 */
/* keeper.h - a process outside of a machine's jail that starts passt again for it, and for one in a PID namespace of its own also the first time.
 *
 * In its jail a machine can start nothing. So a process of the same user is started before, which knows the interfaces of kind
 * `user` with their forwards, and holds nothing but one end of a socket pair for each. One byte asks for a new passt, the
 * answer is its socket or a sentence: who has taken over the machine gets what its interfaces had anyway, one passt for each at a
 * time, and one a second. It ends when the other ends have closed; a passt that runs goes on. Main thread. */
#ifndef NET_KEEPER_H
#define NET_KEEPER_H

#include <sys/types.h>

struct err;
struct net_forward;

enum { NET_KEEPER_MAX = 16 };

struct net_keeper {
	int fd[NET_KEEPER_MAX];         /* by interface, owned; -1: none */
	pid_t pid;                      /* 0: there is none */
};

/* Nobody is kept yet. */
void net_keeper_init(struct net_keeper *k);
/* Before there are threads. FORWARD and N_FORWARD: by interface, N of them; those without a list need none. Without any, no
 * process is started. CONFINE is called in it, and takes away what neither it nor passt needs; NULL: nothing. */
int net_keeper_start(struct net_keeper *k, const struct net_forward *const *forward, const unsigned *n_forward, unsigned n,
		     void (*confine)(void), struct err *err);
void net_keeper_fini(struct net_keeper *k);

/* With one of these descriptors: ask for a passt. 0 or -errno. */
int net_keeper_ask(int fd);
/* The answer, when there is something to read: the socket, or the error of whoever could not start it. */
int net_keeper_answer(int fd, struct err *err);
/* Both: waits for the socket. */
int net_keeper_get(int fd, struct err *err);

#endif
