/* SPDX-License-Identifier: Apache-2.0 */
#include "node/controller.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/node.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"

enum { KICK_MS = 1, RETRY_MIN_MS = 250, RETRY_MAX_MS = 60000, REMOVE_MS = 10, BLOCKED_MS = 1000, REMOVE_AGAIN_MS = 5000 };

struct controller {
	struct node *node;
	const struct controller_kind *kind;
	struct controlled *first;
	struct strmap by_key;
	char prefix[32];
	struct store_watch watch;
	bool is_stopped;
};

/* --- status ---------------------------------------------------- */

static void status_done(void *arg, const struct store_result *res)
{
	struct controlled *c = arg;

	c->is_writing = false;
	if (res->code && !c->is_lost)
		log_warn("'%s': its status cannot be written: %s", c->key, res->message);
	c->is_lost = res->code && res->code != -EINVAL;
	/* A disk that is full or read-only may not be so for ever. */
	if (c->is_lost) {
		c->is_dirty = true;
		controlled_later(c, BLOCKED_MS);
	} else if (c->is_dirty) {
		controlled_write(c);
	}
}

void controlled_write(struct controlled *c)
{
	char key[STORE_KEY_MAX + 1];

	c->is_dirty = true;
	/* Whoever is freed when a commit is done must not wait for a later one. */
	if (c->is_writing || c->renaming || c->is_leaving || c->ctl->is_stopped)
		return;
	AUTO(json_decref)
	json_t *doc = json_pack("{s:s, s:s, s:s, s:i}", "state", c->state, "reason", c->reason, "since", c->since,
				"failures", (int)c->failures);

	if (c->ctl->kind->add_status)
		c->ctl->kind->add_status(c, doc);
	doc_status_key(key, c->key);
	c->is_writing = true;
	c->is_dirty = false;
	if (doc_put(c->node->store, key, doc, STORE_ANY, status_done, c) < 0)
		c->is_writing = false;
}

