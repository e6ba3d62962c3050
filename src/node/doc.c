/* SPDX-License-Identifier: Apache-2.0 */
#include "node/doc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <errno.h>

#define SECRET "user_data"

void doc_key(char key[STORE_KEY_MAX + 1], const char *kind, const char *project, const char *name)
{
	snprintf(key, STORE_KEY_MAX + 1, "%s/%s/%s", kind, project, name);
}

void doc_status_key(char key[STORE_KEY_MAX + 1], const char *doc_key)
{
	snprintf(key, STORE_KEY_MAX + 1, "status/%.*s", STORE_KEY_MAX - 8, doc_key);
}

json_t *doc_get(const struct store *s, const char *key, int64_t *modified)
{
	const struct store_doc *d = store_get(s, key);

	if (!d)
		return NULL;
	if (modified)
		*modified = d->modified;
	return json_loadb(d->value, d->len, JSON_REJECT_DUPLICATES, NULL);
}

/* Of a machine, a profile, or a change of many that is a task: passwords and keys stand in it. Labels are names of their user's. */
static void leave_out_secrets(json_t *v)
{
	const char *key;
	json_t *member;
	void *next;
	size_t i;

	if (json_is_array(v))
		json_array_foreach(v, i, member)
			leave_out_secrets(member);
	(void)json_object_del(v, SECRET);
	json_object_foreach_safe(v, next, key, member)
		if (strcmp(key, "labels") != 0)
			leave_out_secrets(member);
}

char *doc_view(const struct store *s, const struct store_doc *d, size_t *len)
{
	static const char secret[] = "\"" SECRET "\":";
	char *text = doc_view_whole(s, d, len);

	if (!text || !memmem(text, *len, secret, sizeof(secret) - 1))
		return text;
	AUTO(json_decref) json_t *doc = json_loadb(text, *len, 0, NULL);

	free(text);
	leave_out_secrets(doc);
	text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
	*len = text ? strlen(text) : 0;
	return text;
}

char *doc_view_whole(const struct store *s, const struct store_doc *d, size_t *len)
{
	char status_key[STORE_KEY_MAX + 1];
	const struct store_doc *status;
	char *text = NULL;

	doc_status_key(status_key, d->key);
	status = store_get(s, status_key);
	/* One that is older than the document is of an earlier thing of the same name. */
	if (status && status->modified < d->created)
		status = NULL;
	/* A document is an object that is not empty: its text ends in '}', before which more may stand. */
	int n = asprintf(&text, "%.*s,\"revision\":%lld%s%s}", (int)d->len - 1, d->value, (long long)d->modified,
			 status ? ",\"status\":" : "", status ? status->value : "");
	*len = n > 0 ? (size_t)n : 0;
	return n > 0 ? text : NULL;
}

void doc_new_uid(char uid[DOC_UID_LEN + 1])
{
	uint64_t v = 0;

	while (getrandom(&v, sizeof(v), 0) != sizeof(v))
		continue;
	snprintf(uid, DOC_UID_LEN + 1, "%016llx", (unsigned long long)v);
}

void doc_time(char text[DOC_TIME_LEN + 1], time_t when)
{
	struct tm tm;

	/* Years have four digits, and texts compare as times do: what is later is the last moment of them. */
	if (!gmtime_r(&when, &tm) || !strftime(text, DOC_TIME_LEN + 1, "%Y-%m-%dT%H:%M:%SZ", &tm))
		memcpy(text, "9999-12-31T23:59:59Z", DOC_TIME_LEN + 1);
}

void doc_now(char text[DOC_TIME_LEN + 1])
{
	doc_time(text, time(NULL));
}

int doc_put(struct store *s, const char *key, const json_t *doc, int64_t if_modified, store_done_fn done, void *arg)
{
	AUTO(free) char *text = json_dumps(doc, JSON_COMPACT);
	struct store_op op = { .kind = STORE_PUT, .key = key, .value = text, .if_modified = if_modified };

	if (!text)
		return -ENOMEM;
	op.len = strlen(text);
	store_commit(s, &op, 1, done, arg);
	return 0;
}
