/* SPDX-License-Identifier: Apache-2.0 */
/* layers.c - what layers make of a document, what a change makes its own, and where a value comes from. */
#include "test.h"

#include <stdio.h>
#include "node/layers.h"
#include "util/cleanup.h"
#include "util/json.h"

static const struct schema inner = {
	.name = "Inner", .help = "", .fields = (const struct schema_field[]){
		{ .name = "a", .type = SCHEMA_INT }, { .name = "b", .type = SCHEMA_INT }, { .name = NULL } } };

static const struct schema layer = {
	.name = "Layer", .help = "", .fields = (const struct schema_field[]){
		{ .name = "size", .type = SCHEMA_INT }, { .name = "list", .type = SCHEMA_LIST },
		{ .name = "in", .type = SCHEMA_OBJECT, .sub = &inner }, { .name = "labels", .type = SCHEMA_MAP }, { .name = NULL } } };

static const struct schema full = {
	.name = "Full", .help = "", .fields = (const struct schema_field[]){
		{ .name = "size", .type = SCHEMA_INT, .dflt = "1" }, { .name = "list", .type = SCHEMA_LIST, .dflt = "[]" },
		{ .name = "in", .type = SCHEMA_OBJECT, .sub = &inner }, { .name = "state", .type = SCHEMA_STRING }, { .name = NULL } } };

static json_t *json(const char *text)
{
	char copy[1024];

	snprintf(copy, sizeof(copy), "%s", text);
	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	return json_loads(copy, JSON_DECODE_ANY, NULL);
}

static bool is(const json_t *doc, const char *text)
{
	AUTO(json_decref) json_t *want = json(text);
	AUTO(free) char *got = json_dumps(doc, JSON_SORT_KEYS | JSON_ENCODE_ANY);

	if (!json_equal(doc, want))
		fprintf(stderr, "it is %s and not %s\n", got ? got : "nothing", text);
	return json_equal(doc, want);
}

/* DOC with OWN over PROFILES; OLD and OLD_OWN as in layers_apply(). */
static json_t *applied(const char *doc, const json_t *old, const json_t *old_own, const char *profiles, const char *own)
{
	json_t *d = json(doc);
	AUTO(json_decref) json_t *p = json(profiles), *o = json(own);

	layers_apply(&layer, d, old, old_own, p, o);
	return d;
}

static const char two[] = "[{'name':'p','uid':'1','version':1,'spec':{'size':2,'in':{'a':1},'labels':{'x':'p','y':'p'}}},"
			  "{'name':'q','uid':'2','version':7,'spec':{'list':['q'],'in':{'a':2,'b':3},'labels':{'y':'q'}}}]";

TEST(later_ones_are_on_top_and_its_own_on_top_of_all)
{
	AUTO(json_decref) json_t *d = applied("{'spec':{'state':'on','size':9}}", NULL, NULL, two, "{'in':{'b':4},'labels':{'z':'own'}}");

	CHECK(is(json_object_get(d, "spec"), "{'state':'on','size':2,'list':['q'],'in':{'a':2,'b':4}}"));
	CHECK(is(json_object_get(d, "labels"), "{'x':'p','y':'q','z':'own'}"));
	CHECK(is(json_object_get(d, "inherited"), "{'profiles':[{'name':'p','uid':'1','version':1},{'name':'q','uid':'2','version':7}],"
		 "'fields':{'spec.size':'p','spec.list':'q','spec.in.a':'q','labels.x':'p','labels.y':'q'}}"));
}

TEST(without_profiles_nothing_is_inherited)
{
	AUTO(json_decref) json_t *d = applied("{'spec':{},'inherited':{}}", NULL, NULL, "[]", "{'size':3}");

	CHECK(is(d, "{'spec':{'size':3},'labels':{},'own':{'size':3}}"));
}

TEST(what_was_there_by_default_stays_and_what_came_from_a_profile_goes)
{
	AUTO(json_decref) json_t *old = json("{'spec':{'size':1,'list':['q'],'in':{'a':2,'b':9}},'inherited':{'fields':{'spec.list':'q','spec.in.a':'q'}}}");
	AUTO(json_decref) json_t *own = json("{'in':{'b':9}}");
	AUTO(json_decref) json_t *d = applied("{'spec':{'size':5,'list':['q'],'in':{'a':2,'b':9}}}", old, own, "[]", "{'in':{'b':9}}");

	CHECK(is(json_object_get(d, "spec"), "{'size':1,'in':{'b':9}}"));
}

