/* SPDX-License-Identifier: Apache-2.0 */
/* bulk_item.c - one thing of many: the request that is made for it, and what became of that. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/bulk.h"
#include "node/bulk_priv.h"
#include "node/doc.h"
#include "node/layers.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/task.h"
#include "util/checked.h"
#include "util/cleanup.h"

enum { AGAIN_MS = 100, TRIES = 300, PATH_LEN = 256, KEY_LEN = 48 };

static void try_again(struct loop_timer *t);

/* On its way. */
struct item {
	struct bulk *b;
	size_t at;
	json_t *old;                    /* of a dry run: what it is now (owned) */
};

static const char *text(const json_t *doc, const char *name)
{
	return json_string_value(json_object_get(doc, name)) ?: "";
}

struct bulk *bulk_new(struct node *n, json_t *params, const char *project)
{
	struct bulk *b = calloc(1, sizeof(*b));
	size_t count = json_array_size(json_object_get(params, "items"));

	if (!b) {
		json_decref(params);
		return NULL;
	}
	b->node = n;
	b->params = params;
	b->results = json_array();
	b->late = json_array();
	b->queue = json_array();
	loop_timer_init(n->loop, &b->again, try_again);
	for (size_t i = 0; i < count; i++) {
		json_array_append_new(b->results, json_null());
		json_array_append_new(b->queue, json_integer((json_int_t)i));
	}
	snprintf(b->project, sizeof(b->project), "%s", project);
	return b;
}

void bulk_free(struct bulk *b)
{
	if (!b)
		return;
	loop_timer_cancel(&b->again);
	json_decref(b->params);
	json_decref(b->results);
	json_decref(b->late);
	json_decref(b->queue);
	free(b);
}

static const json_t *item_of(const struct bulk *b, size_t at)
{
	return json_array_get(json_object_get(b->params, "items"), at);
}

/* --- what became of it ---------------------------------------------------- */

/* RESULT is taken. */
static void put_result(struct bulk *b, size_t at, json_t *result)
{
	json_object_set(result, "name", json_object_get(item_of(b, at), "name"));
	b->n_done++;
	b->n_failed += json_object_get(result, "error") != NULL;
	json_array_set_new(b->results, at, result);
}

static void put_error(struct bulk *b, size_t at, const char *code, const char *message)
{
	put_result(b, at, json_pack("{s:b, s:{s:s, s:s}}", "ok", 0, "error", "code", code, "message", message));
}

/* The thing that item AT names was not there, or is not any more. */
static void put_missing(struct bulk *b, size_t at)
{
	char why[DOC_NAME_MAX * 2 + 80];

	snprintf(why, sizeof(why), "there is no %s '%s' in the project '%s'%s", text(b->params, "kind"), text(item_of(b, at), "name"), b->project,
		 text(item_of(b, at), "uid")[0] ? " any more" : "");
	put_error(b, at, "not_found", why);
}

/* What DOC, the answer of a dry run, would be other than OLD. */
static json_t *changes(const json_t *old, const json_t *doc)
{
	return json_is_object(json_object_get(doc, "spec")) ? layers_difference(old, doc) : json_array();
}

static json_t *result_of(const struct item *it, int status, const json_t *doc)
{
	json_t *error = json_object_get(doc, "error");
	bool is_plain = !strcmp(text(it->b->params, "action"), "patch") || !strcmp(text(it->b->params, "action"), "label") ||
			!strcmp(text(it->b->params, "action"), "state");

	if (status < 300 && it->b->is_dry_run)
		return json_pack("{s:b, s:o}", "ok", 1, "changes", is_plain ? changes(it->old, doc) : json_array());
	if (status < 300)
		return json_pack("{s:b}", "ok", 1);
	if (error)
		return json_pack("{s:b, s:O}", "ok", 0, "error", error);
	return json_pack("{s:b, s:{s:s, s:s}}", "ok", 0, "error", "code", "internal", "message", "there was no answer that can be read");
}

static void end_item(struct item *it)
{
	struct bulk *b = it->b;

	json_decref(it->old);
	free(it);
	b->n_waiting--;
	bulk_go(b);
}

static void answered(void *arg, int status, const char *body, size_t len)
{
	struct item *it = arg;
	struct bulk *b = it->b;
	AUTO(json_decref) json_t *doc = body ? json_loadb(body, len, 0, NULL) : NULL;

	/* What has just been begun, or is being written, is there in a moment. */
	if (status == 503 && b->tries < TRIES && !b->is_stopped)
		json_array_append_new(b->late, json_integer((json_int_t)it->at));
	else
		put_result(b, it->at, result_of(it, status, doc));
	end_item(it);
}

