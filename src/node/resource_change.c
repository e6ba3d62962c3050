/* SPDX-License-Identifier: Apache-2.0 */
/* resource_change.c - making, changing and deleting documents of any kind: checked, admitted, and committed with what goes with it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/auth.h"
#include "node/doc.h"
#include "node/idempotency.h"
#include "node/node.h"
#include "node/path_look.h"
#include "node/resource_priv.h"

enum { PATH_MAX_LEN = 256, CHANGE_TRIES = 16 };

/* What the server writes; a client may send it back as it was. */
static const char *const own_fields[] = { "kind", "project", "uid", "created", "deleting", "revision", "status",
					 "user_uid", "expires", "instance", "instance_uid", "renamed_from", NULL };
/* And what 'expand' makes anew with each change. */
static const char *const made_fields[] = { "inherited", "unchanged_since", "version", "plan", NULL };

static void drop_fields(json_t *doc, const char *const *names)
{
	for (; *names; names++)
		json_object_del(doc, *names);
}

/* --- a change on its way to the disk ---------------------------------------------------- */

static void change_free(struct resource_change *ch)
{
	quota_release_all(ch->node, &ch->claims);
	ops_clear(&ch->ops);
	json_decref(ch->plan);
	free(ch);
}

static void change_fail(struct resource_change *ch, int r, const char *where, const struct err *err)
{
	api_fail(ch->c, r, where, err);
	change_free(ch);
}

/* What was begun for it is begun anew. */
static void change_reset(struct resource_change *ch)
{
	quota_release_all(ch->node, &ch->claims);
	ops_clear(&ch->ops);
	json_decref(ch->plan);
	ch->plan = NULL;
}

/* Its condition OP does not hold: somebody else was quicker. */
static void change_stale(struct resource_change *ch, const struct store_result *res)
{
	struct err err = ERR_INIT;

	if (idempotency_answered(ch->c))
		change_free(ch);               /* the same request was on its way twice */
	else if (ch->is_new && !res->op)
		change_fail(ch, err_set(&err, -EEXIST, "there is a %s of that name already", ch->r->kind), "name", &err);
	else if (ch->tries++ < CHANGE_TRIES)
		ch->again(ch);
	else
		change_fail(ch, err_set(&err, -EAGAIN, "%s", res->message), NULL, &err);
}

static void change_done(void *arg, const struct store_result *res)
{
	struct resource_change *ch = arg;
	struct err err = ERR_INIT;

	if (res->code == -ESTALE) {
		change_stale(ch, res);
	} else if (res->code) {
		change_fail(ch, err_set(&err, res->code, "%s", res->message), NULL, &err);
	} else {
		if (ch->is_delete)
			api_reply(ch->c, ch->status, NULL);
		else
			resource_reply(ch->c, ch->status, ch->key);
		change_free(ch);
	}
}

