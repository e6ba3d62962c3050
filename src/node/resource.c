/* SPDX-License-Identifier: Apache-2.0 */
#include "node/resource_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/doc.h"
#include "node/node.h"

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

/* Of one that is not there an empty list would say something else. */
static int check_instance(const struct api_call *c, struct err *err)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "instance", resource_project(c), api_param(c, "instance"));
	return store_get(n->store, key) ? 0 : err_set(err, -ENOENT, "there is no instance '%s' in the project '%s'", api_param(c, "instance"),
						      resource_project(c));
}

int resource_check_space(const struct api_call *c, const struct resource *r, struct err *err)
{
	const char *user = resource_user(c);
	int bad = 0;

	if (r->space == RESOURCE_OF_NODE)
		return 0;
	if (r->space == RESOURCE_OF_USER)
		return strchr(user, ':') ? err_set(err, -EINVAL, "'%s' is no user of the platform: say whose by 'user=NAME' in the query, or --user", user) :
					   resource_check_name(user, "user", err);
	if (r->space == RESOURCE_OF_INSTANCE)
		bad = resource_check_name(api_param(c, "instance"), "instance", err);
	if (!bad)
		bad = resource_check_name(resource_project(c), "project", err);
	return bad < 0 || r->space != RESOURCE_OF_INSTANCE ? bad : check_instance(c, err);
}

void resource_reply(struct api_call *c, int status, const char *key)
{
	struct node *n = c->arg;
	const struct store_doc *d = store_get(n->store, key);
	struct err err = ERR_INIT;
	char etag[32];
	size_t len = 0;
	/* Who only looks is told no secrets. */
	char *text = !d ? NULL : c->user.role < API_OPERATOR ? doc_view(n->store, d, &len) : doc_view_whole(n->store, d, &len);

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
