/* SPDX-License-Identifier: Apache-2.0 */
#include "api/schema.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "util/err.h"
#include "util/str.h"

enum { DEPTH_MAX = 16, NAME_LEN_MAX = 63, STRING_LEN_MAX = 64 << 10, LIST_LEN_MAX = 1024 };

/* Where the check is: the path grows and shrinks with it, by a member's NAME or, without, by an INDEX. */
struct place {
	char *text;
	size_t cap, len;
	unsigned depth;
	bool is_patch;
};

static size_t place_push(struct place *p, const char *name, long index)
{
	size_t before = p->len;
	int n;

	if (name)
		n = snprintf(p->text + p->len, p->cap - p->len, "%s%s", p->len ? "." : "", name);
	else
		n = snprintf(p->text + p->len, p->cap - p->len, "[%ld]", index);

	if (n > 0)
		p->len = p->len + (size_t)n < p->cap ? p->len + (size_t)n : p->cap - 1;
	return before;
}

static void place_pop(struct place *p, size_t before)
{
	p->len = before;
	p->text[before] = 0;
}

static int check_object(struct place *p, const struct schema *s, json_t *doc, struct err *err);

/* --- single values -------------------------------------------------------------------------------------- */

static bool is_choice(const char *choices, const char *v)
{
	size_t len = strlen(v);

	for (const char *c = strchr(v, '|') ? NULL : choices; c; c = strchr(c, '|') ? strchr(c, '|') + 1 : NULL)
		if (!strncmp(c, v, len) && (c[len] == '|' || !c[len]))
			return true;
	return false;
}

static int check_string(const struct schema_field *f, const json_t *v, struct err *err)
{
	size_t len = json_string_length(v), max = f->max ? (size_t)f->max : STRING_LEN_MAX;

	if (!json_is_string(v))
		return err_set(err, -EINVAL, "it has to be a string");
	if (strlen(json_string_value(v)) != len)
		return err_set(err, -EINVAL, "it contains a NUL character");
	if (f->choices && !is_choice(f->choices, json_string_value(v)))
		return err_set(err, -EINVAL, "'%.60s' is not one of %s", json_string_value(v), f->choices);
	if (len < (size_t)f->min || len > max)
		return err_set(err, -EINVAL, "it has %zu characters; %" PRId64 " to %zu are allowed", len, f->min, max);
	return 0;
}

static int check_name(const json_t *v, struct err *err)
{
	const char *t = json_string_value(v);
	size_t n = 0;

	if (!t)
		return err_set(err, -EINVAL, "it has to be a string");
	while ((t[n] >= 'a' && t[n] <= 'z') || (n && ((t[n] >= '0' && t[n] <= '9') || t[n] == '-')))
		n++;
	if (t[n] || !n || n > NAME_LEN_MAX || t[n - 1] == '-')
		return err_set(err, -EINVAL, "'%.70s' cannot be a name: lower-case letters, digits and '-', beginning with a letter, "
			       "at most %d", t, NAME_LEN_MAX);
	return 0;
}

static int check_path(const json_t *v, struct err *err)
{
	const char *t = json_string_value(v);

	if (!t || t[0] != '/' || strlen(t) >= 4096)
		return err_set(err, -EINVAL, "it has to be an absolute path, beginning with '/'");
	return 0;
}

static int check_number(const struct schema_field *f, const json_t *v, struct err *err)
{
	int64_t n = json_integer_value(v);

	if (!json_is_integer(v))
		return err_set(err, -EINVAL, "it has to be a whole number");
	if ((f->min || f->max) && (n < f->min || n > f->max))
		return err_set(err, -EINVAL, "%" PRId64 " is not between %" PRId64 " and %" PRId64, n, f->min, f->max);
	return 0;
}

/* "512M" becomes 536870912 in OWNER. */
static int check_size(const struct schema_field *f, json_t *owner, json_t *v, struct err *err)
{
	uint64_t bytes;

	if (!json_is_string(v))
		return check_number(f, v, err);
	if (str_parse_size(&bytes, json_string_value(v), err) < 0)
		return -EINVAL;
	json_t *n = bytes <= INT64_MAX ? json_integer((json_int_t)bytes) : NULL;

	if (!n)
		return err_set(err, -EINVAL, "'%.40s' is too much", json_string_value(v));
	int r = check_number(f, n, err);

	json_object_set_new(owner, f->name, n);
	return r;
}

