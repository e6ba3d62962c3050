/* SPDX-License-Identifier: Apache-2.0 */
/* instance_ls.c - `viv ls` and `viv show`. */
#include <stdio.h>
#include "cli/client.h"
#include "cli/instance.h"
#include "cli/output.h"
#include "cli/resource.h"
#include "cli/table.h"

static const struct table_column columns[] = {
	{ "NAME", "name", NULL },
	{ "STATE", "status.state", NULL },
	{ "IMAGE", "spec.image", NULL },
	{ "CPUS", "spec.cpus", NULL },
	{ "MEMORY", "spec.memory", table_size },
	{ "ENGINE", "status.engine", NULL },
	{ "SINCE", "status.since", NULL },
	{ "WHY", "status.reason", NULL },
	{ .title = NULL },
};

static int ls(struct cli *c, struct err *err)
{
	return resource_ls(c, "instances", columns, err);
}

const struct cli_command instance_ls = {
	.path = "ls",
	.summary = "list machines",
	.about = "All of the project, by name, with what each does and why.",
	.options =
		(const struct cli_option[]){
			{ "--selector", 'l', CLI_STRING, .metavar = "NAME[=VALUE],...",
			  .help = "only those with all of these labels" },
			CLIENT_OPTIONS,
			{ .name = NULL },
		},
	.examples =
		(const struct cli_example[]){
			{ "ls", "what is there" },
			{ "ls --selector tier=web --json", "some of it, for a program" },
			{ .line = NULL },
		},
	.run = ls,
};

static int show(struct cli *c, struct err *err)
{
	return resource_show(c, "instances", err);
}

const struct cli_command instance_show = {
	.path = "show",
	.summary = "tell all about a machine",
	.about = "Its document: what it shall be ('spec') and what is seen ('status').",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "show web", "all about it" }, { .line = NULL } },
	.run = show,
};
