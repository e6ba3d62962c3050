/* SPDX-License-Identifier: Apache-2.0 */
/* volume_clone.c - the request and the task: the file is made under the new uid, and then the document, which makes it somebody's. */
#include "node/volume_clone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/bases.h"
#include "node/controller.h"
#include "node/idempotency.h"
#include "node/instance_hold.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/quota.h"
#include "node/resource.h"
#include "node/volume.h"
#include "node/volume_clone_priv.h"
#include "util/checked.h"
#include "util/err.h"

const struct schema volume_clone_schema = {
	.name = "VolumeClone", .help = "The volume to be made.",
	.fields = (const struct schema_field[]){
		{ .name = "name", .type = SCHEMA_NAME, .is_required = true, .help = "of the new volume" },
		{ .name = "pool", .type = SCHEMA_NAME, .help = "where it shall live; else where the original does" },
		{ .name = "format", .type = SCHEMA_STRING, .choices = "qcow2|raw", .help = "of its file; else that of the original" },
		{ .name = NULL },
	},
};

static const char *text(const json_t *params, const char *name)
{
	const char *s = json_string_value(json_object_get(params, name));

	return s ? s : "";
}

/* --- the request ---------------------------------------------------- */

/* What is different of the document SOURCE. */
static json_t *make_doc(const json_t *source, const json_t *params)
{
	char now[DOC_TIME_LEN + 1];

	doc_now(now);
	return json_pack("{s:s, s:O, s:O, s:O, s:s, s:O, s:{s:O, s:O, s:O}}", "kind", "volume", "name", json_object_get(params, "name"), "project",
			 json_object_get(source, "project"), "uid", json_object_get(params, "uid"), "created", now, "labels",
			 json_object_get(source, "labels"), "spec", "size", json_object_get(json_object_get(source, "spec"), "size"), "pool",
			 json_object_get(params, "pool"), "format", json_object_get(params, "format"));
}

/* Room for DOC in its project. */
static int claim_room(struct node *n, const json_t *doc, struct quota_claim **out, struct err *err)
{
	char key[STORE_KEY_MAX + 1], where[64];

	doc_key(key, "volume", text(doc, "project"), text(doc, "name"));
	return quota_claim(n, key, "volume", doc, NULL, out, where, sizeof(where), err);
}

static int check(struct node *n, const json_t *source, const json_t *params, char where[16], struct err *err)
{
	char key[STORE_KEY_MAX + 1], task[DOC_NAME_MAX + 1];
	const char *project = text(source, "project"), *name = text(params, "name"), *pool = text(params, "pool");
	struct quota_claim *claim = NULL;

	where[0] = 0;
	if (json_is_true(json_object_get(source, "deleting")))
		return err_set(err, -EBUSY, "it is being deleted");
	if (task_is_there(n, project, "volume_uid", text(source, "uid"), task))
		return err_set(err, -EBUSY, "the task '%s' is at work on it; wait for that, or cancel it", task);
	doc_key(key, "volume", project, name);
	strcpy(where, "name");
	if (store_get(n->store, key))
		return err_set(err, -EEXIST, "there is a volume '%s' already; choose another name", name);
	strcpy(where, "pool");
	int r = pool_check_new(n, pool, err);
	if (r < 0)
		return r == -ENOENT ? -EINVAL : r;
	where[0] = 0;
	AUTO(json_decref) json_t *doc = make_doc(source, params);
	r = doc ? claim_room(n, doc, &claim, err) : err_set(err, -ENOMEM, "out of memory");
	quota_release_all(n, &claim);
	return r;
}

void volume_clone(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], uid[DOC_UID_LEN + 1], where[16];
	struct err err = ERR_INIT;

	if (idempotency_answered(c))
		return;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	const json_t *spec = json_object_get(doc, "spec");
	const char *pool = text(c->body, "pool"), *format = text(c->body, "format");

	if (!doc)
		return;
	doc_new_uid(uid);
	json_t *params = json_pack("{s:O, s:O, s:O, s:s, s:s, s:s}", "volume", json_object_get(doc, "name"), "volume_uid",
				   json_object_get(doc, "uid"), "name", json_object_get(c->body, "name"), "uid", uid, "pool",
				   pool[0] ? pool : pool_of(spec), "format", format[0] ? format : volume_format(spec));
	int r = check(n, doc, params, where, &err);
	if (!r) {
		task_begin(c, params);
		return;
	}
	json_decref(params);
	api_fail(c, r, where[0] ? where : NULL, &err);
}

/* --- the task ---------------------------------------------------- */

static void let_go(struct volume_clone *k)
{
	if (k->is_still)
		instance_let_go(k->held);
	if (k->held)
		instance_release(k->held);
	if (k->taken)
		volume_give(k->taken, false);
	k->held = NULL;
	k->taken = NULL;
	k->is_live = k->is_still = false;
}

/* A qcow2 file is whole only with what the machine that has it open keeps in memory. */
static bool can_share(const struct volume_clone *k, const char *pool)
{
	return !strcmp(k->from.pool, k->to.pool) && disk_files_is_raw(k->from.path) && disk_files_is_raw(k->to.path) &&
	       pool_shares(k->task->c.node, pool) == 1;
}