static struct resource_change *change_new(struct api_call *c, int status)
{
	struct resource_change *ch = calloc(1, sizeof(*ch));
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

/* All that is in CH->ops, the first of which is of its own document. */
static void change_commit(struct resource_change *ch)
{
	struct idempotency_record record;
	unsigned n = ch->ops.n;

	if (n < STORE_OPS_MAX && idempotency_op(ch->c, ch->key, ch->status, &ch->ops.op[n], &record))
		n++;
	store_commit(ch->node->store, ch->ops.op, n, change_done, ch);
}

/* DOC is what the document shall be instead of OLD (NULL: it is new). A dry run ends here. */
static void change_put(struct resource_change *ch, json_t *doc, const json_t *old, int64_t if_modified)
{
	char where[PATH_MAX_LEN] = "";
	struct err err = ERR_INIT;
	int r = ops_put(&ch->ops, ch->key, doc, if_modified);

	if (!r && ch->r->add_ops)
		r = ch->r->add_ops(ch, doc, old, where, sizeof(where), &err);
	if (!r && ch->plan)
		json_object_set(doc, "plan", ch->plan);
	if (r < 0)
		change_fail(ch, r == -ENOMEM ? err_set(&err, -EAGAIN, "out of memory") : r, where, &err);
	else if (ch->c->is_dry_run)
		api_reply(ch->c, 200, json_incref(doc));
	else
		change_commit(ch);
	if (!r && ch->c->is_dry_run)
		change_free(ch);
}

/* --- what may be ---------------------------------------------------- */

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

int resource_fill_in(const struct resource *r, json_t *doc, char *where, size_t cap, struct err *err)
{
	AUTO(json_decref) json_t *bare = json_copy(doc);

	drop_fields(bare, own_fields);
	drop_fields(bare, made_fields);
	int bad = schema_check(r->schema, bare, false, where, cap, err);

	if (!bad && json_object_update(doc, bare) < 0)
		bad = err_set(err, -ENOMEM, "out of memory");
	return bad;
}

/* --- making ---------------------------------------------------- */

/* What was sent, as the schema has it, but nothing filled in. New reference; NULL: out of memory. */
static json_t *as_sent(struct api_call *c)
{
	char where[PATH_MAX_LEN];
	size_t len;
	const char *text = http_body(c->rq, &len);
	json_t *sent = json_loadb(text, len, 0, NULL);

	if (sent)
		(void)schema_check(c->route->in, sent, true, where, sizeof(where), NULL);
	return sent;
}

/* A document of what C's body says. New reference. */
static json_t *new_doc(struct api_call *c, const struct resource *r)
{
	char uid[DOC_UID_LEN + 1], now[DOC_TIME_LEN + 1];

	doc_new_uid(uid);
	doc_now(now);
	json_t *doc = json_pack("{s:s, s:O, s:s*, s:s, s:s}", "kind", r->kind, "name", json_object_get(c->body, "name"), "project",
				c->route->scope == API_PROJECT ? resource_project(c) : NULL, "uid", uid, "created", now);

	drop_fields(c->body, own_fields);
	drop_fields(c->body, made_fields);
	json_object_update_missing(doc, c->body);
	return doc;
}

static int expand_new(struct resource_change *ch, json_t *doc, char *where, size_t cap, struct err *err)
{
	if (!ch->r->expand)
		return 0;
	AUTO(json_decref) json_t *sent = as_sent(ch->c);
	int r = sent ? ch->r->expand(ch->node, doc, NULL, sent, where, cap, err) : err_set(err, -EAGAIN, "out of memory");

	return r < 0 ? r : resource_fill_in(ch->r, doc, where, cap, err);
}

static void create_try(struct resource_change *ch)
{
	struct node *n = ch->node;
	struct api_call *c = ch->c;
	char where[PATH_MAX_LEN] = "";
	struct err err = ERR_INIT;

	change_reset(ch);
	AUTO(json_decref) json_t *doc = new_doc(c, ch->r);
	int r = expand_new(ch, doc, where, sizeof(where), &err);
	if (!r)
		r = check_paths(c, NULL, doc, where, sizeof(where), &err);
	if (!r)
		r = check_all(n, ch->r, doc, NULL, where, sizeof(where), &err);
	if (!r && ch->r->fill)
		r = ch->r->fill(c, doc, &err);
	if (!r && store_get(n->store, ch->key)) {
		snprintf(where, sizeof(where), "name");
		r = err_set(&err, -EEXIST, "there is a%s %s '%s' already; choose another name or delete it first",
			    strchr("aeiou", ch->r->kind[0]) ? "n" : "", ch->r->kind, json_string_value(json_object_get(doc, "name")));
	}
	if (!r)
		r = quota_claim(n, ch->key, ch->r->kind, doc, NULL, &ch->claims, where, sizeof(where), &err);
	if (r < 0)
		change_fail(ch, r, where, &err);
	else
		change_put(ch, doc, NULL, STORE_ABSENT);
}

/* The path that BODY names, if it may, and if somebody has to look at it; NULL: none. */
static const char *path_to_look_at(const struct api_call *c, const struct resource *r)
{
	char names[PATH_MAX_LEN], where[PATH_MAX_LEN], *rest = names;
	const json_t *at = c->body;

	if (!r->looks_at || check_paths(c, NULL, c->body, where, sizeof(where), NULL) < 0)
		return NULL;
	snprintf(names, sizeof(names), "%s", r->looks_at);
	for (const char *name; (name = strsep(&rest, ".")) != NULL;)
		at = json_object_get(at, name);
	return json_string_value(at);
}

static void path_looked(void *arg, int r, const struct err *err)
{
	struct resource_change *ch = arg;

	if (r < 0)
		change_fail(ch, r, ch->r->looks_at, err);
	else
		create_try(ch);
}

void resource_create(struct api_call *c)
{
	struct err err = ERR_INIT;
	char buf[RESOURCE_SPACE_LEN];

	if (idempotency_answered(c))
		return;
	struct resource_change *ch = change_new(c, 201);
	if (!ch)
		return;
	int r = resource_check_space(c, ch->r, &err);
	if (r < 0) {
		change_fail(ch, r, NULL, &err);
		return;
	}
	doc_key(ch->key, ch->r->kind, resource_space_of(c, ch->r, buf), json_string_value(json_object_get(c->body, "name")));
	ch->is_new = true;
	ch->again = create_try;
	const char *path = path_to_look_at(c, ch->r);
	if (!path)
		create_try(ch);
	else if (path_look(ch->node, path, ch->r->look, path_looked, ch, &err) < 0)
		change_fail(ch, -EAGAIN, NULL, &err);
}

/* --- changing ---------------------------------------------------- */

/* Does If-Match allow a change of the document at MODIFIED? */
static int check_match(struct api_call *c, int64_t modified, struct err *err)
{
	const char *match = http_get_header(c->rq, HTTP_IF_MATCH);
	char etag[32];

	snprintf(etag, sizeof(etag), "\"%lld\"", (long long)modified);
	if (match && strcmp(match, "*") != 0 && strcmp(match, etag) != 0)
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
	/* Who sends all of what was read once must not have what came from profiles then become the thing's own. */
	const json_t *inherited = json_object_get(patch, "inherited");
	if (inherited && !json_equal(inherited, json_object_get(old, "inherited"))) {
		snprintf(where, cap, "inherited");
		return err_set(err, -ESTALE, "what it has from its profiles is not that any more; read it again and repeat the change");
	}
	return 0;
}

static void keep_fields(json_t *doc, const json_t *old, const char *const *names)
{
	for (; *names; names++) {
		json_t *own = json_object_get(old, *names);

		if (own)
			json_object_set(doc, *names, own);
		else
			json_object_del(doc, *names);
	}
}

static bool can_be_renamed(const char *kind)
{
	static const char *const kinds[] = { "instance", "volume", "image", "network" };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i], kind))
			return true;
	return false;
}

