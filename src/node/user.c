/* SPDX-License-Identifier: Apache-2.0 */
#include "node/user.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "node/auth_priv.h"
#include "node/node.h"
#include "node/quota.h"
#include "node/resource.h"
#include "util/err.h"

#define SPEC(sub_, what_) \
	{ .name = "spec", .type = SCHEMA_OBJECT, .sub = sub_, .is_required = true, .help = what_ }
#define ABOUT { .name = "about", .type = SCHEMA_STRING, .max = 500, .help = "for people" }
#define USER_UID \
	{ .name = "user_uid", .type = SCHEMA_STRING, .is_readonly = true, \
	  .help = "of the user: a later one of the same name does not get it" }

const struct schema user_schema = {
	.name = "User", .help = "Somebody who may come in.",
	.fields = (const struct schema_field[]){
		RESOURCE_FIELDS("user"),
		SPEC((&(const struct schema){
			.name = "UserSpec", .help = "Who it is.",
			.fields = (const struct schema_field[]){
				{ .name = "role", .type = SCHEMA_STRING, .choices = "none|viewer|operator|admin",
				  .dflt = "\"none\"", .help = "on the node, and so in all its projects" },
				{ .name = "disabled", .type = SCHEMA_BOOL, .dflt = "false", .help = "may not come in" },
				{ .name = "unix_uid", .type = SCHEMA_INT, .min = 1, .max = UINT32_MAX - 1,
				  .help = "the user of the host that is this one at the Unix socket" },
				ABOUT,
				{ .name = NULL },
			} }), "who it is"),
		{ .name = NULL },
	},
};

const struct schema role_schema = {
	.name = "Role", .help = "What the user of the same name may in a project.",
	.fields = (const struct schema_field[]){
		RESOURCE_FIELDS("role"),
		USER_UID,
		SPEC((&(const struct schema){
			.name = "RoleSpec", .help = "What the user may.",
			.fields = (const struct schema_field[]){
				{ .name = "role", .type = SCHEMA_STRING, .choices = "viewer|operator|admin", .is_required = true,
				  .help = "look; and change; and decide who may" },
				{ .name = NULL },
			} }), "what the user may"),
		{ .name = NULL },
	},
};

const struct schema token_schema = {
	.name = "Token", .help = "What lets a program in as a user.",
	.fields = (const struct schema_field[]){
		RESOURCE_FIELDS("token"),
		USER_UID,
		{ .name = "expires", .type = SCHEMA_TIME, .is_readonly = true, .help = "when it ends" },
		{ .name = "token", .type = SCHEMA_STRING, .is_readonly = true,
		  .help = "the token itself: only in the answer that makes it" },
		SPEC((&(const struct schema){
			.name = "TokenSpec", .help = "What it may.",
			.fields = (const struct schema_field[]){
				{ .name = "role", .type = SCHEMA_STRING, .choices = "viewer|operator|admin",
				  .help = "at most; as much as the user unless given" },
				{ .name = "project", .type = SCHEMA_NAME, .help = "only there; everywhere unless given" },
				{ .name = "days", .type = SCHEMA_INT, .min = 1, .max = 3650, .dflt = "90",
				  .help = "how long it is good" },
				ABOUT,
				{ .name = NULL },
			} }), "what it may"),
		{ .name = NULL },
	},
};

const struct schema project_schema = {
	.name = "Project", .help = "A room for things: names are its own, and so are roles.",
	.fields = (const struct schema_field[]){
		RESOURCE_FIELDS("project"),
		SPEC((&(const struct schema){
			.name = "ProjectSpec", .help = "What it is for.",
			.fields = (const struct schema_field[]){
				ABOUT,
				{ .name = "quota", .type = SCHEMA_OBJECT, .sub = &quota_schema,
				  .help = "how much it may have; without it, all that there is" },
				{ .name = NULL },
			},
		}), "what it is for"),
		{ .name = NULL },
	},
};

/* --- what may be ---------------------------------------------------- */

static json_t *find_user(struct node *n, const char *name)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "user", AUTH_ALL, name);
	return doc_get(n->store, key, NULL);
}

int user_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	const json_t *number = json_object_get(json_object_get(doc, "spec"), "unix_uid");
	char key[STORE_KEY_MAX + 1] = "";

	(void)old;
	if (!number)
		return 0;
	for (const struct store_doc *d; (d = store_next(n->store, "user/" AUTH_ALL "/", key[0] ? key : NULL)) != NULL;) {
		AUTO(json_decref) json_t *other = json_loadb(d->value, d->len, 0, NULL);

		snprintf(key, sizeof(key), "%s", d->key);
		if (!json_equal(json_object_get(json_object_get(other, "spec"), "unix_uid"), number) ||
		    !strcmp(auth_text(other, NULL, "name"), auth_text(doc, NULL, "name")))
			continue;
		snprintf(where, cap, "spec.unix_uid");
		return err_set(err, -EEXIST, "the user '%s' has that number", auth_text(other, NULL, "name"));
	}
	return 0;
}

