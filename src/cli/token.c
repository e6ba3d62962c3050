/* SPDX-License-Identifier: Apache-2.0 */
/* token.c - `viv token` and `viv project`. */
#include <stdio.h>
#include "cli/access.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/resource.h"
#include "cli/table.h"

#define ONLY_CLIENT (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define USER_OPTION { "--user", 'u', CLI_STRING, .metavar = "NAME", .help = "whose; one's own unless given" }

static const struct table_column token_columns[] = {
	{ "NAME", "name", NULL }, { "ROLE", "spec.role", NULL }, { "PROJECT", "spec.project", NULL },
	{ "EXPIRES", "expires", NULL }, { "ABOUT", "spec.about", NULL }, { .title = NULL },
};

/* "?user=NAME" or "" */
static const char *whose(struct cli *c, char *buf, size_t cap)
{
	const char *user = cli_str(c, "--user");

	snprintf(buf, cap, "%s%s", user ? "?user=" : "", user ? user : "");
	return buf;
}

static int ls(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *page = NULL;
	char user[128];
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &page, err, "/v1/tokens%s", whose(c, user, sizeof(user)));
	if (r < 0)
		return r;
	json_t *items = json_object_get(page, "items");
	if (c->is_json)
		return output_json(json_incref(items), err);
	table_print(items, token_columns);
	return 0;
}

static int create(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *made = NULL;
	char user[128];
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:{s:s*, s:s*, s:I}}", "name", cli_arg(c, 0), "spec", "role",
						   cli_str(c, "--role"), "project", cli_str(c, "--only-project"), "days",
						   (json_int_t)cli_num(c, "--days"));
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "POST", body, &made, err, "/v1/tokens%s", whose(c, user, sizeof(user)));
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_incref(made), err);
	printf("%s\n", json_string_value(json_object_get(made, "token")));
	return 0;
}

static int rm(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	char user[128];
	int r = client_open(&cl, c, err);

	return r < 0 ? r : client_call(cl, "DELETE", NULL, NULL, err, "/v1/tokens/%s%s", cli_arg(c, 0),
				       whose(c, user, sizeof(user)));
}

const struct cli_command token_ls = {
	.path = "token ls", .summary = "list tokens", .about = "Of one user, without what lets in.",
	.options = (const struct cli_option[]){ USER_OPTION, CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "token ls --user ci", "those of ci" }, { .line = NULL } }, .run = ls,
};

const struct cli_command token_create = {
	.path = "token create",
	.summary = "make a token",
	.about = "What is printed lets a program in, as 'Authorization: Bearer TOKEN' or in VIV_TOKEN. It is shown this once.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the token" }, { .name = NULL } },
	.options = (const struct cli_option[]){ USER_OPTION,
						{ "--role", 'r', CLI_CHOICE, .choices = "viewer operator admin",
						  .help = "at most; as much as the user unless given" },
						{ "--only-project", 0, CLI_STRING, .metavar = "NAME",
						  .help = "good there alone" },
						{ "--days", 0, CLI_UINT, .metavar = "N", .def = "90", .help = "how long it is good" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "token create build --user ci --role operator --days 30", "for a month" },
						  { .line = NULL } },
	.run = create,
};

const struct cli_command token_rm = {
	.path = "token rm",
	.summary = "delete a token",
	.about = "It is good no more, at once.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the token" }, { .name = NULL } },
	.options = (const struct cli_option[]){ USER_OPTION, CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "token rm build --user ci", "one" }, { .line = NULL } },
	.run = rm,
};

const struct cli_group token_group = {
	.path = "token", .summary = "what lets programs in",
	.about = "A token stands for a user, perhaps with less than what the user may, for a time. What is kept of it is a hash.",
	.see_also = ".BR viv-user (1)",
};

/* --- projects ---------------------------------------------------- */

static const struct table_column project_columns[] = {
	{ "NAME", "name", NULL }, { "CREATED", "created", NULL }, { "ABOUT", "spec.about", NULL }, { .title = NULL },
};

static int list_projects(struct cli *c, struct err *err) { return resource_ls(c, "projects", project_columns, err); }
static int rm_projects(struct cli *c, struct err *err) { return resource_rm(c, "projects", err); }

static int create_project(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:{s:s*}}", "name", cli_arg(c, 0), "spec", "about",
						   cli_str(c, "--about"));
	int r = client_open(&cl, c, err);

	return r < 0 ? r : client_call(cl, "POST", body, NULL, err, "/v1/projects");
}

const struct cli_command project_ls = {
	.path = "project ls", .summary = "list projects", .about = "All in which one may something.", .options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "project ls", "all" }, { .line = NULL } }, .run = list_projects,
};

const struct cli_command project_create = {
	.path = "project create",
	.summary = "make a project",
	.about = "Names of machines, images and volumes are each project's own.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the project" }, { .name = NULL } },
	.options = (const struct cli_option[]){ { "--about", 0, CLI_STRING, .metavar = "TEXT", .help = "for people" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "project create shop", "a new one" }, { .line = NULL } },
	.run = create_project,
};

const struct cli_command project_rm = {
	.path = "project rm",
	.summary = "delete empty projects",
	.about = "With the roles in them.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "a project", .is_repeated = true }, { .name = NULL } },
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "project rm shop", "one" }, { .line = NULL } },
	.run = rm_projects,
};

const struct cli_group project_group = {
	.path = "project", .summary = "rooms for things",
	.about = "Machines, images and volumes are in a project, and users have roles in it. Without --project it is 'default'.",
	.see_also = ".BR viv-role (1)",
};