/* "12.345": in thousandths; -1: it is none. */
static int64_t share_of_text(const char *text)
{
	unsigned whole, part = 0;
	int end = 0, from = 0, n;

	if (!isdigit((unsigned char)text[0]) || sscanf(text, "%9u%n", &whole, &end) != 1)
		return -1;
	if (text[end] == '.') {
		from = end + 1;
		if (!isdigit((unsigned char)text[from]) || sscanf(text + from, "%3u%n", &part, &n) != 1)
			return -1;
		end = from + n;
		for (; n < 3; n++)
			part *= 10;
	}
	return text[end] ? -1 : (int64_t)whole * 1000 + part;
}

static int check_share(const struct schema_field *f, json_t *owner, json_t *v, struct err *err)
{
	int64_t share = json_is_string(v) ? share_of_text(json_string_value(v)) : -1;
	char text[32];

	if (json_is_number(v) && json_number_value(v) >= 0 && json_number_value(v) < 1e9)
		share = (int64_t)(json_number_value(v) * 1000 + 0.5);
	if (share < f->min || share > f->max)
		return err_set(err, -EINVAL, "it has to be a number from %.10g to %.10g, as 0.5 or 2", (double)f->min / 1000, (double)f->max / 1000);
	snprintf(text, sizeof(text), "%.10g", (double)share / 1000);
	json_object_set_new(owner, f->name, json_string(text));
	return 0;
}

static int check_time(const json_t *v, struct err *err)
{
	unsigned year, month, day, hour, minute, second;
	int end = 0;

	if (!json_is_string(v) || sscanf(json_string_value(v), "%4u-%2u-%2uT%2u:%2u:%2uZ%n", &year, &month, &day, &hour, &minute,
					 &second, &end) != 6 || end != (int)json_string_length(v))
		return err_set(err, -EINVAL, "it has to be a time like 2026-01-31T12:00:00Z");
	return 0;
}

/* --- composed values --------------------------------------------------------------------------------------- */

static int check_count(const struct schema_field *f, size_t n, struct err *err)
{
	size_t max = f->max ? (size_t)f->max : LIST_LEN_MAX;

	if (n < (size_t)f->min || n > max)
		return err_set(err, -EINVAL, "it has %zu elements; %" PRId64 " to %zu are allowed", n, f->min, max);
	return 0;
}

static int check_list(struct place *p, const struct schema_field *f, json_t *v, struct err *err)
{
	static const struct schema_field plain = { .type = SCHEMA_STRING };
	bool was_patch = p->is_patch;
	size_t i;
	json_t *item;

	if (!json_is_array(v))
		return err_set(err, -EINVAL, "it has to be a list");
	int r = check_count(f, json_array_size(v), err);

	if (r < 0)
		return r;
	p->is_patch = false;            /* a list is replaced as a whole */
	json_array_foreach(v, i, item) {
		size_t before = place_push(p, NULL, (long)i);

		r = f->sub ? check_object(p, f->sub, item, err) : check_string(&plain, item, err);
		if (r < 0)
			break;
		place_pop(p, before);
	}
	p->is_patch = was_patch;
	return r;
}

static int check_map(struct place *p, const struct schema_field *f, json_t *v, struct err *err)
{
	const char *key;
	json_t *item;

	if (!json_is_object(v))
		return err_set(err, -EINVAL, "it has to be an object of strings");
	json_object_foreach(v, key, item) {
		if (json_is_string(item) || (p->is_patch && json_is_null(item)))
			continue;
		place_push(p, key, -1);
		return err_set(err, -EINVAL, "it has to be a string");
	}
	return check_count(f, json_object_size(v), err);
}

static int check_field(struct place *p, const struct schema_field *f, json_t *owner, json_t *v, struct err *err)
{
	if (p->is_patch && json_is_null(v))
		return f->is_required ? err_set(err, -EINVAL, "it cannot be taken away") : 0;
	switch (f->type) {
	case SCHEMA_STRING: return check_string(f, v, err);
	case SCHEMA_NAME: return check_name(v, err);
	case SCHEMA_PATH: return check_path(v, err);
	case SCHEMA_INT: return check_number(f, v, err);
	case SCHEMA_SIZE: return check_size(f, owner, v, err);
	case SCHEMA_SHARE: return check_share(f, owner, v, err);
	case SCHEMA_BOOL: return json_is_boolean(v) ? 0 : err_set(err, -EINVAL, "it has to be true or false");
	case SCHEMA_TIME: return check_time(v, err);
	case SCHEMA_OBJECT: return check_object(p, f->sub, v, err);
	case SCHEMA_LIST: return check_list(p, f, v, err);
	case SCHEMA_MAP: return check_map(p, f, v, err);
	case SCHEMA_ANY: break;
	}
	return 0;
}

