/* SPDX-License-Identifier: Apache-2.0 */
#include "node/layers.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "util/cleanup.h"
#include "util/json.h"

enum { FIELD_LEN = 256 };

static const char labels[] = "labels";

static const struct schema_field *find(const struct schema *s, const char *name)
{
	const struct schema_field *f = s->fields;

	while (f->name && strcmp(f->name, name) != 0)
		f++;
	return f->name ? f : NULL;
}

/* --- what is its own ---------------------------------------------------- */

/* Is V what F says by default? */
static bool is_default(const struct schema_field *f, const json_t *v)
{
	AUTO(json_decref) json_t *dflt = f && f->dflt ? json_loads(f->dflt, JSON_DECODE_ANY, NULL) : NULL;

	return dflt && json_equal(dflt, v);
}

json_t *layers_own(const struct schema *s, const struct schema *full, const json_t *doc)
{
	const json_t *is = json_object_get(doc, "own"), *spec = json_object_get(doc, "spec");

	if (is)
		return json_deep_copy(is);
	json_t *own = json_object();
	for (const struct schema_field *f = s->fields; own && f->name; f++) {
		const json_t *v = json_object_get(strcmp(f->name, labels) ? spec : doc, f->name);

		if (v && !is_default(find(full, f->name), v) && (strcmp(f->name, labels) != 0 || json_object_size(v)))
			json_object_set_new(own, f->name, json_deep_copy(v));
	}
	return own;
}

static void change(const struct schema *s, json_t *own, const json_t *was, const json_t *sent);

/* NAME of OWN, an object, which was WAS and of which was SENT this. */
static void change_inside(const struct schema *s, json_t *own, const char *name, const json_t *was, const json_t *sent)
{
	json_t *is = json_object_get(own, name);
	AUTO(json_decref) json_t *inside = is ? json_incref(is) : json_object();

	change(s, inside, was, sent);
	if (json_object_size(inside))
		json_object_set(own, name, inside);
	else
		json_object_del(own, name);
}

/* S NULL: of a map, whose members are called as they like. */
static void change(const struct schema *s, json_t *own, const json_t *was, const json_t *sent)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)sent, name, v) {
		const struct schema_field *f = s ? find(s, name) : NULL;
		const json_t *before = json_object_get(was, name);

		if (s && !f)
			continue;
		if (json_is_null(v))
			json_object_del(own, name);
		else if (f && (f->type == SCHEMA_OBJECT || f->type == SCHEMA_MAP))
			change_inside(f->type == SCHEMA_OBJECT ? f->sub : NULL, own, name, before, v);
		else if (!json_equal(before, v))
			json_object_set_new(own, name, json_deep_copy(v));
	}
}

/* Labels of DOC as a member of a layer. New reference. */
static json_t *labels_of(const json_t *doc)
{
	return json_pack("{s:O*}", labels, json_object_get(doc, labels));
}

void layers_change(const struct schema *s, json_t *own, const json_t *old, const json_t *sent)
{
	AUTO(json_decref) json_t *were = labels_of(old), *sent_labels = labels_of(sent), *own_was = json_deep_copy(own);
	const json_t *sent_own = json_object_get(sent, "own");

	change(s, own, json_object_get(old, "spec"), json_object_get(sent, "spec"));
	change(s, own, were, sent_labels);
	if (json_is_null(sent_own))
		json_object_clear(own);
	else
		change(s, own, own_was, sent_own);
}

/* --- all of it ---------------------------------------------------- */

/* Each value in LAYER, a member of PREFIX: TELL(ARG, its path). S as in change(). */
static void walk(const struct schema *s, const char *prefix, const json_t *layer, void (*tell)(void *arg, const char *path, const json_t *v),
		 void *arg)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)layer, name, v) {
		const struct schema_field *f = s ? find(s, name) : NULL;
		bool is_top_label = f && f->type == SCHEMA_MAP;
		char path[FIELD_LEN];

		snprintf(path, sizeof(path), "%s%s%s", is_top_label ? "" : prefix, is_top_label || !prefix[0] ? "" : ".", name);
		if (f && (f->type == SCHEMA_OBJECT || f->type == SCHEMA_MAP))
			walk(f->type == SCHEMA_OBJECT ? f->sub : NULL, path, v, tell, arg);
		else
			tell(arg, path, v);
	}
}

