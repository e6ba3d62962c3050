/* SPDX-License-Identifier: Apache-2.0 */
#include "node/bulk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/auth.h"
#include "node/bulk_priv.h"
#include "node/doc.h"
#include "node/idempotency.h"
#include "node/node.h"
#include "node/query.h"
#include "node/resource_priv.h"
#include "node/task.h"
#include "util/err.h"

const struct schema bulk_schema = {
	.name = "Bulk",
	.help = "The same done to many things: which ('names', or 'labels' and 'filter', or 'all'), and what.",
	.fields = (const struct schema_field[]){
		{ .name = "kind", .type = SCHEMA_STRING, .choices = "instance|volume|image|network|profile", .dflt = "\"instance\"",
		  .help = "what they are" },
		{ .name = "names", .type = SCHEMA_LIST, .min = 1, .max = BULK_MAX, .help = "those that are called so" },
		{ .name = "labels", .type = SCHEMA_STRING, .min = 1, .max = 2000, .help = "those with these labels: 'env=test,tier'" },
		{ .name = "filter", .type = SCHEMA_STRING, .min = 1, .max = 2000,
		  .help = "those of which this holds, as in lists: 'status.state=running,spec.cpus>1'" },
		{ .name = "all", .type = SCHEMA_BOOL, .help = "all of the project" },
		{ .name = "action", .type = SCHEMA_STRING, .choices = "start|stop|pause|restart|snapshot|patch|label|delete", .is_required = true,
		  .help = "what shall be done; the first five only to instances" },
		{ .name = "patch", .type = SCHEMA_ANY, .help = "for 'patch': the merge patch (RFC 7396), as for one of them" },
		{ .name = "set_labels", .type = SCHEMA_ANY, .help = "for 'label': names and values; null takes one away" },
		{ .name = "snapshot", .type = SCHEMA_ANY, .help = "for 'snapshot': what is made of each, as {\"name\": \"before\"}" },
		{ .name = NULL },
	},
};

static const char *text(const json_t *doc, const char *name)
{
	return json_string_value(json_object_get(doc, name)) ?: "";
}

/* --- what shall be done ---------------------------------------------------- */

/* Those that say the wanted state, and those that take a member of the request as what is sent to each. */
static const struct { const char *action, *state, *member; } actions[] = {
	{ "start", "running", NULL }, { "stop", "stopped", NULL }, { "pause", "paused", NULL }, { "restart", NULL, NULL },
	{ "snapshot", NULL, "snapshot" }, { "patch", NULL, "patch" }, { "label", NULL, "set_labels" }, { "delete", NULL, NULL },
};

static int check_action(const json_t *body, unsigned i, char *where, size_t cap, struct err *err)
{
	bool is_of_all = !strcmp(actions[i].action, "patch") || !strcmp(actions[i].action, "label") || !strcmp(actions[i].action, "delete");

	snprintf(where, cap, "action");
	if (!is_of_all && strcmp(text(body, "kind"), "instance") != 0)
		return err_set(err, -EINVAL, "'%s' is for instances; what is of the kind '%s' can be changed ('patch', 'label') or deleted",
			       actions[i].action, text(body, "kind"));
	if (!actions[i].member || json_is_object(json_object_get(body, actions[i].member)))
		return 0;
	snprintf(where, cap, "%s", actions[i].member);
	return err_set(err, -EINVAL, "'%s' needs it, as an object", actions[i].action);
}

/* The body of each request. New reference; NULL: none. */
static json_t *body_of(const json_t *body, unsigned i)
{
	json_t *own = actions[i].member ? json_object_get(body, actions[i].member) : NULL;

	if (actions[i].state)
		return json_pack("{s:{s:s}}", "spec", "state", actions[i].state);
	if (!strcmp(actions[i].action, "label"))
		return json_pack("{s:O}", "labels", own);
	return json_incref(own);
}

/* --- to what ---------------------------------------------------- */

static json_t *item(const char *name, const json_t *doc)
{
	return json_pack("{s:s, s:s}", "name", name, "uid", text(doc, "uid"));
}

