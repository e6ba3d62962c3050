/* SPDX-License-Identifier: Apache-2.0 */
/* clone.c - another instance like one: its document with another name, and its disks (clone_copy.c). Of one that runs everything
 * is of the same instant, and the new one may go on from its memory, as another machine: with addresses and a generation
 * of its own. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/clone_priv.h"
#include "node/idempotency.h"
#include "node/image.h"
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
		  .help = "share the disks as they are now, instead of copies of them; the original must be off, and goes on in layers, too" },
		{ .name = "memory", .type = SCHEMA_BOOL, .dflt = "false",
		  .help = "go on where the original is, which must run, instead of booting" },
		{ .name = "volumes", .type = SCHEMA_LIST, .sub = &clone_volume_schema, .max = INSTANCE_DISKS_MAX,
		  .help = "what becomes of its volumes; those that are not named here are cloned, too, as NAME-VOLUME" },
		{ .name = NULL },
	},
};

static const char *text(const json_t *params, const char *name)
{
	const char *s = json_string_value(json_object_get(params, name));

	return s ? s : "";
}

/* --- the request ---------------------------------------------------- */

static int claim_one(struct node *n, const char *kind, const json_t *doc, struct quota_claim **claims, struct err *err)
{
	char key[STORE_KEY_MAX + 1], where[64];

	doc_key(key, kind, text(doc, "project"), text(doc, "name"));
	return quota_claim(n, key, kind, doc, NULL, claims, where, sizeof(where), err);
}

/* Room for DOC and VOLUMES in their project: all of it, or nothing. */
static int claim_room(struct node *n, const json_t *doc, const json_t *volumes, struct quota_claim **claims, struct err *err)
{
	const json_t *volume;
	size_t i;
	int r = claim_one(n, "instance", doc, claims, err);

	json_array_foreach(volumes, i, volume)
		if (!r)
			r = claim_one(n, "volume", volume, claims, err);
	if (r < 0)
		quota_release_all(n, claims);
	return r;
}

/* What is asked for, besides its volumes, which are in PLAN. */
static int check(struct node *n, const char *project, const json_t *doc, const char *name, const json_t *plan, struct err *err)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "instance", project, name);
	if (store_get(n->store, key))
		return err_set(err, -EEXIST, "there is an instance '%s' already; choose another name", name);
	/* Looked at again when it is made, and kept then: now it is for an answer at once. */
	AUTO(json_decref) json_t *like = json_copy((json_t *)doc), *volumes = clone_volumes_docs(n, project, plan, err);
	struct quota_claim *claims = NULL;
	json_object_set_new(like, "name", json_string(name));
	int r = volumes ? claim_room(n, like, volumes, &claims, err) : err->code;
	quota_release_all(n, &claims);
	return r;
}

/* May one that runs (IS_LIVE), or is off, be cloned like that? */
static int check_state(bool is_live, bool is_linked, bool has_memory, const char *name, struct err *err)
{
	if (is_live && is_linked)
		return err_set(err, -EBUSY, "'%s' is not off: a linked clone shares its disks as they are, and those change; stop it first, or make "
			       "a clone that is not linked", name);
	if (!is_live && has_memory)
		return err_set(err, -EBUSY, "'%s' does not run, so a copy cannot go on where it is; start it, or leave 'memory' out", name);
	return 0;
}

