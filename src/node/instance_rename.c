/* SPDX-License-Identifier: Apache-2.0 */
/* instance_rename.c - another name for an instance, whether it runs or not. What it has on the host is called by its uid; by its name
 * are its documents, and those of its snapshots. They get their new keys in one commit, so whoever crashes finds the old
 * names or the new ones, and the objects that look after them are taken along when it shows (controller.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/instance_hold.h"
#include "node/instance_priv.h"
#include "node/network.h"
#include "node/node.h"
#include "node/profile.h"
#include "node/rename.h"
#include "node/resource.h"
#include "node/task.h"

enum {
	OPS_OF_ONE = 4,                 /* a document and a status, put under one key and deleted under the other */
	SNAPSHOTS_MAX = STORE_OPS_MAX / OPS_OF_ONE - 2,
	ENDED_HERE = -1,                /* for 'ended_revision': the revision of the status document, which its writer did not know */
};

const struct schema rename_schema = {
	.name = "Rename", .help = "Another name.",
	.fields = (const struct schema_field[]){
		{ .name = "name", .type = SCHEMA_NAME, .is_required = true, .help = "the new one" },
		{ .name = NULL },
	},
};

static const char *text(const json_t *doc, const char *name)
{
	return json_string_value(json_object_get(doc, name)) ?: "";
}

/* --- the controller's side ---------------------------------------------------- */

int64_t instance_ended_revision(const struct controlled *c, const json_t *status)
{
	int64_t revision = json_integer_value(json_object_get(status, "ended_revision"));
	char key[STORE_KEY_MAX + 1];

	doc_status_key(key, c->key);
	const struct store_doc *d = revision == ENDED_HERE ? store_get(c->node->store, key) : NULL;
	return d ? d->modified : revision;
}

void instance_renamed(struct controlled *c, int64_t was, int64_t now)
{
	struct instance *i = (struct instance *)c;

	/* Nobody has said anything about its state by that. */
	if (i->ended_revision && i->ended_revision == was)
		i->ended_revision = now;
	networks_kick(c->node, c->project);
}

int instance_check_named(const struct instance *i, struct err *err)
{
	return i->c.renaming ? err_set(err, -EAGAIN, "'%s' is just getting another name; try again", i->c.name) : 0;
}

/* --- what goes under another key ---------------------------------------------------- */

static int move_snapshots(struct rename *r, const char *uid, const char *name, const char *new_name, struct err *err)
{
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "", to[STORE_KEY_MAX + 1], status_key[STORE_KEY_MAX + 1];
	struct store *s = r->node->store;
	const struct store_doc *d;
	unsigned n = 0;
	int bad = 0;

	snprintf(prefix, sizeof(prefix), "snapshot/%s/%s/", r->project, name);
	while (!bad && (d = store_next(s, prefix, key[0] ? key : NULL)) != NULL) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL), *status = NULL;
		struct controlled *c = controller_find(r->node->snapshots, d->key);

		snprintf(key, sizeof(key), "%s", d->key);
		if (strcmp(text(doc, "instance_uid"), uid) != 0)
			continue;
		if (++n > SNAPSHOTS_MAX)
			return err_set(err, -EBUSY, "'%s' has more than %d snapshots, and so many do not get another name at once; delete some",
				       name, SNAPSHOTS_MAX);
		doc_status_key(status_key, key);
		status = doc_get(s, status_key, NULL);
		snprintf(to, sizeof(to), "snapshot/%s/%s/%s", r->project, new_name, key + strlen(prefix));
		json_object_set_new(doc, "instance", json_string(new_name));
		if (c)
			controlled_rename(c, d->modified);
		bad = rename_move_one(r, key, to, d->modified, doc, status);
	}
	return bad ? err_set(err, bad, "out of memory") : 0;
}