static int named(struct node *n, const char *kind, const char *project, const json_t *names, json_t *items, char *where, size_t cap,
		 struct err *err)
{
	AUTO(json_decref) json_t *seen = json_object();
	const json_t *v;
	size_t i;

	json_array_foreach(names, i, v) {
		const char *name = json_string_value(v) ?: "";
		char key[STORE_KEY_MAX + 1];

		snprintf(where, cap, "names[%zu]", i);
		if (resource_check_name(name, kind, err) < 0)
			return -EINVAL;
		if (json_object_get(seen, name))
			return err_set(err, -EINVAL, "'%s' is named twice", name);
		json_object_set_new(seen, name, json_true());
		doc_key(key, kind, project, name);
		AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
		json_array_append_new(items, item(name, doc));
	}
	return 0;
}

/* Is D one of those that BODY asks for? */
static bool is_meant(struct node *n, const struct store_doc *d, const json_t *body, const struct query *q)
{
	const char *labels = json_string_value(json_object_get(body, "labels"));
	size_t len = 0;

	if (labels && !resource_is_selected(d, labels))
		return false;
	AUTO(free) char *view = q->n_terms ? doc_view(n->store, d, &len) : NULL;
	AUTO(json_decref) json_t *doc = view ? json_loadb(view, len, 0, NULL) : NULL;
	return !q->n_terms || (doc && query_wants(q, doc));
}

static int found(struct node *n, const char *kind, const char *project, const json_t *body, json_t *items, struct err *err)
{
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "";
	const struct store_doc *d;
	struct query q;
	int r = query_parse(&q, json_string_value(json_object_get(body, "filter")), NULL, NULL, err);

	doc_key(prefix, kind, project, "");
	while (!r && (d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL) {
		snprintf(key, sizeof(key), "%s", d->key);
		if (!is_meant(n, d, body, &q))
			continue;
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);

		if (json_is_true(json_object_get(doc, "deleting")))
			continue;
		json_array_append_new(items, item(text(doc, "name"), doc));
		if (json_array_size(items) > BULK_MAX)
			return err_set(err, -EINVAL, "that are more than %d things; ask for fewer at once, by 'labels' or 'filter'", BULK_MAX);
	}
	return r;
}

static int find_items(struct node *n, const char *project, const json_t *body, json_t *items, char *where, size_t cap, struct err *err)
{
	const char *kind = text(body, "kind");
	const json_t *names = json_object_get(body, "names");
	bool has_selector = json_object_get(body, "labels") || json_object_get(body, "filter");
	int ways = !!names + has_selector + json_is_true(json_object_get(body, "all"));

	snprintf(where, cap, "names");
	if (ways != 1)
		return err_set(err, -EINVAL, "%s: say which by 'names', or by 'labels' and 'filter', or by 'all'",
			       ways ? "that are several ways to say which" : "nothing says which");
	if (names)
		return named(n, kind, project, names, items, where, cap, err);
	snprintf(where, cap, "%s", json_object_get(body, "filter") ? "filter" : has_selector ? "labels" : "all");
	return found(n, kind, project, body, items, err);
}

/* --- the request ---------------------------------------------------- */

/* Of who asks, what a task may go on with when that one is no longer there. */
static json_t *asker(const struct api_call *c, const char *project)
{
	struct node *n = c->arg;
	bool is_of_socket = c->user.via == API_VIA_UNIX && !c->user.uid[0];

	return json_pack("{s:s, s:s, s:i, s:i}", "uid", c->user.uid, "socket", is_of_socket ? c->user.credential : "", "role",
			 (int)auth_role(n, &c->user, project), "role_on_node", (int)auth_role(n, &c->user, NULL));
}

static void planned(struct bulk *b)
{
	struct api_call *c = b->arg;

	api_reply(c, 200, json_pack("{s:O, s:I, s:I}", "items", b->results, "done", (json_int_t)(b->n_done - b->n_failed), "failed",
				    (json_int_t)b->n_failed));
	bulk_free(b);
}

