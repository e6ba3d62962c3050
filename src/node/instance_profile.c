/* SPDX-License-Identifier: Apache-2.0 */
/* instance_profile.c - what an instance is, from its profiles and what it says itself. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/instance.h"
#include "node/layers.h"
#include "node/node.h"
#include "node/profile.h"
#include "node/resource_priv.h"
#include "node/rename.h"
#include "util/err.h"

/* No document is ever at this revision: a condition that fails, and with that tries the change again. */
static const int64_t NEVER = INT64_MAX;

static const char *text(const json_t *doc, const char *name)
{
	return json_string_value(json_object_get(doc, name)) ?: "";
}

int64_t instance_said_at(const json_t *doc, int64_t revision)
{
	const json_t *since = json_object_get(doc, "unchanged_since");

	return since ? json_integer_value(since) : revision;
}

static const struct resource *kind(void)
{
	const struct resource *r = resources;

	while (r->kind && strcmp(r->kind, "instance") != 0)
		r++;
	return r;
}

/* --- its profiles ---------------------------------------------------- */

static bool has(const json_t *list, const char *name)
{
	const json_t *v;
	size_t i;

	json_array_foreach(list, i, v)
		if (!strcmp(json_string_value(v) ?: "", name))
			return true;
	return false;
}

/* The profile NAME for an instance in PROJECT that had WERE. New reference; NULL with the sentence. */
static json_t *find_profile(struct node *n, const char *project, const char *name, const json_t *were, struct err *err)
{
	char key[STORE_KEY_MAX + 1];

	if (resource_check_name(name, "profile", err) < 0)
		return NULL;
	doc_key(key, "profile", project, name);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	if (!doc)
		err_set(err, -EINVAL, "there is no profile '%s' in the project '%s'; 'viv profile ls' lists those that are there", name, project);
	else if (json_is_true(json_object_get(doc, "deleting")) && !has(were, name))
		err_set(err, -EINVAL, "the profile '%s' is being deleted", name);
	else
		return json_incref(doc);
	return NULL;
}

/* The documents that NAMES names; CHANGED (NULL: none) in place of the one of that name. New reference; NULL with the sentence. */
static json_t *find_profiles(struct node *n, const char *project, const json_t *names, const json_t *were, const json_t *changed,
			     char *where, size_t cap, struct err *err)
{
	AUTO(json_decref) json_t *list = json_array(), *seen = json_array();
	json_t *v;
	size_t i;

	json_array_foreach(names, i, v) {
		const char *name = json_string_value(v) ?: "";

		snprintf(where, cap, "spec.profiles[%zu]", i);
		if (has(seen, name)) {
			err_set(err, -EINVAL, "the profile '%s' is named twice", name);
			return NULL;
		}
		json_t *p = changed && !strcmp(text(changed, "name"), name) ? json_incref((json_t *)changed) :
			    find_profile(n, project, name, were, err);
		if (!p)
			return NULL;
		json_array_append_new(list, p);
		json_array_append(seen, v);
	}
	where[0] = 0;
	return json_incref(list);
}

/* --- a change of the instance ---------------------------------------------------- */

/* Of a new one that names none. */
static void use_default(struct node *n, json_t *doc, const json_t *sent)
{
	const char *project = text(doc, "project");
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "profile", project, PROFILE_DEFAULT);
	AUTO(json_decref) json_t *profile = doc_get(n->store, key, NULL);
	if (profile && !json_is_true(json_object_get(profile, "deleting")) && !json_object_get(json_object_get(sent, "spec"), "profiles"))
		json_object_set_new(json_object_get(doc, "spec"), "profiles", json_pack("[s]", PROFILE_DEFAULT));
}

/* What a new one says itself. Of one that was sent with 'own', as a copy of what was read, 'spec' counts where it differs from what
 * that would be. New reference. */
static json_t *own_of_new(const json_t *doc, const json_t *profiles, const json_t *sent)
{
	json_t *own = json_object(), *before = NULL;
	AUTO(json_decref) json_t *like = NULL;
	char where[256];

	if (json_object_get(sent, "own")) {
		json_object_update(own, json_object_get(sent, "own"));
		like = json_deep_copy(doc);
		layers_apply(&profile_spec_schema, like, NULL, NULL, profiles, own);
		before = resource_fill_in(kind(), like, where, sizeof(where), NULL) < 0 ? NULL : like;
	}
	layers_change(&profile_spec_schema, own, before, sent);
	return own;
}

