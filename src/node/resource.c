/* SPDX-License-Identifier: Apache-2.0 */
#include "node/resource_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/auth.h"
#include "node/doc.h"
#include "node/idempotency.h"
#include "node/node.h"
#include "node/quota.h"

enum { PATH_MAX_LEN = 256, CHANGE_TRIES = 16 };

/* What the server writes; a client may send it back as it was. */
static const char *const own_fields[] = { "kind", "project", "uid", "created", "deleting", "revision", "status",
					 "user_uid", "expires", "instance", "instance_uid", "renamed_from", NULL };

const struct resource *resource_of(const struct api_call *c)
{
	const struct resource *found = NULL;

	for (const char *at = strchr(c->route->path + 1, '/'); at; at = strchr(at + 1, '/')) {
		size_t len = strcspn(at + 1, "/");

		for (const struct resource *r = resources; r->kind; r++)
			if (strlen(r->plural) == len && !memcmp(r->plural, at + 1, len))
				found = r;
	}
	return found;
}

/* What the thing that C's path names is called. */
static const char *name_of(const struct api_call *c)
{
	const char *name = api_param(c, "name");

	return name ? name : c->param[0];
}

const char *resource_project(const struct api_call *c)
{
	const char *in_path = api_param(c, "project"), *p = http_query(c->rq, "project");

	return in_path ? in_path : p && *p ? p : "default";
}

const char *resource_user(const struct api_call *c)
{
	const char *in_path = api_param(c, "user"), *u = http_query(c->rq, "user");

	return in_path ? in_path : u && *u ? u : c->user.name;
}

const char *resource_space_of(const struct api_call *c, const struct resource *r, char buf[RESOURCE_SPACE_LEN])
{
	switch (r->space) {
	case RESOURCE_OF_NODE: return "_";
	case RESOURCE_OF_USER: return resource_user(c);
	case RESOURCE_OF_PROJECT: return resource_project(c);
	case RESOURCE_OF_INSTANCE: break;
	}
	snprintf(buf, RESOURCE_SPACE_LEN, "%s/%s", resource_project(c), api_param(c, "instance"));
	return buf;
}

int resource_check_name(const char *name, const char *what, struct err *err)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	if (name[n] || !n || n > DOC_NAME_MAX || name[0] == '-' || (name[0] >= '0' && name[0] <= '9'))
		return err_set(err, -EINVAL,
			       "'%.80s' cannot be the name of a %s: a-z, 0-9 and '-', at most %d, a letter first",
			       name, what, DOC_NAME_MAX);
	return 0;
}

int resource_check_space(const struct api_call *c, const struct resource *r, struct err *err)
{
	const char *user = resource_user(c);
	int bad = 0;

	if (r->space == RESOURCE_OF_NODE)
		return 0;
	if (r->space == RESOURCE_OF_USER)
		return strchr(user, ':') ? err_set(err, -EINVAL, "'%s' is no user of the platform: say whose by ?user=NAME", user) :
					   resource_check_name(user, "user", err);
	if (r->space == RESOURCE_OF_INSTANCE)
		bad = resource_check_name(api_param(c, "instance"), "instance", err);
	return bad < 0 ? bad : resource_check_name(resource_project(c), "project", err);
}

void resource_reply(struct api_call *c, int status, const char *key)
{
	struct node *n = c->arg;
	const struct store_doc *d = store_get(n->store, key);
	struct err err = ERR_INIT;
	char etag[32];
	size_t len = 0;
	char *text = d ? doc_view(n->store, d, &len) : NULL;

	if (!text) {
		api_fail(c, err_set(&err, d ? -EAGAIN : -ENOENT, d ? "out of memory" : "it has gone meanwhile"), NULL,
			 &err);
		return;
	}
	snprintf(etag, sizeof(etag), "\"%lld\"", (long long)d->modified);
	http_set_header(c->rq, "etag", etag);
	api_reply_text(c, status, text, len);
}

/* --- reading ---------------------------------------------------- */

