/* SPDX-License-Identifier: Apache-2.0 */
/* control_save.h - the request 'save', for control_requests.c. */
#ifndef VM_CONTROL_SAVE_H
#define VM_CONTROL_SAVE_H

#include "vm/control_priv.h"

extern const struct control_param control_save_params[];
int control_save(struct control_call *call, struct err *err);

#endif