int instance_expand(struct node *n, json_t *doc, const json_t *old, const json_t *sent, char *where, size_t cap, struct err *err)
{
	const struct schema *s = &profile_spec_schema;
	json_t *spec = json_object_get(doc, "spec");

	if (!spec) {
		spec = json_object();
		json_object_set_new(doc, "spec", spec);
	}
	if (!old)
		use_default(n, doc, sent);
	json_object_del(doc, "unchanged_since");
	const json_t *were = json_object_get(json_object_get(old, "spec"), "profiles");
	AUTO(json_decref)
	json_t *profiles = find_profiles(n, text(doc, "project"), json_object_get(spec, "profiles"), were, NULL, where, cap, err);
	if (!profiles)
		return -EINVAL;
	AUTO(json_decref) json_t *old_own = old ? layers_own(s, instance_spec_schema, old) : NULL;
	AUTO(json_decref) json_t *own = old ? json_deep_copy(old_own) : own_of_new(doc, profiles, sent);
	if (!own || (old && !old_own))
		return err_set(err, -ENOMEM, "out of memory");
	if (old)
		layers_change(s, own, old, sent);
	layers_apply(s, doc, old, old_own, profiles, own);
	/* Its disk is there from now on, whatever becomes of the profile. */
	json_t *pool = json_object_get(json_object_get(doc, "spec"), "pool");
	if (!old && pool && !json_object_get(own, "pool")) {
		json_object_set(own, "pool", pool);
		layers_apply(s, doc, old, old_own, profiles, own);
	}
	return 0;
}

/* D without the mark of a command that was making a machine of it. New reference; NULL: it has none. */
static json_t *without_mark(const struct store_doc *d)
{
	if (!d || !strstr(d->value, INSTANCE_IMPORT_LABEL))
		return NULL;
	json_t *doc = json_loadb(d->value, d->len, 0, NULL);

	if (json_object_del(json_object_get(doc, "labels"), INSTANCE_IMPORT_LABEL) == 0)
		return doc;
	json_decref(doc);
	return NULL;
}

/* The thing NAME of KIND, in the project of DOC, as it is now, and nobody about to give it another name. What an instance has is its own from now
 * on, and no longer what an archive has. */
static int check_one(struct node *n, const json_t *doc, const char *kind, const char *name, struct ops *o)
{
	char key[STORE_KEY_MAX + 1];

	if (!name[0])
		return 0;
	doc_key(key, kind, text(doc, "project"), name);
	const struct store_doc *d = store_get(n->store, key);
	int64_t modified = rename_has(n, key) ? NEVER : d ? d->modified : STORE_ABSENT;
	bool is_disk = !strcmp(kind, "image") || !strcmp(kind, "volume");
	AUTO(json_decref) json_t *taken = is_disk ? without_mark(d) : NULL;
	return taken ? ops_put(o, key, taken, modified) : ops_check(o, key, modified);
}

/* What the members FIELD of LIST name. */
static int check_list(struct node *n, const json_t *doc, const json_t *list, const char *field, const char *kind, struct ops *o)
{
	const json_t *one;
	int r = 0;
	size_t i;

	json_array_foreach(list, i, one)
		r = r ? r : check_one(n, doc, kind, text(one, field), o);
	return r;
}

int instance_check_networks(struct node *n, const json_t *doc, struct ops *o)
{
	return check_list(n, doc, json_object_get(json_object_get(doc, "spec"), "networks"), "network", "network", o);
}

int instance_check_references(struct node *n, const json_t *doc, struct ops *o)
{
	const json_t *spec = json_object_get(doc, "spec");
	int r = check_list(n, doc, json_object_get(json_object_get(doc, "inherited"), "profiles"), "name", "profile", o);

	if (!r)
		r = check_one(n, doc, "image", text(spec, "image"), o);
	if (!r)
		r = check_list(n, doc, json_object_get(spec, "disks"), "volume", "volume", o);
	return r ? r : instance_check_networks(n, doc, o);
}

int instance_add_ops(struct resource_change *ch, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	(void)old;
	(void)where;
	(void)cap;
	(void)err;
	return instance_check_references(ch->node, doc, &ch->ops);
}

/* --- a change of a profile ---------------------------------------------------- */

int instance_expand_again(struct node *n, const json_t *old, int64_t revision, const json_t *changed, json_t **out, struct err *err)
{
	const struct schema *s = &profile_spec_schema;
	const json_t *names = json_object_get(json_object_get(old, "spec"), "profiles");
	char where[256] = "";
	AUTO(json_decref) json_t *doc = json_deep_copy(old), *own = layers_own(s, instance_spec_schema, old);
	AUTO(json_decref) json_t *profiles = find_profiles(n, text(old, "project"), names, names, changed, where, sizeof(where), err);
	int r = !doc || !own ? err_set(err, -ENOMEM, "out of memory") : profiles ? 0 : -EINVAL;

	if (!r) {
		layers_apply(s, doc, old, own, profiles, own);
		json_object_set_new(doc, "unchanged_since", json_integer(instance_said_at(old, revision)));
		r = resource_fill_in(kind(), doc, where, sizeof(where), err);
	}
	if (!r)
		r = instance_check(n, doc, old, where, sizeof(where), err);
	if (r < 0)
		return err_wrap(err, r, "the instance '%s' cannot be that%s%s", text(old, "name"), where[0] ? ", " : "", where);
	*out = json_incref(doc);
	return 0;
}