static json_t *changed(const char *own, const char *old, const char *sent)
{
	json_t *o = json(own);
	AUTO(json_decref) json_t *was = json(old), *s = json(sent);

	layers_change(&layer, o, was, s);
	return o;
}

TEST(only_what_differs_becomes_its_own)
{
	static const char old[] = "{'spec':{'state':'on','size':2,'list':['q'],'in':{'a':2,'b':4}},'labels':{'x':'p','z':'own'}}";
	AUTO(json_decref) json_t *same = changed("{'in':{'b':4},'labels':{'z':'own'}}", old, old);
	AUTO(json_decref) json_t *one = changed("{'in':{'b':4}}", old, "{'spec':{'state':'off','size':2,'list':['q','r'],'in':{'a':5,'b':4}},'labels':{'x':'p','n':'1'}}");
	AUTO(json_decref) json_t *back = changed("{'in':{'b':4},'size':2}", old, "{'spec':{'size':null,'in':{'b':null}}}");

	CHECK(is(same, "{'in':{'b':4},'labels':{'z':'own'}}"));
	CHECK(is(one, "{'in':{'a':5,'b':4},'list':['q','r'],'labels':{'n':'1'}}"));
	CHECK(is(back, "{}"));
}

TEST(own_is_written_on_purpose_and_wins_where_both_are_changed)
{
	static const char old[] = "{'spec':{'size':2},'labels':{}}";
	AUTO(json_decref) json_t *pinned = changed("{}", old, "{'own':{'size':2}}");
	AUTO(json_decref) json_t *all = changed("{'size':2}", old, "{'spec':{'size':3},'own':{'size':2}}");
	AUTO(json_decref) json_t *both = changed("{'size':2}", old, "{'spec':{'size':3},'own':{'size':4}}");
	AUTO(json_decref) json_t *undone = changed("{'size':3}", "{'spec':{'size':3}}", "{'spec':{'size':2},'own':{'size':null}}");
	AUTO(json_decref) json_t *none = changed("{'size':3}", old, "{'own':null}");

	CHECK(is(pinned, "{'size':2}"));
	CHECK(is(all, "{'size':3}"));
	CHECK(is(both, "{'size':4}"));
	CHECK(is(undone, "{}"));
	CHECK(is(none, "{}"));
}

TEST(of_a_new_one_all_that_is_sent_is_its_own)
{
	AUTO(json_decref) json_t *own = json("{}"), *sent = json("{'spec':{'state':'on','size':1,'in':{'a':1}},'labels':{'a':'b'}}");

	layers_change(&layer, own, NULL, sent);
	CHECK(is(own, "{'size':1,'in':{'a':1},'labels':{'a':'b'}}"));
}

TEST(a_document_from_before_says_what_is_not_so_by_default)
{
	AUTO(json_decref) json_t *doc = json("{'spec':{'state':'on','size':1,'list':['x'],'in':{'a':1}},'labels':{'l':'1'}}");
	AUTO(json_decref) json_t *bare = json("{'spec':{'size':1,'list':[]},'labels':{}}");
	AUTO(json_decref) json_t *own = layers_own(&layer, &full, doc), *none = layers_own(&layer, &full, bare);

	CHECK(is(own, "{'list':['x'],'in':{'a':1},'labels':{'l':'1'}}"));
	CHECK(is(none, "{}"));
}

TEST(what_is_different_is_told_field_by_field)
{
	AUTO(json_decref) json_t *a = json("{'spec':{'size':1,'in':{'a':1}},'labels':{'x':'1'}}");
	AUTO(json_decref) json_t *b = json("{'spec':{'size':1,'in':{'a':2,'b':3}},'labels':{}}"), *d = layers_difference(a, b);

	CHECK(is(d, "[{'field':'spec.in.a','from':1,'to':2},{'field':'spec.in.b','to':3},{'field':'labels.x','from':'1'}]"));
}
