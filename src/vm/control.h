/* SPDX-License-Identifier: Apache-2.0 */
/* control.h - the control socket of one machine: requests, replies, events.
 *
 * docs/api/control.md is the protocol; control_requests.c has the table of requests that feeds the
 * dispatcher, the validation, `viv-vmm ctl`, the documentation and the fuzz target. Several clients
 * at a time; a client is this process's user or root. Whatever a client does or fails to do, the
 * machine goes on: what waits for a client has a bound, beyond which it is dropped. Loop thread. */
#ifndef VM_CONTROL_H
#define VM_CONTROL_H

#include <stdio.h>
#include <sys/types.h>
#include "util/cleanup.h"
#include "vm/machine.h"

struct config;
struct control;
struct err;
struct loop;

struct control_config {
	const char *path;               /* of the socket, made with mode 0600; NULL: none */
	int listen_fd;                  /* of another process at that path, taken over (borrowed) and listened on when the
					 * machine has started; or -1 */
	int janitor_fd;                 /* to be handed over with the machine, borrowed; -1: none */
	struct loop *loop;
	const struct config *cfg;       /* borrowed */
};

/* Make the socket. Who connects has to wait. */
int control_open(struct control **out, const struct control_config *cfg, struct err *err);
/* Serve clients from now on. M is borrowed; its observer is the control socket. */
int control_serve(struct control *c, struct machine *m, struct err *err);
/* Sends what clients take at once, unlinks the socket. Before the machine goes. NULL is fine. */
void control_close(struct control *c);
DEFINE_AUTO(struct control *, control_close)

/* The listener and the janitor's descriptor, for another process; they stay ours, too. */
int control_listen_fd(const struct control *c);
int control_janitor_fd(const struct control *c);
/* Another process has taken the socket over: its name stays. */
void control_forget_name(struct control *c);

/* Serve FD, a connected socket, as if it had been accepted (taken, also on failure). For tests and for
 * a parent that hands over its end. */
int control_add_client(struct control *c, int fd, struct err *err);

/* `viv-vmm ctl SOCKET REQUEST ...`: ARGV[0] is "ctl". The exit status, see control_print_usage(). */
int ctl_main(int argc, char **argv);

/* docs/api/control.md. */
void control_print_doc(FILE *to);

#endif
