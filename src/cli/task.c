/* SPDX-License-Identifier: Apache-2.0 */
/* task.c - `viv task`. */
#include "cli/task.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/resource.h"
#include "cli/table.h"

enum { POLL_MS = 50 };

#define ONLY_CLIENT (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } }
#define ONE_TASK (const struct cli_arg[]){ { "TASK", .help = "its name" }, { .name = NULL } }

static const char *text_at(const json_t *doc, const char *path)
{
	const char *s = json_string_value(table_at(doc, path));

	return s ? s : "";
}

static void percent(const json_t *value, char *buf, size_t cap)
{
	double total = (double)json_integer_value(json_object_get(value, "total"));

	/* One that does not count says nothing of how far it is, whether it has ended or not. */
	if (total > 0)
		snprintf(buf, cap, "%.0f %%", 100.0 * (double)json_integer_value(json_object_get(value, "done")) / total);
	else
		snprintf(buf, cap, "-");
}

static const struct table_column columns[] = {
	{ "NAME", "name", NULL }, { "OPERATION", "operation", NULL }, { "STATE", "status.state", NULL },
	{ "DONE", "status.progress", percent }, { "USER", "user", NULL }, { "CREATED", "created", NULL },
	{ "WHY", "status.reason", NULL }, { .title = NULL },
};

int task_follow(struct cli *c, struct client *cl, const json_t *task, const char *what, json_t **out, struct err *err)
{
	const char *name = text_at(task, "name");
	struct progress p;
	int r = 0;

	progress_start(&p, c, what);
	for (;;) {
		AUTO(json_decref) json_t *doc = NULL;

		r = client_call(cl, "GET", NULL, &doc, err, "/v1/tasks/%s", name);
		if (r < 0)
			break;
		const char *state = text_at(doc, "status.state");
		const json_t *total = table_at(doc, "status.progress.total");

		if (json_integer_value(total) > 0)
			(void)progress_update(&p, (uint64_t)json_integer_value(table_at(doc, "status.progress.done")),
					      (uint64_t)json_integer_value(total));
		if (!strcmp(state, "done") && out)
			*out = json_incref(doc);
		if (!strcmp(state, "done"))
			break;
		if (!strcmp(state, "failed") || !strcmp(state, "cancelled")) {
			r = state[0] == 'f' ? err_set(err, -EIO, "%s", text_at(doc, "status.reason")) :
					      err_set(err, -ECANCELED, "somebody has cancelled it");
			break;
		}
		if (progress_is_interrupted()) {
			r = err_set(err, -EINTR, "interrupted; the task goes on: viv task wait %s", name);
			break;
		}
		usleep(POLL_MS * 1000);
	}
	progress_end(&p);
	return r;
}

int task_finish(struct cli *c, struct client *cl, const json_t *task, const char *what, struct err *err)
{
	json_t *doc = NULL;
	int r = task_follow(c, cl, task, what, &doc, err);

	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(doc, err);
	json_decref(doc);
	return 0;
}

int task_run(struct cli *c, const char *plural, const char *verb, json_t *body, bool is_dry, const char *what, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *sent = body, *task = NULL;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "POST", sent, &task, err, "/v1/%s/%s/%s%s", plural, cli_arg(c, 0), verb, is_dry ? "?dry-run=1" : "");
	if (!r && is_dry)
		return output_json(json_incref(task), err);
	return r < 0 ? r : task_finish(c, cl, task, what, err);
}

static int ls(struct cli *c, struct err *err) { return resource_ls(c, "tasks", columns, err); }
static int show(struct cli *c, struct err *err) { return resource_show(c, "tasks", err); }

static int cancel(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	int r = client_open(&cl, c, err);

	return r < 0 ? r : client_call(cl, "POST", NULL, NULL, err, "/v1/tasks/%s/cancel", cli_arg(c, 0));
}

static int wait_for(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *task = json_pack("{s:s}", "name", cli_arg(c, 0));
	int r = client_open(&cl, c, err);

	return r < 0 ? r : task_finish(c, cl, task, "waiting", err);
}

const struct cli_command task_ls = {
	.path = "task ls", .summary = "list tasks", .about = "What takes long, and how far it is; the last ones that have ended, too.",
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "task ls", "all of the project" }, { .line = NULL } }, .run = ls,
};

const struct cli_command task_show = {
	.path = "task show", .summary = "tell all about a task", .about = "With its log and its result.", .args = ONE_TASK,
	.options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "task show t0123456789abcdef", "one" }, { .line = NULL } }, .run = show,
};

const struct cli_command task_cancel = {
	.path = "task cancel", .summary = "ask a task to end before it is done",
	.about = "What it has half made is taken away.", .args = ONE_TASK, .options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "task cancel t0123456789abcdef", "one" }, { .line = NULL } }, .run = cancel,
};

const struct cli_command task_wait = {
	.path = "task wait", .summary = "wait until a task has ended", .about = "Ends with a failure when the task does.",
	.args = ONE_TASK, .options = ONLY_CLIENT,
	.examples = (const struct cli_example[]){ { "task wait t0123456789abcdef", "one" }, { .line = NULL } }, .run = wait_for,
};

const struct cli_group task_group = {
	.path = "task", .summary = "what takes long",
	.about = "A task goes on when the command that has begun it is interrupted, and when the daemon is started anew.",
	.see_also = ".BR viv (1)",
};
