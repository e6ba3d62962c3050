/* SPDX-License-Identifier: Apache-2.0 */
/* network.h - the commands of `viv network` and `viv port`. */
#ifndef CLI_NETWORK_H
#define CLI_NETWORK_H

#include "cli/command.h"

extern const struct cli_command network_ls, network_create, network_show, network_rename, network_set, network_rm, network_doctor, port_ls;
extern const struct cli_group network_group, port_group;

#endif
