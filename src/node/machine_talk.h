/* SPDX-License-Identifier: Apache-2.0 */
/* machine_talk.h - a worker's own connection to the control socket of a machine: requests that wait for their answers, and events between
 * them. A machine that says nothing for too long counts as gone. One thread. */
#ifndef NODE_MACHINE_TALK_H
#define NODE_MACHINE_TALK_H

#include <jansson.h>
#include <stdbool.h>

struct err;

enum { TALK_NAME_MAX = 64 };

struct talk {
	int fd;                         /* -1: not connected */
	json_int_t last_id;
	int refusal;                    /* what the machine has refused the last request with: a negative errno */
	unsigned patience_s;            /* how long it may say nothing while it owes an answer; 0: half a minute */
	void (*event)(void *arg, const json_t *msg);    /* NULL: events are not wanted */
	/* Does nobody want the answer any more? Asked now and then; then it counts as gone. NULL: all are wanted. */
	bool (*is_unwanted)(void *arg);
	void *arg;
};

/* K has what the caller wants to say, and -1. Connect to the socket at CONTROL; talk_close() in any case. -EAGAIN: the machine does not answer. */
int talk_open(struct talk *k, const char *control, struct err *err);
void talk_close(struct talk *k);
/* REQUEST with PARAMS (taken) and, unless NULL, a descriptor. RESULT (NULL: not wanted) is a new reference.
 * -EREMOTEIO: the machine refuses, with its sentence; -EAGAIN: it has gone. */
int talk_ask(struct talk *k, const char *request, json_t *params, const int *fd, json_t **result, struct err *err);
/* Hear events for so long at most. -EAGAIN: the machine has gone. */
int talk_listen(struct talk *k, int ms, struct err *err);
/* The disk of the machine whose file is one of PATHS (N of them): its name, and whether the machine runs. Which path it is;
 * -ENOENT: it has no such disk. */
int talk_find_disk(struct talk *k, const char *const *paths, unsigned n, char name[TALK_NAME_MAX], bool *is_running, struct err *err);

#endif
