/* SPDX-License-Identifier: Apache-2.0 */
/* commands.c - every command of viv, in the order of help. */
#include "cli/command.h"
#include "cli/disk.h"

const struct cli_command *const cli_commands[] = {
	&disk_create, &disk_convert, &disk_info, &disk_map, &disk_check,
	&disk_snapshot_create, &disk_snapshot_list, &disk_snapshot_revert, &disk_snapshot_rm,
	&disk_commit, &disk_rebase, &disk_flatten, &disk_compare, &disk_resize, &disk_measure, &disk_bitmap_list,
	NULL,
};

const struct cli_group *const cli_groups[] = { &disk_group, NULL };