int role_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	AUTO(json_decref) json_t *user = find_user(n, auth_text(doc, NULL, "name"));

	if (user && (!old || !strcmp(auth_text(old, NULL, "user_uid"), auth_text(user, NULL, "uid"))))
		return 0;
	snprintf(where, cap, "name");
	return err_set(err, -ENOENT, "there is no user '%s'%s", auth_text(doc, NULL, "name"),
		       user ? " any more: the one of today is another" : "");
}

int role_fill(struct api_call *c, json_t *doc, struct err *err)
{
	AUTO(json_decref) json_t *user = find_user(c->arg, auth_text(doc, NULL, "name"));

	return json_object_set_new(doc, "user_uid", json_string(auth_text(user, NULL, "uid"))) < 0 ?
		       err_set(err, -ENOMEM, "out of memory") : 0;
}

/* --- deleting, with what belongs to it ---------------------------------------------------- */

enum { SWEEP_STEP = STORE_OPS_MAX - 8 };

/* A document goes after those that make no sense without it, in as many commits as it takes: a crash between them leaves
 * it there, to be deleted again. */
struct sweep {
	struct api_call *c;
	json_t *keys;                   /* strings; the document itself is the last */
	size_t at;
};

static void sweep_next(struct sweep *s);

static void swept(void *arg, const struct store_result *r)
{
	struct sweep *s = arg;
	struct err err = ERR_INIT;

	if (!r->code && s->at < json_array_size(s->keys)) {
		sweep_next(s);
		return;
	}
	if (r->code)
		api_fail(s->c, err_set(&err, r->code, "%s", r->message), NULL, &err);
	else
		api_reply(s->c, 204, NULL);
	json_decref(s->keys);
	free(s);
}

static void sweep_next(struct sweep *s)
{
	struct store_op ops[SWEEP_STEP];
	struct node *n = s->c->arg;
	unsigned count = 0;

	while (count < SWEEP_STEP && s->at < json_array_size(s->keys))
		ops[count++] = (struct store_op){ .kind = STORE_DELETE, .key = json_string_value(json_array_get(s->keys, s->at++)),
						  .if_modified = STORE_ANY };
	store_commit(n->store, ops, count, swept, s);
}

/* KEYS is taken. */
static void sweep(struct api_call *c, json_t *keys)
{
	struct sweep *s = calloc(1, sizeof(*s));
	struct err err = ERR_INIT;

	if (!s || c->is_dry_run) {
		json_decref(keys);
		if (c->is_dry_run)
			api_reply(c, 200, NULL);
		else
			api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		free(s);
		return;
	}
	*s = (struct sweep){ .c = c, .keys = keys };
	sweep_next(s);
}

static void add_key(json_t *keys, const char *kind, const char *space, const char *name)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, kind, space, name);
	json_array_append_new(keys, json_string(key));
}

/* Keys with PREFIX whose document is of USER; of all with NULL. */
static void add_keys(struct node *n, json_t *keys, const char *prefix, const char *user)
{
	char key[STORE_KEY_MAX + 1] = "";

	for (const struct store_doc *d; (d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL;) {
		AUTO(json_decref) json_t *doc = user ? json_loadb(d->value, d->len, 0, NULL) : NULL;

		snprintf(key, sizeof(key), "%s", d->key);
		if (!user || !strcmp(auth_text(doc, NULL, "user"), user))
			json_array_append_new(keys, json_string(key));
	}
}

static void add_roles_of(struct node *n, json_t *keys, const char *user)
{
	char key[STORE_KEY_MAX + 1] = "";

	for (const struct store_doc *d; (d = store_next(n->store, "role/", key[0] ? key : NULL)) != NULL;) {
		snprintf(key, sizeof(key), "%s", d->key);
		if (!strcmp(strrchr(key, '/') + 1, user))
			json_array_append_new(keys, json_string(key));
	}
}

void user_delete(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], prefix[STORE_KEY_MAX + 1];
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	const char *name = c->param[0];
	struct err err = ERR_INIT;

	if (!doc)
		return;
	if (!strcmp(name, c->user.name)) {
		api_fail(c, err_set(&err, -EBUSY, "nobody can delete the user that asks"), NULL, &err);
		return;
	}
	json_t *keys = json_array();
	/* First what lets it in. */
	add_key(keys, "secret/password", AUTH_ALL, name);
	add_key(keys, "secret/totp", AUTH_ALL, name);
	add_keys(n, keys, "session/", name);
	add_keys(n, keys, "secret/token/", name);
	doc_key(prefix, "token", name, "");
	add_keys(n, keys, prefix, NULL);
	add_roles_of(n, keys, name);
	json_array_append_new(keys, json_string(key));
	sweep(c, keys);
}

/* What is in PROJECT, besides roles: its key. */
static const char *find_thing(struct node *n, const char *project)
{
	char prefix[STORE_KEY_MAX + 1];

	for (const struct resource *r = resources; r->kind; r++) {
		if (r->space != RESOURCE_OF_PROJECT || !strcmp(r->kind, "role"))
			continue;
		doc_key(prefix, r->kind, project, "");
		const struct store_doc *d = store_next(n->store, prefix, NULL);

		if (d)
			return d->key;
	}
	return NULL;
}

