/* SPDX-License-Identifier: Apache-2.0 */
/* usage.h - `viv top`, `viv why`, `viv events`, `viv metrics`. */
#ifndef CLI_USAGE_H
#define CLI_USAGE_H

#include "cli/command.h"

extern const struct cli_command usage_top, usage_why, usage_events, usage_metrics;

#endif
