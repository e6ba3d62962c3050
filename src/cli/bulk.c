/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bulk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/client.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/task.h"
#include "util/log.h"

int bulk_is_single(const struct cli *c, unsigned n_names, struct err *err)
{
	int ways = (n_names > 0) + (cli_str(c, "--selector") != NULL) + cli_flag(c, "--all");

	if (!ways)
		return err_set(err, -EINVAL, "nothing says which machines: name them, or use --selector or --all");
	if (ways > 1)
		return err_set(err, -EINVAL, "names, --selector and --all are three ways to say which machines; one is enough");
	return n_names == 1 && !c->is_json && !cli_flag(c, "--dry-run");
}

/* The request's body. New reference. */
static json_t *request_of(const struct cli *c, const struct bulk_request *b)
{
	json_t *body = json_pack("{s:s, s:s, s:s*}", "kind", "instance", "action", b->action, "labels", cli_str(c, "--selector"));
	json_t *names = json_array();

	for (unsigned i = 0; i < b->n_names; i++)
		json_array_append_new(names, json_string(cli_arg(c, i)));
	if (b->n_names)
		json_object_set(body, "names", names);
	json_decref(names);
	if (cli_flag(c, "--all"))
		json_object_set_new(body, "all", json_true());
	if (b->member)
		json_object_set(body, b->member, (json_t *)b->body);
	return body;
}

int bulk_begin(struct cli *c, struct client *cl, const struct bulk_request *b, json_t **out, struct err *err)
{
	AUTO(json_decref) json_t *body = request_of(c, b), *answer = NULL, *task = NULL;
	bool is_dry = b->is_plan || cli_flag(c, "--dry-run");
	int r = client_call(cl, "POST", body, &answer, err, "/v1/bulk%s", is_dry ? "?dry-run=1" : "");

	if (!r && !is_dry)
		r = task_follow(c, cl, answer, b->action, &task, err);
	const json_t *result = is_dry ? answer : table_at(task, "status.result");
	if (r < 0)
		return r;
	if (!json_is_array(json_object_get(result, "items")))
		return err_set(err, -EIO, "the daemon does not tell what became of it");
	*out = json_deep_copy(result);
	return 0;
}

void bulk_failed(json_t *result, size_t k, const struct err *err)
{
	json_t *item = json_array_get(json_object_get(result, "items"), k);

	json_object_set_new(item, "ok", json_false());
	json_object_set_new(item, "error", json_pack("{s:s, s:s}", "code", "failed", "message", err->msg));
	json_object_set_new(result, "done", json_integer(json_integer_value(json_object_get(result, "done")) - 1));
	json_object_set_new(result, "failed", json_integer(json_integer_value(json_object_get(result, "failed")) + 1));
}

static void tell_change(const json_t *change)
{
	AUTO(free) char *from = json_dumps(json_object_get(change, "from"), JSON_ENCODE_ANY | JSON_COMPACT);
	AUTO(free) char *to = json_dumps(json_object_get(change, "to"), JSON_ENCODE_ANY | JSON_COMPACT);

	printf("    ");
	output_text(stdout, json_string_value(json_object_get(change, "field")));
	printf(": ");
	output_text(stdout, from ? from : "nothing");
	printf(" -> ");
	output_text(stdout, to ? to : "nothing");
	printf("\n");
}

/* What would be done to each of ITEMS. */
static void tell_plan(const json_t *items)
{
	const json_t *item, *change;
	size_t i, k;

	json_array_foreach(items, i, item) {
		if (json_object_get(item, "error"))
			continue;
		output_text(stdout, json_string_value(json_object_get(item, "name")));
		printf("\n");
		json_array_foreach(json_object_get(item, "changes"), k, change)
			tell_change(change);
	}
}

/* Why ITEM has failed. */
static int why(const json_t *item, struct err *err)
{
	AUTO(json_decref) json_t *answer = json_pack("{s:O}", "error", json_object_get(item, "error"));
	AUTO(free) char *text = json_dumps(answer, JSON_COMPACT);
	const char *code = json_string_value(json_object_get(json_object_get(item, "error"), "code"));

	if (code && !strcmp(code, "failed"))
		return err_set(err, -EIO, "%s", json_string_value(json_object_get(json_object_get(item, "error"), "message")));
	return client_error_of(0, text, text ? strlen(text) : 0, err);
}

int bulk_tell(const struct cli *c, json_t *result, struct err *err)
{
	AUTO(json_decref) json_t *told = result;
	const json_t *items = json_object_get(told, "items"), *item;
	json_int_t failed = json_integer_value(json_object_get(result, "failed"));
	size_t i, n = json_array_size(items);
	int all = 0;

	json_array_foreach(items, i, item) {
		struct err one = ERR_INIT;

		if (!json_object_get(item, "error"))
			continue;
		int r = why(item, &one);

		all = !all || all == r ? r : -EIO;
		if (c->is_json)
			json_object_set_new(json_object_get(item, "error"), "message", json_string(one.msg));
		if (n > 1 && !c->is_json)
			log_error("'%s': %s", json_string_value(json_object_get(item, "name")), one.msg);
		else if (!c->is_json)
			return err_set(err, r, "%s", one.msg);
	}
	if (c->is_json) {
		int r = output_json(json_incref(result), err);

		return r < 0 || !failed ? r : cli_status_of(all);
	}
	if (cli_flag(c, "--dry-run"))
		tell_plan(items);
	return failed ? err_set(err, all, "%lld of %zu could not be done", (long long)failed, n) : 0;
}
