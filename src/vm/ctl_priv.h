/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_priv.h - what `viv-vmm ctl` consists of: ctl.c sends one request, others do more with several. */
#ifndef VM_CTL_PRIV_H
#define VM_CTL_PRIV_H

#include <signal.h>
#include <stdbool.h>
#include "vm/config.h"
#include "vm/control_priv.h"

/* Exit statuses; control_print_usage() tells them. */
enum { CTL_DONE = 0, CTL_REFUSED = 1, CTL_USAGE = 2, CTL_LOST = 3 };

/* Send the request NAME with PARAMS (taken; NULL: none) and the descriptor FD unless it is -1, to the machine at SOCKET.
 * *RESULT (or NULL) is a new reference. -errno and the machine's sentence, or ours. */
int ctl_ask(const char *socket, const char *name, json_t *params, int fd, json_t **result, struct err *err);

/* Parameter NAME of REQUEST, which has it, from its TEXT into PARAMS. -errno and a sentence. */
int ctl_set_param(json_t *params, const char *request, const char *name, const char *text, struct err *err);

/* --- ctl_file.c --- */
/* Make and lock PATH.tmp, empty, whose name *TMP is then (to be freed). Its descriptor, or -errno. */
int ctl_file_make(char **tmp, const char *path, struct err *err);
/* What has been written to TMP and is durable is called PATH from now on, also after a power failure. */
int ctl_file_keep(const char *tmp, const char *path, struct err *err);
/* A memory file with what is in PATH, a passphrase: a pipe is read here, and not by the machine. */
int ctl_secret_open(const char *path, struct err *err);

/* --- ctl_guard.c --- */
struct ctl_guard {
	int fd;
	sigset_t signals;               /* blocked when the program began */
};
/* FN(ARG, G, ERR) in a process of its own session, which no terminal's signal reaches, and which lives on when this one is killed. What FN
 * returns; a signal that ends programs is passed on as ctl_guard_ends(), and ends this one when FN has returned. */
int ctl_guarded(int (*fn)(void *arg, const struct ctl_guard *g, struct err *err), void *arg, struct err *err);
/* Nobody waits any more for what FN does: it is to undo what is half done. */
bool ctl_guard_ends(const struct ctl_guard *g);

/* --- ctl_plug.c --- */
/* Open what the request 'plug' with PARAMS names and the machine may not open; *FD -1: nothing. Adds to PARAMS. *MADE: the
 * name of a socket that was made for it, to be freed, also on failure; NULL: none. */
/* The image that a drive is to have: open it, and make its path absolute. */
int ctl_medium_open(json_t *params, int *fd, struct err *err);
int ctl_plug_open(json_t *params, int *fd, char **made, struct err *err);
/* What else the disk of that request needs, of which *FD was opened: descriptors into FDS, CAP at most, and names into PARAMS; how many. */
int ctl_plug_files(json_t *params, int *fds, unsigned cap, struct err *err);
/* The names of the sockets behind DEVICE, which may be none: an array, a new reference. */
json_t *ctl_plug_sockets(const char *socket, const char *device);

/* --- ctl_sweep.c --- */
/* Leave a process behind that removes PATH, the socket LISTENER, when the machine ends that SOCK is connected to: when it, and whoever takes it
 * over, has let go of the socket. */
int ctl_sweep_start(const char *path, int listener, int sock, struct err *err);

/* --- ctl_target.c --- */
/* A socket that is connected to the NBD server of ADDRESS, nothing said yet; a sentence for other addresses. */
int ctl_target_connect(const char *address, struct err *err);

/* Start copies; the exit status, not CTL_DONE with the reason in ERR. */
int ctl_fork(const char *socket, int argc, char **argv, struct err *err);
/* Ask the guest agent: exec, read, write; the exit status, which for exec is the program's. ERR is set when it failed. */
int ctl_agent(const char *socket, int argc, char **argv, struct err *err);
/* The parameters of agent-exec, from words: options, then PROGRAM, and all behind it is the program's. *IS_JSON when "--json" was
 * among the options; NULL: there is no such, and nothing that was once written behind PROGRAM is asked about. 0; 1: help is wanted;
 * -errno and a sentence. */
int ctl_agent_exec_parse(json_t *params, int argc, char **argv, bool *is_json, struct err *err);
/* Let another viv-vmm take the machine over; the same. */
int ctl_upgrade(const char *socket, int argc, char **argv, struct err *err);

#endif
