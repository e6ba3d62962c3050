/* SPDX-License-Identifier: Apache-2.0 */
#include "node/task.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/doc.h"
#include "node/idempotency.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/log.h"

enum { LOOK_MS = 250, AGAIN_MS = 100, LINE_MAX_LEN = 300 };

const struct schema task_schema = {
	.name = "Task", .help = "Something that takes long. Its 'status' has 'state' (queued, running, done, failed, cancelled), "
	"'progress' ('done' of 'total'), 'log' and, in the end, 'result' or 'reason'.",
	.fields = (const struct schema_field[]){
		RESOURCE_FIELDS("task"),
		{ .name = "operation", .type = SCHEMA_STRING, .is_readonly = true, .help = "what was asked for" },
		{ .name = "user", .type = SCHEMA_STRING, .is_readonly = true, .help = "who has asked" },
		{ .name = "params", .type = SCHEMA_ANY, .is_readonly = true, .help = "with what" },
		{ .name = "cancel", .type = SCHEMA_BOOL, .is_readonly = true, .help = "somebody wants it to end" },
		{ .name = NULL },
	},
};

static struct task *task_of(struct controlled *c)
{
	return container_of(c, struct task, c);
}

/* --- beginning ---------------------------------------------------- */

struct task_making {
	struct api_call *c;
	char key[STORE_KEY_MAX + 1];
};

static void begun(void *arg, const struct store_result *r)
{
	struct task_making *m = arg;
	struct err err = ERR_INIT;

	if (!r->code)
		resource_reply(m->c, 202, m->key);
	else if (r->code != -ESTALE || !idempotency_answered(m->c))
		api_fail(m->c, err_set(&err, r->code, "%s", r->message), NULL, &err);
	free(m);
}

/* Has the task under KEY ended? When was it made? */
static bool has_ended(struct node *n, const char *key)
{
	char status_key[STORE_KEY_MAX + 1];

	doc_status_key(status_key, key);
	AUTO(json_decref) json_t *status = doc_get(n->store, status_key, NULL);
	const char *state = json_string_value(json_object_get(status, "state"));

	return state && strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
}

static bool is_about(const json_t *params, const char *member, const char *text)
{
	const char *is = json_string_value(json_object_get(params, member));
	const json_t *volume;
	size_t i;
	bool found = is && !strcmp(is, text);

	json_array_foreach(json_object_get(params, "volumes"), i, volume)
		found |= is_about(volume, member, text);
	return found;
}

bool task_is_there(struct node *n, const char *project, const char *member, const char *text, char name[DOC_NAME_MAX + 1])
{
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "";
	const struct store_doc *d;

	doc_key(prefix, "task", project, "");
	while ((d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL) {
		snprintf(key, sizeof(key), "%s", d->key);
		if (has_ended(n, key))
			continue;
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);

		snprintf(name, DOC_NAME_MAX + 1, "%s", key + strlen(prefix));
		if (is_about(json_object_get(doc, "params"), member, text))
			return true;
	}
	return false;
}

/* With too many, the oldest that has ended goes. */
static void forget_old(struct node *n)
{
	char key[STORE_KEY_MAX + 1] = "", oldest[STORE_KEY_MAX + 1] = "", status_key[STORE_KEY_MAX + 1];
	const struct store_doc *d;
	int64_t least = INT64_MAX;
	unsigned count = 0;

	while ((d = store_next(n->store, "task/", key[0] ? key : NULL)) != NULL) {
		snprintf(key, sizeof(key), "%s", d->key);
		count++;
		if (d->created >= least || !has_ended(n, key))
			continue;
		least = d->created;
		snprintf(oldest, sizeof(oldest), "%s", key);
	}
	doc_status_key(status_key, oldest);
	struct store_op ops[] = { { .kind = STORE_DELETE, .key = oldest, .if_modified = STORE_ANY },
				  { .kind = STORE_DELETE, .key = status_key, .if_modified = STORE_ANY } };

	if (count >= TASKS_MAX && oldest[0])
		store_commit(n->store, ops, store_get(n->store, status_key) ? 2 : 1, NULL, NULL);
}

static bool commit_new(struct task_making *m, const json_t *doc)
{
	struct node *n = m->c->arg;
	struct idempotency_record record;
	AUTO(free) char *text = json_dumps(doc, JSON_COMPACT);
	struct store_op ops[2] = { { .kind = STORE_PUT, .key = m->key, .value = text, .len = text ? strlen(text) : 0,
				     .if_modified = STORE_ABSENT } };

	if (text)
		store_commit(n->store, ops, idempotency_op(m->c, m->key, 202, &ops[1], &record) ? 2 : 1, begun, m);
	return text != NULL;
}

/* Its document, with PARAMS (taken). NAME gets what it is called. */
static json_t *make_doc(const char *operation, const char *project, const char *user, json_t *params, char name[DOC_UID_LEN + 2])
{
	char uid[DOC_UID_LEN + 1], now[DOC_TIME_LEN + 1];

	doc_new_uid(uid);
	doc_now(now);
	snprintf(name, DOC_UID_LEN + 2, "t%s", uid);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:{}, s:s, s:s, s:o}", "kind", "task", "name", name, "project", project, "uid", uid,
			 "created", now, "labels", "operation", operation, "user", user, "params", params);
}

