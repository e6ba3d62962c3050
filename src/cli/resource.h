/* SPDX-License-Identifier: Apache-2.0 */
/* resource.h - what commands about all kinds of documents share. PLURAL is the kind in paths: "instances". */
#ifndef CLI_RESOURCE_H
#define CLI_RESOURCE_H

#include "cli/command.h"
#include "util/json.h"

struct client;
struct table_column;

/* All documents as a table, with --selector if the command has it. */
int resource_ls(struct cli *c, const char *plural, const struct table_column *columns, struct err *err);
/* The document that the first argument names. */
int resource_show(struct cli *c, const char *plural, struct err *err);
/* The same with what its disk is made of, as 'disk'. */
int resource_show_disk(struct cli *c, const char *plural, struct err *err);
/* Delete all that are named, and wait until they have gone. What can be deleted is, also when others cannot. */
int resource_rm(struct cli *c, const char *plural, struct err *err);

/* Wait until NAME, which was BEFORE (NULL: whatever) when it was deleted, has gone. */
int resource_wait_gone(struct client *cl, const char *plural, const char *name, const json_t *before, struct err *err);

/* Change the document that the first argument names, as the others say: FIELD=VALUE of 'spec', or of the document itself what
 * begins with TOP (NULL: "labels."). With --dry-run, which the command has, show what it would be. */
int resource_set(struct cli *c, const char *plural, const char *top, struct err *err);
/* What the arguments from FIRST on say, as such a patch, in *OUT. New reference. */
int resource_patch_of(const struct cli *c, unsigned first, const char *top, json_t **out, struct err *err);

#endif
