/* SPDX-License-Identifier: Apache-2.0 */
/* instance_state.c - `viv start`, `stop`, `restart`, `pause`, `rm` and `rename`. */
#include <errno.h>
#include <stdio.h>
#include "cli/bulk.h"
#include "cli/client.h"
#include "cli/instance.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resource.h"

#define NAMES (const struct cli_arg[]){ BULK_NAMES, { .name = NULL } }

/* Wait until NAME, whose status was BEFORE, is as SEEN says. */
static int wait_one(struct client *cl, const char *name, const json_t *before, const char *seen, struct err *err)
{
	char path[256];

	snprintf(path, sizeof(path), "/v1/instances/%s", name);
	return client_wait_news(cl, path, seen, before, NULL, NULL, err);
}

/* The status of NAME before it is asked for anything; NULL: there is none, or nobody tells, which the request itself will tell about. */
static json_t *status_of(struct client *cl, const char *name)
{
	AUTO(json_decref) json_t *doc = NULL;
	struct err err = ERR_INIT;

	if (client_call(cl, "GET", NULL, &doc, &err, "/v1/instances/%s", name) < 0)
		return NULL;
	return json_incref(json_object_get(doc, "status"));
}

/* One alone: write what it shall be, then wait until it is. */
static int set_one(struct cli *c, struct client *cl, const char *state, const char *seen, struct err *err)
{
	AUTO(json_decref) json_t *patch = json_pack("{s:{s:s}}", "spec", "state", state);
	AUTO(json_decref) json_t *before = status_of(cl, cli_arg(c, 0));
	int r = client_call(cl, "PATCH", patch, NULL, err, "/v1/instances/%s", cli_arg(c, 0));

	return r < 0 || cli_flag(c, "--no-wait") ? r : wait_one(cl, cli_arg(c, 0), before, seen, err);
}

static int set_many(struct cli *c, struct client *cl, const char *action, const char *seen, struct err *err)
{
	struct bulk_request b = { .action = action, .n_names = c->n_args };
	AUTO(json_decref) json_t *before = json_object();
	json_t *result = NULL, *item;

	for (unsigned i = 0; i < c->n_args; i++)
		json_object_set_new(before, cli_arg(c, i), status_of(cl, cli_arg(c, i)));
	int r = bulk_begin(c, cl, &b, &result, err);
	bool waits = !cli_flag(c, "--no-wait") && !cli_flag(c, "--dry-run");
	size_t k;

	if (r < 0)
		return r;
	json_array_foreach(json_object_get(result, "items"), k, item) {
		struct err one = ERR_INIT;

		const char *name = json_string_value(json_object_get(item, "name"));

		if (waits && json_is_true(json_object_get(item, "ok")) && wait_one(cl, name, json_object_get(before, name), seen, &one) < 0)
			bulk_failed(result, k, &one);
	}
	return bulk_tell(c, result, err);
}

/* Have all that are meant be in STATE, by ACTION, and wait until they are SEEN so. */
static int set_all(struct cli *c, const char *action, const char *state, const char *seen, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	int is_single = bulk_is_single(c, c->n_args, err), r = is_single < 0 ? is_single : client_open(&cl, c, err);
	struct progress p;

	if (r < 0)
		return r;
	progress_start(&p, c, state);
	r = is_single ? set_one(c, cl, state, seen, err) : set_many(c, cl, action, seen, err);
	progress_end(&p);
	return r;
}

#define STATE_OPTIONS (const struct cli_option[]){ \
	{ "--no-wait", 0, CLI_FLAG, .help = "do not wait until it is so" }, BULK_OPTIONS, CLIENT_OPTIONS, { .name = NULL } }

static int start(struct cli *c, struct err *err) { return set_all(c, "start", "running", "running", err); }
static int stop(struct cli *c, struct err *err) { return set_all(c, "stop", "stopped", "stopped failed", err); }
static int pause_all(struct cli *c, struct err *err) { return set_all(c, "pause", "paused", "paused", err); }

const struct cli_command instance_start = {
	.path = "start", .summary = "start machines, or let paused ones go on",
	.about = "Returns when they run. A machine that has powered itself off is started again.",
	.args = NAMES, .options = STATE_OPTIONS,
	.examples = (const struct cli_example[]){ { "start web db", "both" }, { "start --all", "all of the project" }, { .line = NULL } }, .run = start,
};

const struct cli_command instance_stop = {
	.path = "stop",
	.summary = "stop machines by their power button",
	.about = "The guest is asked to shut down; one that has not after 'shutdown_seconds' of its document is cut "
		 "off.",
	.args = NAMES,
	.options = STATE_OPTIONS,
	.examples = (const struct cli_example[]){ { "stop web", "shut it down, and wait" },
						  { "stop --selector env=test --json", "all with a label; what became of each" },
						  { .line = NULL } },
	.run = stop,
};

