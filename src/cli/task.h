/* SPDX-License-Identifier: Apache-2.0 */
/* task.h - commands about tasks, and waiting for one. */
#ifndef CLI_TASK_H
#define CLI_TASK_H

#include "cli/command.h"
#include "util/json.h"

struct client;

extern const struct cli_command task_ls, task_show, task_cancel, task_wait;
extern const struct cli_group task_group;
extern const struct cli_command snapshot_ls, snapshot_create, snapshot_revert, snapshot_rm, instance_clone, instance_flatten, volume_flatten;
extern const struct cli_group snapshot_group;

/* Wait until the task that TASK (borrowed) is the document of has ended, with progress as WHAT; its document in OUT (NULL: not
 * wanted). -EIO: it has failed, for the reason in ERR; -ECANCELED. Interrupted, it goes on without us. */
int task_follow(struct cli *c, struct client *cl, const json_t *task, const char *what, json_t **out, struct err *err);

/* The same for a command that ends with the task: with --json its document is what it prints. */
int task_finish(struct cli *c, struct client *cl, const json_t *task, const char *what, struct err *err);
/* POST BODY (taken; NULL: none) to VERB of the first argument, "/v1/PLURAL/NAME/VERB", and go on as task_finish() does. IS_DRY: show the task, and
 * change nothing. */
int task_run(struct cli *c, const char *plural, const char *verb, json_t *body, bool is_dry, const char *what, struct err *err);

#endif
