/* SPDX-License-Identifier: Apache-2.0 */
/* control_net.h - the requests of the control socket about network interfaces. */
#ifndef VM_CONTROL_NET_H
#define VM_CONTROL_NET_H

#include "vm/control_priv.h"

extern const struct control_param control_metadata_params[];

int control_net_metadata(struct control_call *call, struct err *err);

#endif