const struct cli_command instance_pause = {
	.path = "pause",
	.summary = "let machines stand still",
	.about = "Processors, devices and time of the guest stop; its memory stays. 'viv start' lets it go on.",
	.args = NAMES,
	.options = STATE_OPTIONS,
	.examples = (const struct cli_example[]){ { "pause web", "until 'viv start web'" }, { .line = NULL } },
	.run = pause_all,
};

/* The button of each, which has no plan. */
static int reset(struct cli *c, struct client *cl, struct err *err)
{
	const char *name;
	int r = 0;

	if (cli_flag(c, "--dry-run") || cli_str(c, "--selector") || cli_flag(c, "--all"))
		return err_set(err, -ENOTSUP, "--reset is for machines that are named, and has no dry run");
	for (unsigned i = 0; !r && (name = cli_arg(c, i)) != NULL; i++)
		r = client_call(cl, "POST", NULL, NULL, err, "/v1/instances/%s/reset", name);
	return r;
}

static int restart(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct bulk_request b = { .action = "restart", .n_names = c->n_args };
	json_t *result = NULL;
	int is_single = bulk_is_single(c, c->n_args, err), r = is_single < 0 ? is_single : client_open(&cl, c, err);

	if (!r && cli_flag(c, "--reset"))
		return reset(c, cl, err);
	if (!r && is_single)
		return client_call(cl, "POST", NULL, NULL, err, "/v1/instances/%s/restart", cli_arg(c, 0));
	if (!r)
		r = bulk_begin(c, cl, &b, &result, err);
	return r < 0 ? r : bulk_tell(c, result, err);
}

const struct cli_command instance_restart = {
	.path = "restart",
	.summary = "stop machines and start them again",
	.about = "With a new process, so that changes of the document take effect. With --reset the guest alone "
		 "begins anew, at once.",
	.args = NAMES,
	.options = (const struct cli_option[]){ { "--reset", 0, CLI_FLAG,
						  .help = "as the reset button: the guest is not asked" },
						BULK_OPTIONS,
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "restart web", "shut it down, then start it" },
						  { "restart --reset web", "at once" },
						  { .line = NULL } },
	.run = restart,
};

/* Is NAME off, or may it be cut off? */
static int check_off(struct client *cl, const char *name, struct err *err)
{
	AUTO(json_decref) json_t *doc = NULL;
	int r = client_call(cl, "GET", NULL, &doc, err, "/v1/instances/%s", name);

	if (!r && json_object_get(json_object_get(doc, "status"), "pid"))
		r = err_set(err, -EBUSY, "'%s' is running; stop it first, or use --force", name);
	return r;
}

/* Of those that are meant none may run, unless --force is there. */
static int check_all_off(struct cli *c, struct client *cl, struct err *err)
{
	AUTO(json_decref) json_t *plan = NULL;
	struct bulk_request b = { .action = "delete", .n_names = c->n_args, .is_plan = true };
	const json_t *item;
	size_t k;
	int r = bulk_begin(c, cl, &b, &plan, err);

	json_array_foreach(json_object_get(plan, "items"), k, item)
		if (!r && json_is_true(json_object_get(item, "ok")))
			r = check_off(cl, json_string_value(json_object_get(item, "name")), err);
	return r;
}

static int rm_many(struct cli *c, struct client *cl, struct err *err)
{
	struct bulk_request b = { .action = "delete", .n_names = c->n_args };
	json_t *result = NULL, *item;
	int r = cli_flag(c, "--force") ? 0 : check_all_off(c, cl, err);
	size_t k;

	if (!r)
		r = bulk_begin(c, cl, &b, &result, err);
	if (r < 0)
		return r;
	json_array_foreach(json_object_get(result, "items"), k, item) {
		struct err one = ERR_INIT;

		if (!cli_flag(c, "--dry-run") && json_is_true(json_object_get(item, "ok")) &&
		    resource_wait_gone(cl, "instances", json_string_value(json_object_get(item, "name")), NULL, &one) < 0)
			bulk_failed(result, k, &one);
	}
	return bulk_tell(c, result, err);
}

static int rm(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	int is_single = bulk_is_single(c, c->n_args, err), r = is_single < 0 ? is_single : client_open(&cl, c, err);
	struct progress p;

	if (!r && is_single && !cli_flag(c, "--force"))
		r = check_off(cl, cli_arg(c, 0), err);
	if (r < 0 || is_single)
		return r < 0 ? r : resource_rm(c, "instances", err);
	progress_start(&p, c, "deleting");
	r = rm_many(c, cl, err);
	progress_end(&p);
	return r;
}

const struct cli_command instance_rm = {
	.path = "rm",
	.summary = "delete machines with their disks",
	.about = "What was on their first disks is lost; volumes stay.",
	.args = NAMES,
	.options = (const struct cli_option[]){ { "--force", 'f', CLI_FLAG,
						  .help = "also those that run: their power is cut" },
						BULK_OPTIONS,
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "rm web", "one that is stopped" },
						  { "rm -f web db", "two in any state" },
						  { "rm --selector env=test --dry-run", "which would go" },
						  { .line = NULL } },
	.run = rm,
};
