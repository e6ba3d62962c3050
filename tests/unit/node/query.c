/* SPDX-License-Identifier: Apache-2.0 */
/* Filters, orders and parts of lists. */
#include "test.h"

#include <errno.h>
#include <string.h>
#include "node/query.h"
#include "util/err.h"

static json_t *things(void)
{
	return json_loads("[{\"name\":\"b\",\"spec\":{\"cpus\":2,\"on\":true},\"status\":{\"state\":\"running\"}},"
			  "{\"name\":\"a\",\"spec\":{\"cpus\":10},\"status\":{\"state\":\"stopped\"}},"
			  "{\"name\":\"c\",\"spec\":{\"cpus\":2,\"on\":false}}]", 0, NULL);
}

/* Names of what Q wants, in its order. */
static const char *names(const char *filter, const char *sort)
{
	static char out[32];
	struct query q;
	AUTO(json_decref) json_t *all = things(), *found = json_array();
	json_t *doc;
	size_t i;

	out[0] = 0;
	CHECK_EQ(query_parse(&q, filter, sort, NULL, NULL), 0);
	json_array_foreach(all, i, doc)
		if (query_wants(&q, doc))
			json_array_append(found, doc);
	CHECK_EQ(query_sort(&q, found, NULL), 0);
	json_array_foreach(found, i, doc)
		strcat(out, json_string_value(json_object_get(doc, "name")));
	return out;
}

TEST(filters_compare_numbers_as_numbers_and_all_parts_must_hold)
{
	CHECK(!strcmp(names("status.state=running", NULL), "b"));
	CHECK(!strcmp(names("status.state!=running", NULL), "ac"));
	CHECK(!strcmp(names("spec.cpus>9", NULL), "a"));
	CHECK(!strcmp(names("spec.cpus<10,name~C", NULL), "c"));
	CHECK(!strcmp(names("spec.on=true", NULL), "b"));
	CHECK(!strcmp(names("status.state=", NULL), "c"));
	CHECK(!strcmp(names("nowhere<5", NULL), ""));
	CHECK(!strcmp(names("", NULL), "bac"));
}

TEST(order_is_by_value_and_equal_ones_stay)
{
	CHECK(!strcmp(names(NULL, "name"), "abc"));
	CHECK(!strcmp(names(NULL, "-name"), "cba"));
	CHECK(!strcmp(names(NULL, "spec.cpus"), "bca"));
	CHECK(!strcmp(names(NULL, "-spec.cpus"), "abc"));
	CHECK(!strcmp(names(NULL, "status.state"), "cba"));
}

TEST(parts_are_picked_and_the_document_stays)
{
	struct query q;
	AUTO(json_decref) json_t *all = things();
	json_t *doc = json_array_get(all, 0);

	CHECK_EQ(query_parse(&q, NULL, NULL, "name,spec,spec.cpus,nowhere.x", NULL), 0);
	AUTO(json_decref) json_t *part = query_pick(&q, doc);
	AUTO(json_decref) json_t *wanted = json_loads("{\"name\":\"b\",\"spec\":{\"cpus\":2,\"on\":true}}", 0, NULL);
	CHECK(json_equal(part, wanted));
	CHECK_EQ(json_object_size(doc), 3);
}

TEST(what_is_wrong_is_told)
{
	struct query q;
	struct err err = ERR_INIT;
	char longest[300];

	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	CHECK_EQ(query_parse(&q, "state", NULL, NULL, &err), -EINVAL);
	CHECK_HAS(err.msg, "is no filter");
	CHECK_EQ(query_parse(&q, "=x", NULL, NULL, &err), -EINVAL);
	CHECK_EQ(query_parse(&q, longest, NULL, NULL, &err), -EINVAL);
	CHECK_EQ(query_parse(&q, NULL, longest, NULL, &err), -EINVAL);
	CHECK_EQ(query_parse(&q, NULL, NULL, longest, &err), -EINVAL);
	CHECK_EQ(query_parse(&q, NULL, NULL, "a,,b", &err), -EINVAL);
	CHECK_EQ(query_parse(&q, "a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1,a=1", NULL, NULL, &err), -EINVAL);
}
