/* SPDX-License-Identifier: Apache-2.0 */
/* instance_set.c - `viv set`, `viv console` and `viv logs`. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cli/bulk.h"
#include "cli/client.h"
#include "cli/instance.h"
#include "cli/output.h"
#include "cli/resource.h"

/* What of the machine NAME, which runs, waits for its next start, for people. That it cannot be told is no failure: it is changed. */
static void tell_pending(struct client *cl, const char *name, bool has_others)
{
	AUTO(json_decref) json_t *why = NULL;
	struct err ignored = ERR_INIT;
	const json_t *fact;
	size_t at;

	if (client_call(cl, "GET", NULL, &why, &ignored, "/v1/instances/%s/why", name) < 0)
		return;
	json_array_foreach(json_object_get(why, "facts"), at, fact) {
		if (strcmp(json_string_value(json_object_get(fact, "about")) ?: "", "pending") != 0)
			continue;
		if (has_others)
			fprintf(stderr, "'%s': ", name);
		fprintf(stderr, "%s\n", json_string_value(json_object_get(fact, "text")));
	}
}

static int set_one(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct err ignored = ERR_INIT;
	int r = resource_set(c, "instances", NULL, err);

	if (!r && !c->is_json && !cli_flag(c, "--dry-run") && client_open(&cl, c, &ignored) >= 0)
		tell_pending(cl, cli_arg(c, 0), false);
	return r;
}

/* The same of each that has been changed. */
static void tell_all_pending(struct client *cl, const json_t *result)
{
	const json_t *items = json_object_get(result, "items"), *item;
	size_t i;

	json_array_foreach(items, i, item) {
		const char *name = json_string_value(json_object_get(item, "name"));

		if (name && json_is_true(json_object_get(item, "ok")))
			tell_pending(cl, name, json_array_size(items) > 1);
	}
}

static int set(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *patch = NULL;
	json_t *result = NULL;
	unsigned n = 0;

	while (cli_arg(c, n) && !strchr(cli_arg(c, n), '='))
		n++;
	if (!cli_arg(c, n))
		return err_set(err, -EINVAL, "nothing says what to change: FIELD=VALUE, as 'memory=2G'");
	bool has_selector = cli_str(c, "--selector") || cli_flag(c, "--all");
	if (n == 1 && !has_selector)
		return set_one(c, err);
	int r = bulk_is_single(c, n, err);
	if (r >= 0)
		r = resource_patch_of(c, n, NULL, &patch, err);
	struct bulk_request b = { .action = "patch", .n_names = n, .member = "patch", .body = patch };
	if (!r)
		r = client_open(&cl, c, err);
	if (!r)
		r = bulk_begin(c, cl, &b, &result, err);
	if (!r && !c->is_json && !cli_flag(c, "--dry-run"))
		tell_all_pending(cl, result);
	return r < 0 ? r : bulk_tell(c, result, err);
}

const struct cli_command instance_set = {
	.path = "set",
	.summary = "change fields of a machine",
	.about = "FIELD is a member of 'spec', or 'labels.NAME'; 'null' takes one away. Most take effect when the "
		 "machine is started the "
		 "next time: of one that runs is said which, and 'viv why' tells it later.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine; several, or none with --selector or --all", .is_optional = true },
					  { "FIELD=VALUE", .help = "what to change", .is_optional = true, .is_repeated = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ BULK_OPTIONS,
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "set web memory=2G cpus=2 labels.tier=web", "three of them" },
						  { "set web --dry-run restart=always", "only look" },
						  { "set --selector env=test profiles=small labels.env=null", "all that have a label" },
						  { .line = NULL } },
	.run = set,
};

static int console(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, NULL, err, "/v1/instances/%s", cli_arg(c, 0));
	return r < 0 ? r : client_console(cl, cli_arg(c, 0), err);
}

const struct cli_command instance_console = {
	.path = "console",
	.summary = "open the console of a machine",
	.about = "On a terminal, Ctrl-a x leaves it and Ctrl-a a types Ctrl-a. Several may look at once. What was "
		 "said last is shown first. It ends with the machine, or a second after the end of an input that is "
		 "no terminal.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "console web", "look and type" }, { .line = NULL } },
	.run = console,
};

static int logs(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(free) char *text = NULL;
	size_t len = 0;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_get_bytes(cl, &text, &len, err, "/v1/instances/%s/log", cli_arg(c, 0));
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_pack("{s:s%}", "log", text ? text : "", len) ?: json_pack("{s:n}", "log"), err);
	fwrite(text, 1, len, stdout);
	return 0;
}

const struct cli_command instance_logs = {
	.path = "logs", .summary = "print what a machine's console has said",
	.about = "The last 64 KiB, as they came: control characters included.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "logs web", "what it said" }, { .line = NULL } },
	.run = logs,
};
