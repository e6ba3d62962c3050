/* SPDX-License-Identifier: Apache-2.0 */
#include "node/idempotency.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "node/clock.h"
#include "node/doc.h"
#include "node/node.h"
#include "node/resource.h"
#include "util/err.h"

enum { KEEP_S = 86400, TEXT_LEN = 1024 };

static const char prefix[] = "idempotency/_/";

/* The record's key. False: the request has no such header. */
static bool record_key(const struct api_call *c, char *key, size_t cap)
{
	const char *sent = http_get_header(c->rq, HTTP_IDEMPOTENCY_KEY);
	char text[TEXT_LEN], hash[SECRET_HASH_LEN + 1], whole[SECRET_HASH_LEN + 1];

	if (!sent || !sent[0])
		return false;
	secret_hash(whole, sent, strlen(sent));
	int n = snprintf(text, sizeof(text), "%s\n%s\n%s\n%s\n%s", c->user.name, c->user.uid, c->route->operation,
			 resource_project(c), whole);
	secret_hash(hash, text, n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1);
	snprintf(key, cap, "%s%s", prefix, hash);
	return true;
}

/* What distinguishes requests with the same key: all of their path and body. */
static void request_hash(const struct api_call *c, char hash[SECRET_HASH_LEN + 1])
{
	size_t len;
	const void *body = http_body(c->rq, &len);
	char part[SECRET_HASH_LEN + 1], text[TEXT_LEN];

	secret_hash(part, body, len);
	int n = snprintf(text, sizeof(text), "%s\n%s", part, http_path(c->rq));
	secret_hash(hash, text, n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

bool idempotency_answered(struct api_call *c)
{
	struct node *n = c->arg;
	char key[128], hash[SECRET_HASH_LEN + 1];
	struct err err = ERR_INIT;

	if (c->is_dry_run || !record_key(c, key, sizeof(key)))
		return false;
	AUTO(json_decref) json_t *rec = doc_get(n->store, key, NULL);
	if (!rec)
		return false;
	request_hash(c, hash);
	const char *request = json_string_value(json_object_get(rec, "request"));
	const char *made = json_string_value(json_object_get(rec, "key"));

	if (request && made && !strcmp(request, hash) && c->route->method == HTTP_DELETE)
		api_reply(c, (int)json_integer_value(json_object_get(rec, "status")), NULL);
	else if (request && made && !strcmp(request, hash))
		resource_reply(c, (int)json_integer_value(json_object_get(rec, "status")), made);
	else
		api_fail(c, err_set(&err, -EEXIST, "that Idempotency-Key was that of another request; each needs one of its own"),
			 NULL, &err);
	return true;
}

bool idempotency_op(const struct api_call *c, const char *doc_key, int status, struct store_op *op, struct idempotency_record *r)
{
	char hash[SECRET_HASH_LEN + 1], expires[DOC_TIME_LEN + 1];

	if (!record_key(c, r->key, sizeof(r->key)))
		return false;
	request_hash(c, hash);
	doc_time(expires, time(NULL) + KEEP_S);
	/* A key has no character that JSON would want escaped. */
	int len = snprintf(r->value, sizeof(r->value), "{\"key\":\"%s\",\"status\":%d,\"request\":\"%s\",\"expires\":\"%s\"}", doc_key,
			   status, hash, expires);

	*op = (struct store_op){ .kind = STORE_PUT, .key = r->key, .value = r->value, .len = (size_t)len,
				 .if_modified = STORE_ABSENT };
	return true;
}

void idempotency_tidy(struct node *n)
{
	char key[STORE_KEY_MAX + 1] = "";
	time_t now = time(NULL);
	const struct store_doc *d;

	while ((d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL) {
		struct store_op op = { .kind = STORE_DELETE, .key = key, .if_modified = STORE_ANY };
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		const char *expires = json_string_value(json_object_get(doc, "expires"));

		snprintf(key, sizeof(key), "%s", d->key);
		if (!expires || !clock_is_good_until(expires, now, KEEP_S))
			store_commit(n->store, &op, 1, NULL, NULL);
	}
}
