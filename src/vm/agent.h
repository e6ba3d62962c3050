/* SPDX-License-Identifier: Apache-2.0 */
/* agent.h - a client of the guest agent's protocol (QEMU, "Guest Agent Protocol Reference"): JSON, a line each way,
 * over a port of the virtio console.
 *
 * Commands are answered one after the other. Before each, "guest-sync-delimited" makes sure that what comes is the
 * answer to it and not what was left of an older one. The agent is as hostile as its guest: a line has a bound, and
 * every call ends, by its time-out at the latest. Loop thread. */
#ifndef VM_AGENT_H
#define VM_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/json.h"

struct agent;
struct err;
struct loop;

#define AGENT_PORT_NAME "org.qemu.guest_agent.0"

enum {
	AGENT_LINE_MAX = 1000000,       /* bytes of an answer */
	AGENT_CALLS_MAX = 32,           /* that wait */
	AGENT_TIMEOUT_MS = 10000,       /* of what the agent does at once */
};

/* How bytes reach the guest; returns how many were taken, and agent_go_on() comes when there is room again. Not called
 * from inside the functions below. */
typedef size_t (*agent_send_fn)(void *arg, const uint8_t *buf, size_t len);

int agent_new(struct agent **out, struct loop *loop, agent_send_fn send, void *arg, struct err *err);
/* Calls under way are forgotten: agent_cancel() ends them. NULL is fine, here and below. */
void agent_free(struct agent *a);
DEFINE_AUTO(struct agent *, agent_free)
/* End all calls with -ECANCELED. */
void agent_cancel(struct agent *a);

/* From the port. */
void agent_receive(struct agent *a, const uint8_t *buf, size_t len);
void agent_go_on(struct agent *a);
void agent_set_open(struct agent *a, bool is_open);     /* a program in the guest has the port open */

struct agent_call {
	const char *command;            /* "guest-ping"; a literal */
	json_t *arguments;              /* taken, also on failure; NULL: none */
	unsigned timeout_ms;            /* for the answer; 0: AGENT_TIMEOUT_MS */
	unsigned after_ms;              /* not to be begun before */
	bool has_no_answer;             /* silence until the time-out is success */
	/* Once, never from inside agent_call(): RESULT (borrowed) is what the agent returned, or ERR is set. */
	void (*done)(void *arg, json_t *result, const struct err *err);
	void *arg;
};
/* -ENOTCONN: no agent has the port open; -EBUSY: too many calls wait. */
int agent_call(struct agent *a, const struct agent_call *c, struct err *err);

#endif
