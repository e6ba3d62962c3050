/* SPDX-License-Identifier: Apache-2.0 */
/* profile.h - the commands of `viv profile`. */
#ifndef CLI_PROFILE_H
#define CLI_PROFILE_H

#include "cli/command.h"

extern const struct cli_command profile_ls, profile_create, profile_show, profile_rename, profile_set, profile_rm;
extern const struct cli_group profile_group;

#endif
