/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h - the commands of `viv pool`. */
#ifndef CLI_POOL_H
#define CLI_POOL_H

#include "cli/command.h"

extern const struct cli_command pool_ls, pool_create, pool_show, pool_set, pool_rm;
extern const struct cli_group pool_group;

#endif
