/* SPDX-License-Identifier: Apache-2.0 */
/* user.c - `viv user` and `viv role`. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include "cli/access.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/resource.h"
#include "cli/table.h"

enum { PASSWORD_MAX = 1024 };

#define ONLY_CLIENT (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define ROLE_OPTION { "--role", 'r', CLI_CHOICE, .choices = "none viewer operator admin", .help = "on the node" }

static const struct table_column user_columns[] = {
	{ "NAME", "name", NULL }, { "ROLE ON THE NODE", "spec.role", NULL }, { "DISABLED", "spec.disabled", NULL },
	{ "CREATED", "created", NULL }, { "ABOUT", "spec.about", NULL }, { .title = NULL },
};

static int ls(struct cli *c, struct err *err) { return resource_ls(c, "users", user_columns, err); }
static int rm(struct cli *c, struct err *err) { return resource_rm(c, "users", err); }

static int set_password(struct cli *c, struct client *cl, bool is_own, struct err *err)
{
	char password[PASSWORD_MAX + 2], old[PASSWORD_MAX + 2] = "";
	int r = is_own ? access_read_password(old, sizeof(old), "password of today", false, err) : 0;

	if (!r)
		r = access_read_password(password, sizeof(password), "new password", true, err);
	if (r < 0)
		return r;
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:s*}", "password", password, "old", is_own ? old : NULL);
	OPENSSL_cleanse(password, sizeof(password));
	OPENSSL_cleanse(old, sizeof(old));
	return client_call(cl, "POST", body, NULL, err, "/v1/users/%s/password", cli_arg(c, 0));
}

static int add(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	json_t *made = NULL;
	const char *about = cli_str(c, "--about");
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:{s:s, s:s*}}", "name", cli_arg(c, 0), "spec", "role",
						   cli_str(c, "--role") ?: "none", "about", about);
	int r = client_open(&cl, c, err);

	if (!r && cli_has(c, "--unix-uid"))
		json_object_set_new(json_object_get(body, "spec"), "unix_uid",
				    json_integer((json_int_t)cli_num(c, "--unix-uid")));
	if (!r)
		r = client_call(cl, "POST", body, &made, err, "/v1/users");
	if (!r && cli_flag(c, "--password"))
		r = set_password(c, cl, false, err);
	if (!r && c->is_json)
		return output_json(made, err);
	json_decref(made);
	return r;
}

static int set(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *spec = json_object();
	int r = client_open(&cl, c, err);

	if (cli_flag(c, "--enable") && cli_flag(c, "--disable"))
		return err_set(err, -EINVAL, "--enable and --disable are opposites");
	if (cli_has(c, "--role"))
		json_object_set_new(spec, "role", json_string(cli_str(c, "--role")));
	if (cli_flag(c, "--enable") || cli_flag(c, "--disable"))
		json_object_set_new(spec, "disabled", json_boolean(cli_flag(c, "--disable")));
	AUTO(json_decref) json_t *body = json_pack("{s:O}", "spec", spec);
	return r < 0 ? r : client_call(cl, "PATCH", body, NULL, err, "/v1/users/%s", cli_arg(c, 0));
}

static int passwd(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *who = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &who, err, "/v1/session");
	if (r < 0)
		return r;
	const char *me = json_string_value(json_object_get(who, "user"));
	return set_password(c, cl, me && !strcmp(me, cli_arg(c, 0)), err);
}

const struct cli_command user_ls = {
	.path = "user ls", .summary = "list users", .about = "Who may come in, with what each may on the node.",
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "user ls", "all" }, { .line = NULL } }, .run = ls,
};

const struct cli_command user_add = {
	.path = "user add",
	.summary = "make a user",
	.about = "Without a role on the node or in a project ('viv role grant') a user may nothing.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "of the user" }, { .name = NULL } },
	.options = (const struct cli_option[]){ ROLE_OPTION,
						{ "--password", 0, CLI_FLAG, .help = "set a password, too" },
						{ "--about", 0, CLI_STRING, .metavar = "TEXT", .help = "for people" },
						{ "--unix-uid", 0, CLI_UINT, .metavar = "NUMBER",
						  .help = "the user of the host that is this one at the socket" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "user add alice --password", "somebody" },
						  { "user add root2 --role admin", "who may all" },
						  { .line = NULL } },
	.run = add,
};

const struct cli_command user_set = {
	.path = "user set",
	.summary = "change a user",
	.about = "Who is disabled can not come in any more, and loses open connections.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the user" }, { .name = NULL } },
	.options = (const struct cli_option[]){ ROLE_OPTION,
						{ "--disable", 0, CLI_FLAG, .help = "shut out" },
						{ "--enable", 0, CLI_FLAG, .help = "let in again" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "user set alice --disable", "shut her out" }, { .line = NULL } },
	.run = set,
};

const struct cli_command user_passwd = {
	.path = "user passwd",
	.summary = "set a password",
	.about = "It is asked for, or the first line of standard input; who changes the own one gives that of today first. The "
		 "user's sessions end.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the user" }, { .name = NULL } },
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "user passwd alice", "a new one" }, { .line = NULL } },
	.run = passwd,
};

const struct cli_command user_rm = {
	.path = "user rm",
	.summary = "delete users",
	.about = "With their roles, tokens and sessions. What they have made stays.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "a user", .is_repeated = true }, { .name = NULL } },
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "user rm alice", "one" }, { .line = NULL } },
	.run = rm,
};

const struct cli_group user_group = {
	.path = "user", .summary = "who may come in",
	.about = "The daemon's own user and root need no user of the platform's: at the socket they may all.",
	.see_also = ".BR viv-role (1), .BR viv-token (1)",
};

/* --- roles ---------------------------------------------------- */

