/* SPDX-License-Identifier: Apache-2.0 */
/* flatten.c - the requests and the tasks. An instance is flattened with the volumes that it writes, one disk after the other; a volume
 * alone. Whoever works on the same disks - snapshots, clones, moves - waits, or is waited for. */
#include "node/flatten.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/flatten_priv.h"
#include "node/idempotency.h"
#include "node/image.h"
#include "node/instance_hold.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/profile.h"
#include "node/resource.h"
#include "node/volume.h"
#include "util/err.h"

const struct schema flatten_schema = {
	.name = "Flatten", .help = "What its disks shall not need any more.",
	.fields = (const struct schema_field[]){
		{ .name = "image", .type = SCHEMA_BOOL, .dflt = "false",
		  .help = "the image that it began as, too; without it only what it shares with linked clones" },
		{ .name = NULL },
	},
};

struct flatten {
	struct task *task;
	struct instance *held;
	bool has_disks;                 /* of HELD, which is off */
	bool has_move;                  /* of HELD, which runs: see instance_begin_move() */
	struct volume *volumes[INSTANCE_DISKS_MAX];     /* taken for writing */
	unsigned n_volumes;
	struct flatten_disk disks[INSTANCE_DISKS_MAX + 1];
	unsigned n_disks;
	char *dir;                      /* of an instance that shall stand alone, whose first disk is the first here; NULL: it shall not */
	struct image_files boot;        /* what it is started with */
	uint64_t alone;                 /* bytes of that disk */
};

static const char *text(const json_t *doc, const char *name)
{
	return json_string_value(json_object_get(doc, name)) ?: "";
}

/* --- the requests ---------------------------------------------------- */

static int check(struct node *n, const json_t *doc, const char *uid_name, struct err *err)
{
	char task[DOC_NAME_MAX + 1];

	if (json_is_true(json_object_get(doc, "deleting")))
		return err_set(err, -EBUSY, "it is being deleted");
	if (task_is_there(n, text(doc, "project"), uid_name, text(doc, "uid"), task))
		return err_set(err, -EBUSY, "the task '%s' is at work on '%s'; wait for that, or cancel it", task, text(doc, "name"));
	return pool_check_new(n, pool_of(json_object_get(doc, "spec")), err);
}

/* The volumes that DOC, an instance, writes, by name and uid; raw ones have nothing below them. NULL with the sentence. */
static json_t *plan_volumes(struct node *n, const json_t *doc, struct err *err)
{
	AUTO(json_decref) json_t *plan = json_array();
	const json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(doc, "spec"), "disks"), i, disk) {
		char key[STORE_KEY_MAX + 1];

		doc_key(key, "volume", text(doc, "project"), text(disk, "volume"));
		AUTO(json_decref) json_t *volume = doc_get(n->store, key, NULL);
		if (!volume || json_is_true(json_object_get(disk, "readonly")) || !strcmp(volume_format(json_object_get(volume, "spec")), "raw"))
			continue;
		if (check(n, volume, "volume_uid", err) < 0)
			return NULL;
		json_array_append_new(plan, json_pack("{s:O, s:O}", "volume", json_object_get(volume, "name"), "volume_uid",
						      json_object_get(volume, "uid")));
	}
	return json_incref(plan);
}

static void begin(struct api_call *c, const char *kind, const char *kind_uid, bool is_instance)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1];
	struct err err = ERR_INIT;

	if (idempotency_answered(c))
		return;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL), *volumes = NULL;
	if (!doc)
		return;
	int r = check(n, doc, kind_uid, &err);
	struct instance *i = is_instance ? instance_find(n, resource_project(c), text(doc, "name"), text(doc, "uid")) : NULL;
	if (!r && i)
		r = instance_check_named(i, &err);
	if (!r && is_instance && !(volumes = plan_volumes(n, doc, &err)))
		r = err.code;
	if (r < 0)
		api_fail(c, r, NULL, &err);
	else
		task_begin(c, json_pack("{s:O, s:O, s:b, s:O*, s:o*}", kind, json_object_get(doc, "name"), kind_uid, json_object_get(doc, "uid"), "image",
					!is_instance || json_is_true(json_object_get(c->body, "image")), "volumes", volumes, "image_uid",
					image_uid_of(n, resource_project(c), json_object_get(doc, "spec"))));
}

