/* SPDX-License-Identifier: Apache-2.0 */
/* What publishers of images say. Input: which document, then its text; of a reference that and, behind a line feed, a catalogue's text. */
#include "node/catalogue.h"

#include <ctype.h>
#include "fuzz.h"
#include "util/err.h"
#include "util/weburl.h"

enum { DESCRIPTION, INDEX, PRODUCTS, SUMS, REFERENCE, N_KINDS };

static const char description_text[] =
	"{\"format\": 1, \"kind\": \"simplestreams\", \"url\": \"https://a.example/x/\", \"systems\": [\"ubuntu\", \"alpine\"]}";

static json_t *describe(const char *text, size_t len, struct err *err)
{
	json_t *doc = NULL;
	int r = catalogue_describe(&doc, text, len, err);

	FUZZ_CHECK((r < 0) == (err->msg[0] != 0) && (r < 0) == !doc);
	return doc;
}

static void fill_all(const json_t *description)
{
	char url[WEBURL_MAX + 1];
	const json_t *image;
	size_t i;

	json_array_foreach(json_object_get(description, "images"), i, image)
		if (!catalogue_fill(url, sizeof(url), description, image, catalogue_text(image, "url"), "x86_64", NULL))
			FUZZ_CHECK(memchr(url, 0, sizeof(url)));
}

static void check_path(const char *path)
{
	FUZZ_CHECK(path[0] && path[0] != '/' && strncmp(path, "../", 3) != 0 && strcmp(path, "..") != 0 && !strstr(path, "/../") && !strstr(path, "//"));
	FUZZ_CHECK(strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/..") != 0);
}

static void check_image(const json_t *image)
{
	const char *name = catalogue_text(image, "name");

	FUZZ_CHECK(name[0] && strlen(name) <= CATALOGUE_NAME_MAX && islower((unsigned char)name[0]));
	FUZZ_CHECK(!name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] && name[strlen(name) - 1] != '-');
	FUZZ_CHECK(!strncmp(catalogue_text(image, "url"), "https://a.example/x/", 20) && !strstr(catalogue_text(image, "url"), "/../"));
	FUZZ_CHECK(strlen(catalogue_text(image, "sha256")) == 64);
}

static void products(const char *text, size_t len, struct err *err)
{
	struct err none = ERR_INIT;
	json_t *description = describe(description_text, sizeof(description_text) - 1, &none), *images = json_array();
	const json_t *image;
	size_t i;
	int r = catalogue_products(images, description, "x86_64", text, len, err);

	FUZZ_CHECK((r < 0) == (err->msg[0] != 0));
	FUZZ_CHECK(json_array_size(images) <= CATALOGUE_IMAGES_MAX && !catalogue_sort(images));
	json_array_foreach(images, i, image)
		check_image(image);
	json_decref(images);
	json_decref(description);
}

static void reference(char *text, struct err *err)
{
	struct catalogue_ref ref;
	char *line = strchr(text, '\n');
	json_t *doc = NULL;

	if (line)
		*line++ = 0;
	if (catalogue_ref_parse(&ref, text, err) < 0) {
		FUZZ_CHECK(err->msg[0]);
		return;
	}
	FUZZ_CHECK(ref.system[0] && !strchr(ref.system, '/') && !strchr(ref.version, '/'));
	if (!line || catalogue_parse(&doc, line, strlen(line), NULL) < 0)
		return;
	const json_t *found = catalogue_find(doc, &ref, err);
	FUZZ_CHECK(!found == (err->msg[0] != 0));
	FUZZ_CHECK(!found || !strcmp(catalogue_text(found, "system"), ref.system));
	json_decref(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	unsigned kind = fuzz_u8(&f) % N_KINDS;
	size_t n = f.left;
	char *text = fuzz_text(&f), sum[CATALOGUE_SUM_MAX + 1];
	struct err err = ERR_INIT;
	json_t *doc = NULL;
	const json_t *path;
	size_t i;

	n = strlen(text) < n ? strlen(text) : n;
	switch (kind) {
	case DESCRIPTION:
		doc = describe(text, n, &err);
		fill_all(doc);
		break;
	case INDEX:
		FUZZ_CHECK((catalogue_index(&doc, text, n, &err) < 0) == (err.msg[0] != 0));
		json_array_foreach(doc, i, path)
			check_path(json_string_value(path));
		break;
	case PRODUCTS:
		products(text, n, &err);
		break;
	case SUMS:
		if (!catalogue_sum(sum, text, n, "disk.img", &err))
			FUZZ_CHECK((strlen(sum) == 64 || strlen(sum) == 128) && !sum[strspn(sum, "0123456789abcdef")]);
		break;
	case REFERENCE:
		reference(text, &err);
		break;
	}
	json_decref(doc);
	free(text);
	return 0;
}
