/* SPDX-License-Identifier: Apache-2.0 */
#include "node/catalogue.h"

#include <errno.h>
#include "test.h"
#include "util/err.h"
#include "util/weburl.h"

#define SUM "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char streams[] = "{\"format\": 1, \"kind\": \"simplestreams\", \"url\": \"https://a.example/x/\", \"systems\": [\"ubuntu\", \"alpine\"]}";

static json_t *described(const char *text)
{
	json_t *doc = NULL;
	struct err err = ERR_INIT;

	if (catalogue_describe(&doc, text, strlen(text), &err) < 0)
		FAIL("%s", err.msg);
	return doc;
}

/* The sentence with which a description is refused. */
static const char *refusal(const char *text)
{
	static struct err err;
	json_t *doc = NULL;

	err = (struct err)ERR_INIT;
	CHECK(catalogue_describe(&doc, text, strlen(text), &err) < 0);
	return err.msg;
}

TEST(references_are_a_system_and_perhaps_a_version)
{
	static const char *const bad[] = { "", ":", "a:", ":1", "A", "a:b:c", "a/b", "a:../b", "1a", "a b", "a:-1",
					   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
	struct catalogue_ref ref;

	CHECK(!catalogue_ref_parse(&ref, "ubuntu:24.04", NULL));
	CHECK_STR(ref.system, "ubuntu");
	CHECK_STR(ref.version, "24.04");
	CHECK(!catalogue_ref_parse(&ref, "debian", NULL));
	CHECK_STR(ref.version, "");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(catalogue_ref_parse(&ref, bad[i], NULL), -EINVAL);
}

TEST(paths_stay_below_their_folder)
{
	static const char *const bad[] = { "", "/a", "a//b", "..", "../a", "a/..", "a/../b", "./a", "a/.", "a\\b", "a%2e", "https://a/b", "a?b", "a#b", "a b", "a/" };

	CHECK(catalogue_path_is_good("server/releases/noble/release-20260101/ubuntu-24.04.img"));
	CHECK(catalogue_path_is_good("streams/v1/com.ubuntu.cloud:released:download.sjson"));
	CHECK(catalogue_path_is_good("a..b/..c"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (catalogue_path_is_good(bad[i]))
			FAIL("'%s' is good", bad[i]);
}

TEST(sums_are_read_in_all_three_forms)
{
	static const char text[] = "# a comment\n" SUM "  other\nABCDEF" SUM "\nSHA256 (other) = 00\n" SUM " *./disk.img \nSHA512 (a (b).img) = " SUM SUM "\n";
	char sum[CATALOGUE_SUM_MAX + 1] = "";

	CHECK(!catalogue_sum(sum, text, strlen(text), "disk.img", NULL));
	CHECK_STR(sum, SUM);
	CHECK(!catalogue_sum(sum, text, strlen(text), "a (b).img", NULL));
	CHECK_STR(sum, SUM SUM);
	CHECK(!catalogue_sum(sum, "\n" SUM "\n", 66, "anything", NULL));
	/* Of many it has to be said whose each is; and what is longer or shorter is none. */
	CHECK_EQ(catalogue_sum(sum, SUM "\n" SUM "\n", 130, "disk.img", NULL), -ENOENT);
	CHECK_EQ(catalogue_sum(sum, SUM "0  disk.img", 75, "disk.img", NULL), -ENOENT);
	CHECK_EQ(catalogue_sum(sum, SUM "  disk.img.old", 78, "disk.img", NULL), -ENOENT);
	CHECK_EQ(catalogue_sum(sum, "SHA256 (disk.img) = " SUM "00", 86, "disk.img", NULL), -ENOENT);
	CHECK_EQ(catalogue_sum(sum, "", 0, "disk.img", NULL), -ENOENT);
}

TEST(descriptions_say_what_is_wrong_with_them)
{
	AUTO(json_decref) json_t *doc = described(streams);

	CHECK(catalogue_has_system(doc, "alpine") && !catalogue_has_system(doc, "debian"));
	CHECK_STR(catalogue_text(doc, "signature"), "required");
	CHECK_HAS(refusal("{"), "JSON");
	CHECK_HAS(refusal("{\"format\": 2, \"kind\": \"list\", \"systems\": [\"a\"]}"), "format");
	CHECK_HAS(refusal("{\"format\": 1, \"kind\": \"list\", \"systems\": []}"), "systems");
	CHECK_HAS(refusal("{\"format\": 1, \"kind\": \"list\", \"systems\": [\"A b\"]}"), "systems[0]");
	CHECK_HAS(refusal("{\"format\": 1, \"kind\": \"list\", \"systems\": [\"a\"], \"keys\": 1}"), "keys");
	CHECK_HAS(refusal("{\"format\": 1, \"kind\": \"simplestreams\", \"systems\": [\"a\"], \"url\": \"http://a.example/\"}"), "https://");
	CHECK_HAS(refusal("{\"format\": 1, \"kind\": \"simplestreams\", \"systems\": [\"a\"], \"url\": \"https://a.example/x\"}"), "'/'");
	CHECK_HAS(refusal("{\"format\": 1, \"kind\": \"list\", \"systems\": [\"a\"], \"images\": [{\"version\": \"1\", \"url\": \"https://a/b\", \"sums\": \"http://a/c\"}]}"),
		  "images[0].sums");
	CHECK_HAS(refusal("{\"format\": 1, \"kind\": \"list\", \"systems\": [\"a\"], \"images\": [{\"version\": \"1\", \"system\": \"b\", \"url\": \"https://a/b\", "
			  "\"sums\": \"https://a/c\"}]}"), "images[0]");
}

TEST(patterns_are_filled_in)
{
	AUTO(json_decref) json_t *doc = described("{\"format\": 1, \"kind\": \"list\", \"systems\": [\"a\"], \"arch\": {\"x86_64\": \"amd64\"}}");
	AUTO(json_decref) json_t *image = json_pack("{s:s, s:s}", "version", "12", "release", "bookworm");
	char url[WEBURL_MAX + 1], small[16];

	CHECK(!catalogue_fill(url, sizeof(url), doc, image, "https://a/{release}/d-{version}-{arch}{x}.img", "x86_64", NULL));
	CHECK_STR(url, "https://a/bookworm/d-12-amd64{x}.img");
	CHECK_EQ(catalogue_fill(small, sizeof(small), doc, image, "https://a/{release}", "x86_64", NULL), -EINVAL);
	CHECK(catalogue_has_arch(doc, "x86_64") && !catalogue_has_arch(doc, "aarch64"));
}

TEST(of_an_index_images_alone_are_taken)
{
	static const char good[] = "{\"format\": \"index:1.0\", \"index\": {\"a\": {\"datatype\": \"image-ids\", \"path\": \"../x\"}, "
				   "\"b\": {\"datatype\": \"image-downloads\", \"path\": \"streams/v1/b.json\"}}}";
	static const char bad[] = "{\"format\": \"index:1.0\", \"index\": {\"b\": {\"datatype\": \"image-downloads\", \"path\": \"../b.json\"}}}";
	AUTO(json_decref) json_t *paths = NULL;
	json_t *none = NULL;

	CHECK(!catalogue_index(&paths, good, strlen(good), NULL));
	CHECK_EQ(json_array_size(paths), 1);
	CHECK_STR(json_string_value(json_array_get(paths, 0)), "streams/v1/b.json");
	CHECK_EQ(catalogue_index(&none, bad, strlen(bad), NULL), -EPROTO);
	CHECK(!none);
}

/* A product as one publisher has it, and as another does, who says most things further up. */
static const char products[] =
	"{\"format\": \"products:1.0\", \"arch\": \"x86_64\", \"products\": {"
	"\"a\": {\"os\": \"ubuntu\", \"arch\": \"amd64\", \"version\": \"24.04\", \"release\": \"noble\", \"aliases\": \"24.04,default,ubuntu/n,x/y\", \"versions\": {"
	"\"20260109\": {\"items\": {\"disk1.img\": {\"path\": \"a/9\", \"sha256\": \"" SUM "\", \"size\": 9}}},"
	"\"20260110\": {\"items\": {\"disk1.img\": {\"path\": \"a/10\", \"sha256\": \"" SUM "\", \"size\": 10}}},"
	"\"20260111\": {\"items\": {\"root.tar.xz\": {\"path\": \"a/11\"}}}}},"
	"\"b\": {\"os\": \"Alpine\", \"release\": \"3.9\", \"versions\": {\"1\": {\"sha256\": \"" SUM "\", \"items\": {\"x\": {\"ftype\": \"disk-kvm.img\", \"path\": \"b\"}}}}},"
	"\"c\": {\"os\": \"Alpine\", \"release\": \"3.20\", \"versions\": {\"1\": {\"sha256\": \"" SUM "\", \"items\": {\"x\": {\"ftype\": \"disk-kvm.img\", \"path\": \"c\"}}}}},"
	"\"d\": {\"os\": \"other\", \"release\": \"1\", \"versions\": {\"1\": {\"items\": {\"disk1.img\": {\"path\": \"../d\"}}}}},"
	"\"e\": {\"os\": \"ubuntu\", \"arch\": \"arm64\", \"version\": \"25.04\", \"versions\": {\"1\": {\"items\": {\"disk1.img\": {\"path\": \"e\"}}}}}}}";

TEST(products_become_the_newest_image_of_each)
{
	AUTO(json_decref) json_t *description = described(streams), *images = json_array(), *catalogue = NULL;
	struct err err = ERR_INIT;

	CHECK(!catalogue_products(images, description, "x86_64", products, strlen(products), &err));
	CHECK(!catalogue_sort(images));
	CHECK_EQ(json_array_size(images), 3);
	catalogue = json_pack("{s:O, s:s}", "images", images, "fetched", "2026-11-22T09:00:00Z");

	const json_t *u = catalogue_find(catalogue, &(struct catalogue_ref){ .system = "ubuntu", .version = "N" }, &err);
	CHECK_STR(catalogue_text(u, "url"), "https://a.example/x/a/10");
	CHECK_STR(catalogue_text(u, "name"), "ubuntu-24-04");
	CHECK_EQ(json_integer_value(json_object_get(u, "size")), 10);
	CHECK(u == catalogue_find(catalogue, &(struct catalogue_ref){ .system = "ubuntu" }, &err));
	/* 3.20 comes after 3.9. */
	CHECK_STR(catalogue_text(catalogue_find(catalogue, &(struct catalogue_ref){ .system = "alpine" }, &err), "version"), "3.20");
	CHECK(!catalogue_find(catalogue, &(struct catalogue_ref){ .system = "ubuntu", .version = "24.40" }, &err));
	CHECK_HAS(err.msg, "did you mean 'ubuntu:24.04'");
	CHECK_HAS(err.msg, "2026-11-22");
	err = (struct err)ERR_INIT;
	CHECK(!catalogue_find(catalogue, &(struct catalogue_ref){ .system = "alpine", .version = "edge" }, &err));
	CHECK_HAS(err.msg, "it knows 'alpine:3.20', 'alpine:3.9'");
}

TEST(texts_are_bounded_in_length_and_depth)
{
	static const char shallow[] = "{\"a\": \"[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[\"}";
	AUTO(free) char *text = malloc(CATALOGUE_TEXT_MAX + 2);
	AUTO(json_decref) json_t *doc = NULL;

	CHECK(text);
	memset(text, ' ', CATALOGUE_TEXT_MAX + 2);
	CHECK_EQ(catalogue_parse(&doc, text, CATALOGUE_TEXT_MAX + 1, NULL), -EFBIG);
	memset(text, '[', 1000);
	CHECK_EQ(catalogue_parse(&doc, text, 1000, NULL), -EFBIG);
	CHECK(!catalogue_parse(&doc, shallow, strlen(shallow), NULL));
}

TEST(the_descriptions_that_are_shipped_are_good)
{
	static const char *const names[] = { "alpine", "debian", "fedora", "ubuntu" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		AUTO(json_decref) json_t *doc = NULL;
		struct err err = ERR_INIT;
		char path[200];

		snprintf(path, sizeof(path), CATALOGUES "/%s.json", names[i]);
		if (catalogue_load(&doc, path, &err) < 0)
			FAIL("%s", err.msg);
		CHECK(catalogue_has_system(doc, names[i]) && catalogue_has_arch(doc, "x86_64"));
	}
}