void instance_flatten(struct api_call *c)
{
	begin(c, "instance", "instance_uid", true);
}

void volume_flatten(struct api_call *c)
{
	begin(c, "volume", "volume_uid", false);
}

/* --- beginning ---------------------------------------------------- */

static void let_go(struct flatten *f)
{
	while (f->n_volumes)
		volume_give(f->volumes[--f->n_volumes], true);
	if (f->has_disks)
		instance_give_disks(f->held, true);
	if (f->has_move)
		instance_end_move(f->held);
	if (f->held)
		instance_release(f->held);
	f->held = NULL;
	f->has_disks = f->has_move = false;
	f->n_disks = 0;
	free(f->dir);
	f->dir = NULL;
	image_files_free(&f->boot);
	f->boot = (struct image_files){ .disk = NULL };
}

/* Its machine stays on or off, whichever it is. -EAGAIN: it is between, or others work on its disks. */
static int hold(struct flatten *f, struct instance *i, struct err *err)
{
	if (!i || instance_is_between(i))
		return err_set(err, -EAGAIN, "it waits for the machine, which is just starting or stopping");
	f->has_disks = instance_take_disks(i, true);
	f->has_move = !instance_is_off(i) && !instance_is_still(i) && instance_begin_move(i);
	if (!f->has_disks && !f->has_move)
		return err_set(err, -EAGAIN, "it waits for others who work on the disks of '%s'", i->c.name);
	f->held = i;
	instance_hold(i, false);
	return 0;
}

/* The disk UID (see disk_place_find()) of SIZE bytes. */
static int add_disk(struct flatten *f, const char *pool, const char *uid, bool with_image, const json_t *size, struct err *err)
{
	struct flatten_disk *d = &f->disks[f->n_disks];

	*d = (struct flatten_disk){ .task = f->task, .keeps_image = !with_image };
	int r = disk_place_find(f->task->c.node, pool, uid, "qcow2", &d->place, err);
	if (r < 0)
		return r;
	d->before = f->n_disks ? d[-1].all : 0;
	d->all = d->before + (uint64_t)json_integer_value(size);
	if (f->has_move)
		instance_control_path(f->held, d->control, sizeof(d->control));
	f->n_disks++;
	return 0;
}

static int add_volume(struct flatten *f, const json_t *params, struct err *err)
{
	struct node *n = f->task->c.node;
	const char *project = f->task->c.project, *name = text(params, "volume"), *uid = text(params, "volume_uid");
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "volume", project, name);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	const json_t *spec = json_object_get(doc, "spec");
	int r = f->n_volumes < INSTANCE_DISKS_MAX ? 0 : err_set(err, -E2BIG, "it has too many disks");
	if (!r)
		r = volume_take(n, project, name, uid, true, &f->volumes[f->n_volumes], err);
	if (r < 0)
		return r;
	f->n_volumes++;
	if (strcmp(pool_of(spec), POOL_DEFAULT) != 0)
		f->task->works = pool_works(n, pool_of(spec));
	return !strcmp(volume_format(spec), "raw") ? 0 : add_disk(f, pool_of(spec), uid, true, json_object_get(spec, "size"), err);
}

static bool writes(const json_t *spec, const char *volume)
{
	const json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(spec, "disks"), i, disk)
		if (!strcmp(text(disk, "volume"), volume) && !json_is_true(json_object_get(disk, "readonly")))
			return true;
	return false;
}

static int add_root(struct flatten *f, const json_t *doc, bool with_image, struct err *err)
{
	struct instance *i = f->held;
	const json_t *spec = json_object_get(doc, "spec");
	AUTO(free) char *path = instance_root_path(i);
	int r = path ? add_disk(f, i->pool, i->c.uid, with_image, json_object_get(spec, "disk_size"), err) : err_set(err, -ENOMEM, "out of memory");

	if (!r)
		snprintf(f->disks[0].place.path, sizeof(f->disks[0].place.path), "%s", path);
	if (r < 0 || !with_image)
		return r;
	f->dir = strdup(i->dir);
	return f->dir ? image_find_of(i->c.node, doc, &f->boot, err) : err_set(err, -ENOMEM, "out of memory");
}