/* OLD with PATCH, checked as a whole: what was allowed to be left out is filled in again. New reference in *OUT. */
static int patched(struct node *n, const struct resource *r, const json_t *old, const json_t *patch, json_t **out,
		   char *where, size_t cap, struct err *err)
{
	AUTO(json_decref) json_t *doc = schema_merge(old, patch);

	where[0] = 0;
	int bad = check_own_fields(patch, old, where, cap, err);
	if (bad < 0)
		return bad;
	if (!json_equal(json_object_get(doc, "name"), json_object_get(old, "name"))) {
		snprintf(where, cap, "name");
		return err_set(err, -EINVAL, "a name cannot be changed like that%s",
			       can_be_renamed(r->kind) ? ": it is renamed by POST to its 'rename'" : "");
	}
	keep_fields(doc, old, own_fields);
	keep_fields(doc, old, made_fields);
	if (r->expand)
		bad = r->expand(n, doc, old, patch, where, cap, err);
	if (!bad)
		bad = resource_fill_in(r, doc, where, cap, err);
	if (!bad)
		bad = check_all(n, r, doc, old, where, cap, err);
	if (!bad)
		*out = json_incref(doc);
	return bad;
}

static void patch_try(struct resource_change *ch)
{
	struct node *n = ch->node;
	char where[PATH_MAX_LEN] = "";
	struct err err = ERR_INIT;
	int64_t modified = 0;
	AUTO(json_decref) json_t *old = doc_get(n->store, ch->key, &modified), *doc = NULL;

	change_reset(ch);
	int r = old ? check_match(ch->c, modified, &err) : err_set(&err, -ENOENT, "it has gone meanwhile");
	if (!r && json_is_true(json_object_get(old, "deleting")))
		r = err_set(&err, -EBUSY, "it is being deleted");
	if (!r)
		r = patched(n, ch->r, old, ch->c->body, &doc, where, sizeof(where), &err);
	if (!r)
		r = check_paths(ch->c, old, doc, where, sizeof(where), &err);
	if (!r)
		r = quota_claim(n, ch->key, ch->r->kind, doc, old, &ch->claims, where, sizeof(where), &err);
	if (r < 0)
		change_fail(ch, r, where, &err);
	else
		change_put(ch, doc, old, modified);
}

/* Of what is there: TRY, as often as it is changed by others meanwhile. */
static void change_start(struct api_call *c, int status, void (*try)(struct resource_change *ch))
{
	char key[STORE_KEY_MAX + 1];

	if (idempotency_answered(c))
		return;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	struct resource_change *ch = doc ? change_new(c, status) : NULL;

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

/* --- deleting ---------------------------------------------------- */

static void delete_try(struct resource_change *ch)
{
	struct node *n = ch->node;
	struct err err = ERR_INIT;
	int64_t modified = 0;
	AUTO(json_decref) json_t *doc = doc_get(n->store, ch->key, &modified);

	change_reset(ch);
	ch->is_delete = true;
	int r = doc ? check_match(ch->c, modified, &err) : err_set(&err, -ENOENT, "it has gone meanwhile");
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
	ch->status = ch->r->has_controller ? 202 : 204;
	r = ch->r->has_controller ? ops_put(&ch->ops, ch->key, doc, modified) : ops_delete(&ch->ops, ch->key, modified);
	if (r < 0)
		change_fail(ch, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
	else
		change_commit(ch);
}

void resource_delete(struct api_call *c)
{
	change_start(c, 202, delete_try);
}
