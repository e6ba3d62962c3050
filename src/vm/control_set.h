/* SPDX-License-Identifier: Apache-2.0 */
/* control_set.h - the request of the control socket that changes settings of a running machine. */
#ifndef VM_CONTROL_SET_H
#define VM_CONTROL_SET_H

#include "vm/control_priv.h"

extern const struct control_param control_set_params[];

/* What a `set` with these parameters waits for, of enum control_turn. */
unsigned control_set_turn(const json_t *params);
int control_set(struct control_call *call, struct err *err);

#endif
