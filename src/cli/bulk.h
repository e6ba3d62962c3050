/* SPDX-License-Identifier: Apache-2.0 */
/* bulk.h - commands that act on many machines at once: those that are named, or all that a selector finds. */
#ifndef CLI_BULK_H
#define CLI_BULK_H

#include "cli/command.h"
#include "util/json.h"

struct client;

#define BULK_OPTIONS \
	{ "--selector", 'l', CLI_STRING, .metavar = "NAME[=VALUE],...", .help = "the machines with all of these labels, instead of names" }, \
	{ "--all", 0, CLI_FLAG, .help = "all machines of the project, instead of names" }, \
	{ "--dry-run", 0, CLI_FLAG, .help = "show what would be done to which, and do nothing" }

/* Names of machines, which a selector may stand for. */
#define BULK_NAMES { "NAME", .help = "the machine", .is_optional = true, .is_repeated = true }

/* What was asked for. */
struct bulk_request {
	const char *action;             /* of the API: "start" */
	unsigned n_names;               /* the first so many arguments are names */
	const char *member;             /* BODY is this member of the request: "patch"; NULL: none */
	const json_t *body;             /* borrowed */
	bool is_plan;                   /* as with --dry-run */
};

/* Is it one machine alone, by its name, in words for people? Else it is for bulk_begin(). -EINVAL: nothing says which, or two things do. */
int bulk_is_single(const struct cli *c, unsigned n_names, struct err *err);

/* Have it done; what became of each is in *OUT, as the API has it: {"items": [{"name", "ok", "error"}], "done", "failed"}. With
 * --dry-run that is a plan. */
int bulk_begin(struct cli *c, struct client *cl, const struct bulk_request *b, json_t **out, struct err *err);
/* The K-th of RESULT has turned out badly after all. */
void bulk_failed(json_t *result, size_t k, const struct err *err);
/* Tell of each in RESULT (taken): with --json all, else what went wrong, and a plan. Of a failure: its error, when all have failed with the same,
 * else -EIO. */
int bulk_tell(const struct cli *c, json_t *result, struct err *err);

#endif
