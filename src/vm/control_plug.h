/* SPDX-License-Identifier: Apache-2.0 */
/* control_plug.h - the requests of the control socket by which devices and media come and go. */
#ifndef VM_CONTROL_PLUG_H
#define VM_CONTROL_PLUG_H

#include "vm/control_priv.h"

extern const struct control_param control_plug_params[], control_unplug_params[];
extern const struct control_param control_eject_params[], control_insert_params[];

int control_plug(struct control_call *call, struct err *err);
int control_unplug(struct control_call *call, struct err *err);
int control_eject(struct control_call *call, struct err *err);
int control_insert(struct control_call *call, struct err *err);

#endif
