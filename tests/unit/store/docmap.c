/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdlib.h>
#include "store/docmap.h"

static void put(struct docmap *m, const char *key, const char *value)
{
	struct doc *d = doc_new(key, value, strlen(value), 1, 1);

	CHECK(d);
	docmap_put(m, d);
}

TEST(documents_come_in_the_order_of_their_keys)
{
	struct docmap m = { 0 };
	static const char *const keys[] = { "b", "ab", "a", "abc", "c", "aa" }, *const sorted[] = { "a", "aa", "ab", "abc", "b", "c" };
	const struct doc *d;
	unsigned n = 0;

	for (unsigned i = 0; i < 6; i++)
		put(&m, keys[i], keys[i]);
	for (d = docmap_after(&m, "", false); d; d = docmap_after(&m, d->d.key, false), n++)
		CHECK_STR(d->d.key, sorted[n]);
	CHECK_EQ(n, 6);
	CHECK_STR(docmap_after(&m, "ab", true)->d.key, "ab");
	CHECK_STR(docmap_after(&m, "abb", true)->d.key, "abc");
	CHECK(!docmap_after(&m, "c", false));
	docmap_fini(&m);
}

TEST(a_document_with_the_same_key_takes_the_place)
{
	struct docmap m = { 0 };

	put(&m, "x", "old");
	put(&m, "a", "1");
	put(&m, "z", "2");
	put(&m, "x", "new");
	CHECK_EQ(m.count, 3);
	CHECK_STR(docmap_get(&m, "x")->d.value, "new");
	struct doc *d = docmap_take(&m, "x");

	CHECK_STR(d->d.value, "new");
	doc_unref(d);
	CHECK(!docmap_get(&m, "x"));
	CHECK(!docmap_take(&m, "x"));
	CHECK_EQ(m.count, 2);
	docmap_fini(&m);
}

enum { N_KEYS = 512, N_STEPS = 20000 };

TEST(random_steps_agree_with_an_array)
{
	struct docmap m = { 0 };
	bool is_there[N_KEYS] = { false };
	char key[16];
	unsigned count = 0;

	srandom(1);
	for (unsigned step = 0; step < N_STEPS; step++) {
		unsigned k = (unsigned)random() % N_KEYS;

		snprintf(key, sizeof(key), "%03u", k);
		if (random() % 2) {
			put(&m, key, key);
			count += !is_there[k];
			is_there[k] = true;
		} else {
			struct doc *d = docmap_take(&m, key);

			CHECK_EQ(d != NULL, is_there[k]);
			count -= is_there[k];
			is_there[k] = false;
			doc_unref(d);
		}
		CHECK_EQ(m.count, count);
	}
	unsigned n = 0;

	for (const struct doc *d = docmap_after(&m, "", true); d; d = docmap_after(&m, d->d.key, false), n++)
		CHECK(is_there[strtoul(d->d.key, NULL, 10)]);
	CHECK_EQ(n, count);
	docmap_fini(&m);
}
