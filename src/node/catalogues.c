/* SPDX-License-Identifier: Apache-2.0 */
/* catalogues.c - which there are, and what is known of what they have. */
#include "node/catalogues.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "api/route.h"
#include "node/catalogue.h"
#include "node/node.h"
#include "node/pool.h"
#include "util/dirs.h"
#include "util/err.h"
#include "util/str.h"

enum { NEAR_EDITS = 2, PATH_CAP = PATH_MAX };

int catalogues_config(struct node *n, const struct node_config *c, struct err *err)
{
	char path[PATH_MAX];

	if (c->catalogues && (!realpath(c->catalogues, path) || access(path, R_OK | X_OK) < 0))
		return err_set(err, -EINVAL, "cannot read '%s': %s", c->catalogues, strerror(errno));
	n->catalogues = c->catalogues ? strdup(path) : dirs_shared("catalogues");
	return c->catalogues && !n->catalogues ? err_set(err, -ENOMEM, "out of memory") : 0;
}

/* --- which there are ---------------------------------------------------- */

static int is_description(const struct dirent *d)
{
	char name[CATALOGUE_NAME_MAX + 1];

	return catalogue_name(d->d_name, name);
}

/* CALL(ARG, PATH) of each description, by their names, until it says true. */
static void each(const struct node *n, bool (*call)(void *arg, const char *path), void *arg)
{
	struct dirent **all = NULL;
	int count = n->catalogues ? scandir(n->catalogues, &all, is_description, alphasort) : 0;
	bool is_over = false;
	char path[PATH_CAP];

	for (int i = 0; i < count; i++) {
		if (!is_over && i < CATALOGUES_MAX && snprintf(path, sizeof(path), "%s/%s", n->catalogues, all[i]->d_name) < (int)sizeof(path))
			is_over = call(arg, path);
		free(all[i]);
	}
	free(all);
}

int catalogues_path(const struct node *n, const char *name, char *path, size_t cap, struct err *err)
{
	char own[CATALOGUE_NAME_MAX + 1];

	if (n->catalogues && !strchr(name, '/') && snprintf(path, cap, "%s/%s.json", n->catalogues, name) < (int)cap && catalogue_name(path, own) &&
	    !access(path, F_OK))
		return 0;
	return err_set(err, -ENOENT, "there is no catalogue '%.80s'; 'viv image catalogue ls' lists those that are there", name);
}

struct search {
	const char *system;
	char *path;                     /* the result */
	size_t cap;
	char near[200], known[200];     /* systems: those with a similar name, and all */
	bool is_found;
};

static void mention(char *text, size_t cap, const char *name)
{
	size_t len = strlen(text);

	snprintf(text + len, cap - len, "%s'%s'", len ? ", " : "", name);
}

static bool look(void *arg, const char *path)
{
	struct search *s = arg;
	AUTO(json_decref) json_t *description = NULL;
	const json_t *system;
	size_t i;

	if (catalogue_load(&description, path, NULL) < 0)
		return false;
	json_array_foreach(json_object_get(description, "systems"), i, system) {
		if (str_distance(json_string_value(system), s->system) <= NEAR_EDITS)
			mention(s->near, sizeof(s->near), json_string_value(system));
		mention(s->known, sizeof(s->known), json_string_value(system));
	}
	s->is_found = catalogue_has_system(description, s->system);
	if (s->is_found)
		snprintf(s->path, s->cap, "%s", path);
	return s->is_found;
}

static int find(struct node *n, const struct catalogue_ref *ref, char *path, size_t cap, struct err *err)
{
	struct search s = { .system = ref->system, .path = path, .cap = cap };

	each(n, look, &s);
	if (s.is_found)
		return 0;
	return err_set(err, -ENOENT, "no catalogue has '%s'; %s %s", ref->system, s.near[0] ? "did you mean" : "there are",
		       s.near[0] ? s.near : s.known[0] ? s.known : "none at all: see 'vivd --catalogues'");
}

int catalogues_find(struct node *n, const char *reference, char *path, size_t cap, struct err *err)
{
	struct catalogue_ref ref;
	int r = catalogue_ref_parse(&ref, reference, err);

	return r < 0 ? r : find(n, &ref, path, cap, err);
}

/* --- what is known ---------------------------------------------------- */

/* Of the catalogue NAME, described by DESCRIPTION; NULL: nothing. */
static json_t *kept(const struct node *n, const char *name, const json_t *description)
{
	AUTO(json_decref) json_t *doc = NULL;
	char path[PATH_CAP];

	if (snprintf(path, sizeof(path), "%s/" CATALOGUES_CACHE "/%s.json", n->data_dir, name) >= (int)sizeof(path) ||
	    catalogue_open(&doc, path, NULL) < 0 || !json_equal(json_object_get(doc, "description"), description))
		return NULL;
	return take_ptr(&doc);
}