/* --- the request ---------------------------------------------------- */

/* How each action is asked for. */
static void ask(const struct bulk *b, const json_t *item, struct http_own *o, char path[PATH_LEN])
{
	const char *action = text(b->params, "action"), *of = "";
	const struct resource *r = resources;

	while (r->kind && strcmp(r->kind, text(b->params, "kind")) != 0)
		r++;
	o->method = !strcmp(action, "delete") ? HTTP_DELETE : HTTP_PATCH;
	if (!strcmp(action, "restart") || !strcmp(action, "snapshot"))
		o->method = HTTP_POST;
	if (o->method == HTTP_POST)
		of = !strcmp(action, "restart") ? "/restart" : "/snapshots";
	snprintf(path, PATH_LEN, "/v1/%s/%s%s", r->plural, text(item, "name"), of);
	o->path = path;
}

/* Is the thing still the one that was found when the task was begun? */
static bool is_there(const struct bulk *b, const json_t *item, json_t **doc)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, text(b->params, "kind"), b->project, text(item, "name"));
	*doc = doc_get(b->node->store, key, NULL);
	return *doc && !strcmp(text(*doc, "uid"), text(item, "uid"));
}

static void send(struct bulk *b, size_t at)
{
	const json_t *item = item_of(b, at);
	char path[PATH_LEN], project[PATH_LEN], key[KEY_LEN];
	AUTO(json_decref) json_t *doc = NULL;
	bool is_delete = !strcmp(text(b->params, "action"), "delete");

	if (!is_there(b, item, &doc)) {
		if (is_delete && text(item, "uid")[0])
			put_result(b, at, json_pack("{s:b}", "ok", 1));
		else
			put_missing(b, at);
		return;
	}
	AUTO(free) char *body = json_object_get(b->params, "body") ? json_dumps(json_object_get(b->params, "body"), JSON_COMPACT) : NULL;
	struct item *it = calloc(1, sizeof(*it));
	struct http_own o = { .body = body, .answered = answered, .arg = it };

	snprintf(project, sizeof(project), "project=%s", b->project);
	snprintf(key, sizeof(key), "%s-%zu", b->uid, at);
	o.query[0] = project;
	o.query[1] = b->is_dry_run ? "dry-run=1" : NULL;
	o.key = b->uid[0] ? key : NULL;
	ask(b, item, &o, path);
	if (it) {
		it->b = b;
		it->at = at;
		it->old = json_incref(doc);
		b->n_waiting++;
		if (api_request_as(b->node->api, http_own_new(&o), &b->user))
			return;
		b->n_waiting--;
		json_decref(it->old);
		free(it);
	}
	put_error(b, at, "try_again", "out of memory");
}

/* --- all of them ---------------------------------------------------- */

/* Those that were late have their turn when all others have had theirs. */
static void try_again(struct loop_timer *t)
{
	struct bulk *b = container_of(t, struct bulk, again);

	if (b->next == json_array_size(b->queue)) {
		json_t *late = b->late;

		json_array_clear(b->queue);
		b->late = b->queue;
		b->queue = late;
		b->next = 0;
		b->tries++;
	}
	bulk_go(b);
}

void bulk_go(struct bulk *b)
{
	/* An answer may come before send() returns, and this be called in it. */
	if (b->is_going)
		return;
	b->is_going = true;
	if (b->task) {
		atomic_store_explicit(&b->task->done, b->n_done, memory_order_relaxed);
		b->is_stopped |= atomic_load_explicit(&b->task->stop, memory_order_relaxed);
	}
	/* So many, and others have their turn on the loop. */
	for (unsigned n = 0; !b->is_stopped && n < BULK_AT_ONCE && b->n_waiting < BULK_AT_ONCE && b->next < json_array_size(b->queue); n++)
		send(b, (size_t)json_integer_value(json_array_get(b->queue, b->next++)));
	b->is_going = false;
	if (b->n_waiting)
		return;
	if (b->is_stopped || b->n_done == json_array_size(b->results)) {
		loop_timer_cancel(&b->again);
		b->over(b);
		return;
	}
	bool has_more = b->next < json_array_size(b->queue);
	loop_timer_set(&b->again, loop_now_ns() + (has_more ? 0 : AGAIN_MS * 1000000ull));
}
