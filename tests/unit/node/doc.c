/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include <unistd.h>
#include "node/doc.h"
#include "util/err.h"
#include "util/loop.h"

static void done(void *arg, const struct store_result *r)
{
	CHECK_EQ(r->code, 0);
	*(bool *)arg = true;
}

static void put(struct store *s, struct loop *l, const char *key, const char *text)
{
	AUTO(json_decref) json_t *doc = json_loads(text, 0, NULL);
	bool is_done = false;

	CHECK_EQ(doc_put(s, key, doc, STORE_ANY, done, &is_done), 0);
	while (!is_done)
		CHECK(loop_run_once(l, 5000) >= 0);
}

TEST(clients_see_what_is_wanted_and_what_is_seen_as_one)
{
	char dir[] = "/tmp/viv-doc-XXXXXX", path[64], key[STORE_KEY_MAX + 1], status_key[STORE_KEY_MAX + 1];
	AUTO(loop_free) struct loop *l = NULL;
	struct store *s = NULL;
	size_t len;

	CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/db", dir);
	CHECK_EQ(loop_new(&l, NULL), 0);
	CHECK_EQ(store_open(&s, l, path, NULL), 0);
	doc_key(key, "instance", "default", "a");
	doc_status_key(status_key, key);
	CHECK_STR(status_key, "status/instance/default/a");
	put(s, l, key, "{\"name\":\"a\"}");
	char *text = doc_view(s, store_get(s, key), &len);
	CHECK_STR(text, "{\"name\":\"a\",\"revision\":1}");
	free(text);
	put(s, l, status_key, "{\"state\":\"running\"}");
	text = doc_view(s, store_get(s, key), &len);
	CHECK_STR(text, "{\"name\":\"a\",\"revision\":1,\"status\":{\"state\":\"running\"}}");
	CHECK_EQ(len, strlen(text));
	free(text);
	store_close(s);
	snprintf(path, sizeof(path), "rm -r %s", dir);
	CHECK_EQ(system(path), 0);
}

TEST(uids_differ)
{
	char a[DOC_UID_LEN + 1], b[DOC_UID_LEN + 1];

	doc_new_uid(a);
	doc_new_uid(b);
	CHECK_EQ(strlen(a), DOC_UID_LEN);
	CHECK(strcmp(a, b) != 0);
}