/* All operations of the commit. I does not write its status from here on. */
static int move_all(struct rename *r, struct instance *i, json_t *doc, int64_t revision, const char *new_name, struct err *err)
{
	char status_key[STORE_KEY_MAX + 1];

	doc_status_key(status_key, r->from);
	AUTO(json_decref) json_t *status = doc_get(r->node->store, status_key, NULL);
	int64_t said_at = instance_said_at(doc, revision);

	if (status && i->ended_revision == said_at)
		json_object_set_new(status, "ended_revision", json_integer(ENDED_HERE));
	json_object_del(doc, "unchanged_since");
	controlled_rename(&i->c, said_at);
	if (rename_move_one(r, r->from, r->to, revision, doc, status) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return move_snapshots(r, i->c.uid, i->c.name, new_name, err);
}

/* --- may it be? ---------------------------------------------------- */

/* An image that is to be a copy of the disk of NAME looks for it by that. */
static int check_images(struct node *n, const char *project, const char *name, struct err *err)
{
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "", status_key[STORE_KEY_MAX + 1];
	const struct store_doc *d;

	doc_key(prefix, "image", project, "");
	while ((d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL), *status = NULL;

		snprintf(key, sizeof(key), "%s", d->key);
		doc_status_key(status_key, key);
		status = doc_get(n->store, status_key, NULL);
		if (!strcmp(text(json_object_get(json_object_get(doc, "spec"), "source"), "instance"), name) &&
		    strcmp(text(status, "state"), "ready") != 0)
			return err_set(err, -EBUSY, "the image '%s' is being made from the disk of '%s'; wait for that", text(doc, "name"), name);
	}
	return 0;
}

static int check(struct rename *r, const struct instance *i, const json_t *doc, const char *new_name, struct err *err)
{
	char task[DOC_NAME_MAX + 1];
	const char *name = text(doc, "name");

	if (!strcmp(name, new_name))
		return err_set(err, -EEXIST, "'%s' is called that already", name);
	if (store_get(r->node->store, r->to))
		return err_set(err, -EEXIST, "there is an instance '%s' already; choose another name or delete it first", new_name);
	if (json_is_true(json_object_get(doc, "deleting")))
		return err_set(err, -EBUSY, "'%s' is being deleted", name);
	if (!i)
		return err_set(err, -EAGAIN, "'%s' is only just being looked at; try again", name);
	int bad = instance_check_named(i, err);
	if (bad < 0)
		return bad;
	if (task_is_there(r->node, r->project, "instance_uid", i->c.uid, task) || task_is_there(r->node, r->project, "uid", i->c.uid, task))
		return err_set(err, -EBUSY, "the task '%s' works on '%s'; wait for its end: 'viv task wait %s'", task, name, task);
	if (i->n_holds || i->n_freezes || i->has_disk_writer || i->n_disk_readers)
		return err_set(err, -EBUSY, "something works on the disks of '%s'; try again when that is done", name);
	return check_images(r->node, r->project, name, err);
}

/* --- the request ---------------------------------------------------- */

static void rename_try(struct rename *r);

/* They write their status again, under whichever name. */
static void let_go(struct rename *r)
{
	struct controlled *c = controller_find(r->node->instances, r->to);

	controlled_renamed(c && c->renaming ? c : controller_find(r->node->instances, r->from));
	for (c = controller_next(r->node->snapshots, NULL); c; c = controller_next(r->node->snapshots, c))
		for (unsigned k = 0; c->renaming && k < r->ops.n; k++)
			if (!strcmp(r->ops.key[k], c->key))
				controlled_renamed(c);
}

static void committed(void *arg, const struct store_result *res)
{
	struct rename *r = arg;

	let_go(r);
	if (rename_is_stale(r, res))
		rename_try(r);
}

static void rename_try(struct rename *r)
{
	const char *name = text(r->c->body, "name");
	struct err err = ERR_INIT;
	int64_t revision = 0;
	AUTO(json_decref) json_t *doc = doc_get(r->node->store, r->from, &revision);
	struct instance *i = instance_find(r->node, r->project, text(doc, "name"), text(doc, "uid"));
	int bad = doc ? check(r, i, doc, name, &err) : err_set(&err, -ENOENT, "it has gone meanwhile");

	ops_clear(&r->ops);
	if (bad < 0) {
		rename_fail(r, bad, &err);
		return;
	}
	json_object_set_new(doc, "name", json_string(name));
	if (r->c->is_dry_run) {
		api_reply(r->c, 200, json_incref(doc));
		rename_free(r);
		return;
	}
	bad = move_all(r, i, doc, revision, name, &err);
	if (bad < 0) {
		let_go(r);
		rename_fail(r, bad, &err);
		return;
	}
	rename_commit(r, committed);
}

void instance_rename(struct api_call *c)
{
	struct rename *r = rename_new(c, "instance");

	if (r)
		rename_try(r);
}