void task_begin(struct api_call *c, json_t *params)
{
	struct node *n = c->arg;
	struct task_making *m = calloc(1, sizeof(*m));
	char name[DOC_UID_LEN + 2];
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = make_doc(c->route->operation, resource_project(c), c->user.name, params, name);

	if (c->is_dry_run) {
		free(m);
		api_reply(c, 200, json_incref(doc));
		return;
	}
	if (m) {
		m->c = c;
		doc_key(m->key, "task", resource_project(c), name);
		forget_old(n);
		if (commit_new(m, doc))
			return;
	}
	free(m);
	api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
}

int task_begin_own(struct node *n, const char *operation, const char *project, json_t *params)
{
	char key[STORE_KEY_MAX + 1], name[DOC_UID_LEN + 2];
	AUTO(json_decref) json_t *doc = make_doc(operation, project, "vivd", params, name);

	doc_key(key, "task", project, name);
	forget_old(n);
	return doc ? doc_put(n->store, key, doc, STORE_ABSENT, NULL, NULL) : -ENOMEM;
}

/* --- its life ---------------------------------------------------- */

void task_say(struct task *t, const char *fmt, ...)
{
	char text[LINE_MAX_LEN], now[DOC_TIME_LEN + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	doc_now(now);
	if (json_array_size(t->log) == TASK_LOG_LINES)
		json_array_remove(t->log, 0);
	json_array_append_new(t->log, json_pack("{s:s, s:s}", "time", now, "text", text));
	controlled_write(&t->c);
}

bool task_tell(void *arg, uint64_t done, uint64_t total)
{
	struct task *t = arg;

	atomic_store_explicit(&t->done, done, memory_order_relaxed);
	atomic_store_explicit(&t->total, total, memory_order_relaxed);
	return !atomic_load_explicit(&t->stop, memory_order_relaxed) &&
	       !atomic_load_explicit(&t->c.node->is_closing, memory_order_relaxed);
}

static void tell_end(struct task *t)
{
	int r = t->code;

	t->is_running = false;
	t->is_ended = true;
	if (r == -ECANCELED)
		controlled_set(&t->c, "cancelled", "%s", "");
	else if (r < 0)
		controlled_set(&t->c, "failed", "%s", t->err.msg[0] ? t->err.msg : strerror(-r));
	else
		controlled_set(&t->c, "done", "%s", "");
	controlled_write(&t->c);
	controlled_kick(&t->c);
}

static int remove_left(void *arg, struct err *err)
{
	struct task *t = arg;

	return t->op->tidy(t->left, err);
}

static void left_removed(void *arg, int r, const struct err *err)
{
	struct task *t = arg;

	if (r < 0)
		log_warn("'%s': %s", t->c.key, err->msg);
	free(t->left);
	t->left = NULL;
	t->is_removing = false;
	tell_end(t);
}

/* Ended with R: well, or with nothing left. */
static void end(struct task *t, int r, const struct err *err)
{
	AUTO(json_decref) json_t *doc = doc_get(t->c.node->store, t->c.key, NULL);

	t->code = r;
	if (r < 0)
		t->err = *err;
	t->left = r < 0 && t->op && t->op->leftover ? t->op->leftover(t, json_object_get(doc, "params")) : NULL;
	if (t->left && !work_start(t->works ? t->works : t->c.node->works, remove_left, left_removed, t))
		t->is_removing = true;
	else
		tell_end(t);
}

void task_over(struct task *t, int r, const struct err *err)
{
	end(t, r, err);
}

static int run(void *arg, struct err *err)
{
	struct task *t = arg;

	return t->op->run(t, err);
}

static void has_run(void *arg, int r, const struct err *err)
{
	struct task *t = arg;
	AUTO(json_decref) json_t *doc = doc_get(t->c.node->store, t->c.key, NULL);
	struct err late = ERR_INIT;

	if (r == -EAGAIN) {
		t->is_running = false;
		controlled_later(&t->c, AGAIN_MS);
		return;
	}
	if (r < 0) {
		end(t, r, err);
		return;
	}
	if (t->op->finish)
		r = t->op->finish(t, json_object_get(doc, "params"), &t->result, &late);
	if (r <= 0)
		end(t, r, &late);
}

static void step_queued(struct task *t, const json_t *doc)
{
	struct err err = ERR_INIT;
	int r = t->op->prepare(t, json_object_get(doc, "params"), &err);

	if (r < 0) {
		end(t, r, &err);
	} else if (!r) {
		controlled_set(&t->c, "queued", "%s", err.msg);
		controlled_later(&t->c, AGAIN_MS);
	} else if (work_start(t->works ? t->works : t->c.node->works, run, has_run, t) < 0) {
		end(t, err_set(&err, -ENOMEM, "out of memory"), &err);
	} else {
		t->is_running = true;
		controlled_set(&t->c, "running", "%s", "");
		controlled_later(&t->c, LOOK_MS);
	}
}

static const struct task_op *find_op(const json_t *doc)
{
	const char *name = json_string_value(json_object_get(doc, "operation"));

	for (unsigned i = 0; name && task_ops[i]; i++)
		if (!strcmp(task_ops[i]->operation, name))
			return task_ops[i];
	return NULL;
}

/* What it holds is let go when its end is known to the disk: else it would be done once more after a crash. */
static void step_ended(struct task *t)
{
	if (t->is_released)
		return;
	if (t->c.is_writing || t->c.is_dirty) {
		controlled_later(&t->c, 1);
		return;
	}
	t->is_released = true;
	if (t->op && t->op->release)
		t->op->release(t);
}

static void step(struct controlled *c, const json_t *doc, int64_t revision)
{
	struct task *t = task_of(c);
	struct err err = ERR_INIT;
	bool is_cancelled = json_is_true(json_object_get(doc, "cancel"));

	(void)revision;
	if (!t->op)
		t->op = find_op(doc);
	if (is_cancelled)
		atomic_store_explicit(&t->stop, true, memory_order_relaxed);
	if (t->is_ended) {
		step_ended(t);
	} else if (t->is_removing) {
		controlled_later(c, LOOK_MS);
	} else if (t->is_running) {
		controlled_write(c);
		controlled_later(c, LOOK_MS);
	} else if ((is_cancelled && t->op && !t->op->is_careful) || !t->op) {
		end(t, t->op ? -ECANCELED : err_set(&err, -ENOTSUP, "this version does not know that operation"), &err);
	} else {
		step_queued(t, doc);
	}
}

static void step_gone(struct controlled *c, const json_t *doc)
{
	struct task *t = task_of(c);
	struct err none = ERR_INIT;

	atomic_store_explicit(&t->stop, true, memory_order_relaxed);
	if (!t->op)
		t->op = find_op(doc);
	bool is_careful = t->op && t->op->is_careful && doc;

	if (!t->is_ended && !t->is_running && !t->is_removing) {
		if (is_careful)
			step_queued(t, doc);
		else
			end(t, -ECANCELED, &none);
	}
	if (t->is_running || t->is_removing || (is_careful && !t->is_ended)) {
		controlled_later(c, AGAIN_MS);
		return;
	}
	if (!t->is_released && t->op && t->op->release)
		t->op->release(t);
	t->is_released = true;
	controlled_removed(c);
}

/* --- as a kind of document ---------------------------------------------------- */

static int init(struct controlled *c, const json_t *doc, const json_t *status)
{
	struct task *t = task_of(c);
	const json_t *log = json_object_get(status, "log");

	(void)doc;
	t->log = json_is_array(log) ? json_deep_copy(log) : json_array();
	t->result = json_incref(json_object_get(status, "result"));
	t->is_ended = t->is_released = !strcmp(c->state, "done") || !strcmp(c->state, "failed") || !strcmp(c->state, "cancelled");
	return t->log ? 0 : -ENOMEM;
}

static void fini(struct controlled *c)
{
	struct task *t = task_of(c);

	/* The daemon ends: the operation is begun again by the next. */
	if (t->data && !t->is_released && t->op && t->op->release)
		t->op->release(t);
	free(t->left);
	json_decref(t->log);
	json_decref(t->result);
}

static void add_status(const struct controlled *c, json_t *status)
{
	const struct task *t = container_of(c, struct task, c);
	unsigned long long total = atomic_load_explicit(&t->total, memory_order_relaxed);

	if (total)
		json_object_set_new(status, "progress",
				    json_pack("{s:I, s:I}", "done",
					      (json_int_t)atomic_load_explicit(&t->done, memory_order_relaxed), "total",
					      (json_int_t)total));
	if (json_array_size(t->log))
		json_object_set_new(status, "log", json_deep_copy(t->log));
	if (t->result)
		json_object_set(status, "result", t->result);
}

const struct controller_kind task_kind = {
	.kind = "task", .size = sizeof(struct task), .init = init, .step = step, .step_gone = step_gone,
	.add_status = add_status, .fini = fini,
};

/* --- cancelling ---------------------------------------------------- */

static void cancelled(void *arg, const struct store_result *r)
{
	struct api_call *c = arg;
	struct err err = ERR_INIT;

	if (r->code)
		api_fail(c, err_set(&err, r->code == -ESTALE ? -EAGAIN : r->code, "%s", r->message), NULL, &err);
	else
		api_reply(c, 202, NULL);
}

void task_cancel(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1];
	int64_t revision;
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = resource_find(c, key, &revision);

	if (!doc)
		return;
	if (has_ended(n, key)) {
		api_fail(c, err_set(&err, -EBUSY, "the task has ended already"), NULL, &err);
		return;
	}
	json_object_set_new(doc, "cancel", json_true());
	if (doc_put(n->store, key, doc, revision, cancelled, c) < 0)
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
}