json_t *resource_find(struct api_call *c, char *key, int64_t *modified)
{
	const struct resource *r = resource_of(c);
	struct node *n = c->arg;
	struct err err = ERR_INIT;
	const char *name = name_of(c);
	char space[RESOURCE_SPACE_LEN];
	int bad = resource_check_name(name, r->kind, &err);

	if (!bad)
		bad = resource_check_space(c, r, &err);
	if (bad < 0) {
		api_fail(c, bad, NULL, &err);
		return NULL;
	}
	doc_key(key, r->kind, resource_space_of(c, r, space), name);
	json_t *doc = doc_get(n->store, key, modified);
	if (!doc)
		api_fail(c, err_set(&err, -ENOENT, "there is no %s '%s'%s%s%s", r->kind, name,
				    r->space ? "" : " in the project '", r->space ? "" : resource_project(c),
				    r->space ? "" : "'"), NULL, &err);
	return doc;
}

void resource_get(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);

	if (doc)
		resource_reply(c, 200, key);
}

/* --- changing ---------------------------------------------------- */

/* A change on its way to the disk. */
struct change {
	struct api_call *c;
	const struct resource *r;
	char key[STORE_KEY_MAX + 1];
	int status;             /* of the answer when it is done */
	unsigned tries;
	struct node *node;    /* C may have gone when this ends */
	struct quota_claim *claim;      /* what it asks for, until documents say so; NULL */
	void (*again)(
		struct change *ch); /* somebody else was quicker: the same from the start; NULL: that is an error */
};

static void change_free(struct change *ch)
{
	quota_release(ch->node, ch->claim);
	free(ch);
}

static void change_fail(struct change *ch, int r, const char *where, const struct err *err)
{
	api_fail(ch->c, r, where, err);
	change_free(ch);
}

static void change_done(void *arg, const struct store_result *res)
{
	struct change *ch = arg;
	struct err err = ERR_INIT;

	if (!res->code) {
		resource_reply(ch->c, ch->status, ch->key);
		change_free(ch);
	} else if (res->code == -ESTALE && ch->again && ch->tries++ < CHANGE_TRIES) {
		ch->again(ch);
	} else if (res->code == -ESTALE && !ch->again && idempotency_answered(ch->c)) {
		change_free(ch);               /* the same request was on its way twice */
	} else if (res->code == -ESTALE && !ch->again) {
		change_fail(ch, err_set(&err, -EEXIST, "there is a %s of that name already", ch->r->kind), "name",
			    &err);
	} else {
		change_fail(ch, err_set(&err, res->code == -ESTALE ? -EAGAIN : res->code, "%s", res->message), NULL,
			    &err);
	}
}

static struct change *change_new(struct api_call *c, int status)
{
	struct change *ch = calloc(1, sizeof(*ch));
	struct err err = ERR_INIT;

	if (!ch) {
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return NULL;
	}
	ch->c = c;
	ch->node = c->arg;
	ch->r = resource_of(c);
	ch->status = status;
	return ch;
}

