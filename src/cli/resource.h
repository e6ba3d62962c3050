/* SPDX-License-Identifier: Apache-2.0 */
/* resource.h - what commands about all kinds of documents share. PLURAL is the kind in paths: "instances". */
#ifndef CLI_RESOURCE_H
#define CLI_RESOURCE_H

#include "cli/command.h"

struct table_column;

/* All documents as a table, with --labels if the command has it. */
int resource_ls(struct cli *c, const char *plural, const struct table_column *columns, struct err *err);
/* The document that the first argument names. */
int resource_show(struct cli *c, const char *plural, struct err *err);
/* Delete all that are named, and wait until they have gone. What can be deleted is, also when others cannot. */
int resource_rm(struct cli *c, const char *plural, struct err *err);

/* Change the document that the first argument names, as the others say: FIELD=VALUE of 'spec', or labels.NAME=VALUE. With
 * --dry-run, which the command has, show what it would be. */
int resource_set(struct cli *c, const char *plural, struct err *err);

#endif
