/* SPDX-License-Identifier: Apache-2.0 */
/* profile_users.c - which instances use which profile: an entry for each that uses any, which follows its document. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/controller.h"
#include "node/node.h"
#include "node/profile.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/strmap.h"

enum { LOOK_MS = 100 };

struct profile_user {
	struct profile_user *next, **at;
	struct strmap_entry by_key;
	json_t *profiles;               /* of 'inherited': name, uid, version */
	bool is_deleting;
	char *key;
};

struct profile_users {
	struct node *node;
	struct profile_user *first;
	struct strmap by_key;
	struct store_watch watch;
};

static void user_free(struct profile_users *us, struct profile_user *u)
{
	strmap_remove(&us->by_key, &u->by_key);
	*u->at = u->next;
	if (u->next)
		u->next->at = u->at;
	json_decref(u->profiles);
	free(u->key);
	free(u);
}

/* "instance/PROJECT/NAME". False: it is none. */
static bool project_of(const char *key, char project[DOC_NAME_MAX + 1])
{
	const char *at = strchr(key, '/'), *end = at ? strchr(at + 1, '/') : NULL;

	if (!end || end - at - 1 > DOC_NAME_MAX)
		return false;
	snprintf(project, DOC_NAME_MAX + 1, "%.*s", (int)(end - at - 1), at + 1);
	return true;
}

/* The profiles of U have to look at it. */
static void kick(const struct profile_users *us, const struct profile_user *u)
{
	char project[DOC_NAME_MAX + 1], key[STORE_KEY_MAX + 1];
	const json_t *p;
	size_t i;

	if (!u || !project_of(u->key, project))
		return;
	json_array_foreach(u->profiles, i, p) {
		doc_key(key, "profile", project, json_string_value(json_object_get(p, "name")) ?: "");
		struct controlled *c = controller_find(us->node->profiles, key);

		if (c)
			controlled_later(c, LOOK_MS);
	}
}

static struct profile_user *user_new(struct profile_users *us, const char *key, const json_t *doc)
{
	json_t *profiles = json_object_get(json_object_get(doc, "inherited"), "profiles");
	struct profile_user *u = profiles ? calloc(1, sizeof(*u)) : NULL;

	if (!u || !(u->key = strdup(key))) {
		if (profiles)
			log_error("that '%s' uses profiles is not known: out of memory", key);
		free(u);
		return NULL;
	}
	u->profiles = json_incref(profiles);
	u->is_deleting = json_is_true(json_object_get(doc, "deleting"));
	u->next = us->first;
	u->at = &us->first;
	if (u->next)
		u->next->at = &u->next;
	us->first = u;
	strmap_add(&us->by_key, &u->by_key, u->key);
	return u;
}

/* Most instances use none, and looking for the word is much quicker than reading the text. */
static json_t *read_user(const struct store_doc *d)
{
	static const char word[] = "\"inherited\"";

	return memmem(d->value, d->len, word, strlen(word)) ? json_loadb(d->value, d->len, 0, NULL) : NULL;
}

static void changed(struct store_watch *w, const struct store_event *e)
{
	struct profile_users *us = container_of(w, struct profile_users, watch);
	struct strmap_entry *known = strmap_find(&us->by_key, e->doc->key);
	struct profile_user *u = known ? container_of(known, struct profile_user, by_key) : NULL;

	if (u) {
		kick(us, u);
		user_free(us, u);
	}
	AUTO(json_decref) json_t *doc = e->is_delete ? NULL : read_user(e->doc);
	kick(us, user_new(us, e->doc->key, doc));
}

int profile_users_open(struct profile_users **out, struct node *n, struct err *err)
{
	struct profile_users *us = calloc(1, sizeof(*us));
	const struct store_doc *d;
	char key[STORE_KEY_MAX + 1] = "";

	if (!us)
		return err_set(err, -ENOMEM, "out of memory");
	us->node = n;
	us->watch = (struct store_watch){ .prefix = "instance/", .fn = changed };
	strmap_init(&us->by_key);
	*out = us;
	while ((d = store_next(n->store, us->watch.prefix, key[0] ? key : NULL)) != NULL) {
		AUTO(json_decref) json_t *doc = read_user(d);

		snprintf(key, sizeof(key), "%s", d->key);
		user_new(us, key, doc);
	}
	return store_watch_start(n->store, &us->watch, STORE_ANY);
}

void profile_users_close(struct profile_users *us)
{
	if (!us)
		return;
	store_watch_stop(&us->watch);
	while (us->first)
		user_free(us, us->first);
	strmap_fini(&us->by_key);
	free(us);
}

/* What U notes of the profile NAME; NULL: it does not use it. */
static const json_t *note_of(const struct profile_user *u, const char *name)
{
	const json_t *p;
	size_t i;

	json_array_foreach(u->profiles, i, p)
		if (!strcmp(json_string_value(json_object_get(p, "name")) ?: "", name))
			return p;
	return NULL;
}

struct profile_user *profile_user_next(const struct profile_users *us, const struct profile_user *u, const char *project, const char *name)
{
	char prefix[STORE_KEY_MAX + 1];
	struct profile_user *next = u ? u->next : us->first;

	doc_key(prefix, "instance", project, "");
	while (next && (strncmp(next->key, prefix, strlen(prefix)) != 0 || !note_of(next, name)))
		next = next->next;
	return next;
}

const char *profile_user_key(const struct profile_user *u)
{
	return u->key;
}

bool profile_user_knows(const struct profile_user *u, const char *name, const char *uid, json_int_t version)
{
	const json_t *p = note_of(u, name);

	return u->is_deleting || (json_integer_value(json_object_get(p, "version")) == version &&
				  !strcmp(json_string_value(json_object_get(p, "uid")) ?: "", uid));
}