/* DOC (taken) is what the document shall be. A dry run ends here. */
static void change_put(struct change *ch, json_t *doc, int64_t if_modified)
{
	struct node *n = ch->c->arg;
	struct err err = ERR_INIT;

	if (ch->c->is_dry_run) {
		api_reply(ch->c, 200, doc);
		change_free(ch);
		return;
	}
	struct idempotency_record record;
	AUTO(free) char *text = json_dumps(doc, JSON_COMPACT);
	struct store_op ops[2] = { { .kind = STORE_PUT, .key = ch->key, .value = text, .len = text ? strlen(text) : 0,
				     .if_modified = if_modified } };

	json_decref(doc);
	if (!text) {
		change_fail(ch, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	bool is_once = if_modified == STORE_ABSENT && idempotency_op(ch->c, ch->key, ch->status, &ops[1], &record);
	store_commit(n->store, ops, is_once ? 2 : 1, change_done, ch);
}

static int check_all(struct node *n, const struct resource *r, const json_t *doc, const json_t *old, char *where,
		     size_t cap, struct err *err)
{
	where[0] = 0;
	return r->check ? r->check(n, doc, old, where, cap, err) : 0;
}

/* Paths on the node are for those who may do all there: else whoever may make an image could read any file. */
static int check_paths(const struct api_call *c, const json_t *old, const json_t *doc, char *where, size_t cap,
		       struct err *err)
{
	if (!schema_has_new_path(resource_of(c)->schema, old, doc, where, cap) ||
	    auth_role(c->arg, &c->user, NULL) == API_ADMIN)
		return 0;
	return err_set(err, -EPERM, "'%s' may not name files of the node: that needs the role 'admin' on the node",
		       c->user.name);
}

void resource_create(struct api_call *c)
{
	struct node *n = c->arg;
	const char *name = json_string_value(json_object_get(c->body, "name"));

	if (idempotency_answered(c))
		return;
	char where[PATH_MAX_LEN], uid[DOC_UID_LEN + 1], now[DOC_TIME_LEN + 1];
	struct err err = ERR_INIT;
	struct change *ch = change_new(c, 201);

	if (!ch)
		return;
	char buf[RESOURCE_SPACE_LEN];
	const char *space = resource_space_of(c, ch->r, buf);
	int r = resource_check_space(c, ch->r, &err);
	if (r < 0) {
		change_fail(ch, r, NULL, &err);
		return;
	}
	doc_key(ch->key, ch->r->kind, space, name);
	doc_new_uid(uid);
	doc_now(now);
	AUTO(json_decref)
	json_t *doc = json_pack("{s:s, s:s, s:s*, s:s, s:s}", "kind", ch->r->kind, "name", name, "project",
				c->route->scope == API_PROJECT ? resource_project(c) : NULL, "uid", uid, "created", now);
	for (unsigned i = 0; own_fields[i]; i++)
		json_object_del(c->body, own_fields[i]);
	json_object_update_missing(doc, c->body);
	where[0] = 0;
	r = check_paths(c, NULL, doc, where, sizeof(where), &err);
	if (!r)
		r = check_all(n, ch->r, doc, NULL, where, sizeof(where), &err);
	if (!r && ch->r->fill)
		r = ch->r->fill(c, doc, &err);
	if (!r && store_get(n->store, ch->key)) {
		snprintf(where, sizeof(where), "name");
		r = err_set(&err, -EEXIST, "there is a%s %s '%s' already; choose another name or delete it first",
			    strchr("aeiou", ch->r->kind[0]) ? "n" : "", ch->r->kind, name);
	}
	if (!r)
		r = quota_claim(n, ch->key, ch->r->kind, doc, NULL, &ch->claim, where, sizeof(where), &err);
	if (r < 0)
		change_fail(ch, r, where, &err);
	else
		change_put(ch, json_incref(doc), STORE_ABSENT);
}

/* Does If-Match allow a change of the document at MODIFIED? *IS_STRICT: it named a revision. */
static int check_match(struct api_call *c, int64_t modified, bool *is_strict, struct err *err)
{
	const char *match = http_get_header(c->rq, HTTP_IF_MATCH);
	char etag[32];

	*is_strict = match && strcmp(match, "*") != 0;
	snprintf(etag, sizeof(etag), "\"%lld\"", (long long)modified);
	if (*is_strict && strcmp(match, etag) != 0)
		return err_set(
			err, -ESTALE,
			"the document has changed: it is at revision %lld now; read it again and repeat the change",
			(long long)modified);
	return 0;
}

static int check_own_fields(const json_t *patch, const json_t *old, char *where, size_t cap, struct err *err)
{
	for (unsigned i = 0; own_fields[i]; i++) {
		const json_t *sent = json_object_get(patch, own_fields[i]), *is = json_object_get(old, own_fields[i]);

		if (sent && is && !json_equal(sent, is)) {
			snprintf(where, cap, "%s", own_fields[i]);
			return err_set(err, -EINVAL, "'%s' cannot be changed", own_fields[i]);
		}
	}
	return 0;
}

/* OLD with PATCH, checked as a whole: what was allowed to be left out is filled in again. New reference in *OUT. */
static int patched(struct node *n, const struct resource *r, const json_t *old, const json_t *patch, json_t **out,
		   char *where, size_t cap, struct err *err)
{
	AUTO(json_decref) json_t *doc = schema_merge(old, patch), *bare = json_copy(doc);

	where[0] = 0;
	int bad = check_own_fields(patch, old, where, cap, err);
	if (bad < 0)
		return bad;
	if (!json_equal(json_object_get(doc, "name"), json_object_get(old, "name"))) {
		snprintf(where, cap, "name");
		return err_set(err, -EINVAL, "a name cannot be changed like that%s",
			       !strcmp(r->kind, "instance") ? "; an instance is renamed by POST to its 'rename'" : "");
	}
	for (unsigned i = 0; own_fields[i]; i++)
		json_object_del(bare, own_fields[i]);
	bad = schema_check(r->schema, bare, false, where, cap, err);
	if (!bad && json_object_update(doc, bare) < 0)
		bad = err_set(err, -ENOMEM, "out of memory");
	for (unsigned i = 0; !bad && own_fields[i]; i++) {
		json_t *own = json_object_get(old, own_fields[i]);

		if (own)
			json_object_set(doc, own_fields[i], own);
		else
			json_object_del(doc, own_fields[i]);
	}
	if (!bad)
		bad = check_all(n, r, doc, old, where, cap, err);
	if (!bad)
		*out = json_incref(doc);
	return bad;
}

static void patch_try(struct change *ch)
{
	struct node *n = ch->c->arg;
	char where[PATH_MAX_LEN] = "";
	struct err err = ERR_INIT;
	int64_t modified = 0;
	bool is_strict = false;
	json_t *doc = NULL;
	AUTO(json_decref) json_t *old = doc_get(n->store, ch->key, &modified);
	int r = old ? check_match(ch->c, modified, &is_strict, &err) : err_set(&err, -ENOENT, "it has gone meanwhile");

	if (!r && json_is_true(json_object_get(old, "deleting")))
		r = err_set(&err, -EBUSY, "it is being deleted");
	if (!r)
		r = patched(n, ch->r, old, ch->c->body, &doc, where, sizeof(where), &err);
	if (!r)
		r = check_paths(ch->c, old, doc, where, sizeof(where), &err);
	quota_release(ch->node, ch->claim);
	ch->claim = NULL;
	if (!r)
		r = quota_claim(n, ch->key, ch->r->kind, doc, old, &ch->claim, where, sizeof(where), &err);
	if (r < 0)
		json_decref(doc);
	if (r < 0)
		change_fail(ch, r, where, &err);
	else
		change_put(ch, doc, modified);
}

/* Of what is there: TRY, as often as it is changed by others meanwhile. */
static void change_start(struct api_call *c, int status, void (*try)(struct change *ch))
{
	char key[STORE_KEY_MAX + 1];
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	struct change *ch = doc ? change_new(c, status) : NULL;

	if (!ch)
		return;
	memcpy(ch->key, key, sizeof(key));
	ch->again = try;
	try(ch);
}

void resource_patch(struct api_call *c)
{
	change_start(c, 200, patch_try);
}

static void delete_done(void *arg, const struct store_result *res)
{
	struct change *ch = arg;
	struct err err = ERR_INIT;

	if (res->code == -ESTALE && ch->tries++ < CHANGE_TRIES) {
		ch->again(ch);
		return;
	}
	if (res->code)
		api_fail(ch->c, err_set(&err, res->code, "%s", res->message), NULL, &err);
	else
		api_reply(ch->c, ch->r->has_controller ? 202 : 204, NULL);
	change_free(ch);
}

static void delete_try(struct change *ch)
{
	struct node *n = ch->c->arg;
	struct err err = ERR_INIT;
	int64_t modified = 0;
	bool is_strict = false;
	AUTO(json_decref) json_t *doc = doc_get(n->store, ch->key, &modified);
	int r = doc ? check_match(ch->c, modified, &is_strict, &err) : err_set(&err, -ENOENT, "it has gone meanwhile");

	if (!r && ch->r->check_delete)
		r = ch->r->check_delete(n, doc, &err);
	if (r < 0 || ch->c->is_dry_run) {
		if (r < 0)
			api_fail(ch->c, r, NULL, &err);
		else
			api_reply(ch->c, 200, json_incref(doc));
		change_free(ch);
		return;
	}
	json_object_set_new(doc, "deleting", json_true());
	AUTO(free) char *text = json_dumps(doc, JSON_COMPACT);
	struct store_op op = { .kind = ch->r->has_controller ? STORE_PUT : STORE_DELETE, .key = ch->key, .value = text,
			       .len = text ? strlen(text) : 0, .if_modified = modified };

	store_commit(n->store, &op, 1, delete_done, ch);
}

void resource_delete(struct api_call *c)
{
	change_start(c, 202, delete_try);
}
