/* SPDX-License-Identifier: Apache-2.0 */
/* clone_volumes.c - the volumes of an instance that is cloned: each gets a clone of its own in its pool, as the first disk does, or is shown
 * to both, which then only read it. Their names and uids are chosen with the request, so every attempt makes the same ones, and
 * their documents come with that of the instance, in one commit: before that their files are nobody's, and are removed if it fails. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/clone_priv.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/resource.h"
#include "node/volume.h"
#include "node/volume_move.h"
#include "util/err.h"

enum { SERIAL_LEN = 20 /* of virtio disks */ };

const struct schema clone_volume_schema = {
	.name = "CloneVolume", .help = "What becomes of a volume of the original.",
	.fields = (const struct schema_field[]){
		{ .name = "volume", .type = SCHEMA_NAME, .is_required = true, .help = "that the original has" },
		{ .name = "name", .type = SCHEMA_NAME, .help = "what its clone is called; without it NAME-VOLUME, by the name of the new instance" },
		{ .name = "shared", .type = SCHEMA_BOOL, .dflt = "false",
		  .help = "show the same volume to both instead of cloning it, which the original must have 'readonly'" },
		{ .name = NULL },
	},
};

static const char *text(const json_t *doc, const char *name)
{
	return json_string_value(json_object_get(doc, name)) ?: "";
}

/* The element of LIST whose MEMBER is TEXT_. */
static const json_t *find(const json_t *list, const char *member, const char *text_)
{
	const json_t *e;
	size_t i;

	json_array_foreach(list, i, e)
		if (!strcmp(text(e, member), text_))
			return e;
	return NULL;
}

/* --- the plan ---------------------------------------------------- */

/* What is asked for must be of volumes that are there. */
static int check_asked(const json_t *disks, const json_t *asked, char *where, size_t cap, struct err *err)
{
	const json_t *one;
	size_t i;

	json_array_foreach(asked, i, one) {
		const json_t *disk = find(disks, "volume", text(one, "volume"));

		snprintf(where, cap, "volumes[%zu].volume", i);
		if (!disk)
			return err_set(err, -EINVAL, "the original has no volume '%s'", text(one, "volume"));
		if (find(asked, "volume", text(one, "volume")) != one)      /* an earlier one */
			return err_set(err, -EINVAL, "'%s' is there twice", text(one, "volume"));
		snprintf(where, cap, "volumes[%zu].shared", i);
		if (!json_is_true(json_object_get(one, "shared")))
			continue;
		if (json_object_get(one, "name"))
			return err_set(err, -EINVAL, "a volume that is shared keeps its name");
		if (!json_is_true(json_object_get(disk, "readonly")))
			return err_set(err, -EINVAL, "the original writes to '%s', so nobody else can have it; make it 'readonly' there, or clone it",
				       text(one, "volume"));
	}
	where[0] = 0;
	return 0;
}

/* Can DOC, a volume, have a clone in its pool? */
static int check_place(struct node *n, const json_t *doc, bool is_linked, struct err *err)
{
	const char *volume = text(doc, "name"), *project = text(doc, "project"), *pool = pool_of(json_object_get(doc, "spec"));
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "volume", project, volume);
	const struct controlled *c = controller_find(n->volumes, key);
	if (c && c->renaming)
		return err_set(err, -EAGAIN, "the volume '%s' is just getting another name; try again", volume);
	if (volume_move_is_begun(n, project, volume))
		return err_set(err, -EBUSY, "the volume '%s' is being moved to another pool; wait for that task, or cancel it", volume);
	if (is_linked && !strcmp(volume_format(json_object_get(doc, "spec")), "raw") && !pool_shares(n, pool))
		return err_set(err, -ENOTSUP, "the volume '%s' is raw, and in the pool '%s' files cannot share blocks: clone without 'linked', or make it "
			       "qcow2 ('viv volume move %s %s --format qcow2')", volume, pool, volume, pool);
	return pool_check_new(n, pool, err);
}

