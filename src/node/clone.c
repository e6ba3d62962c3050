/* SPDX-License-Identifier: Apache-2.0 */
/* clone.c - another instance like one: its document with another name, and its disk (clone_copy.c). Of one that runs everything
 * is of the same instant, and the new one may go on from its memory, as another machine: with addresses and a generation
 * of its own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/clone_priv.h"
#include "node/idempotency.h"
#include "node/instance_hold.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/ops.h"
#include "node/pool.h"
#include "node/profile.h"
#include "node/quota.h"
#include "node/resource.h"
#include "node/snapshot.h"
#include "util/err.h"

const struct schema clone_schema = {
	.name = "Clone", .help = "The instance to be made.",
	.fields = (const struct schema_field[]){
		{ .name = "name", .type = SCHEMA_NAME, .is_required = true, .help = "of the new instance" },
		{ .name = "state", .type = SCHEMA_STRING, .choices = "running|stopped", .dflt = "\"stopped\"",
		  .help = "what it shall do" },
		{ .name = "linked", .type = SCHEMA_BOOL, .dflt = "false",
		  .help = "share the disk as it is now, instead of a copy of it; the original must be off, and goes on in a layer, too" },
		{ .name = "memory", .type = SCHEMA_BOOL, .dflt = "false",
		  .help = "go on where the original is, which must run, instead of booting" },
		{ .name = NULL },
	},
};

static const char *text(const json_t *params, const char *name)
{
	const char *s = json_string_value(json_object_get(params, name));

	return s ? s : "";
}

/* --- the request ---------------------------------------------------- */

/* Room for DOC in its project. */
static int claim_room(struct node *n, const json_t *doc, struct quota_claim **out, struct err *err)
{
	char key[STORE_KEY_MAX + 1], where[64];

	doc_key(key, "instance", text(doc, "project"), text(doc, "name"));
	return quota_claim(n, key, "instance", doc, NULL, out, where, sizeof(where), err);
}

static int check(struct node *n, const char *project, const json_t *doc, const char *name, struct err *err)
{
	char key[STORE_KEY_MAX + 1];
	const json_t *spec = json_object_get(doc, "spec");

	doc_key(key, "instance", project, name);
	if (store_get(n->store, key))
		return err_set(err, -EEXIST, "there is an instance '%s' already; choose another name", name);
	if (json_array_size(json_object_get(spec, "disks")))
		return err_set(err, -ENOTSUP, "it has volumes, which only one instance can have; take them away from it first");
	/* Looked at again when it is made, and kept then: now it is for an answer at once. */
	AUTO(json_decref) json_t *like = json_copy((json_t *)doc);
	struct quota_claim *claim = NULL;
	json_object_set_new(like, "name", json_string(name));
	int r = claim_room(n, like, &claim, err);
	quota_release_all(n, &claim);
	return r;
}

/* May one that runs (IS_LIVE), or is off, be cloned like that? */
static int check_state(bool is_live, bool is_linked, bool has_memory, const char *name, struct err *err)
{
	if (is_live && is_linked)
		return err_set(err, -EBUSY, "'%s' is not off: a linked clone shares its disk as it is, and that changes; stop it first, or make a "
			       "clone that is not linked", name);
	if (!is_live && has_memory)
		return err_set(err, -EBUSY, "'%s' does not run, so a copy cannot go on where it is; start it, or leave 'memory' out", name);
	return 0;
}

void instance_clone(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], uid[DOC_UID_LEN + 1];
	struct err err = ERR_INIT;

	if (idempotency_answered(c))
		return;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	const char *name = doc ? text(c->body, "name") : "";

	if (!doc)
		return;
	int r = check(n, resource_project(c), doc, name, &err);
	struct instance *i = instance_find(n, resource_project(c), text(doc, "name"), text(doc, "uid"));
	const json_t *linked = json_object_get(c->body, "linked"), *memory = json_object_get(c->body, "memory");
	if (!r && i)
		r = instance_check_named(i, &err);
	if (!r)
		r = check_state(i && !instance_is_off(i), json_is_true(linked), json_is_true(memory), text(doc, "name"), &err);
	if (!r && json_is_true(memory) && strcmp(text(c->body, "state"), "running") != 0)
		r = err_set(&err, -EINVAL, "a copy that goes on from memory is 'running'; what is off has none");
	if (r < 0) {
		api_fail(c, r, r == -EEXIST ? "name" : r == -EINVAL ? "state" : NULL, &err);
		return;
	}
	doc_new_uid(uid);
	task_begin(c, json_pack("{s:O, s:O, s:s, s:s, s:s, s:O*, s:O*}", "instance", json_object_get(doc, "name"), "instance_uid",
				json_object_get(doc, "uid"), "name", name, "uid", uid, "state", text(c->body, "state"),
				"linked", linked, "memory", memory));
}

/* --- the task ---------------------------------------------------- */

static void free_paths(struct clone *k)
{
	free(k->pool);
	free(k->from);
	free(k->dir);
	free(k->disk_dir);
	snapshot_memory_fini(&k->memory);
	k->pool = k->from = k->dir = k->disk_dir = NULL;
}