/* The instance that has it, if one has. 1: it can begin; 0: not yet. */
static int find_user(struct volume_clone *k, const char *volume, const char *pool, struct err *err)
{
	const char *project = k->task->c.project;
	struct node *n = k->task->c.node;
	char who[DOC_NAME_MAX + 1], key[STORE_KEY_MAX + 1];

	if (!volume_is_used(n, project, volume, who, sizeof(who)))
		return 1;
	doc_key(key, "instance", project, who);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	struct instance *i = instance_find(n, project, who, text(doc, "uid"));
	if (!i || instance_is_between(i) || instance_is_still(i)) {
		err_set(err, -EAGAIN, "it waits for '%s', which is just starting or stopping, or of which others make a copy", who);
		return 0;
	}
	k->held = i;
	instance_hold(i, false);
	k->is_live = !instance_is_off(i);
	/* A disk that changes over says itself until when the machine stands still. */
	k->is_still = k->is_live && can_share(k, pool) && !instance_has_moves(i);
	if (k->is_still)
		instance_stand_still(i);
	instance_control_path(i, k->control, sizeof(k->control));
	return 1;
}

static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct node *n = t->c.node;
	struct volume_clone *k = t->data ? t->data : calloc(1, sizeof(*k));
	char key[STORE_KEY_MAX + 1];

	if (!k)
		return err_set(err, -ENOMEM, "out of memory");
	t->data = k;
	k->task = t;
	let_go(k);
	doc_key(key, "volume", t->c.project, text(params, "name"));
	AUTO(json_decref) json_t *made = doc_get(n->store, key, NULL);
	k->is_made = made && !strcmp(text(made, "uid"), text(params, "uid"));
	if (k->is_made)
		return 1;
	doc_key(key, "volume", t->c.project, text(params, "volume"));
	AUTO(json_decref) json_t *source = doc_get(n->store, key, NULL);
	if (strcmp(text(source, "uid"), text(params, "volume_uid")) != 0)
		return err_set(err, -ENOENT, "the volume '%s' has gone", text(params, "volume"));
	const json_t *spec = json_object_get(source, "spec");
	int r = disk_place_find(n, pool_of(spec), text(params, "volume_uid"), volume_format(spec), &k->from, err);
	if (!r)
		r = disk_place_find(n, text(params, "pool"), text(params, "uid"), text(params, "format"), &k->to, err);
	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	t->works = pool_works(n, strcmp(text(params, "pool"), POOL_DEFAULT) ? text(params, "pool") : pool_of(spec));
	json_decref(k->doc);
	k->doc = make_doc(source, params);
	if (!k->doc)
		return err_set(err, -ENOMEM, "out of memory");
	r = k->claim ? 0 : claim_room(n, k->doc, &k->claim, err);
	if (!r)
		r = volume_take(n, t->c.project, text(params, "volume"), text(params, "volume_uid"), false, &k->taken, err);
	return r < 0 ? (r == -EAGAIN ? 0 : r) : find_user(k, text(params, "volume"), text(params, "pool"), err);
}

static int run(struct task *t, struct err *err)
{
	struct volume_clone *k = t->data;

	return k->is_made ? 0 : volume_clone_copy(k, err);
}

static void document_made(void *arg, const struct store_result *res)
{
	struct task *t = arg;
	struct err err = ERR_INIT;

	if (res->code == -ESTALE)
		task_over(t, err_set(&err, -EEXIST, "a volume of that name has come in between"), &err);
	else
		task_over(t, res->code ? err_set(&err, res->code, "%s", res->message) : 0, &err);
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	struct volume_clone *k = t->data;
	char key[STORE_KEY_MAX + 1];

	let_go(k);
	doc_key(key, "volume", t->c.project, text(params, "name"));
	*result = json_pack("{s:s}", "volume", text(params, "name"));
	if (k->is_made)
		return 0;
	return doc_put(t->c.node->store, key, k->doc, STORE_ABSENT, document_made, t) < 0 ? err_set(err, -ENOMEM, "out of memory") : 1;
}

/* Its files, unless they are those of a volume. Of a pool that is not there now nothing can be said: they stay. */
static void *leftover(struct task *t, const json_t *params)
{
	struct node *n = t->c.node;
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "volume", t->c.project, text(params, "name"));
	AUTO(json_decref) json_t *is = doc_get(n->store, key, NULL);
	bool is_ours = is && !strcmp(text(is, "uid"), text(params, "uid"));
	struct disk_place *p = is_ours || !text(params, "uid")[0] ? NULL : calloc(1, sizeof(*p));

	if (p && disk_place_find(n, text(params, "pool"), text(params, "uid"), text(params, "format"), p, NULL) < 0) {
		free(p);
		p = NULL;
	}
	return p;
}

static int tidy(void *left, struct err *err)
{
	const struct disk_place *p = left;
	AUTO_FD int pool = pool_dir_open(p->pool, p->pool_uid, err);

	int r = pool < 0 ? pool : disk_files_remove(p->pool, p->driver, p->uid, err);

	return r < 0 ? r : bases_release(p->pool, p->uid, err);
}

static void release(struct task *t)
{
	struct volume_clone *k = t->data;

	if (!k)
		return;
	let_go(k);
	quota_release_all(t->c.node, &k->claim);
	json_decref(k->doc);
	free(k);
	t->data = NULL;
}

const struct task_op volume_clone_op = {
	.operation = "cloneVolume", .prepare = prepare, .run = run, .finish = finish, .leftover = leftover, .tidy = tidy, .release = release,
};
