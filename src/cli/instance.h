/* SPDX-License-Identifier: Apache-2.0 */
/* instance.h - the commands about instances, and what they share. */
#ifndef CLI_INSTANCE_H
#define CLI_INSTANCE_H

#include "cli/command.h"

extern const struct cli_command instance_run, instance_ls, instance_show, instance_start, instance_stop,
	instance_restart, instance_pause, instance_rm, instance_rename, instance_set, instance_console, instance_logs, instance_export, instance_import;

#endif
