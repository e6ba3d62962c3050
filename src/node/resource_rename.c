/* SPDX-License-Identifier: Apache-2.0 */
/* resource_rename.c - what these things have on the host is called by their uids, so nothing of that changes. An instance that speaks of one is
 * changed without that anybody wants anything of it ('unchanged_since'): one that has ended by itself stays off. The guest of a machine goes on
 * knowing a volume by the serial number that it knows. A profile that puts instances on a network is at another version by that, which its controller
 * tells those that are not on it; they are what they were. */
#include "node/resource_rename.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/controller.h"
#include "node/instance.h"
#include "node/network.h"
#include "node/node.h"
#include "node/profile.h"
#include "node/rename.h"
#include "node/resource.h"
#include "node/task.h"
#include "node/volume.h"
#include "util/err.h"

enum {
	SPEAKERS_MAX = STORE_OPS_MAX - 4 - 1,     /* beside what rename_move_one() makes and the record of an Idempotency-Key */
	SERIAL_LEN = 20,                /* of virtio disks */
};

struct speaker {
	const char *kind, *what;        /* "volume"; for sentences */
	struct controller *(*controller)(const struct node *n);
	/* Let SPEC, of an instance, or a layer of it, speak of TO instead of FROM. False: it does not speak of FROM. */
	bool (*respeak)(json_t *spec, const char *from, const char *to);
	/* And what the document notes of its profiles. NULL: that does not speak of it. */
	void (*respeak_inherited)(json_t *inherited, const char *from, const char *to);
	const char *meaningful;         /* a name that is neither given nor taken away, as it has a meaning; NULL: none has */
	/* May DOC get another name now? NULL: always. */
	int (*check)(struct node *n, const json_t *doc, struct err *err);
};

static const char *text(const json_t *doc, const char *name)
{
	return json_string_value(json_object_get(doc, name)) ?: "";
}

/* --- volumes, images, networks ---------------------------------------------------- */

static struct controller *volumes_of(const struct node *n) { return n->volumes; }
static struct controller *images_of(const struct node *n) { return n->images; }
static struct controller *networks_of(const struct node *n) { return n->networks; }
static struct controller *profiles_of(const struct node *n) { return n->profiles; }

static bool respeak_volume(json_t *spec, const char *from, const char *to)
{
	json_t *disk;
	size_t i;
	bool has = false;

	json_array_foreach(json_object_get(spec, "disks"), i, disk) {
		if (strcmp(text(disk, "volume"), from) != 0)
			continue;
		if (!json_object_get(disk, "serial"))
			json_object_set_new(disk, "serial", json_stringn(from, strnlen(from, SERIAL_LEN)));
		json_object_set_new(disk, "volume", json_string(to));
		has = true;
	}
	return has;
}

static bool respeak_image(json_t *spec, const char *from, const char *to)
{
	if (strcmp(text(spec, "image"), from) != 0)
		return false;
	json_object_set_new(spec, "image", json_string(to));
	return true;
}

static bool respeak_network(json_t *spec, const char *from, const char *to)
{
	json_t *net;
	size_t i;
	bool has = false;

	json_array_foreach(json_object_get(spec, "networks"), i, net) {
		if (strcmp(text(net, "network"), from) != 0)
			continue;
		json_object_set_new(net, "network", json_string(to));
		has = true;
	}
	return has;
}

static bool respeak_profiles(json_t *spec, const char *from, const char *to)
{
	json_t *names = json_object_get(spec, "profiles"), *name;
	bool has = false;
	size_t i;

	json_array_foreach(names, i, name) {
		if (strcmp(json_string_value(name) ?: "", from) != 0)
			continue;
		json_array_set_new(names, i, json_string(to));
		has = true;
	}
	return has;
}

static void respeak_origins(json_t *inherited, const char *from, const char *to)
{
	json_t *fields = json_object_get(inherited, "fields"), *one;
	const char *path;
	size_t i;

	json_array_foreach(json_object_get(inherited, "profiles"), i, one)
		if (!strcmp(text(one, "name"), from))
			json_object_set_new(one, "name", json_string(to));
	json_object_foreach(fields, path, one)
		if (!strcmp(json_string_value(one) ?: "", from))
			json_object_set_new(fields, path, json_string(to));
}

/* Whoever makes it, sends it or works on its file knows it by its name. */
static int check_ready(struct node *n, const json_t *doc, struct err *err)
{
	char key[STORE_KEY_MAX + 1], status_key[STORE_KEY_MAX + 1];

	doc_key(key, text(doc, "kind"), text(doc, "project"), text(doc, "name"));
	doc_status_key(status_key, key);
	AUTO(json_decref) json_t *status = doc_get(n->store, status_key, NULL);
	return strcmp(text(status, "state"), "ready") ? err_set(err, -EBUSY, "'%s' is not ready; wait for that", text(doc, "name")) : 0;
}