void instance_clone(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], uid[DOC_UID_LEN + 1], where[64] = "";
	struct err err = ERR_INIT;

	if (idempotency_answered(c))
		return;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL), *plan = NULL;
	const char *name = doc ? text(c->body, "name") : "";

	if (!doc)
		return;
	plan = clone_volumes_plan(n, doc, c->body, where, sizeof(where), &err);
	int r = plan ? check(n, resource_project(c), doc, name, plan, &err) : err.code;
	struct instance *i = instance_find(n, resource_project(c), text(doc, "name"), text(doc, "uid"));
	const json_t *linked = json_object_get(c->body, "linked"), *memory = json_object_get(c->body, "memory");
	if (!r && i)
		r = instance_check_named(i, &err);
	if (!r)
		r = check_state(i && !instance_is_off(i), json_is_true(linked), json_is_true(memory), text(doc, "name"), &err);
	if (!r && json_is_true(memory) && strcmp(text(c->body, "state"), "running") != 0)
		r = err_set(&err, -EINVAL, "a copy that goes on from memory is 'running'; what is off has none");
	if (r < 0) {
		api_fail(c, r, where[0] ? where : r == -EEXIST ? "name" : r == -EINVAL ? "state" : NULL, &err);
		return;
	}
	doc_new_uid(uid);
	task_begin(c, json_pack("{s:O, s:O, s:s, s:s, s:s, s:O*, s:O*, s:O, s:o*}", "instance", json_object_get(doc, "name"), "instance_uid",
				json_object_get(doc, "uid"), "name", name, "uid", uid, "state", text(c->body, "state"),
				"linked", linked, "memory", memory, "volumes", plan, "image_uid",
				image_uid_of(n, resource_project(c), json_object_get(doc, "spec"))));
}

/* --- the task ---------------------------------------------------- */

static void free_paths(struct clone *k)
{
	free(k->dir);
	free(k->disk_dir);
	image_files_free(&k->boot);
	snapshot_memory_fini(&k->memory);
	k->dir = k->disk_dir = NULL;
	k->n_disks = 0;
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
static json_t *make_doc(const json_t *source, const json_t *params, const char *project, struct err *err)
{
	char now[DOC_TIME_LEN + 1];
	json_t *own = json_deep_copy(json_object_get(source, "own"));

	doc_now(now);
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:O, s:s, s:O, s:s, s:O, s:o, s:o*, s:O*, s:O*}", "kind", "instance", "name", json_object_get(params, "name"),
				"project", project, "uid", json_object_get(params, "uid"), "created", now, "labels",
				json_object_get(source, "labels"), "spec",
				json_deep_copy(json_object_get(source, "spec")), "own", own, "inherited",
				json_object_get(source, "inherited"), "alone", json_object_get(source, "alone"));
	json_t *spec = json_object_get(doc, "spec");

	json_object_set(spec, "state", json_object_get(params, "state"));
	drop_addresses(spec);
	drop_addresses(own);
	if (!doc)
		err_set(err, -ENOMEM, "out of memory");
	if (!doc || clone_volumes_change(spec, json_object_get(params, "volumes"), err) < 0)
		return NULL;
	return json_incref(doc);
}

/* Begin to work on the source: on its disks while it is off, or with its machine. -EAGAIN: not yet. */
static int take_source(struct clone *k, const json_t *params, struct err *err)
{
	const char *name = text(params, "instance");

	bool is_live = instance_vmm(k->source) != NULL;

	if (!is_live && !instance_is_off(k->source))
		return err_set(err, -EAGAIN, "it waits for '%s' to run or to be off", name);
	int r = check_state(is_live, k->is_linked, k->has_memory, name, err);
	if (r < 0)
		return r;
	k->is_live = is_live && !instance_is_still(k->source) && !instance_has_moves(k->source);
	if (k->is_live)
		instance_stand_still(k->source);
	k->is_writer = k->is_linked;
	k->has_disks = !is_live && instance_take_disks(k->source, k->is_writer);
	return k->is_live || k->has_disks ? 0 : err_set(err, -EAGAIN, "it waits for others who work on the disks of '%s'", name);
}

static void leave_source(struct clone *k)
{
	clone_volumes_give(k);
	if (k->has_disks)
		instance_give_disks(k->source, k->is_writer);
	else if (k->is_live)
		instance_let_go(k->source);
	controlled_kick(&k->source->c);
	k->has_disks = k->is_live = false;
}