void controlled_set(struct controlled *c, const char *state, const char *fmt, ...)
{
	char reason[sizeof(c->reason)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	if (!strcmp(c->state, state) && !strcmp(c->reason, reason))
		return;
	if (strcmp(c->state, state) != 0)
		doc_now(c->since);
	snprintf(c->state, sizeof(c->state), "%s", state);
	memcpy(c->reason, reason, sizeof(c->reason));
	controlled_write(c);
}

void controlled_failed(struct controlled *c, const struct err *err)
{
	unsigned shift = c->failures < 8 ? c->failures : 8, ms = RETRY_MIN_MS << shift;

	ms = ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
	c->failures++;
	controlled_set(c, "failed", "%s; the next attempt follows in %u s", err->msg, (ms + 999) / 1000);
	c->hold_ns = loop_now_ns() + (uint64_t)ms * 1000000u;
	loop_timer_set(&c->timer, c->hold_ns);
}

void controlled_blocked(struct controlled *c, const struct err *err)
{
	controlled_set(c, "deleting", "%s", err->msg);
	controlled_later(c, BLOCKED_MS);
}

/* What was known when the daemon before this one ended. New reference, or NULL. One that is older than the document is of an earlier
 * thing of the same name. */
static json_t *status_load(struct controlled *c)
{
	const struct store_doc *of = store_get(c->node->store, c->key);
	char key[STORE_KEY_MAX + 1];
	int64_t modified = 0;

	doc_status_key(key, c->key);
	json_t *doc = doc_get(c->node->store, key, &modified);
	if (of && modified < of->created) {
		json_decref(doc);
		doc = NULL;
	}
	const char *state = json_string_value(json_object_get(doc, "state")),
		   *since = json_string_value(json_object_get(doc, "since"));
	const char *reason = json_string_value(json_object_get(doc, "reason"));

	snprintf(c->state, sizeof(c->state), "%s", state ? state : "");
	snprintf(c->reason, sizeof(c->reason), "%s", reason ? reason : "");
	snprintf(c->since, sizeof(c->since), "%s", since ? since : "");
	return doc;
}

/* --- steps ---------------------------------------------------- */

static void controlled_step(struct loop_timer *t)
{
	struct controlled *c = container_of(t, struct controlled, timer);
	int64_t revision = 0;
	AUTO(json_decref) json_t *doc = doc_get(c->node->store, c->key, &revision);
	const char *uid = json_string_value(json_object_get(doc, "uid"));

	if (c->is_leaving)
		return;
	if (c->is_lost)
		controlled_write(c);
	/* A document of the same name that is a later one is another thing: this one goes first. */
	if (!uid || strcmp(uid, c->uid) != 0)
		c->ctl->kind->step_gone(c, NULL);
	else if (json_is_true(json_object_get(doc, "deleting")))
		c->ctl->kind->step_gone(c, doc);
	else if (loop_now_ns() < c->hold_ns)
		loop_timer_set(&c->timer, c->hold_ns);
	else
		c->ctl->kind->step(c, doc, revision);
}

void controlled_later(struct controlled *c, unsigned ms)
{
	uint64_t at = loop_now_ns() + (uint64_t)ms * 1000000u;

	if (!c->ctl->is_stopped && (!c->timer.deadline_ns || at < c->timer.deadline_ns))
		loop_timer_set(&c->timer, at);
}

void controlled_kick(struct controlled *c)
{
	controlled_later(c, KICK_MS);
}

/* --- the objects ---------------------------------------------------- */

struct controlled *controller_find(const struct controller *ctl, const char *key)
{
	struct strmap_entry *e = ctl ? strmap_find(&ctl->by_key, key) : NULL;

	return e ? container_of(e, struct controlled, by_key) : NULL;
}

struct controlled *controller_next(const struct controller *ctl, const struct controlled *c)
{
	return c ? c->next : ctl ? ctl->first : NULL;
}

void controller_kick_all(const struct controller *ctl, const char *prefix, unsigned ms)
{
	size_t len = strlen(prefix);

	for (struct controlled *c = ctl ? ctl->first : NULL; c; c = c->next)
		if (!strncmp(c->key, prefix, len))
			controlled_later(c, ms);
}

static void controlled_free(struct controlled *c)
{
	if (c->at) {
		*c->at = c->next;
		if (c->next)
			c->next->at = c->at;
	}
	strmap_remove(&c->ctl->by_key, &c->by_key);
	loop_timer_cancel(&c->timer);
	c->ctl->kind->fini(c);
	free(c);
}

static void controlled_new(struct controller *ctl, const char *key)
{
	AUTO(json_decref) json_t *doc = doc_get(ctl->node->store, key, NULL);
	const char *uid = json_string_value(json_object_get(doc, "uid")),
		   *name = json_string_value(json_object_get(doc, "name"));
	const char *project = json_string_value(json_object_get(doc, "project"));
	struct controlled *c = uid && name ? calloc(1, ctl->kind->size) : NULL;

	if (!c) {
		log_error("'%s' cannot be looked after: %s", key, uid ? "out of memory" : "its document is damaged");
		return;
	}
	c->ctl = ctl;
	c->node = ctl->node;
	snprintf(c->key, sizeof(c->key), "%s", key);
	snprintf(c->uid, sizeof(c->uid), "%s", uid);
	snprintf(c->name, sizeof(c->name), "%s", name);
	snprintf(c->project, sizeof(c->project), "%s", project ? project : "");
	loop_timer_init(ctl->node->loop, &c->timer, controlled_step);
	AUTO(json_decref) json_t *status = status_load(c);
	if (ctl->kind->init(c, doc, status) < 0) {
		log_error("'%s' cannot be looked after: out of memory", key);
		controlled_free(c);
		return;
	}
	c->next = ctl->first;
	c->at = &ctl->first;
	if (c->next)
		c->next->at = &c->next;
	ctl->first = c;
	strmap_add(&ctl->by_key, &c->by_key, c->key);
	controlled_kick(c);
}

static void removed(void *arg, const struct store_result *res)
{
	struct controlled *c = arg;
	char key[STORE_KEY_MAX + 1];

	if (res->code) {
		c->is_leaving = false;
		log_warn("'%s' cannot be taken away: %s", c->key, res->message);
		controlled_later(c, REMOVE_AGAIN_MS);
		return;
	}
	struct controller *ctl = c->ctl;
	memcpy(key, c->key, sizeof(key));
	controlled_free(c);
	/* One of the same name may have come in between. */
	if (!ctl->is_stopped && store_get(ctl->node->store, key))
		controlled_new(ctl, key);
}

void controlled_removed(struct controlled *c)
{
	char status_key[STORE_KEY_MAX + 1];
	struct store *s = c->node->store;
	struct store_op ops[2];
	unsigned n = 0;
	int64_t revision = 0;
	AUTO(json_decref) json_t *doc = doc_get(s, c->key, &revision);
	const char *uid = json_string_value(json_object_get(doc, "uid"));

	if (c->is_leaving)
		return;
	if (c->is_writing || c->renaming) {
		controlled_later(c, REMOVE_MS);
		return;
	}
	c->is_leaving = true;
	loop_timer_cancel(&c->timer);
	doc_status_key(status_key, c->key);
	if (uid && !strcmp(uid, c->uid))
		ops[n++] = (struct store_op){ .kind = STORE_DELETE, .key = c->key, .if_modified = revision };
	if (store_get(s, status_key))
		ops[n++] = (struct store_op){ .kind = STORE_DELETE, .key = status_key, .if_modified = STORE_ANY };
	struct store_result nothing = { .code = 0, .message = "" };
	if (n)
		store_commit(s, ops, n, removed, c);
	else
		removed(c, &nothing);
}

/* --- another name ---------------------------------------------------- */

void controlled_rename(struct controlled *c, int64_t revision)
{
	c->renaming = revision;
}

void controlled_renamed(struct controlled *c)
{
	if (!c)
		return;
	c->renaming = 0;
	controlled_write(c);
}

/* Whose document D is: one that was under another key until now. It is the same thing, and goes on as it is. NULL: of nobody yet. */
static struct controlled *take_along(struct controller *ctl, const struct store_doc *d)
{
	AUTO(json_decref) json_t *doc = strstr(d->value, "\"renamed_from\"") ? json_loadb(d->value, d->len, 0, NULL) : NULL;
	const char *from = json_string_value(json_object_get(doc, "renamed_from")), *uid = json_string_value(json_object_get(doc, "uid"));
	const char *name = json_string_value(json_object_get(doc, "name"));
	struct controlled *c = from ? controller_find(ctl, from) : NULL;

	if (!c || !name || !uid || strcmp(c->uid, uid) != 0)
		return NULL;
	strmap_remove(&ctl->by_key, &c->by_key);
	snprintf(c->key, sizeof(c->key), "%s", d->key);
	snprintf(c->name, sizeof(c->name), "%s", name);
	strmap_add(&ctl->by_key, &c->by_key, c->key);
	if (ctl->kind->renamed)
		ctl->kind->renamed(c, c->renaming, d->modified);
	return c;
}

static void changed(struct store_watch *w, const struct store_event *e)
{
	struct controller *ctl = container_of(w, struct controller, watch);
	struct controlled *c = controller_find(ctl, e->doc->key);

	if (!c && !e->is_delete)
		c = take_along(ctl, e->doc);
	if (!c && !e->is_delete)
		controlled_new(ctl, e->doc->key);
	if (!c)
		return;
	c->hold_ns = 0; /* perhaps it can be done now */
	controlled_kick(c);
}

int controller_open(struct controller **out, struct node *n, const struct controller_kind *k, struct err *err)
{
	struct controller *ctl = calloc(1, sizeof(*ctl));
	char key[STORE_KEY_MAX + 1] = "";

	if (!ctl)
		return err_set(err, -ENOMEM, "out of memory");
	ctl->node = n;
	ctl->kind = k;
	strmap_init(&ctl->by_key);
	snprintf(ctl->prefix, sizeof(ctl->prefix), "%s/", k->kind);
	ctl->watch = (struct store_watch){ .prefix = ctl->prefix, .fn = changed };
	*out = ctl;
	for (const struct store_doc *d = store_next(n->store, ctl->prefix, NULL); d;
	     d = store_next(n->store, ctl->prefix, key)) {
		snprintf(key, sizeof(key), "%s", d->key);
		controlled_new(ctl, key);
	}
	return store_watch_start(n->store, &ctl->watch, STORE_ANY);
}

void controller_stop(struct controller *ctl)
{
	if (!ctl)
		return;
	store_watch_stop(&ctl->watch);
	ctl->is_stopped = true;
	for (struct controlled *c = ctl->first; c; c = c->next)
		loop_timer_cancel(&c->timer);
}

void controller_close(struct controller *ctl)
{
	if (!ctl)
		return;
	while (ctl->first)
		controlled_free(ctl->first);
	strmap_fini(&ctl->by_key);
	free(ctl);
}
