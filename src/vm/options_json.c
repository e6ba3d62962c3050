/* SPDX-License-Identifier: Apache-2.0 */
/* options_json.c - a configuration from JSON, and back. */
#include "vm/options_priv.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/log.h"
#include "vm/config.h"

/* --- reading --- */

static int options_json_object(const struct option *table, void *base, const char *path, json_t *obj, struct err *err);

static int options_json_array(const struct option *o, void *base, const char *path, json_t *v, struct err *err)
{
	size_t n = json_is_array(v) ? json_array_size(v) : 0;
	char at[192];

	if (!json_is_array(v))
		return err_set(err, -EINVAL, "%s: must be an array", path);
	for (size_t i = 0; i < n; i++) {
		json_t *e = json_array_get(v, i);
		void *elem = NULL;

		snprintf(at, sizeof(at), "%s[%zu]", path, i);
		if (o->kind == OPT_STRINGS) {
			int r = json_is_string(e) ? options_set(o, base, json_string_value(e), err)
						  : err_set(err, -EINVAL, "must be a string");
			if (r < 0)
				return err_wrap(err, r, "%s", at);
			continue;
		}
		int r = options_append(o, base, &elem, err);
		if (r < 0)
			return err_wrap(err, r, "%s", path);
		r = options_json_object(o->sub, elem, at, e, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int options_json_value(const struct option *o, void *base, const char *path, json_t *v, struct err *err)
{
	static const char *const wanted[] = {
		[OPT_STRING] = "a string", [OPT_CHOICE] = "a string", [OPT_SIZE] = "a number of bytes or a string like \"512M\"",
		[OPT_UINT] = "a number", [OPT_BOOL] = "true or false", [OPT_FLAG] = "true or false",
	};
	char number[32];
	const char *text = NULL;

	if (o->kind == OPT_LIST || o->kind == OPT_STRINGS)
		return options_json_array(o, base, path, v, err);
	if ((o->kind == OPT_STRING || o->kind == OPT_CHOICE || o->kind == OPT_SIZE) && json_is_string(v))
		text = json_string_value(v);
	if ((o->kind == OPT_UINT || o->kind == OPT_SIZE) && json_is_integer(v)) {
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		text = number;
	}
	if ((o->kind == OPT_BOOL || o->kind == OPT_FLAG) && json_is_boolean(v))
		text = json_is_true(v) ? "on" : "off";
	if (!text)
		return err_set(err, -EINVAL, "%s: must be %s", path, wanted[o->kind]);
	int r = options_set(o, base, text, err);
	return r < 0 ? err_wrap(err, r, "%s", path) : 0;
}

static int options_json_object(const struct option *table, void *base, const char *path, json_t *obj, struct err *err)
{
	const char *key;
	json_t *v;
	char at[128];

	if (!json_is_object(obj))
		return err_set(err, -EINVAL, "%s: must be an object", *path ? path : "the document");
	json_object_foreach(obj, key, v) {
		const struct option *o = options_find(table, true, key);

		snprintf(at, sizeof(at), "%s%s%s", path, *path ? "." : "", key);
		if (!o)
			return err_wrap(err, options_unknown(table, true, "key", key, err), "%s", at);
		int r = options_json_value(o, base, at, v, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static void options_json_decref(json_t **v)
{
	json_decref(*v); /* NULL is fine */
}

static int options_load_json(struct config *c, json_t *doc, const json_error_t *why, struct err *err)
{
	if (!doc)
		return err_set(err, -EINVAL, "line %d, column %d: %s", why->line, why->column, why->text);
	return options_json_object(options, c, "", doc, err);
}

int config_load_text(struct config *c, const char *text, size_t len, struct err *err)
{
	json_error_t why;
	__attribute__((cleanup(options_json_decref))) json_t *doc = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);

	return options_load_json(c, doc, &why, err);
}

int config_load_machine(struct config *c, const char *text, size_t len, struct err *err)
{
	json_error_t why;
	__attribute__((cleanup(options_json_decref))) json_t *doc = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);

	for (const struct option *o = options; doc && o->arg; o++) {
		if (o->is_host && !json_object_del(doc, o->key))
			log_warn("the machine's configuration has '%s', which is not the machine's to say: it is left out", o->key);
	}
	return options_load_json(c, doc, &why, err);
}

int config_load_file(struct config *c, const char *path, struct err *err)
{
	json_error_t why;
	FILE *f = fopen(path, "re");

	if (!f)
		return err_set(err, -errno, "cannot open configuration '%s': %s", path, strerror(errno));
	__attribute__((cleanup(options_json_decref))) json_t *doc = json_loadf(f, JSON_REJECT_DUPLICATES, &why);
	fclose(f);
	int r = options_load_json(c, doc, &why, err);
	return r < 0 ? err_wrap(err, r, "configuration '%s'", path) : 0;
}

/* --- writing --- */

static json_t *options_to_json(const struct option *table, const void *base);

static json_t *options_list_to_json(const struct option *o, const void *base)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < *(const unsigned *)((const char *)base + o->n_offset); i++)
		json_array_append_new(list, options_to_json(o->sub, (const char *)base + o->offset + i * o->elem_size));
	return list;
}

/* NULL: it has no value. */
static json_t *options_value_to_json(const struct option *o, const void *base)
{
	const void *at = (const char *)base + o->offset;
	const struct config_strings *strings = at;
	const char *text;
	json_t *list;

	switch (o->kind) {
	case OPT_STRING:
	case OPT_CHOICE:
		text = *(char *const *)at;
		return text ? json_string(text) : NULL;
	case OPT_SIZE:
	case OPT_UINT:
		return json_integer((json_int_t)*(const uint64_t *)at);
	case OPT_BOOL:
	case OPT_FLAG:
		return json_boolean(*(const bool *)at);
	case OPT_STRINGS:
		list = json_array();
		for (unsigned i = 0; i < strings->n; i++)
			json_array_append_new(list, json_string(strings->v[i]));
		return list;
	case OPT_LIST:
		return options_list_to_json(o, base);
	}
	return NULL;
}

static json_t *options_to_json(const struct option *table, const void *base)
{
	json_t *doc = json_object();

	for (const struct option *o = table; o->arg; o++) {
		json_t *v = o->is_host ? NULL : options_value_to_json(o, base);

		if (v)
			json_object_set_new(doc, o->key, v);
	}
	return doc;
}

char *config_process_to_json(const struct config *c)
{
	static const char *const keys[] = { "control", "jail", "log_level", "stats" };
	__attribute__((cleanup(options_json_decref))) json_t *doc = json_object();

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const struct option *o = options_find(options, true, keys[i]);
		json_t *v = options_value_to_json(o, c);

		if (v)
			json_object_set_new(doc, o->key, v);
	}
	return doc ? json_dumps(doc, JSON_COMPACT) : NULL;
}

char *config_to_json(const struct config *c)
{
	__attribute__((cleanup(options_json_decref))) json_t *doc = options_to_json(options, c);

	return doc ? json_dumps(doc, JSON_COMPACT) : NULL;
}
