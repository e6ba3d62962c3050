/* SPDX-License-Identifier: Apache-2.0 */
/* list.c - lists of documents. Without a filter or an order they are put together from stored texts, without parsing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/auth.h"
#include "node/doc.h"
#include "node/node.h"
#include "node/query.h"
#include "node/resource_priv.h"
#include "util/err.h"

bool resource_is_selected(const struct store_doc *d, const char *selector)
{
	AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
	const json_t *labels = json_object_get(doc, "labels");

	while (*selector) {
		size_t all = strcspn(selector, ","), name = strcspn(selector, "=,");
		const char *has = json_string_value(json_object_getn(labels, selector, name));

		if (!has)
			return false;
		if (name < all && (strlen(has) != all - name - 1 || memcmp(has, selector + name + 1, all - name - 1)))
			return false;
		selector += all + (selector[all] == ',');
	}
	return true;
}

/* The next document with PREFIX behind KEY that C may see and whose labels it asks for; KEY becomes its key. */
static const struct store_doc *next_doc(const struct api_call *c, const char *prefix, char key[STORE_KEY_MAX + 1])
{
	struct node *n = c->arg;
	const char *selector = http_query(c->rq, "labels");
	const struct store_doc *d;

	while ((d = store_next(n->store, prefix, key)) != NULL) {
		snprintf(key, STORE_KEY_MAX + 1, "%s", d->key);
		if (c->route->scope == API_SELF && !auth_sees(n, &c->user, d->key))
			continue;
		if (!selector || resource_is_selected(d, selector))
			break;
	}
	return d;
}

/* --- by name ---------------------------------------------------- */

/* Text that grows. */
struct text {
	char *s;
	size_t len, cap;
	bool is_broken;
};

static void text_add(struct text *t, const char *s, size_t len)
{
	if (t->len + len + 1 > t->cap) {
		size_t cap = (t->len + len + 1) * 2;
		char *more = realloc(t->s, cap);

		if (!more) {
			t->is_broken = true;
			return;
		}
		t->s = more;
		t->cap = cap;
	}
	memcpy(t->s + t->len, s, len);
	t->len += len;
}

/* At most MAX documents behind ?after=; the last one's name goes to LAST when there are more. */
static void list_into(struct text *t, struct api_call *c, const char *prefix, unsigned max, char *last, size_t cap)
{
	struct node *n = c->arg;
	const char *after = http_query(c->rq, "after");
	const struct store_doc *d;
	char key[STORE_KEY_MAX + 1];
	unsigned count = 0;

	snprintf(key, sizeof(key), "%s%s", prefix, after ? after : "");
	while ((d = next_doc(c, prefix, key)) != NULL && count < max) {
		size_t len = 0;
		AUTO(free) char *view = doc_view(n->store, d, &len);

		if (count++)
			text_add(t, ",", 1);
		text_add(t, view ? view : "null", view ? len : 4);
		snprintf(last, cap, "%s", d->key + strlen(prefix));
	}
	if (!d)
		last[0] = 0;
}

static void list_texts(struct api_call *c, const char *prefix, unsigned max)
{
	struct node *n = c->arg;
	char last[DOC_NAME_MAX + 1] = "", tail[128];
	struct text t = { .s = NULL };
	struct err err = ERR_INIT;

	text_add(&t, "{\"items\":[", 10);
	list_into(&t, c, prefix, max, last, sizeof(last));
	int len = snprintf(tail, sizeof(tail),
			   last[0] ? "],\"revision\":%lld,\"next\":\"%s\"}" : "],\"revision\":%lld}",
			   (long long)store_revision(n->store), last);
	text_add(&t, tail, (size_t)len);
	if (!t.is_broken) {
		api_reply_text(c, 200, t.s, t.len);
		return;
	}
	free(t.s);
	api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
}

/* --- by anything else ---------------------------------------------------- */

/* All documents that Q wants, in no order yet. */
static json_t *find_all(struct api_call *c, const char *prefix, const struct query *q)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1];
	const struct store_doc *d;
	json_t *found = json_array();

	snprintf(key, sizeof(key), "%s", prefix);
	while ((d = next_doc(c, prefix, key)) != NULL) {
		size_t len = 0;
		AUTO(free) char *view = doc_view(n->store, d, &len);
		AUTO(json_decref) json_t *doc = view ? json_loadb(view, len, 0, NULL) : NULL;

		if (doc && query_wants(q, doc))
			json_array_append(found, doc);
	}
	return found;
}

static void list_query(struct api_call *c, const char *prefix, const struct query *q, unsigned max)
{
	struct node *n = c->arg;
	const char *skip = http_query(c->rq, "offset");
	size_t from = skip ? strtoul(skip, NULL, 10) : 0;
	AUTO(json_decref) json_t *found = find_all(c, prefix, q);
	size_t total = json_array_size(found);
	struct err err = ERR_INIT;
	int r = query_sort(q, found, &err);

	if (r < 0) {
		api_fail(c, r, NULL, &err);
		return;
	}
	json_t *items = json_array();
	for (size_t i = from; i < total && i - from < max; i++)
		json_array_append_new(items, query_pick(q, json_array_get(found, i)));
	api_reply(c, 200, json_pack("{s:o, s:I, s:I}", "items", items, "total", (json_int_t)total, "revision",
				    (json_int_t)store_revision(n->store)));
}

void resource_list(struct api_call *c)
{
	const struct resource *r = resource_of(c);
	struct err err = ERR_INIT;
	const char *limit = http_query(c->rq, "limit"), *filter = http_query(c->rq, "filter");
	const char *sort = http_query(c->rq, "sort"), *fields = http_query(c->rq, "fields");
	unsigned long max = limit ? strtoul(limit, NULL, 10) : RESOURCE_LIST_MAX;
	char prefix[STORE_KEY_MAX + 1], space[RESOURCE_SPACE_LEN];
	struct query q;
	int bad = resource_check_space(c, r, &err);

	if (!bad && (max < 1 || max > RESOURCE_LIST_MAX))
		bad = err_set(&err, -EINVAL, "'limit' is 1 to %d", RESOURCE_LIST_MAX);
	if (!bad)
		bad = query_parse(&q, filter, sort, fields, &err);
	if (bad < 0) {
		api_fail(c, bad, NULL, &err);
		return;
	}
	doc_key(prefix, r->kind, resource_space_of(c, r, space), "");
	if (filter || sort || fields || http_query(c->rq, "offset"))
		list_query(c, prefix, &q, (unsigned)max);
	else
		list_texts(c, prefix, (unsigned)max);
}
