/* SPDX-License-Identifier: Apache-2.0 */
/* guest_priv.h - what `viv exec` and `viv cp` share. */
#ifndef CLI_GUEST_PRIV_H
#define CLI_GUEST_PRIV_H

#include <stdio.h>
#include "cli/command.h"
#include "util/json.h"

struct client;

enum { GUEST_CHUNK = 30000 };           /* bytes of one request */

#define WAIT_OPTION                                                                                                                             \
	{ "--wait", 'w', CLI_UINT, .metavar = "SECONDS", .help = "how long to wait for the guest agent to answer, as while the guest starts" }

/* The bytes of member KEY, base64, to TO. */
int guest_put(FILE *to, const json_t *result, const char *key, struct err *err);
/* As long as --wait says, the guest may be on its way to where its agent answers. */
int guest_wait_agent(struct client *cl, const struct cli *c, const char *machine, struct err *err);

#endif