/* Tasks that name the uid of DOC as their PARAM. */
static int check_tasks(struct node *n, const json_t *doc, const char *param, struct err *err)
{
	char task[DOC_NAME_MAX + 1];

	if (task_is_there(n, text(doc, "project"), param, text(doc, "uid"), task))
		return err_set(err, -EBUSY, "the task '%s' works on '%s'; wait for its end: 'viv task wait %s'", task, text(doc, "name"), task);
	return check_ready(n, doc, err);
}

static int check_volume(struct node *n, const json_t *doc, struct err *err)
{
	return check_tasks(n, doc, "volume_uid", err);
}

static int check_image(struct node *n, const json_t *doc, struct err *err)
{
	return check_tasks(n, doc, "image_uid", err);
}

static const struct speaker speakers[] = {
	{ .kind = "volume", .what = "a volume", .controller = volumes_of, .respeak = respeak_volume, .check = check_volume },
	{ .kind = "image", .what = "an image", .controller = images_of, .respeak = respeak_image, .check = check_image },
	{ .kind = "network", .what = "a network", .controller = networks_of, .respeak = respeak_network },
	{ .kind = "profile", .what = "a profile", .controller = profiles_of, .respeak = respeak_profiles, .respeak_inherited = respeak_origins,
	  .meaningful = PROFILE_DEFAULT },
};

static const struct speaker *speaker_of(const struct rename *r)
{
	unsigned i = 0;

	while (strncmp(r->from, speakers[i].kind, strlen(speakers[i].kind)) != 0)
		i++;
	return &speakers[i];
}

/* --- who speaks of it ---------------------------------------------------- */

/* DOC, which is D changed. */
static int put(struct rename *r, const struct store_doc *d, const json_t *doc, const char *from, struct err *err)
{
	if (r->speakers++ == SPEAKERS_MAX)
		return err_set(err, -EBUSY, "more than %d instances, snapshots and profiles speak of '%s', and so many are not changed at once",
			       SPEAKERS_MAX, from);
	int bad = ops_put(&r->ops, d->key, doc, d->modified);

	return bad ? err_set(err, bad, "out of memory") : 0;
}

/* The instance D, if it speaks of FROM: what it is, and what it says of that itself. */
static int respeak_instance(struct rename *r, const struct speaker *s, const struct store_doc *d, const char *from, const char *to, struct err *err)
{
	AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
	bool has = s->respeak(json_object_get(doc, "spec"), from, to);

	if (!s->respeak(json_object_get(doc, "own"), from, to) && !has)
		return 0;
	if (s->respeak_inherited)
		s->respeak_inherited(json_object_get(doc, "inherited"), from, to);
	json_object_set_new(doc, "unchanged_since", json_integer(instance_said_at(doc, d->modified)));
	return put(r, d, doc, from, err);
}

/* The memory of a snapshot fits to a machine with that volume. */
static int respeak_snapshot(struct rename *r, const struct speaker *s, const struct store_doc *d, const char *from, const char *to, struct err *err)
{
	AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
	json_t *disks = json_object_get(json_object_get(doc, "machine"), "disks"), *disk;
	bool has = false;
	size_t i;

	(void)s;
	json_array_foreach(disks, i, disk) {
		if (strcmp(json_string_value(disk) ?: "", from) != 0)
			continue;
		json_array_set_new(disks, i, json_string(to));
		has = true;
	}
	return has ? put(r, d, doc, from, err) : 0;
}

/* Its controller tells its instances that it has another version. */
static int respeak_profile(struct rename *r, const struct speaker *s, const struct store_doc *d, const char *from, const char *to, struct err *err)
{
	AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);

	if (!s->respeak(json_object_get(doc, "spec"), from, to))
		return 0;
	json_object_set_new(doc, "version", json_integer(json_integer_value(json_object_get(doc, "version")) + 1));
	return put(r, d, doc, from, err);
}

