/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/strmap.h"

enum { N = 5000 };

struct thing {
	struct strmap_entry e;
	char name[24];
};

static struct thing *things_new(struct strmap *m)
{
	struct thing *t = calloc(N, sizeof(*t));

	CHECK(t);
	strmap_init(m);
	for (int i = 0; i < N; i++) {
		snprintf(t[i].name, sizeof(t[i].name), "thing-%d", i);
		strmap_add(m, &t[i].e, t[i].name);
	}
	return t;
}

/* The longest way to an entry of M. */
static unsigned longest(const struct strmap *m)
{
	unsigned most = 0;

	for (size_t i = 0; i < m->n_slots; i++) {
		unsigned n = 0;

		for (const struct strmap_entry *e = m->slots[i]; e; e = e->next)
			n++;
		most = n > most ? n : most;
	}
	return most;
}

TEST(each_of_many_is_found_by_its_name_and_others_are_not)
{
	struct strmap m;
	struct thing *t = things_new(&m);
	char name[24];

	CHECK_EQ(m.count, N);
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "thing-%d", i);
		CHECK(strmap_find(&m, name) == &t[i].e);
	}
	CHECK(!strmap_find(&m, "thing-"));
	CHECK(!strmap_find(&m, ""));
	strmap_fini(&m);
	free(t);
}

TEST(what_was_taken_out_is_gone_and_the_rest_is_there)
{
	struct strmap m;
	struct thing *t = things_new(&m);

	for (int i = 0; i < N; i += 2) {
		strmap_remove(&m, &t[i].e);
		strmap_remove(&m, &t[i].e);
	}
	CHECK_EQ(m.count, N / 2);
	for (int i = 0; i < N; i++)
		CHECK(strmap_find(&m, t[i].name) == (i % 2 ? &t[i].e : NULL));
	strmap_add(&m, &t[0].e, t[0].name);
	CHECK(strmap_find(&m, "thing-0") == &t[0].e);
	strmap_fini(&m);
	free(t);
}

TEST(the_way_to_an_entry_stays_short_however_many_there_are)
{
	struct strmap m;
	struct thing *t = things_new(&m);

	CHECK(m.n_slots >= N);
	CHECK(longest(&m) <= 16);
	strmap_fini(&m);
	free(t);
}

TEST(an_empty_map_has_nothing)
{
	struct strmap m;
	struct strmap_entry never = { .key = NULL };

	strmap_init(&m);
	CHECK(!strmap_find(&m, "thing"));
	strmap_remove(&m, &never);
	CHECK_EQ(m.count, 0);
	strmap_fini(&m);
}
