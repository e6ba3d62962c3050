/* SPDX-License-Identifier: Apache-2.0 */
/* instance_state.c - `viv start`, `stop`, `restart`, `pause`, `rm` and `rename`. */
#include <errno.h>
#include <stdio.h>
#include "cli/client.h"
#include "cli/instance.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resource.h"
#include "util/log.h"

#define NAMES (const struct cli_arg[]){ { "NAME", .help = "the machine", .is_repeated = true }, { .name = NULL } }

/* Write that all named shall be in STATE, then wait until they are. */
static int set_all(struct cli *c, const char *state, const char *seen, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *patch = json_pack("{s:{s:s}}", "spec", "state", state);
	int r = client_open(&cl, c, err), bad = 0;
	struct progress p;
	const char *name;

	if (r < 0)
		return r;
	progress_start(&p, c, state);
	for (unsigned i = 0; !bad && (name = cli_arg(c, i)) != NULL; i++)
		bad = client_call(cl, "PATCH", patch, NULL, err, "/v1/instances/%s", name);
	for (unsigned i = 0; !bad && (name = cli_arg(c, i)) != NULL && !cli_flag(c, "--no-wait"); i++) {
		char path[256];

		snprintf(path, sizeof(path), "/v1/instances/%s", name);
		bad = client_wait(cl, path, seen, NULL, NULL, err);
	}
	progress_end(&p);
	return bad;
}

#define STATE_OPTIONS (const struct cli_option[]){ \
	{ "--no-wait", 0, CLI_FLAG, .help = "do not wait until it is so" }, CLIENT_OPTIONS, { .name = NULL } }

static int start(struct cli *c, struct err *err) { return set_all(c, "running", "running", err); }
static int stop(struct cli *c, struct err *err) { return set_all(c, "stopped", "stopped failed", err); }
static int pause_all(struct cli *c, struct err *err) { return set_all(c, "paused", "paused", err); }

const struct cli_command instance_start = {
	.path = "start", .summary = "start machines, or let paused ones go on",
	.about = "Returns when they run. A machine that has powered itself off is started again.",
	.args = NAMES, .options = STATE_OPTIONS,
	.examples = (const struct cli_example[]){ { "start web db", "both" }, { .line = NULL } }, .run = start,
};

const struct cli_command instance_stop = {
	.path = "stop",
	.summary = "stop machines by their power button",
	.about = "The guest is asked to shut down; one that has not after 'shutdown_seconds' of its document is cut "
		 "off.",
	.args = NAMES,
	.options = STATE_OPTIONS,
	.examples = (const struct cli_example[]){ { "stop web", "shut it down, and wait" }, { .line = NULL } },
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

static int restart(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	int r = client_open(&cl, c, err);
	const char *name;

	for (unsigned i = 0; !r && (name = cli_arg(c, i)) != NULL; i++)
		r = client_call(cl, "POST", NULL, NULL, err, "/v1/instances/%s/%s", name,
				cli_flag(c, "--reset") ? "reset" : "restart");
	return r;
}

const struct cli_command instance_restart = {
	.path = "restart",
	.summary = "stop machines and start them again",
	.about = "With a new process, so that changes of the document take effect. With --reset the guest alone "
		 "begins anew, at once.",
	.args = NAMES,
	.options = (const struct cli_option[]){ { "--reset", 0, CLI_FLAG,
						  .help = "as the reset button: the guest is not asked" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "restart web", "shut it down, then start it" },
						  { "restart --reset web", "at once" },
						  { .line = NULL } },
	.run = restart,
};

static int rm(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	const char *name;
	int r = cli_flag(c, "--force") ? 0 : client_open(&cl, c, err);

	for (unsigned i = 0; !r && cl && (name = cli_arg(c, i)) != NULL; i++) {
		AUTO(json_decref) json_t *doc = NULL;

		r = client_call(cl, "GET", NULL, &doc, err, "/v1/instances/%s", name);
		if (!r && json_object_get(json_object_get(doc, "status"), "pid"))
			r = err_set(err, -EBUSY, "'%s' is running; stop it first, or use --force", name);
	}
	return r < 0 ? r : resource_rm(c, "instances", err);
}

const struct cli_command instance_rm = {
	.path = "rm",
	.summary = "delete machines with their disks",
	.about = "What was on their first disks is lost; volumes stay.",
	.args = NAMES,
	.options = (const struct cli_option[]){ { "--force", 'f', CLI_FLAG,
						  .help = "also those that run: their power is cut" },
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "rm web", "one that is stopped" },
						  { "rm -f web db", "two in any state" },
						  { .line = NULL } },
	.run = rm,
};

static int rename_one(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *body = json_pack("{s:s}", "name", cli_arg(c, 1));
	json_t *doc = NULL;
	int r = body ? client_open(&cl, c, err) : err_set(err, -EINVAL, "a name must be text in UTF-8");

	if (!r)
		r = client_call(cl, "POST", body, &doc, err, "/v1/instances/%s/rename", cli_arg(c, 0));
	if (!r && c->is_json)
		return output_json(doc, err);
	json_decref(doc);
	return r;
}

const struct cli_command instance_rename = {
	.path = "rename",
	.summary = "give a machine another name",
	.about = "Whether it runs or not, with its snapshots; consoles that are open stay so, and its network knows it by the new name at once. "
		 "What runs in it learns of its name when it is started the next time.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" }, { "NEW", .help = "what it shall be called" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "rename web web-old", "to make room for another" }, { .line = NULL } },
	.run = rename_one,
};