/* What would become of each; PARAMS is taken. */
static void plan(struct api_call *c, json_t *params, const char *project)
{
	struct bulk *b = bulk_new(c->arg, params, project);
	struct err err = ERR_INIT;

	if (!b) {
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	b->is_dry_run = true;
	b->user = c->user;
	b->user.most = auth_role(c->arg, &c->user, project);
	b->user.most_on_node = auth_role(c->arg, &c->user, NULL);
	b->user.via = API_VIA_TASK;
	b->over = planned;
	b->arg = c;
	bulk_go(b);
}

void bulk_begin(struct api_call *c)
{
	const char *project = resource_project(c);
	char where[64] = "";
	struct err err = ERR_INIT;
	unsigned i = 0;

	if (idempotency_answered(c))
		return;
	AUTO(json_decref) json_t *items = json_array();
	while (strcmp(actions[i].action, text(c->body, "action")) != 0)
		i++;
	int r = resource_check_name(project, "project", &err);
	if (!r)
		r = check_action(c->body, i, where, sizeof(where), &err);
	if (!r)
		r = find_items(c->arg, project, c->body, items, where, sizeof(where), &err);
	if (r < 0) {
		api_fail(c, r, where, &err);
		return;
	}
	json_t *params = json_pack("{s:O, s:s, s:o*, s:O, s:o}", "kind", json_object_get(c->body, "kind"), "action",
				   actions[i].state ? "state" : actions[i].action, "body", body_of(c->body, i), "items", items, "as",
				   asker(c, project));
	if (c->is_dry_run)
		plan(c, params, project);
	else
		task_begin(c, params);
}

/* --- the task ---------------------------------------------------- */

static void worked(struct bulk *b)
{
	struct task *t = b->task;
	bool is_whole = b->n_done == json_array_size(b->results);
	struct err none = ERR_INIT;

	/* The task has gone with the daemon, which ends. */
	if (!t) {
		bulk_free(b);
		return;
	}
	json_decref(t->result);
	t->result = json_pack("{s:O, s:I, s:I}", "items", b->results, "done", (json_int_t)(b->n_done - b->n_failed), "failed",
			      (json_int_t)b->n_failed);
	t->data = NULL;
	bulk_free(b);
	task_over(t, is_whole ? 0 : -ECANCELED, &none);
}

static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct node *n = t->c.node;
	const json_t *as = json_object_get(params, "as");
	AUTO(json_decref) json_t *doc = doc_get(n->store, t->c.key, NULL);
	struct bulk *b = t->data ? t->data : bulk_new(n, json_deep_copy(params), t->c.project);

	if (!b)
		return err_set(err, -ENOMEM, "out of memory");
	t->data = b;
	b->task = t;
	b->over = worked;
	snprintf(b->uid, sizeof(b->uid), "%s", t->c.uid);
	b->user.via = API_VIA_TASK;
	b->user.most = (enum api_role)json_integer_value(json_object_get(as, "role"));
	b->user.most_on_node = (enum api_role)json_integer_value(json_object_get(as, "role_on_node"));
	snprintf(b->user.name, sizeof(b->user.name), "%s", text(doc, "user"));
	snprintf(b->user.uid, sizeof(b->user.uid), "%s", text(as, "uid"));
	snprintf(b->user.credential, sizeof(b->user.credential), "%s", text(as, "socket"));
	atomic_store(&t->total, json_array_size(b->results));
	return 1;
}

/* The work is the loop's: finish() begins it. */
static int run(struct task *t, struct err *err)
{
	(void)t;
	(void)err;
	return 0;
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	(void)params;
	(void)result;
	(void)err;
	bulk_go(t->data);
	return 1;
}

static void release(struct task *t)
{
	struct bulk *b = t->data;

	t->data = NULL;
	if (!b)
		return;
	b->task = NULL;
	b->is_stopped = true;
	loop_timer_cancel(&b->again);
	if (!b->n_waiting)
		bulk_free(b);
}

const struct task_op bulk_op = {
	.operation = "doInBulk", .prepare = prepare, .run = run, .finish = finish, .release = release,
};