struct origin {
	json_t *fields;
	const json_t *name;     /* of the profile */
};

static void comes_from(void *arg, const char *path, const json_t *v)
{
	struct origin *o = arg;

	(void)v;
	json_object_set(o->fields, path, (json_t *)o->name);
}

static void is_own(void *arg, const char *path, const json_t *v)
{
	(void)v;
	json_object_del(arg, path);
}

/* The profiles, and which field comes from which. New reference; NULL: there are none. */
static json_t *inherited(const struct schema *s, const json_t *profiles, const json_t *own)
{
	json_t *list = json_array(), *fields = json_object();
	const json_t *p;
	size_t i;

	json_array_foreach(profiles, i, p) {
		struct origin o = { fields, json_object_get(p, "name") };

		json_array_append_new(list, json_pack("{s:O, s:O, s:O}", "name", o.name, "uid", json_object_get(p, "uid"), "version",
						      json_object_get(p, "version")));
		walk(s, "spec", json_object_get(p, "spec"), comes_from, &o);
	}
	walk(s, "spec", own, is_own, fields);
	if (json_array_size(list))
		return json_pack("{s:o, s:o}", "profiles", list, "fields", fields);
	json_decref(list);
	json_decref(fields);
	return NULL;
}

/* Did the field NAME, or a part of it, come from a profile? */
static bool was_inherited(const json_t *old, const char *name)
{
	const json_t *fields = json_object_get(json_object_get(old, "inherited"), "fields");
	size_t len = strlen("spec."), all = len + strlen(name);
	const char *path;
	json_t *v;

	json_object_foreach((json_t *)fields, path, v)
		if (!strncmp(path, "spec.", len) && !strncmp(path + len, name, all - len) && (!path[all] || path[all] == '.'))
			return true;
	return false;
}

void layers_apply(const struct schema *s, json_t *doc, const json_t *old, const json_t *old_own, const json_t *profiles, json_t *own)
{
	const json_t *was = json_object_get(old, "spec"), *p;
	AUTO(json_decref) json_t *all = json_object();
	json_t *spec = json_object_get(doc, "spec"), *v;
	const char *name;
	size_t i;

	json_array_foreach(profiles, i, p) {
		json_t *more = schema_merge(all, json_object_get(p, "spec"));

		json_decref(all);
		all = more;
	}
	json_t *more = schema_merge(all, own);
	json_decref(all);
	all = more;
	/* What was there by default stays, also when a later version of the daemon has another default. */
	for (const struct schema_field *f = s->fields; f->name; f++) {
		const json_t *before = !old || json_object_get(old_own, f->name) || was_inherited(old, f->name) ? NULL :
				       json_object_get(was, f->name);

		if (before)
			json_object_set(spec, f->name, (json_t *)before);
		else
			json_object_del(spec, f->name);
	}
	json_object_set_new(doc, labels, json_object());
	json_object_foreach(all, name, v)
		json_object_set(strcmp(name, labels) ? spec : doc, name, v);
	json_object_set(doc, "own", own);
	json_t *from = inherited(s, profiles, own);
	if (from)
		json_object_set_new(doc, "inherited", from);
	else
		json_object_del(doc, "inherited");
}

/* --- what is different ---------------------------------------------------- */

static void differ(json_t *list, const char *prefix, const json_t *from, const json_t *to)
{
	AUTO(json_decref) json_t *names = json_object();
	const char *name;
	json_t *v;

	json_object_update(names, (json_t *)from);
	json_object_update(names, (json_t *)to);
	json_object_foreach(names, name, v) {
		json_t *a = json_object_get(from, name), *b = json_object_get(to, name);
		char path[FIELD_LEN];

		snprintf(path, sizeof(path), "%s.%s", prefix, name);
		if (json_is_object(a) && json_is_object(b))
			differ(list, path, a, b);
		else if (!json_equal(a, b))
			json_array_append_new(list, json_pack("{s:s, s:O*, s:O*}", "field", path, "from", a, "to", b));
	}
}

json_t *layers_difference(const json_t *old, const json_t *doc)
{
	json_t *list = json_array();

	differ(list, "spec", json_object_get(old, "spec"), json_object_get(doc, "spec"));
	differ(list, labels, json_object_get(old, labels), json_object_get(doc, labels));
	return list;
}