static const struct schema_field *find_field(const struct schema *s, const char *name)
{
	for (const struct schema_field *f = s->fields; f->name; f++)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

static int refuse_unknown(const struct schema *s, const char *name, struct err *err)
{
	const struct schema_field *best = NULL;
	unsigned least = 3;

	for (const struct schema_field *f = s->fields; f->name; f++) {
		unsigned d = str_distance(f->name, name);

		if (d < least) {
			least = d;
			best = f;
		}
	}
	return best ? err_set(err, -EINVAL, "there is no field '%.60s'; did you mean '%s'?", name, best->name) :
	       err_set(err, -EINVAL, "there is no field '%.60s' here", name);
}

/* What is not there: required, or by default. */
static int fill_in(struct place *p, const struct schema *s, json_t *doc, struct err *err)
{
	for (const struct schema_field *f = s->fields; f->name; f++) {
		if (json_object_get(doc, f->name))
			continue;
		if (f->is_required) {
			place_push(p, f->name, -1);
			return err_set(err, -EINVAL, "it is required: %s", f->help);
		}
		json_t *v = f->dflt ? json_loads(f->dflt, JSON_DECODE_ANY, NULL) : NULL;

		if (v)
			json_object_set_new(doc, f->name, v);
	}
	return 0;
}

static int check_object(struct place *p, const struct schema *s, json_t *doc, struct err *err)
{
	const char *key;
	void *safe;
	json_t *v;

	if (!json_is_object(doc))
		return err_set(err, -EINVAL, "it has to be an object");
	if (++p->depth > DEPTH_MAX)
		return err_set(err, -EINVAL, "it is nested too deeply");
	json_object_foreach_safe(doc, safe, key, v) {
		const struct schema_field *f = find_field(s, key);
		size_t before = place_push(p, key, -1);
		int r = f ? check_field(p, f, doc, v, err) : refuse_unknown(s, key, err);

		if (r < 0)
			return r;
		place_pop(p, before);
	}
	p->depth--;
	return p->is_patch ? 0 : fill_in(p, s, doc, err);
}

int schema_check(const struct schema *s, json_t *doc, bool is_patch, char *where, size_t cap, struct err *err)
{
	struct place p = { .text = where, .cap = cap, .is_patch = is_patch };

	where[0] = 0;
	return check_object(&p, s, doc, err);
}

json_t *schema_merge(const json_t *doc, const json_t *patch)
{
	if (!json_is_object(patch))
		return json_deep_copy(patch);
	json_t *out = json_is_object(doc) ? json_copy((json_t *)doc) : json_object();
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)patch, key, v) {
		if (json_is_null(v))
			json_object_del(out, key);
		else
			json_object_set_new(out, key, schema_merge(json_object_get(out, key), v));
	}
	return out;
}

/* --- paths --------------------------------------------------------------------------------------------------- */

static bool find_new_path(struct place *p, const struct schema *s, const json_t *old, const json_t *doc);

static bool is_new_path(struct place *p, const struct schema_field *f, const json_t *was, const json_t *v)
{
	const json_t *item;
	size_t i;

	if (f->type == SCHEMA_PATH)
		return v && !json_equal(was, v);
	if (f->type == SCHEMA_OBJECT)
		return find_new_path(p, f->sub, was, v);
	json_array_foreach(f->type == SCHEMA_LIST && f->sub ? v : NULL, i, item) {
		size_t before = place_push(p, NULL, (long)i);

		if (find_new_path(p, f->sub, json_array_get(was, i), item))
			return true;
		place_pop(p, before);
	}
	return false;
}

static bool find_new_path(struct place *p, const struct schema *s, const json_t *old, const json_t *doc)
{
	for (const struct schema_field *f = s->fields; f->name && p->depth < DEPTH_MAX; f++) {
		size_t before = place_push(p, f->name, -1);

		p->depth++;
		bool is_new = is_new_path(p, f, json_object_get(old, f->name), json_object_get(doc, f->name));
		p->depth--;
		if (is_new)
			return true;
		place_pop(p, before);
	}
	return false;
}

