/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_priv.h - what `viv-vmm ctl` consists of: ctl.c sends one request, ctl_fork.c does more with several. */
#ifndef VM_CTL_PRIV_H
#define VM_CTL_PRIV_H

#include "vm/control_priv.h"

/* Exit statuses; control_print_usage() tells them. */
enum { CTL_DONE = 0, CTL_REFUSED = 1, CTL_USAGE = 2, CTL_LOST = 3 };

/* Send the request NAME without parameters, with the descriptor FD unless it is -1, to the machine at SOCKET. *RESULT
 * is a new reference. -errno and the machine's sentence, or ours. */
int ctl_ask(const char *socket, const char *name, int fd, json_t **result, struct err *err);

/* Start copies; the exit status, not CTL_DONE with the reason in ERR. */
int ctl_fork(const char *socket, int argc, char **argv, struct err *err);

#endif