static int take_instance(struct flatten *f, const json_t *params, struct err *err)
{
	struct node *n = f->task->c.node;
	struct instance *i = instance_find_to_hold(n, f->task->c.project, text(params, "instance"), text(params, "instance_uid"));
	const json_t *volume;
	size_t at;

	if (!i)
		return err_set(err, -ENOENT, "the instance '%s' has gone", text(params, "instance"));
	AUTO(json_decref) json_t *doc = doc_get(n->store, i->c.key, NULL);
	const json_t *spec = json_object_get(doc, "spec");
	int r = hold(f, i, err);
	f->task->works = pool_works(n, i->pool);
	if (!r && json_object_get(spec, "image"))
		r = add_root(f, doc, json_is_true(json_object_get(params, "image")), err);
	/* One that it has got since is none of this task's, and neither is one that it has no more. */
	json_array_foreach(json_object_get(params, "volumes"), at, volume)
		if (!r && writes(spec, text(volume, "volume")))
			r = add_volume(f, volume, err);
	return r;
}

static int take_volume(struct flatten *f, const json_t *params, struct err *err)
{
	struct node *n = f->task->c.node;
	const char *project = f->task->c.project;
	char who[DOC_NAME_MAX + 1], key[STORE_KEY_MAX + 1];
	int r = 0;

	if (volume_is_used(n, project, text(params, "volume"), who, sizeof(who))) {
		doc_key(key, "instance", project, who);
		AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
		r = hold(f, instance_find_to_hold(n, project, who, text(doc, "uid")), err);
	}
	return r < 0 ? r : add_volume(f, params, err);
}

static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct flatten *f = t->data ? t->data : calloc(1, sizeof(*f));

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	t->data = f;
	f->task = t;
	let_go(f);
	int r = json_object_get(params, "instance") ? take_instance(f, params, err) : take_volume(f, params, err);
	if (r < 0)
		let_go(f);
	return r == -EAGAIN ? 0 : r < 0 ? r : 1;
}

static int run(struct task *t, struct err *err)
{
	struct flatten *f = t->data;
	int r = 0;

	for (unsigned i = 0; !r && i < f->n_disks; i++)
		r = flatten_disk(&f->disks[i], err);
	/* One that has never run has no disk, and begins as its image is. */
	if (!r && f->dir)
		r = flatten_measure(&f->disks[0], &f->alone, err);
	if (!r && f->alone)
		r = image_share_boot(&f->boot, f->dir, err);
	return r;
}

static int stand_alone(struct task *t, struct err *err);

static void written(void *arg, const struct store_result *res)
{
	struct task *t = arg;
	struct err err = ERR_INIT;
	int r = res->code == -ESTALE ? stand_alone(t, &err) : res->code ? err_set(&err, res->code, "%s", res->message) : 0;

	if (r < 0 || res->code != -ESTALE)
		task_over(t, r, &err);
}

/* Its image may go from then on. Nobody wants anything else of it by that: one that has ended by itself stays off. */
static int stand_alone(struct task *t, struct err *err)
{
	struct flatten *f = t->data;
	int64_t revision = 0;
	AUTO(json_decref) json_t *doc = doc_get(t->c.node->store, f->held->c.key, &revision);

	if (!doc)
		return err_set(err, -ENOENT, "the instance '%s' has gone", f->held->c.name);
	json_object_set_new(doc, "alone", json_integer((json_int_t)f->alone));
	json_object_set_new(doc, "unchanged_since", json_integer(instance_said_at(doc, revision)));
	return doc_put(t->c.node->store, f->held->c.key, doc, revision, written, t) < 0 ? err_set(err, -ENOMEM, "out of memory") : 1;
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	const struct flatten *f = t->data;

	*result = json_pack("{s:O*, s:O*}", "instance", json_object_get(params, "instance"), "volume", json_object_get(params, "volume"));
	return f->alone ? stand_alone(t, err) : 0;
}

static void release(struct task *t)
{
	struct flatten *f = t->data;

	if (!f)
		return;
	let_go(f);
	free(f);
	t->data = NULL;
}

const struct task_op flatten_instance_op = {
	.operation = "flattenInstance", .prepare = prepare, .run = run, .finish = finish, .release = release,
};

const struct task_op flatten_volume_op = {
	.operation = "flattenVolume", .prepare = prepare, .run = run, .finish = finish, .release = release,
};
