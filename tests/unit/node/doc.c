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

struct rig {
	char dir[32], key[STORE_KEY_MAX + 1], status_key[STORE_KEY_MAX + 1];
	struct loop *l;
	struct store *s;
};

static void setup(struct rig *r)
{
	char path[64];

	strcpy(r->dir, "/tmp/viv-doc-XXXXXX");
	CHECK(mkdtemp(r->dir));
	snprintf(path, sizeof(path), "%s/db", r->dir);
	CHECK_EQ(loop_new(&r->l, NULL), 0);
	CHECK_EQ(store_open(&r->s, r->l, path, NULL), 0);
	doc_key(r->key, "instance", "default", "a");
	doc_status_key(r->status_key, r->key);
}

static void teardown(struct rig *r)
{
	char line[64];

	store_close(r->s);
	loop_free(r->l);
	snprintf(line, sizeof(line), "rm -r %s", r->dir);
	CHECK_EQ(system(line), 0);
}

static void check_view(const struct rig *r, const char *wanted)
{
	size_t len;
	char *text = doc_view(r->s, store_get(r->s, r->key), &len);

	CHECK_STR(text, wanted);
	CHECK_EQ(len, strlen(text));
	free(text);
}

TEST(clients_see_what_is_wanted_and_what_is_seen_as_one)
{
	struct rig r;

	setup(&r);
	CHECK_STR(r.status_key, "status/instance/default/a");
	put(r.s, r.l, r.key, "{\"name\":\"a\"}");
	check_view(&r, "{\"name\":\"a\",\"revision\":1}");
	put(r.s, r.l, r.status_key, "{\"state\":\"running\"}");
	check_view(&r, "{\"name\":\"a\",\"revision\":1,\"status\":{\"state\":\"running\"}}");
	teardown(&r);
}

TEST(what_was_seen_of_an_earlier_thing_of_that_name_is_not_shown)
{
	struct rig r;

	setup(&r);
	put(r.s, r.l, r.status_key, "{\"state\":\"ready\"}");
	put(r.s, r.l, r.key, "{\"name\":\"a\"}");
	put(r.s, r.l, r.key, "{\"name\":\"a\",\"labels\":{}}");
	check_view(&r, "{\"name\":\"a\",\"labels\":{},\"revision\":3}");
	put(r.s, r.l, r.status_key, "{\"state\":\"new\"}");
	check_view(&r, "{\"name\":\"a\",\"labels\":{},\"revision\":3,\"status\":{\"state\":\"new\"}}");
	teardown(&r);
}

TEST(uids_differ)
{
	char a[DOC_UID_LEN + 1], b[DOC_UID_LEN + 1];

	doc_new_uid(a);
	doc_new_uid(b);
	CHECK_EQ(strlen(a), DOC_UID_LEN);
	CHECK(strcmp(a, b) != 0);
}