static int prepare_paths(struct clone *k, struct task *t, const json_t *params, struct err *err)
{
	struct node *n = t->c.node;
	AUTO(free) char *all = node_path(n->data_dir, "instances"), *there = NULL, *from = NULL;
	struct clone_disk *d = &k->disks[0];
	char control[STORE_KEY_MAX];
	int r = disk_place_find(n, k->source->pool, text(params, "instance_uid"), "", &d->from, err);

	if (r < 0)
		return r;
	free_paths(k);
	there = node_path(d->from.pool, "instances");
	from = instance_root_path(k->source);
	k->dir = all ? node_path(all, text(params, "uid")) : NULL;
	k->disk_dir = there ? node_path(there, text(params, "uid")) : NULL;
	if (!from || !k->dir || !k->disk_dir)
		return err_set(err, -ENOMEM, "out of memory");
	d->dir = -1;
	d->to = d->from;
	snprintf(d->to.uid, sizeof(d->to.uid), "%s", text(params, "uid"));
	snprintf(d->from.path, sizeof(d->from.path), "%s", from);
	snprintf(d->to.path, sizeof(d->to.path), "%s/root.qcow2", k->disk_dir);
	k->n_disks = 1;
	instance_control_path(k->source, control, sizeof(control));
	return snapshot_memory_init(&k->memory, n, node_path(k->dir, "copy.memory"), control, "", err);
}

/* The documents to be, and room for them. */
static int prepare_docs(struct clone *k, const json_t *params, struct err *err)
{
	struct node *n = k->task->c.node;
	const char *project = k->task->c.project;
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "instance", project, text(params, "instance"));
	AUTO(json_decref) json_t *source = doc_get(n->store, key, NULL);
	json_decref(k->doc);
	json_decref(k->volume_docs);
	k->volume_docs = NULL;
	k->doc = make_doc(source, params, project, err);
	if (k->doc)
		k->volume_docs = clone_volumes_docs(n, project, json_object_get(params, "volumes"), err);
	if (!k->volume_docs)
		return err->code;
	if (json_object_get(source, "alone") && image_find_of(n, source, &k->boot, err) < 0)
		return err->code;
	k->task->works = instance_disks_works(k->source, source);
	return k->claims ? 0 : claim_room(n, k->doc, k->volume_docs, &k->claims, err);
}

static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct node *n = t->c.node;
	struct clone *k = t->data ? t->data : calloc(1, sizeof(*k));

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
	leave_source(k);
	k->is_linked = json_is_true(json_object_get(params, "linked"));
	k->has_memory = json_is_true(json_object_get(params, "memory"));
	int r = prepare_paths(k, t, params, err);
	if (!r && k->is_made)
		return 1;
	if (!r)
		r = take_source(k, params, err);
	if (!r)
		r = prepare_docs(k, params, err);
	if (!r)
		r = clone_volumes_take(k, json_object_get(params, "volumes"), err);
	if (!r)
		return 1;
	leave_source(k);
	return r == -EAGAIN ? 0 : r;
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

static int put_docs(struct task *t, struct err *err);

static void document_made(void *arg, const struct store_result *res)
{
	struct task *t = arg;
	struct err err = ERR_INIT;
	/* Conditions come behind the documents of the instance and its volumes. */
	bool is_named = res->code == -ESTALE && res->op > json_array_size(((struct clone *)t->data)->volume_docs);

	if (is_named && put_docs(t, &err) < 0)
		task_over(t, err.code, &err);
	else if (is_named)
		return;
	else if (res->code == -ESTALE)
		task_over(t, err_set(&err, -EEXIST, "an instance or a volume of that name has come in between"), &err);
	else
		task_over(t, res->code ? err_set(&err, res->code, "%s", res->message) : 0, &err);
}

static int put_volumes(struct ops *o, const json_t *docs)
{
	char key[STORE_KEY_MAX + 1];
	const json_t *doc;
	size_t i;
	int r = 0;

	json_array_foreach(docs, i, doc) {
		doc_key(key, "volume", text(doc, "project"), text(doc, "name"));
		if (!r)
			r = ops_put(o, key, doc, STORE_ABSENT);
	}
	return r;
}

