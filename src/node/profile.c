/* SPDX-License-Identifier: Apache-2.0 */
#include "node/profile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/controller.h"
#include "node/instance_limits.h"
#include "node/layers.h"
#include "node/network.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/resource_priv.h"
#include "node/seed.h"
#include "util/checked.h"
#include "util/err.h"

enum { NAMED_MAX = 5 /* in a sentence */, ALONE_AFTER = 3 /* tries */ };

const struct schema profile_schema = {
	.name = "Profile",
	.help = "Defaults for instances. Those whose 'spec.profiles' names it have its values where neither a later profile nor they themselves "
		"say another. A change of it changes them.",
	.fields = (const struct schema_field[]){
		RESOURCE_FIELDS("profile"),
		{ .name = "description", .type = SCHEMA_STRING, .max = 500, .help = "for people" },
		{ .name = "version", .type = SCHEMA_INT, .is_readonly = true, .help = "grows with each change of 'spec'" },
		{ .name = "plan", .type = SCHEMA_ANY, .is_readonly = true,
		  .help = "in the answer of a dry run: what would change in which instances" },
		{ .name = "spec", .type = SCHEMA_OBJECT, .sub = &profile_spec_schema, .dflt = "{}", .help = "what its instances shall be" },
		{ .name = "renamed_from", .type = SCHEMA_STRING, .is_readonly = true, .help = "the key that it had before it got its name" },
		{ .name = NULL },
	},
};

static const char *text(const json_t *doc, const char *name)
{
	return json_string_value(json_object_get(doc, name)) ?: "";
}

/* --- what may be ---------------------------------------------------- */

static int check_networks(struct node *n, const json_t *doc, char *where, size_t cap, struct err *err)
{
	const json_t *net, *list = json_object_get(json_object_get(doc, "spec"), "networks");
	size_t i;

	json_array_foreach(list, i, net) {
		snprintf(where, cap, "spec.networks[%zu]", i);
		int r = network_check_port(n, text(doc, "project"), net, where, cap, err);

		if (r < 0)
			return r;
	}
	where[0] = 0;
	return 0;
}

/* Limits compared with the memory that is here, or any. */
static int check_limits(const json_t *spec, char *where, size_t cap, struct err *err)
{
	AUTO(json_decref) json_t *like = json_copy((json_t *)spec);

	if (!json_object_get(like, "memory"))
		json_object_set_new(like, "memory", json_integer(INT64_MAX));
	return limits_check(like, where, cap, err);
}

int profile_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec");
	const json_t *pool = json_object_get(spec, "pool");
	int r = 0;

	if (pool && !json_equal(pool, json_object_get(json_object_get(old, "spec"), "pool"))) {
		snprintf(where, cap, "spec.pool");
		r = pool_check_new(n, json_string_value(pool), err);
		r = r == -ENOENT ? err_set(err, -EINVAL, "%s", err->msg) : r;
	}
	if (r < 0)
		return r;
	where[0] = 0;
	r = check_networks(n, doc, where, cap, err);
	if (!r)
		r = seed_check(spec, where, cap, err);
	return r < 0 ? r : check_limits(spec, where, cap, err);
}

int profile_check_delete(struct node *n, const json_t *doc, struct err *err)
{
	const struct profile_user *u = NULL;
	char names[NAMED_MAX * (DOC_NAME_MAX + 4)] = "";
	size_t len = 0;
	unsigned count = 0;

	while ((u = profile_user_next(n->profile_users, u, text(doc, "project"), text(doc, "name"))) != NULL)
		if (count++ < NAMED_MAX)
			len += (size_t)snprintf(names + len, sizeof(names) - len, "%s'%s'", len ? ", " : "", strrchr(profile_user_key(u), '/') + 1);
	if (!count)
		return 0;
	if (count > NAMED_MAX)
		return err_set(err, -EBUSY, "the profile '%s' is used by the instances %s and %u more; take it away from them first", text(doc, "name"),
			       names, count - NAMED_MAX);
	return err_set(err, -EBUSY, "the profile '%s' is used by the instance%s %s; take it away from %s first", text(doc, "name"),
		       count > 1 ? "s" : "", names, count > 1 ? "them" : "it");
}