/* One of the plan: of VOLUME, whose document is DOC. */
static json_t *plan_one(struct node *n, const json_t *doc, const json_t *asked, const char *clone, bool is_linked, struct err *err)
{
	char name[2 * DOC_NAME_MAX + 2], uid[DOC_UID_LEN + 1], key[STORE_KEY_MAX + 1];
	const char *volume = text(doc, "name"), *project = text(doc, "project");
	const json_t *spec = json_object_get(doc, "spec");

	if (json_is_true(json_object_get(asked, "shared")))
		return json_pack("{s:s, s:O, s:b}", "volume", volume, "volume_uid", json_object_get(doc, "uid"), "shared", 1);
	snprintf(name, sizeof(name), "%s-%s", clone, volume);
	if (json_object_get(asked, "name"))
		snprintf(name, sizeof(name), "%s", text(asked, "name"));
	if (strlen(name) > DOC_NAME_MAX) {
		err_set(err, -EINVAL, "'%s' is too long for the name of a volume; say another: 'volumes', '--volume %s=NAME'", name, volume);
		return NULL;
	}
	doc_key(key, "volume", project, name);
	if (store_get(n->store, key)) {
		err_set(err, -EEXIST, "there is a volume '%s' already; choose another name for the clone of '%s'", name, volume);
		return NULL;
	}
	if (check_place(n, doc, is_linked, err) < 0)
		return NULL;
	doc_new_uid(uid);
	json_t *one = json_pack("{s:s, s:O, s:s, s:s, s:s, s:s}", "volume", volume, "volume_uid", json_object_get(doc, "uid"), "name", name, "uid",
				uid, "pool", pool_of(spec), "format", volume_format(spec));
	if (!one)
		err_set(err, -ENOMEM, "out of memory");
	return one;
}

json_t *clone_volumes_plan(struct node *n, const json_t *doc, const json_t *body, char *where, size_t cap, struct err *err)
{
	const json_t *disks = json_object_get(json_object_get(doc, "spec"), "disks"), *asked = json_object_get(body, "volumes"), *disk;
	AUTO(json_decref) json_t *plan = json_array();
	size_t i;

	if (check_asked(disks, asked, where, cap, err) < 0)
		return NULL;
	snprintf(where, cap, "volumes");
	json_array_foreach(disks, i, disk) {
		const char *volume = text(disk, "volume");
		char key[STORE_KEY_MAX + 1];

		if (find(plan, "volume", volume))
			continue;
		doc_key(key, "volume", text(doc, "project"), volume);
		AUTO(json_decref) json_t *of = doc_get(n->store, key, NULL);
		json_t *one = of ? plan_one(n, of, find(asked, "volume", volume), text(body, "name"),
					     json_is_true(json_object_get(body, "linked")), err) : NULL;
		if (!of)
			err_set(err, -ENOENT, "its volume '%s' has gone", volume);
		if (one && json_object_get(one, "name") && find(plan, "name", text(one, "name"))) {
			err_set(err, -EINVAL, "two volumes would be called '%s'", text(one, "name"));
			json_decref(one);
			return NULL;
		}
		if (!one || json_array_append_new(plan, one) < 0)
			return NULL;
	}
	where[0] = 0;
	return json_incref(plan);
}

/* --- documents ---------------------------------------------------- */

static json_t *make_doc(const json_t *of, const json_t *one, const char *project)
{
	char now[DOC_TIME_LEN + 1];

	doc_now(now);
	json_t *doc = json_pack("{s:s, s:O, s:s, s:O, s:s, s:O, s:o}", "kind", "volume", "name", json_object_get(one, "name"), "project", project,
				"uid", json_object_get(one, "uid"), "created", now, "labels", json_object_get(of, "labels"), "spec",
				json_deep_copy(json_object_get(of, "spec")));
	/* It begins as what is there now. */
	json_object_del(json_object_get(doc, "spec"), "source");
	return doc;
}

json_t *clone_volumes_docs(struct node *n, const char *project, const json_t *plan, struct err *err)
{
	AUTO(json_decref) json_t *docs = json_array();
	const json_t *one;
	size_t i;

	json_array_foreach(plan, i, one) {
		char key[STORE_KEY_MAX + 1];

		doc_key(key, "volume", project, text(one, "volume"));
		AUTO(json_decref) json_t *of = doc_get(n->store, key, NULL);
		if (strcmp(text(of, "uid"), text(one, "volume_uid")) != 0) {
			err_set(err, -ENOENT, "the volume '%s' has gone", text(one, "volume"));
			return NULL;
		}
		if (json_is_true(json_object_get(one, "shared")))
			continue;
		const json_t *spec = json_object_get(of, "spec");
		if (strcmp(pool_of(spec), text(one, "pool")) != 0 || strcmp(volume_format(spec), text(one, "format")) != 0) {
			err_set(err, -ESTALE, "the volume '%s' has been moved meanwhile; ask again", text(one, "volume"));
			return NULL;
		}
		if (json_array_append_new(docs, make_doc(of, one, project)) < 0) {
			err_set(err, -ENOMEM, "out of memory");
			return NULL;
		}
	}
	return json_incref(docs);
}