/* The instance and its volumes, all or none. What it names - its profiles, image, networks - may have been changed since the copy was begun. */
static int put_docs(struct task *t, struct err *err)
{
	struct clone *k = t->data;
	struct node *n = t->c.node;
	AUTO(free) struct ops *o = calloc(1, sizeof(*o));
	char key[STORE_KEY_MAX + 1];
	AUTO(json_decref) json_t *known = clone_volumes_leave_out(k->doc, k->volume_docs), *checked = NULL;
	int r = !o || !known ? err_set(err, -ENOMEM, "out of memory") : instance_expand_again(n, known, 0, NULL, &checked, err);

	if (r < 0)
		return r;
	json_object_del(checked, "unchanged_since");
	json_t *fresh = clone_volumes_put_in(checked, k->doc);
	if (!fresh)
		return err_set(err, -ENOMEM, "out of memory");
	json_decref(k->doc);
	k->doc = fresh;
	const char *image = text(json_object_get(fresh, "spec"), "image");
	doc_key(key, "image", t->c.project, image);
	if (image[0] && !json_object_get(fresh, "alone") && !store_get(n->store, key))
		return err_set(err, -EBUSY, "the image '%s' has gone, or has another name now; clone it again", image);
	doc_key(key, "instance", t->c.project, text(fresh, "name"));
	r = ops_put(o, key, fresh, STORE_ABSENT);
	if (!r)
		r = put_volumes(o, k->volume_docs);
	if (!r)
		r = instance_check_references(n, checked, o);
	if (!r)
		store_commit(n->store, o->op, o->n, document_made, t);
	ops_clear(o);
	return r < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	const json_t *one;
	size_t i;
	int r = look_up(t, params, err);

	if (r < 0)
		return r;
	AUTO(json_decref) json_t *made = json_array();
	json_array_foreach(json_object_get(params, "volumes"), i, one)
		if (json_object_get(one, "name"))
			json_array_append(made, json_object_get(one, "name"));
	*result = json_pack("{s:s, s:O*}", "instance", text(params, "name"), "volumes", json_array_size(made) ? made : NULL);
	if (r)
		return 0;
	r = put_docs(t, err);
	return r < 0 ? r : 1;
}

/* Its folders, and the files of its volumes, unless they are those of an instance. */
static void *leftover(struct task *t, const json_t *params)
{
	struct node *n = t->c.node;
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "instance", t->c.project, text(params, "instance"));
	AUTO(json_decref) json_t *source = doc_get(n->store, key, NULL);
	struct clone_left *l = look_up(t, params, NULL) > 0 || !text(params, "uid")[0] ? NULL : calloc(1, sizeof(*l));
	/* Of a pool that is not there now, or an original that has gone, what is in the daemon's own folder. */
	const char *pool = source ? pool_of(json_object_get(source, "spec")) : NULL, *uid = text(params, "uid");
	if (l && disk_place_find(n, pool, uid, "", &l->of[0].to, NULL) < 0)
		(void)disk_place_find(n, NULL, uid, "", &l->of[0].to, NULL);
	if (l) {
		snprintf(l->dir, sizeof(l->dir), "%s/instances/%s", n->data_dir, uid);
		snprintf(l->disk_dir, sizeof(l->disk_dir), "%s/instances/%s", l->of[0].to.pool, uid);
		struct instance *i = instance_find(n, t->c.project, text(params, "instance"), text(params, "instance_uid"));
		AUTO(free) char *from = i ? instance_root_path(i) : NULL;
		snprintf(l->of[0].from.uid, sizeof(l->of[0].from.uid), "%s", text(params, "instance_uid"));
		snprintf(l->of[0].from.path, sizeof(l->of[0].from.path), "%s", from ? from : "");
		l->n = 1;
		clone_volumes_leftover(n, t->c.project, json_object_get(params, "volumes"), l);
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
	quota_release_all(t->c.node, &k->claims);
	json_decref(k->doc);
	json_decref(k->volume_docs);
	free_paths(k);
	free(k);
	t->data = NULL;
}

const struct task_op instance_clone_op = {
	.operation = "cloneInstance", .prepare = prepare, .run = run, .finish = finish, .leftover = leftover, .tidy = clone_tidy,
	.release = release,
};
