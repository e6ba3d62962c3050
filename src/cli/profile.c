/* SPDX-License-Identifier: Apache-2.0 */
/* profile.c - `viv profile`. */
#include "cli/profile.h"

#include "cli/client.h"
#include "cli/output.h"
#include "cli/resource.h"
#include "cli/table.h"

#define ONLY_CLIENT (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define WITH_DRY_RUN (const struct cli_option[]){ \
	{ "--dry-run", 0, CLI_FLAG, .help = "show what would be, and change nothing" }, CLIENT_OPTIONS, { .name = NULL } }

/* Of the document itself, and not of its 'spec'. */
static const char top[] = "description=";

static const struct table_column columns[] = {
	{ "NAME", "name", NULL },
	{ "MACHINES", "status.instances", NULL },
	{ "DESCRIPTION", "description", NULL },
	{ "CREATED", "created", NULL },
	{ "WHY", "status.reason", NULL },
	{ .title = NULL },
};

static int ls(struct cli *c, struct err *err) { return resource_ls(c, "profiles", columns, err); }
static int show(struct cli *c, struct err *err) { return resource_show(c, "profiles", err); }
static int set(struct cli *c, struct err *err) { return resource_set(c, "profiles", top, err); }
static int rm(struct cli *c, struct err *err) { return resource_rm(c, "profiles", err); }

static int create(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *doc = NULL, *made = NULL;
	bool is_dry = cli_flag(c, "--dry-run");
	int r = resource_patch_of(c, 1, top, &doc, err);

	if (r < 0)
		return r;
	json_object_set_new(doc, "name", json_string(cli_arg(c, 0)));
	if (cli_has(c, "--description"))
		json_object_set_new(doc, "description", json_string(cli_str(c, "--description")));
	r = client_open(&cl, c, err);
	if (!r)
		r = client_call(cl, "POST", doc, &made, err, "/v1/profiles%s", is_dry ? "?dry-run=1" : "");
	return r < 0 || (!c->is_json && !is_dry) ? r : output_json(json_incref(made), err);
}

const struct cli_command profile_ls = {
	.path = "profile ls",
	.summary = "list profiles",
	.about = "With how many machines use each.",
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "profile ls", "all of the project" }, { .line = NULL } },
	.run = ls,
};

const struct cli_command profile_create = {
	.path = "profile create",
	.summary = "make a profile",
	.about = "FIELD is what 'viv set' knows of machines, as far as several can have it: 'memory', 'limits.cpu', 'networks', 'labels.NAME', which becomes "
		 "a label of the machines, and so on. One that is called 'default' is used by new machines that are not told which to use.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the profile" },
					  { "FIELD=VALUE", .help = "what machines with it are", .is_optional = true, .is_repeated = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--description", 0, CLI_STRING, .metavar = "TEXT", .help = "for people" },
						{ "--dry-run", 0, CLI_FLAG, .help = "show what would be, and change nothing" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){
		{ "profile create small memory=256M limits.cpu=0.5 labels.size=small", "for machines that shall not take much" },
		{ "profile create lan 'networks=[{\"kind\":\"network\",\"network\":\"lan\"}]'", "plugged into a network" },
		{ .line = NULL } },
	.run = create,
};

const struct cli_command profile_show = {
	.path = "profile show",
	.summary = "tell all about a profile",
	.about = "Its document: what machines with it are ('spec'), and how many they are ('status').",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the profile" }, { .name = NULL } },
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "profile show small", "all about it" }, { .line = NULL } },
	.run = show,
};

const struct cli_command profile_set = {
	.path = "profile set",
	.summary = "change a profile, and all machines with it",
	.about = "FIELD as in 'viv profile create', or 'description'; 'null' takes one away. Machines have it at once, as if each had been changed; what "
		 "a machine says itself stays. What one of them cannot be, or a quota does not allow, is refused.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the profile" },
					  { "FIELD=VALUE", .help = "what to change", .is_repeated = true },
					  { .name = NULL } },
	.options = WITH_DRY_RUN,
	.examples = (const struct cli_example[]){ { "profile set small --dry-run memory=512M", "which machines would change, and what of them" },
						  { "profile set small memory=512M limits.cpu=null", "two of its fields" },
						  { .line = NULL } },
	.run = set,
};

const struct cli_command profile_rm = {
	.path = "profile rm",
	.summary = "delete profiles",
	.about = "One that a machine uses is refused.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the profile", .is_repeated = true }, { .name = NULL } },
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "profile rm small", "one" }, { .line = NULL } },
	.run = rm,
};

const struct cli_group profile_group = {
	.path = "profile", .summary = "defaults that machines share",
	.about = "A machine has what its profiles say, each on top of those before, and on top of them what it says itself. 'viv show' tells which value "
		 "comes from which profile ('inherited'), and what is the machine's own ('own').",
	.see_also = ".BR viv (1)",
};
