/* SPDX-License-Identifier: Apache-2.0 */
#include "node/rename.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/idempotency.h"
#include "node/node.h"
#include "node/resource.h"
#include "util/err.h"

enum { TRIES = 16 };

static const char *text(const json_t *doc, const char *name)
{
	return json_string_value(json_object_get(doc, name)) ?: "";
}

void rename_free(struct rename *r)
{
	if (r->at) {
		*r->at = r->next;
		if (r->next)
			r->next->at = r->at;
	}
	ops_clear(&r->ops);
	free(r);
}

/* Whatever became of that commit: it changes nothing, and what lay before it has ended. */
static void barrier_passed(void *arg, const struct store_result *res)
{
	struct rename *r = arg;

	(void)res;
	r->announced(r);
}

void rename_announce(struct rename *r, void (*done)(struct rename *r))
{
	const struct store_op barrier = { .kind = STORE_CHECK, .key = r->from, .if_modified = STORE_ANY };

	r->announced = done;
	r->next = r->node->renames;
	r->at = &r->node->renames;
	if (r->next)
		r->next->at = &r->next;
	r->node->renames = r;
	store_commit(r->node->store, &barrier, 1, barrier_passed, r);
}

bool rename_has(const struct node *n, const char *key)
{
	for (const struct rename *r = n->renames; r; r = r->next)
		if (!strcmp(r->from, key))
			return true;
	return false;
}

int rename_move_one(struct rename *r, const char *from, const char *to, int64_t revision, json_t *doc, const json_t *status)
{
	char from_status[STORE_KEY_MAX + 1], to_status[STORE_KEY_MAX + 1];

	doc_status_key(from_status, from);
	doc_status_key(to_status, to);
	json_object_set_new(doc, "renamed_from", json_string(from));
	int bad = ops_put(&r->ops, to, doc, STORE_ABSENT);
	/* Of an earlier thing of that name there may still be one. */
	if (!bad && status)
		bad = ops_put(&r->ops, to_status, status, STORE_ANY);
	if (!bad)
		bad = ops_delete(&r->ops, from, revision);
	return bad ? bad : ops_delete(&r->ops, from_status, STORE_ANY);
}

void rename_fail(struct rename *r, int code, const struct err *err)
{
	api_fail(r->c, code, code == -EEXIST ? "name" : NULL, err);
	rename_free(r);
}

void rename_commit(struct rename *r, store_done_fn done)
{
	struct idempotency_record record;
	unsigned n = r->ops.n;

	store_commit(r->node->store, r->ops.op, n + idempotency_op(r->c, r->to, 200, &r->ops.op[n], &record), done, r);
}

bool rename_is_stale(struct rename *r, const struct store_result *res)
{
	struct err err = ERR_INIT;

	if (!res->code) {
		resource_reply(r->c, 200, r->to);
		rename_free(r);
	} else if (res->code != -ESTALE) {
		rename_fail(r, err_set(&err, res->code, "%s", res->message), &err);
	} else if (idempotency_answered(r->c)) {        /* the same request was on its way twice */
		rename_free(r);
	} else if (r->tries++ < TRIES) {
		return true;
	} else {
		rename_fail(r, err_set(&err, -EAGAIN, "%s", res->message), &err);
	}
	return false;
}

/* Sent again after it was done: it is what was asked for. */
static bool is_done(struct api_call *c, const char *from, const char *to)
{
	struct node *n = c->arg;
	AUTO(json_decref) json_t *doc = store_get(n->store, from) ? NULL : doc_get(n->store, to, NULL);

	if (strcmp(text(doc, "renamed_from"), from) != 0)
		return false;
	resource_reply(c, 200, to);
	return true;
}

struct rename *rename_new(struct api_call *c, const char *kind)
{
	struct node *n = c->arg;
	struct err err = ERR_INIT;
	const char *project = resource_project(c);
	int bad = resource_check_name(project, "project", &err);

	if (!bad)
		bad = resource_check_name(c->param[0], kind, &err);
	struct rename *r = bad ? NULL : calloc(1, sizeof(*r));
	if (!r) {
		api_fail(c, bad ? bad : err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return NULL;
	}
	r->c = c;
	r->node = n;
	snprintf(r->project, sizeof(r->project), "%s", project);
	doc_key(r->from, kind, project, c->param[0]);
	doc_key(r->to, kind, project, text(c->body, "name"));
	if (idempotency_answered(c) || is_done(c, r->from, r->to)) {
		rename_free(r);
		return NULL;
	}
	if (store_get(n->store, r->from))
		return r;
	rename_fail(r, err_set(&err, -ENOENT, "there is no %s '%s' in the project '%s'", kind, c->param[0], project), &err);
	return NULL;
}