int clone_volumes_change(json_t *spec, const json_t *plan, struct err *err)
{
	json_t *disk;
	const json_t *one;
	size_t i;

	json_array_foreach(plan, i, one)
		if (!find(json_object_get(spec, "disks"), "volume", text(one, "volume")))
			return err_set(err, -ESTALE, "the original has lost the volume '%s' meanwhile; ask again", text(one, "volume"));
	json_array_foreach(json_object_get(spec, "disks"), i, disk) {
		const char *volume = text(disk, "volume");

		one = find(plan, "volume", volume);

		if (!one)
			return err_set(err, -ESTALE, "the original has got the volume '%s' meanwhile; ask again", volume);
		if (json_is_true(json_object_get(one, "shared"))) {
			if (!json_is_true(json_object_get(disk, "readonly")))
				return err_set(err, -ESTALE, "the original writes to '%s' now, so it cannot be shared", volume);
			continue;
		}
		/* Its guest finds it by that, as the original's does. */
		if (!json_object_get(disk, "serial"))
			json_object_set_new(disk, "serial", json_stringn(volume, strnlen(volume, SERIAL_LEN)));
		json_object_set(disk, "volume", json_object_get(one, "name"));
	}
	return 0;
}

json_t *clone_volumes_leave_out(const json_t *doc, const json_t *volumes)
{
	json_t *out = json_deep_copy(doc), *disks = json_object_get(json_object_get(out, "spec"), "disks");

	for (size_t i = json_array_size(disks); i-- > 0;)
		if (find(volumes, "name", text(json_array_get(disks, i), "volume")))
			json_array_remove(disks, i);
	return out;
}

json_t *clone_volumes_put_in(const json_t *checked, const json_t *doc)
{
	json_t *out = json_deep_copy(checked), *disks = json_object_get(json_object_get(doc, "spec"), "disks");

	if (disks)
		json_object_set_new(json_object_get(out, "spec"), "disks", json_deep_copy(disks));
	return out;
}

/* --- their files ---------------------------------------------------- */

static int take_one(struct clone *k, const json_t *one, struct err *err)
{
	struct node *n = k->task->c.node;
	const char *project = k->task->c.project;
	struct clone_disk *d = &k->disks[k->n_disks];
	int r = volume_take(n, project, text(one, "volume"), text(one, "volume_uid"), k->is_linked, &k->volumes[k->n_volumes], err);

	if (r < 0)
		return r;
	k->n_volumes++;
	*d = (struct clone_disk){ .dir = -1 };
	r = disk_place_find(n, text(one, "pool"), text(one, "volume_uid"), text(one, "format"), &d->from, err);
	if (!r)
		r = disk_place_find(n, text(one, "pool"), text(one, "uid"), text(one, "format"), &d->to, err);
	k->n_disks += !r;
	return r;
}

int clone_volumes_take(struct clone *k, const json_t *plan, struct err *err)
{
	const json_t *one;
	size_t i;
	int r = 0;

	json_array_foreach(plan, i, one)
		if (!r && !json_is_true(json_object_get(one, "shared")))
			r = k->n_volumes < INSTANCE_DISKS_MAX ? take_one(k, one, err) : err_set(err, -E2BIG, "it has too many disks");
	if (r < 0)
		clone_volumes_give(k);
	return r;
}

void clone_volumes_give(struct clone *k)
{
	while (k->n_volumes)
		volume_give(k->volumes[--k->n_volumes], k->is_linked);
}

void clone_volumes_leftover(struct node *n, const char *project, const json_t *plan, struct clone_left *l)
{
	const json_t *one;
	size_t i;

	json_array_foreach(plan, i, one) {
		char key[STORE_KEY_MAX + 1];

		doc_key(key, "volume", project, text(one, "name"));
		AUTO(json_decref) json_t *is = doc_get(n->store, key, NULL);
		if (!text(one, "uid")[0] || !strcmp(text(is, "uid"), text(one, "uid")) || l->n > INSTANCE_DISKS_MAX)
			continue;
		/* Of a pool that is not there now nothing can be said: what there is stays. */
		struct clone_disk *d = &l->of[l->n];
		if (!disk_place_find(n, text(one, "pool"), text(one, "volume_uid"), text(one, "format"), &d->from, NULL) &&
		    !disk_place_find(n, text(one, "pool"), text(one, "uid"), text(one, "format"), &d->to, NULL))
			l->n++;
	}
}
