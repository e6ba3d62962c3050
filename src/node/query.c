/* SPDX-License-Identifier: Apache-2.0 */
#include "node/query.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/err.h"

enum { TEXT_LEN = 64 };

/* --- reading what is asked for ---------------------------------------------------- */

static int parse_term(struct query_term *t, const char *text, size_t len, struct err *err)
{
	static const struct { const char *word; int how; } ways[] = {
		{ "!=", QUERY_IS_NOT }, { "=", QUERY_IS }, { "~", QUERY_HAS }, { "<", QUERY_LESS }, { ">", QUERY_MORE },
	};
	size_t path = strcspn(text, "!=~<>,");

	for (size_t i = 0; path && path < len && path < QUERY_PATH_MAX && i < sizeof(ways) / sizeof(ways[0]); i++) {
		size_t word = strlen(ways[i].word);

		if (strncmp(text + path, ways[i].word, word) != 0 || len - path - word >= QUERY_VALUE_MAX)
			continue;
		snprintf(t->path, sizeof(t->path), "%.*s", (int)path, text);
		snprintf(t->value, sizeof(t->value), "%.*s", (int)(len - path - word), text + path + word);
		t->how = ways[i].how;
		return 0;
	}
	return err_set(err, -EINVAL, "'%.*s' is no filter: it has to be like status.state=running, with = != ~ < or >", (int)len, text);
}

static int parse_filter(struct query *q, const char *at, struct err *err)
{
	int r = 0;

	while (!r && *at) {
		size_t len = strcspn(at, ",");

		if (q->n_terms == QUERY_TERMS_MAX)
			return err_set(err, -EINVAL, "a filter has at most %d parts", QUERY_TERMS_MAX);
		r = parse_term(&q->term[q->n_terms++], at, len, err);
		at += len + (at[len] == ',');
	}
	return r;
}

static int parse_fields(struct query *q, const char *at, struct err *err)
{
	while (*at) {
		size_t len = strcspn(at, ",");

		if (!len || len >= QUERY_PATH_MAX || q->n_fields == QUERY_FIELDS_MAX)
			return err_set(err, -EINVAL, "'fields' are at most %d paths of at most %d bytes", QUERY_FIELDS_MAX,
				       QUERY_PATH_MAX - 1);
		snprintf(q->field[q->n_fields++], QUERY_PATH_MAX, "%.*s", (int)len, at);
		at += len + (at[len] == ',');
	}
	return 0;
}

int query_parse(struct query *q, const char *filter, const char *sort, const char *fields, struct err *err)
{
	*q = (struct query){ .is_descending = sort && sort[0] == '-' };
	if (sort && strlen(sort) >= QUERY_PATH_MAX)
		return err_set(err, -EINVAL, "'sort' is a path of at most %d bytes", QUERY_PATH_MAX - 1);
	if (sort)
		snprintf(q->sort, sizeof(q->sort), "%s", sort + q->is_descending);
	int r = filter ? parse_filter(q, filter, err) : 0;

	return r || !fields ? r : parse_fields(q, fields, err);
}

/* --- values ---------------------------------------------------- */

static json_t *value_at(const json_t *doc, const char *path)
{
	const json_t *v = doc;

	while (v && *path) {
		size_t len = strcspn(path, ".");

		v = json_object_getn(v, path, len);
		path += len + (path[len] == '.');
	}
	return (json_t *)v;
}

/* A plain value as text; "" for what is not there or not plain. */
static const char *text_of(const json_t *v, char buf[TEXT_LEN])
{
	if (json_is_string(v))
		return json_string_value(v);
	buf[0] = 0;
	if (json_is_integer(v))
		snprintf(buf, TEXT_LEN, "%lld", (long long)json_integer_value(v));
	else if (json_is_real(v))
		snprintf(buf, TEXT_LEN, "%.17g", json_real_value(v));
	else if (json_is_boolean(v))
		snprintf(buf, TEXT_LEN, "%s", json_is_true(v) ? "true" : "false");
	return buf;
}

/* Numbers as numbers, all else as texts; what is not there comes first. */
static int compare(const json_t *a, const json_t *b)
{
	char text_a[TEXT_LEN], text_b[TEXT_LEN];

	if (json_is_number(a) && json_is_number(b)) {
		double x = json_number_value(a), y = json_number_value(b);

		return x < y ? -1 : x > y;
	}
	return strcmp(text_of(a, text_a), text_of(b, text_b));
}

static bool holds(const struct query_term *t, const json_t *doc)
{
	const json_t *v = value_at(doc, t->path);
	char buf[TEXT_LEN], *end;
	double number = strtod(t->value, &end);
	bool is_number = json_is_number(v) && *t->value && !*end;
	const char *text = text_of(v, buf);
	int c = is_number ? (json_number_value(v) > number) - (json_number_value(v) < number) : strcmp(text, t->value);

	switch (t->how) {
	case QUERY_IS: return !c;
	case QUERY_IS_NOT: return c != 0;
	case QUERY_HAS: return strcasestr(text, t->value) != NULL;
	case QUERY_LESS: return v && c < 0;
	case QUERY_MORE: return v && c > 0;
	}
	return false;
}

bool query_wants(const struct query *q, const json_t *doc)
{
	for (unsigned i = 0; i < q->n_terms; i++)
		if (!holds(&q->term[i], doc))
			return false;
	return true;
}

/* --- order ---------------------------------------------------- */

struct sorted {
	json_t *doc;                    /* borrowed */
	const json_t *value;
	size_t at;
	bool is_descending;
};

static int by_value(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;
	int c = compare(x->value, y->value);

	if (!c)
		return x->at < y->at ? -1 : x->at > y->at;
	return x->is_descending ? -c : c;
}

int query_sort(const struct query *q, json_t *items, struct err *err)
{
	size_t n = json_array_size(items);
	AUTO(free) struct sorted *all = n && q->sort[0] ? calloc(n, sizeof(*all)) : NULL;
	AUTO(json_decref) json_t *copy = all ? json_copy(items) : NULL;

	if (!n || !q->sort[0])
		return 0;
	if (!all || !copy)
		return err_set(err, -EAGAIN, "out of memory");
	for (size_t i = 0; i < n; i++) {
		json_t *doc = json_array_get(copy, i);

		all[i] = (struct sorted){ .doc = doc, .value = value_at(doc, q->sort), .at = i, .is_descending = q->is_descending };
	}
	qsort(all, n, sizeof(*all), by_value);
	for (size_t i = 0; i < n; i++)
		json_array_set(items, i, all[i].doc);
	return 0;
}

/* --- parts ---------------------------------------------------- */

/* VALUE at PATH of OUT, with the objects that lead there. */
static void put_at(json_t *out, const char *path, json_t *value)
{
	size_t len = strcspn(path, ".");

	if (!path[len]) {
		json_object_setn(out, path, len, value);
		return;
	}
	json_t *inner = json_object_getn(out, path, len);
	if (!json_is_object(inner)) {
		inner = json_object();
		json_object_setn_new(out, path, len, inner);
	}
	put_at(inner, path + len + 1, value);
}

json_t *query_pick(const struct query *q, json_t *doc)
{
	if (!q->n_fields)
		return json_incref(doc);
	json_t *out = json_object();

	for (unsigned i = 0; i < q->n_fields; i++) {
		json_t *v = value_at(doc, q->field[i]);
		/* A copy: a path inside of what another path has put there must not change the document. */
		AUTO(json_decref) json_t *copy = v ? json_deep_copy(v) : NULL;

		if (copy)
			put_at(out, q->field[i], copy);
	}
	return out;
}