static const struct table_column role_columns[] = {
	{ "USER", "name", NULL }, { "ROLE", "spec.role", NULL }, { "SINCE", "created", NULL }, { .title = NULL },
};

static int role_list(struct cli *c, struct err *err) { return resource_ls(c, "roles", role_columns, err); }

static int grant(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct err first = ERR_INIT;
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:{s:s}}", "name", cli_arg(c, 0), "spec", "role", cli_arg(c, 1));
	AUTO(json_decref) json_t *patch = json_pack("{s:{s:s}}", "spec", "role", cli_arg(c, 1));
	int r = client_open(&cl, c, err);

	if (r < 0)
		return r;
	r = client_call(cl, "POST", body, NULL, &first, "/v1/roles");
	if (r == -EEXIST)
		return client_call(cl, "PATCH", patch, NULL, err, "/v1/roles/%s", cli_arg(c, 0));
	return r < 0 ? err_set(err, r, "%s", first.msg) : 0;
}

static int take_role(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	int r = client_open(&cl, c, err);

	return r < 0 ? r : client_call(cl, "DELETE", NULL, NULL, err, "/v1/roles/%s", cli_arg(c, 0));
}

const struct cli_command role_ls = {
	.path = "role ls", .summary = "list who may what in a project", .about = "Besides those with a role on the node.",
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "role ls --project shop", "in one" }, { .line = NULL } }, .run = role_list,
};

const struct cli_command role_grant = {
	.path = "role grant",
	.summary = "let a user do something in a project",
	.about = "A viewer looks; an operator also changes; an admin also decides who may.",
	.args = (const struct cli_arg[]){ { "USER", .help = "who" },
					  { "ROLE", .help = "viewer, operator or admin" },
					  { .name = NULL } },
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "role grant alice operator --project shop", "alice runs the shop" },
						  { .line = NULL } },
	.run = grant,
};

const struct cli_command role_revoke = {
	.path = "role revoke",
	.summary = "let a user do nothing more in a project",
	.about = "Open consoles close.",
	.args = (const struct cli_arg[]){ { "USER", .help = "who" }, { .name = NULL } },
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "role revoke alice --project shop", "not there" }, { .line = NULL } },
	.run = take_role,
};

const struct cli_group role_group = {
	.path = "role", .summary = "what users may in projects",
	.about = "A user's role in a project. A role on the node, which counts in all projects, is set by 'viv user set'.",
	.see_also = ".BR viv-user (1), .BR viv-project (1)",
};