static int respeak_all(struct rename *r, const struct speaker *s, const char *from, const char *to, struct err *err)
{
	static const struct {
		const char *kind, *of;          /* OF: what it may speak of; NULL: all */
		int (*respeak)(struct rename *r, const struct speaker *s, const struct store_doc *d, const char *from, const char *to, struct err *err);
	} kinds[] = { { "instance", NULL, respeak_instance }, { "snapshot", "volume", respeak_snapshot }, { "profile", "network", respeak_profile } };
	int bad = 0;

	for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "";
		const struct store_doc *d;

		doc_key(prefix, kinds[k].kind, r->project, "");
		while (!bad && (!kinds[k].of || !strcmp(kinds[k].of, s->kind)) &&
		       (d = store_next(r->node->store, prefix, key[0] ? key : NULL)) != NULL) {
			snprintf(key, sizeof(key), "%s", d->key);
			bad = kinds[k].respeak(r, s, d, from, to, err);
		}
	}
	return bad;
}

/* --- the request ---------------------------------------------------- */

static void rename_try(struct rename *r);

/* It writes its status again, under whichever name. */
static void let_go(struct rename *r)
{
	const struct speaker *s = speaker_of(r);
	struct controlled *c = controller_find(s->controller(r->node), r->to);

	controlled_renamed(c && c->renaming ? c : controller_find(s->controller(r->node), r->from));
}

static void committed(void *arg, const struct store_result *res)
{
	struct rename *r = arg;

	let_go(r);
	if (rename_is_stale(r, res))
		rename_try(r);
}

static int check(struct rename *r, const struct speaker *s, const json_t *doc, const char *new_name, struct err *err)
{
	const struct controlled *c = controller_find(s->controller(r->node), r->from);

	if (!doc)
		return err_set(err, -ENOENT, "it has gone meanwhile");
	if (!strcmp(text(doc, "name"), new_name))
		return err_set(err, -EEXIST, "'%s' is called that already", new_name);
	if (store_get(r->node->store, r->to))
		return err_set(err, -EEXIST, "there is %s '%s' already; choose another name or delete it first", s->what, new_name);
	if (json_is_true(json_object_get(doc, "deleting")))
		return err_set(err, -EBUSY, "'%s' is being deleted", text(doc, "name"));
	if (s->meaningful && (!strcmp(text(doc, "name"), s->meaningful) || !strcmp(new_name, s->meaningful)))
		return err_set(err, -EINVAL, "'%s' is what new instances use that are not told which, by its name: that is neither given nor taken away; "
			       "make another profile, or change what this one says", s->meaningful);
	if (!c)
		return err_set(err, -EAGAIN, "'%s' is only just being looked at; try again", text(doc, "name"));
	if (c->renaming)
		return err_set(err, -EAGAIN, "'%s' is just getting another name; try again", c->name);
	return s->check ? s->check(r->node, doc, err) : 0;
}

static int move_all(struct rename *r, const struct speaker *s, json_t *doc, int64_t revision, const char *name, struct err *err)
{
	char status_key[STORE_KEY_MAX + 1], from[DOC_NAME_MAX + 1];

	doc_status_key(status_key, r->from);
	snprintf(from, sizeof(from), "%s", text(doc, "name"));
	AUTO(json_decref) json_t *status = doc_get(r->node->store, status_key, NULL);
	controlled_rename(controller_find(s->controller(r->node), r->from), revision);
	json_object_set_new(doc, "name", json_string(name));
	if (rename_move_one(r, r->from, r->to, revision, doc, status) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return respeak_all(r, s, from, name, err);
}

static void rename_try(struct rename *r)
{
	const struct speaker *s = speaker_of(r);
	const char *name = text(r->c->body, "name");
	struct err err = ERR_INIT;
	int64_t revision = 0;
	AUTO(json_decref) json_t *doc = doc_get(r->node->store, r->from, &revision);
	int bad = check(r, s, doc, name, &err);

	ops_clear(&r->ops);
	r->speakers = 0;
	if (bad < 0) {
		rename_fail(r, bad, &err);
		return;
	}
	if (r->c->is_dry_run) {
		json_object_set_new(doc, "name", json_string(name));
		api_reply(r->c, 200, json_incref(doc));
		rename_free(r);
		return;
	}
	bad = move_all(r, s, doc, revision, name, &err);
	if (bad < 0) {
		let_go(r);
		rename_fail(r, bad, &err);
		return;
	}
	rename_commit(r, committed);
}

static void begin(struct api_call *c, const char *kind)
{
	struct rename *r = rename_new(c, kind);

	if (r && c->is_dry_run)
		rename_try(r);
	else if (r)
		rename_announce(r, rename_try);
}

void volume_rename(struct api_call *c) { begin(c, "volume"); }
void image_rename(struct api_call *c) { begin(c, "image"); }
void network_rename(struct api_call *c) { begin(c, "network"); }
void profile_rename(struct api_call *c) { begin(c, "profile"); }