/* Seconds since DOC was looked at; -1: never, or the clock has been set back. */
static json_int_t age_of(const json_t *doc)
{
	json_int_t age = (json_int_t)time(NULL) - json_integer_value(json_object_get(doc, "time"));

	return doc && age >= 0 ? age : -1;
}

int catalogues_check(struct node *n, const char *reference, struct err *err)
{
	AUTO(json_decref) json_t *description = NULL, *doc = NULL;
	char path[PATH_CAP], name[CATALOGUE_NAME_MAX + 1];
	struct catalogue_ref ref;
	int r = catalogue_ref_parse(&ref, reference, err);

	if (!r)
		r = find(n, &ref, path, sizeof(path), err);
	if (!r)
		r = catalogue_load(&description, path, err);
	if (r < 0)
		return -EINVAL;
	catalogue_name(path, name);
	doc = kept(n, name, description);
	const json_t *image = doc ? catalogue_find(doc, &ref, err) : NULL;
	/* Of what was looked at long ago nobody knows. */
	if (doc && !image && age_of(doc) >= 0 && age_of(doc) < CATALOGUES_FRESH_S)
		return -EINVAL;
	if (err)
		*err = (struct err)ERR_INIT;
	return pool_check_room(n, POOL_DEFAULT, (uint64_t)json_integer_value(json_object_get(image, "size")), err);
}

/* --- what is told ---------------------------------------------------- */

static json_t *status_of(const json_t *doc, const struct err *why)
{
	json_int_t age = age_of(doc);
	const char *state = why->code ? "broken" : !doc ? "never" : age >= 0 && age < CATALOGUES_FRESH_S ? "ready" : "old";
	json_t *status = json_pack("{s:s, s:I}", "state", state, "images", (json_int_t)json_array_size(json_object_get(doc, "images")));

	for (const char *const *p = (const char *const[]){ "fetched", "verified", "signer", NULL }; *p; p++)
		if (json_object_get(doc, *p))
			json_object_set(status, *p, json_object_get(doc, *p));
	if (age >= 0)
		json_object_set_new(status, "age_seconds", json_integer(age));
	if (why->code)
		json_object_set_new(status, "reason", json_string(why->msg));
	return status;
}

/* The catalogue whose description is PATH, with all its images or, with REF, the one that it means: new reference. */
static json_t *view(const struct node *n, const char *path, bool has_images, const struct catalogue_ref *ref)
{
	AUTO(json_decref) json_t *description = NULL, *doc = NULL;
	char name[CATALOGUE_NAME_MAX + 1];
	struct err why = ERR_INIT;

	catalogue_name(path, name);
	if (!catalogue_load(&description, path, &why))
		doc = kept(n, name, description);
	json_t *status = status_of(doc, &why);
	json_t *out = json_pack("{s:s, s:s, s:s, s:O*, s:O*, s:O*, s:o}", "kind", "catalogue", "name", name, "title", catalogue_text(description, "title"),
				"systems", json_object_get(description, "systems"), "url", json_object_get(description, "url"),
				"keyring", json_object_get(description, "keyring"), "status", status);
	if (ref) {
		const json_t *image = doc ? catalogue_find(doc, ref, &why) : NULL;

		json_object_set_new(out, "images", image ? json_pack("[O]", image) : json_array());
		if (doc && !image)
			json_object_set_new(status, "reason", json_string(why.msg));
	} else if (has_images) {
		json_object_set_new(out, "images", doc ? json_incref(json_object_get(doc, "images")) : json_array());
	}
	return out;
}

struct listing { const struct node *n; json_t *items; };

static bool list_one(void *arg, const char *path)
{
	struct listing *l = arg;

	json_array_append_new(l->items, view(l->n, path, false, NULL));
	return false;
}

void catalogues_list(struct api_call *c)
{
	struct node *n = c->arg;
	const char *reference = http_query(c->rq, "image");
	struct listing l = { .n = n, .items = json_array() };
	struct catalogue_ref ref;
	struct err err = ERR_INIT;
	char path[PATH_CAP];
	int r = reference ? catalogue_ref_parse(&ref, reference, &err) : 0;

	if (!r && reference)
		r = find(n, &ref, path, sizeof(path), &err);
	if (!r && reference)
		json_array_append_new(l.items, view(n, path, true, &ref));
	else if (!r)
		each(n, list_one, &l);
	if (!r) {
		api_reply(c, 200, json_pack("{s:o}", "items", l.items));
		return;
	}
	json_decref(l.items);
	api_fail(c, r, NULL, &err);
}

void catalogues_show(struct api_call *c)
{
	struct node *n = c->arg;
	struct err err = ERR_INIT;
	char path[PATH_CAP];
	int r = catalogues_path(n, api_param(c, "name"), path, sizeof(path), &err);

	if (r < 0)
		api_fail(c, r, NULL, &err);
	else
		api_reply(c, 200, view(n, path, true, NULL));
}
