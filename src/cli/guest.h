/* SPDX-License-Identifier: Apache-2.0 */
/* guest.h - `viv exec`, `viv cp`, `viv guest`, `viv ssh`: what is done inside a machine. */
#ifndef CLI_GUEST_H
#define CLI_GUEST_H

#include "cli/command.h"

extern const struct cli_command guest_exec, guest_cp, guest_info, guest_ssh;

#endif