void project_delete(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], prefix[STORE_KEY_MAX + 1];
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	const char *name = c->param[0], *thing = doc ? find_thing(n, name) : NULL;
	struct err err = ERR_INIT;

	if (!doc)
		return;
	if (thing || !strcmp(name, "default")) {
		api_fail(c, thing ? err_set(&err, -EBUSY, "the project '%s' is not empty: '%s' is in it; delete that first", name,
					    strrchr(thing, '/') + 1) :
				    err_set(&err, -EBUSY, "the project 'default' has to stay"), NULL, &err);
		return;
	}
	json_t *keys = json_array();
	doc_key(prefix, "role", name, "");
	add_keys(n, keys, prefix, NULL);
	json_array_append_new(keys, json_string(key));
	sweep(c, keys);
}

/* --- tokens ---------------------------------------------------- */

struct token_making {
	struct api_call *c;
	json_t *answer;
};

static void token_made(void *arg, const struct store_result *r)
{
	struct token_making *m = arg;
	struct err err = ERR_INIT;

	if (r->code)
		api_fail(m->c, r->code == -ESTALE ? err_set(&err, -EEXIST, "there is a token of that name already") :
						    err_set(&err, r->code, "%s", r->message), "name", &err);
	else
		api_reply(m->c, 201, json_incref(m->answer));
	json_decref(m->answer);
	free(m);
}

/* The two documents of a token: what is shown and what is not. */
static void token_commit(struct token_making *m, json_t *doc, const char *user, const char *uid, const char *secret)
{
	struct node *n = m->c->arg;
	char key[STORE_KEY_MAX + 1], kept_key[STORE_KEY_MAX + 1], hash[SECRET_HASH_LEN + 1], token[128];
	const char *name = auth_text(doc, NULL, "name");

	secret_hash(hash, secret, SECRET_LEN);
	doc_key(key, "token", user, name);
	snprintf(kept_key, sizeof(kept_key), "secret/token/%s", auth_text(doc, NULL, "uid"));
	AUTO(json_decref) json_t *kept = json_pack("{s:s, s:s, s:s, s:s}", "user", user, "user_uid", uid, "name", name, "hash",
						   hash);
	AUTO(free) char *text = json_dumps(doc, JSON_COMPACT), *kept_text = json_dumps(kept, JSON_COMPACT);
	struct store_op ops[] = {
		{ .kind = STORE_PUT, .key = key, .value = text, .len = text ? strlen(text) : 0, .if_modified = STORE_ABSENT },
		{ .kind = STORE_PUT, .key = kept_key, .value = kept_text, .len = kept_text ? strlen(kept_text) : 0,
		  .if_modified = STORE_ABSENT },
	};

	snprintf(token, sizeof(token), "viv_%s_%s", auth_text(doc, NULL, "uid"), secret);
	m->answer = json_copy(doc);
	json_object_set_new(m->answer, "token", json_string(token));
	store_commit(n->store, ops, 2, token_made, m);
}

void token_create(struct api_call *c)
{
	struct node *n = c->arg;
	const char *whose = resource_user(c);
	AUTO(json_decref) json_t *user = strchr(whose, '/') ? NULL : find_user(n, whose);
	struct token_making *m = calloc(1, sizeof(*m));
	char uid[DOC_UID_LEN + 1], now[DOC_TIME_LEN + 1], expires[DOC_TIME_LEN + 1], secret[SECRET_LEN + 1];
	struct err err = ERR_INIT;
	json_int_t days = json_integer_value(json_object_get(json_object_get(c->body, "spec"), "days"));

	if (!user || !m) {
		api_fail(c, user ? err_set(&err, -EAGAIN, "out of memory") :
				   err_set(&err, -ENOENT, "there is no user '%.63s': say whose token it is by 'user=NAME' in the query, or --user", whose),
			 NULL, &err);
		free(m);
		return;
	}
	doc_new_uid(uid);
	doc_now(now);
	doc_time(expires, time(NULL) + days * 86400);
	secret_new(secret);
	AUTO(json_decref) json_t *doc = json_pack(
		"{s:s, s:O, s:s, s:s, s:O, s:s, s:O*, s:O}", "kind", "token", "name", json_object_get(c->body, "name"), "uid", uid,
		"created", now, "user_uid", json_object_get(user, "uid"), "expires", expires, "labels",
		json_object_get(c->body, "labels"), "spec", json_object_get(c->body, "spec"));
	if (c->is_dry_run) {
		free(m);
		api_reply(c, 200, json_incref(doc));
		return;
	}
	m->c = c;
	token_commit(m, doc, whose, auth_text(user, NULL, "uid"), secret);
}

void token_delete(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);

	if (!doc)
		return;
	json_t *keys = json_array();
	json_array_append_new(keys, json_sprintf("secret/token/%s", auth_text(doc, NULL, "uid")));
	json_array_append_new(keys, json_string(key));
	sweep(c, keys);
}
