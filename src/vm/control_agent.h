/* SPDX-License-Identifier: Apache-2.0 */
/* control_agent.h - requests that the guest agent answers (agent.h). control_agent.c has those of one command,
 * control_agent_ops.c those of several. */
#ifndef VM_CONTROL_AGENT_H
#define VM_CONTROL_AGENT_H

#include "vm/control_priv.h"

extern const struct control_param control_agent_exec_params[], control_agent_read_params[], control_agent_write_params[],
	control_agent_shutdown_params[];

int control_agent_ping(struct control_call *call, struct err *err);
int control_agent_info(struct control_call *call, struct err *err);
int control_agent_shutdown(struct control_call *call, struct err *err);
int control_agent_addresses(struct control_call *call, struct err *err);
int control_agent_set_time(struct control_call *call, struct err *err);
int control_agent_freeze(struct control_call *call, struct err *err);
int control_agent_thaw(struct control_call *call, struct err *err);
int control_agent_exec(struct control_call *call, struct err *err);
int control_agent_read(struct control_call *call, struct err *err);
int control_agent_write(struct control_call *call, struct err *err);

/* RUN the handler of CALL between a freeze of the guest's file systems and their thaw, which comes whatever happens; the
 * call is answered after that. Returns 1, or -errno when it has not begun. */
int control_quiesced(struct control_call *call, int (*run)(struct control_call *call, struct err *err), struct err *err);

#endif