bool schema_has_new_path(const struct schema *s, const json_t *old, const json_t *doc, char *where, size_t cap)
{
	struct place p = { .text = where, .cap = cap };

	where[0] = 0;
	return find_new_path(&p, s, old, doc);
}

/* --- OpenAPI --------------------------------------------------------------------------------------------------- */

static json_t *reference(const struct schema *s)
{
	return json_pack("{s:s+}", "$ref", "#/components/schemas/", s->name);
}

static json_t *choices_list(const char *choices)
{
	json_t *list = json_array();

	for (const char *c = choices; c; ) {
		const char *bar = strchr(c, '|');
		size_t len = bar ? (size_t)(bar - c) : strlen(c);

		json_array_append_new(list, json_stringn(c, len));
		c = bar ? bar + 1 : NULL;
	}
	return list;
}

static json_t *type_openapi(const struct schema_field *f)
{
	switch (f->type) {
	case SCHEMA_STRING: return json_pack("{s:s}", "type", "string");
	case SCHEMA_NAME: return json_pack("{s:s, s:s, s:i}", "type", "string", "pattern", "^[a-z]([a-z0-9-]*[a-z0-9])?$", "maxLength",
					   NAME_LEN_MAX);
	case SCHEMA_PATH: return json_pack("{s:s, s:s}", "type", "string", "pattern", "^/");
	case SCHEMA_INT: return json_pack("{s:s, s:s}", "type", "integer", "format", "int64");
	case SCHEMA_SIZE: return json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "oneOf", "type", "integer", "format", "int64", "type", "string",
					   "pattern", "^[0-9]+([KMGT]i?B?)?$");
	case SCHEMA_SHARE: return json_pack("{s:s, s:s}", "type", "string", "pattern", "^[0-9]+([.][0-9]{1,3})?$");
	case SCHEMA_BOOL: return json_pack("{s:s}", "type", "boolean");
	case SCHEMA_TIME: return json_pack("{s:s, s:s}", "type", "string", "format", "date-time");
	case SCHEMA_OBJECT: return reference(f->sub);
	case SCHEMA_LIST: return json_pack("{s:s, s:o}", "type", "array", "items", f->sub ? reference(f->sub) :
					   json_pack("{s:s}", "type", "string"));
	case SCHEMA_MAP: return json_pack("{s:s, s:{s:s}}", "type", "object", "additionalProperties", "type", "string");
	case SCHEMA_ANY: break;
	}
	return json_object();
}

static void add_bounds(const struct schema_field *f, json_t *out)
{
	bool is_number = f->type == SCHEMA_INT;

	if (f->choices)
		json_object_set_new(out, "enum", choices_list(f->choices));
	if ((f->min || f->max) && is_number) {
		json_object_set_new(out, "minimum", json_integer(f->min));
		json_object_set_new(out, "maximum", json_integer(f->max));
	}
	if (f->type == SCHEMA_STRING && f->max)
		json_object_set_new(out, "maxLength", json_integer(f->max));
	if (f->type == SCHEMA_STRING && f->min)
		json_object_set_new(out, "minLength", json_integer(f->min));
}

json_t *schema_openapi(const struct schema *s)
{
	json_t *properties = json_object(), *required = json_array();

	for (const struct schema_field *f = s->fields; f->name; f++) {
		json_t *v = type_openapi(f);

		add_bounds(f, v);
		json_object_set_new(v, "description", json_string(f->help));
		if (f->is_readonly)
			json_object_set_new(v, "readOnly", json_true());
		if (f->dflt)
			json_object_set_new(v, "default", json_loads(f->dflt, JSON_DECODE_ANY, NULL));
		json_object_set_new(properties, f->name, v);
		if (f->is_required)
			json_array_append_new(required, json_string(f->name));
	}
	json_t *out = json_pack("{s:s, s:s, s:o, s:b}", "type", "object", "description", s->help, "properties", properties,
				"additionalProperties", 0);

	if (json_array_size(required))
		json_object_set(out, "required", required);
	json_decref(required);
	return out;
}

void schema_collect(const struct schema *s, json_t *map)
{
	if (!s || json_object_get(map, s->name))
		return;
	json_object_set_new(map, s->name, schema_openapi(s));
	for (const struct schema_field *f = s->fields; f->name; f++)
		schema_collect(f->sub, map);
}