static bool names_it(const json_t *spec, const char *what, const char *name)
{
	const json_t *net;
	size_t i;

	if (!strcmp(what, "pool"))
		return !strcmp(text(spec, "pool"), name);
	json_array_foreach(json_object_get(spec, "networks"), i, net)
		if (!strcmp(text(net, "kind"), "network") && !strcmp(text(net, "network"), name))
			return true;
	return false;
}

void profile_naming(struct node *n, const char *project, const char *what, const char *name, char found[DOC_NAME_MAX + 1])
{
	char prefix[STORE_KEY_MAX + 1] = "profile/", key[STORE_KEY_MAX + 1] = "";
	const struct store_doc *d;

	found[0] = 0;
	if (project)
		doc_key(prefix, "profile", project, "");
	while (!found[0] && (d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);

		snprintf(key, sizeof(key), "%s", d->key);
		if (names_it(json_object_get(doc, "spec"), what, name))
			snprintf(found, DOC_NAME_MAX + 1, "%s", text(doc, "name"));
	}
}

/* --- a change ---------------------------------------------------- */

int profile_expand(struct node *n, json_t *doc, const json_t *old, const json_t *sent, char *where, size_t cap, struct err *err)
{
	json_int_t version = json_integer_value(json_object_get(old, "version"));
	bool is_same = old && json_equal(json_object_get(old, "spec"), json_object_get(doc, "spec"));

	(void)n;
	(void)sent;
	(void)where;
	(void)cap;
	(void)err;
	json_object_del(doc, "plan");
	return json_object_set_new(doc, "version", json_integer(is_same ? version : version + 1));
}

/* What the instances of PROJECT that use the profile NAME, and of which STALE wants only those behind it, become with CHANGED (NULL: as it is): a list of
 * [new document, old one, revision], at most MAX. New reference; NULL with the sentence. */
static json_t *expand_users(struct node *n, const char *project, const json_t *doc, bool only_stale, size_t max, struct err *err)
{
	AUTO(json_decref) json_t *list = json_array();
	const struct profile_user *u = NULL;
	const char *name = text(doc, "name");

	while ((u = profile_user_next(n->profile_users, u, project, name)) != NULL && json_array_size(list) < max) {
		int64_t revision = 0;
		json_t *fresh = NULL;

		if (only_stale && profile_user_knows(u, name, text(doc, "uid"), json_integer_value(json_object_get(doc, "version"))))
			continue;
		AUTO(json_decref) json_t *old = doc_get(n->store, profile_user_key(u), &revision);
		if (!old || json_is_true(json_object_get(old, "deleting")))
			continue;
		if (instance_expand_again(n, old, revision, only_stale ? NULL : doc, &fresh, err) < 0)
			return NULL;
		json_array_append_new(list, json_pack("[o, O, I]", fresh, old, (json_int_t)revision));
	}
	return json_incref(list);
}

/* As many as there is room for. */
static int put_instances(struct ops *o, const char *project, const json_t *list)
{
	const json_t *one;
	int r = 0;
	size_t i;

	json_array_foreach(list, i, one) {
		const json_t *doc = json_array_get(one, 0);
		char key[STORE_KEY_MAX + 1];

		if (r || i == PROFILES_IN_COMMIT)
			break;
		doc_key(key, "instance", project, text(doc, "name"));
		r = ops_put(o, key, doc, json_integer_value(json_array_get(one, 2)));
	}
	return r;
}

static json_t *plan_of(const json_t *list)
{
	json_t *instances = json_array();
	const json_t *one;
	size_t i;

	json_array_foreach(list, i, one) {
		const json_t *doc = json_array_get(one, 0);
		json_t *changes = layers_difference(json_array_get(one, 1), doc);

		if (json_array_size(changes))
			json_array_append_new(instances, json_pack("{s:O, s:O}", "name", json_object_get(doc, "name"), "changes", changes));
		json_decref(changes);
	}
	return json_pack("{s:o}", "instances", instances);
}