/* Of the interfaces in SPEC, what only one can have. */
static void drop_addresses(json_t *spec)
{
	json_t *net;
	size_t i;

	json_array_foreach(json_object_get(spec, "networks"), i, net) {
		json_object_del(net, "mac");
		json_object_del(net, "address");
		json_object_set_new(net, "forwards", json_array());
	}
}

/* What is the same, and what cannot be. */
static json_t *make_doc(const json_t *source, const json_t *params, const char *project)
{
	char now[DOC_TIME_LEN + 1];
	json_t *own = json_deep_copy(json_object_get(source, "own"));

	doc_now(now);
	json_t *doc = json_pack("{s:s, s:O, s:s, s:O, s:s, s:O, s:o, s:o*, s:O*}", "kind", "instance", "name", json_object_get(params, "name"),
				"project", project, "uid", json_object_get(params, "uid"), "created", now, "labels",
				json_object_get(source, "labels"), "spec",
				json_deep_copy(json_object_get(source, "spec")), "own", own, "inherited",
				json_object_get(source, "inherited"));
	json_t *spec = json_object_get(doc, "spec");

	json_object_set(spec, "state", json_object_get(params, "state"));
	drop_addresses(spec);
	drop_addresses(own);
	return doc;
}

/* Begin to work on the source: on its disk while it is off, or with its machine. 0: not yet, with why in ERR. */
static int take_source(struct clone *k, const json_t *params, struct err *err)
{
	const char *name = text(params, "instance");

	k->is_linked = json_is_true(json_object_get(params, "linked"));
	k->has_memory = json_is_true(json_object_get(params, "memory"));
	k->is_live = instance_vmm(k->source) != NULL;
	if (!k->is_live && !instance_is_off(k->source)) {
		err_set(err, -EAGAIN, "it waits for '%s' to run or to be off", name);
		return 0;
	}
	int r = check_state(k->is_live, k->is_linked, k->has_memory, name, err);
	if (r < 0)
		return r;
	if (k->is_live) {
		k->source->n_freezes++;
		return 1;
	}
	k->is_writer = k->is_linked;
	k->has_disks = instance_take_disks(k->source, k->is_writer);
	if (!k->has_disks)
		err_set(err, -EAGAIN, "it waits for others who work on the disks of '%s'", name);
	return k->has_disks;
}

static void leave_source(struct clone *k)
{
	if (k->has_disks)
		instance_give_disks(k->source, k->is_writer);
	else if (k->is_live)
		k->source->n_freezes--;
	controlled_kick(&k->source->c);
	k->has_disks = k->is_live = false;
}

static int prepare_paths(struct clone *k, struct task *t, const json_t *params, struct err *err)
{
	struct node *n = t->c.node;
	AUTO(free) char *all = node_path(n->data_dir, "instances"), *there = NULL;
	char control[STORE_KEY_MAX];
	struct pool_ref pool;
	int r = pool_find(n, k->source->pool, &pool, err);

	if (r < 0)
		return r;
	free_paths(k);
	there = node_path(pool.path, "instances");
	snprintf(k->pool_uid, sizeof(k->pool_uid), "%s", pool.uid);
	t->works = pool_works(n, k->source->pool);
	k->driver = pool.driver;
	snprintf(k->uid, sizeof(k->uid), "%s", text(params, "uid"));
	snprintf(k->source_uid, sizeof(k->source_uid), "%s", text(params, "instance_uid"));
	k->pool = strdup(pool.path);
	k->from = instance_root_path(k->source);
	k->dir = all ? node_path(all, k->uid) : NULL;
	k->disk_dir = there ? node_path(there, k->uid) : NULL;
	if (!k->pool || !k->from || !k->dir || !k->disk_dir)
		return err_set(err, -ENOMEM, "out of memory");
	instance_control_path(k->source, control, sizeof(control));
	return snapshot_memory_init(&k->memory, n, node_path(k->dir, "copy.memory"), control, "", err);
}

static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct node *n = t->c.node;
	struct clone *k = t->data ? t->data : calloc(1, sizeof(*k));
	char key[STORE_KEY_MAX + 1];

	if (!k)
		return err_set(err, -ENOMEM, "out of memory");
	t->data = k;
	k->task = t;
	if (!k->source) {
		k->source = instance_find_to_hold(n, t->c.project, text(params, "instance"), text(params, "instance_uid"));
		if (!k->source)
			return err_set(err, -ENOENT, "the instance '%s' has gone", text(params, "instance"));
		instance_hold(k->source, false);
	}
	k->is_made = instance_find(n, t->c.project, text(params, "name"), text(params, "uid")) != NULL;
	int r = prepare_paths(k, t, params, err);
	if (r == -EAGAIN)
		return 0;
	leave_source(k);
	if (!r)
		r = k->is_made ? 1 : take_source(k, params, err);
	if (r <= 0)
		return r;
	doc_key(key, "instance", t->c.project, text(params, "instance"));
	AUTO(json_decref) json_t *source = doc_get(n->store, key, NULL);
	json_decref(k->doc);
	k->doc = make_doc(source, params, t->c.project);
	if (!k->doc)
		return err_set(err, -ENOMEM, "out of memory");
	r = k->is_made || k->claim ? 0 : claim_room(n, k->doc, &k->claim, err);
	return r < 0 ? r : 1;
}

