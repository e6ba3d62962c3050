/* SPDX-License-Identifier: Apache-2.0 */
/* commands.c - every command of viv, in the order of help. */
#include "cli/command.h"
#include "cli/disk.h"

const struct cli_command *const cli_commands[] = {
	&disk_create, &disk_info,
	NULL,
};

const struct cli_group *const cli_groups[] = { &disk_group, NULL };