int profile_add_ops(struct resource_change *ch, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	const char *project = text(doc, "project");

	(void)where;
	(void)cap;
	int r = instance_check_networks(ch->node, doc, &ch->ops);
	if (r < 0)
		return err_set(err, -EAGAIN, "out of memory");
	if (!old || json_equal(json_object_get(doc, "version"), json_object_get(old, "version")))
		return 0;
	AUTO(json_decref) json_t *list = expand_users(ch->node, project, doc, false, SIZE_MAX, err);
	r = !list ? err->code : quota_claim_instances(ch->node, project, list, &ch->claims, err);

	if (r < 0)
		return r;
	if (ch->c->is_dry_run)
		ch->plan = plan_of(list);
	/* Instances that are changed all the time by others do not hold it up: the controller brings them. */
	return ch->tries > ALONE_AFTER ? 0 : put_instances(&ch->ops, project, list);
}

/* --- as a kind of document ---------------------------------------------------- */

struct profile {
	struct controlled c;            /* first */
	unsigned users;
	json_int_t applied;             /* the version that all of them have */
	bool is_busy;
	struct ops ops;
};

static void brought(void *arg, const struct store_result *res)
{
	struct profile *p = arg;

	p->is_busy = false;
	ops_clear(&p->ops);
	if (res->code && res->code != -ESTALE)
		controlled_later(&p->c, 1000);
	else
		controlled_kick(&p->c);
}

static void set_applied(struct profile *p, json_int_t version)
{
	bool is_news = p->applied != version;

	p->applied = version;
	controlled_set(&p->c, "ready", "%s", "");
	if (is_news)
		controlled_write(&p->c);
}

/* Instances that are behind DOC. Their change was admitted with that of the profile. */
static void bring(struct profile *p, const json_t *doc)
{
	struct node *n = p->c.node;
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *list = expand_users(n, p->c.project, doc, true, PROFILES_IN_COMMIT, &err);
	const struct store_doc *d = store_get(n->store, p->c.key);

	if (!list || put_instances(&p->ops, p->c.project, list) < 0 || (d && ops_check(&p->ops, p->c.key, d->modified) < 0)) {
		ops_clear(&p->ops);
		if (list)
			err_set(&err, -ENOMEM, "out of memory");
		controlled_failed(&p->c, &err);
		return;
	}
	if (!json_array_size(list)) {
		p->c.failures = 0;
		ops_clear(&p->ops);
		set_applied(p, json_integer_value(json_object_get(doc, "version")));
		return;
	}
	p->is_busy = true;
	controlled_set(&p->c, "applying", "%s", "its instances are getting what it says");
	store_commit(n->store, p->ops.op, p->ops.n, brought, p);
}

static void step(struct controlled *c, const json_t *doc, int64_t revision)
{
	struct profile *p = container_of(c, struct profile, c);
	unsigned users = 0;

	(void)revision;
	if (p->is_busy)
		return;
	for (const struct profile_user *u = NULL; (u = profile_user_next(c->node->profile_users, u, c->project, c->name)) != NULL;)
		users++;
	if (users != p->users) {
		p->users = users;
		controlled_write(c);
	}
	bring(p, doc);
}

static void step_gone(struct controlled *c, const json_t *doc)
{
	struct profile *p = container_of(c, struct profile, c);
	struct err err = ERR_INIT;

	if (p->is_busy)
		return;
	/* One may have come in while the request to delete was on its way. */
	if (doc && profile_check_delete(c->node, doc, &err) < 0)
		controlled_blocked(c, &err);
	else
		controlled_removed(c);
}

static int init(struct controlled *c, const json_t *doc, const json_t *status)
{
	struct profile *p = container_of(c, struct profile, c);

	(void)doc;
	p->users = (unsigned)json_integer_value(json_object_get(status, "instances"));
	p->applied = json_integer_value(json_object_get(status, "applied"));
	return 0;
}

static void fini(struct controlled *c)
{
	ops_clear(&container_of(c, struct profile, c)->ops);
}

static void add_status(const struct controlled *c, json_t *status)
{
	const struct profile *p = container_of(c, struct profile, c);

	json_object_set_new(status, "instances", json_integer(p->users));
	json_object_set_new(status, "applied", json_integer(p->applied));
}

const struct controller_kind profile_kind = {
	.kind = "profile", .size = sizeof(struct profile), .init = init, .step = step, .step_gone = step_gone,
	.add_status = add_status, .fini = fini,
};