static int run(struct task *t, struct err *err)
{
	struct clone *k = t->data;

	return k->is_made ? 0 : clone_copy(k, err);
}

/* The instance called as the params say: 1: ours; 0: there is none; -EEXIST: another. */
static int look_up(struct task *t, const json_t *params, struct err *err)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "instance", t->c.project, text(params, "name"));
	AUTO(json_decref) json_t *is = doc_get(t->c.node->store, key, NULL);
	if (is && strcmp(text(is, "uid"), text(params, "uid")) != 0)
		return err_set(err, -EEXIST, "an instance '%s' has come in between", text(params, "name"));
	return is != NULL;
}

static int put_doc(struct task *t, struct err *err);

static void document_made(void *arg, const struct store_result *res)
{
	struct task *t = arg;
	struct err err = ERR_INIT;
	bool is_named = res->code == -ESTALE && res->op > 0;

	if (is_named && put_doc(t, &err) < 0)
		task_over(t, err.code, &err);
	else if (is_named)
		return;
	else if (res->code == -ESTALE)
		task_over(t, err_set(&err, -EEXIST, "an instance of that name has come in between"), &err);
	else
		task_over(t, res->code ? err_set(&err, res->code, "%s", res->message) : 0, &err);
}

/* What it names - its profiles, image, networks - may have been changed since the copy was begun. */
static int put_doc(struct task *t, struct err *err)
{
	struct clone *k = t->data;
	struct node *n = t->c.node;
	AUTO(free) struct ops *o = calloc(1, sizeof(*o));
	char key[STORE_KEY_MAX + 1];
	json_t *fresh = NULL;
	int r = !o ? err_set(err, -ENOMEM, "out of memory") : instance_expand_again(n, k->doc, 0, NULL, &fresh, err);

	if (r < 0)
		return r;
	json_object_del(fresh, "unchanged_since");
	json_decref(k->doc);
	k->doc = fresh;
	const char *image = text(json_object_get(fresh, "spec"), "image");
	doc_key(key, "image", t->c.project, image);
	if (image[0] && !store_get(n->store, key))
		return err_set(err, -EBUSY, "the image '%s' has gone, or has another name now; clone it again", image);
	doc_key(key, "instance", t->c.project, text(fresh, "name"));
	r = ops_put(o, key, fresh, STORE_ABSENT);
	if (!r)
		r = instance_check_references(n, fresh, o);
	if (!r)
		store_commit(n->store, o->op, o->n, document_made, t);
	ops_clear(o);
	return r < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	int r = look_up(t, params, err);

	if (r < 0)
		return r;
	*result = json_pack("{s:s}", "instance", text(params, "name"));
	if (r)
		return 0;
	r = put_doc(t, err);
	return r < 0 ? r : 1;
}

/* Its folders, unless they are those of an instance. */
static void *leftover(struct task *t, const json_t *params)
{
	struct node *n = t->c.node;
	char key[STORE_KEY_MAX + 1];
	struct pool_ref pool;

	doc_key(key, "instance", t->c.project, text(params, "instance"));
	AUTO(json_decref) json_t *source = doc_get(n->store, key, NULL);
	struct clone_left *l = look_up(t, params, NULL) > 0 || !text(params, "uid")[0] ? NULL : calloc(1, sizeof(*l));
	/* Of a pool that is not there now, or an original that has gone, what is in the daemon's own folder. */
	if (!l || pool_find(n, source ? pool_of(json_object_get(source, "spec")) : NULL, &pool, NULL) < 0)
		(void)pool_find(n, NULL, &pool, NULL);
	if (l) {
		snprintf(l->dir, sizeof(l->dir), "%s/instances/%s", n->data_dir, text(params, "uid"));
		snprintf(l->disk_dir, sizeof(l->disk_dir), "%s/instances/%s", pool.path, text(params, "uid"));
		snprintf(l->pool, sizeof(l->pool), "%s", pool.path);
		snprintf(l->pool_uid, sizeof(l->pool_uid), "%s", pool.uid);
		snprintf(l->uid, sizeof(l->uid), "%s", text(params, "uid"));
	}
	return l;
}

static void release(struct task *t)
{
	struct clone *k = t->data;

	if (!k)
		return;
	if (k->source) {
		leave_source(k);
		instance_release(k->source);
	}
	quota_release_all(t->c.node, &k->claim);
	json_decref(k->doc);
	free_paths(k);
	free(k);
	t->data = NULL;
}

const struct task_op instance_clone_op = {
	.operation = "cloneInstance", .prepare = prepare, .run = run, .finish = finish, .leftover = leftover, .tidy = clone_tidy,
	.release = release,
};
