/* SPDX-License-Identifier: Apache-2.0 */
/* catalogue_streams.c - simplestreams 1.0, as cloud-images.ubuntu.com and images.linuxcontainers.org publish it: an index names documents of products,
 * a product has versions, a version has items, and what is not said of an item is said of what it is in. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "node/catalogue.h"
#include "node/catalogue_priv.h"
#include "util/err.h"
#include "util/weburl.h"

enum { LEVELS = 4 };

/* What uname(2) and Debian call the same processors. */
static const struct { const char *machine, *debian; } arches[] = {
	{ "x86_64", "amd64" }, { "aarch64", "arm64" }, { "i686", "i386" }, { "armv7l", "armhf" }, { "ppc64le", "ppc64el" }, { NULL, NULL },
};

bool catalogue_path_is_good(const char *path)
{
	size_t len = strlen(path);

	if (!len || len > WEBURL_MAX / 2 || path[0] == '/' ||
	    path[strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._~:+-,=@")] || strstr(path, "://"))
		return false;
	for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL) {
		size_t n = strcspn(p, "/");

		if (!n || (n == 1 && p[0] == '.') || (n == 2 && !strncmp(p, "..", 2)))
			return false;
	}
	return true;
}

int catalogue_index(json_t **paths, const char *text, size_t len, struct err *err)
{
	AUTO(json_decref) json_t *doc = NULL, *list = json_array();
	const char *id;
	json_t *entry;
	int r = catalogue_parse(&doc, text, len, err);

	if (r < 0)
		return r;
	if (strcmp(catalogue_text(doc, "format"), "index:1.0") != 0 || !json_is_object(json_object_get(doc, "index")))
		return err_set(err, -EPROTO, "it is no index of simplestreams: its format is '%.40s', not 'index:1.0'", catalogue_text(doc, "format"));
	json_object_foreach(json_object_get(doc, "index"), id, entry) {
		const char *path = catalogue_text(entry, "path");

		if (strcmp(catalogue_text(entry, "datatype"), "image-downloads") != 0)
			continue;
		if (!catalogue_path_is_good(path))
			return err_set(err, -EPROTO, "'%.60s' of '%.60s' is no path that is taken", path, id);
		if (json_array_size(list) == CATALOGUE_PATHS_MAX)
			return err_set(err, -EFBIG, "it names more than %d documents of images", CATALOGUE_PATHS_MAX);
		json_array_append_new(list, json_string(path));
	}
	if (!json_array_size(list))
		return err_set(err, -EPROTO, "it names no images that could be downloaded");
	*paths = take_ptr(&list);
	return 0;
}

/* --- products ---------------------------------------------------- */

/* The item, its version, its product, and the document. */
struct place { const json_t *at[LEVELS]; };

static const char *said(const struct place *p, const char *name)
{
	for (unsigned i = 0; i < LEVELS; i++) {
		const char *s = json_string_value(json_object_get(p->at[i], name));

		if (s)
			return s;
	}
	return "";
}

static bool is_arch(const char *said_arch, const char *arch)
{
	if (!strcmp(said_arch, arch))
		return true;
	for (unsigned i = 0; arches[i].machine; i++)
		if (!strcmp(arches[i].machine, arch) && !strcmp(arches[i].debian, said_arch))
			return true;
	return false;
}

/* The item of VERSION that DESCRIPTION likes best, by its name or by what it says it is. */
static const json_t *best_item(const json_t *version, const json_t *description)
{
	const json_t *wanted;
	const char *name;
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(description, "items"), i, wanted)
		json_object_foreach(json_object_get(version, "items"), name, item)
			if (!strcmp(name, json_string_value(wanted)) || !strcmp(catalogue_text(item, "ftype"), json_string_value(wanted)))
				return item;
	return NULL;
}

/* "24.04,n,ubuntu/24.04": the words of ALIASES, of which those of SYSTEM may begin with it. */
static json_t *tags_of(const char *aliases, const char *system)
{
	json_t *list = json_array();
	size_t len = strlen(system);

	for (const char *p = aliases; *p && json_array_size(list) < CATALOGUE_TAGS_MAX; p += strcspn(p, ","), p += *p == ',') {
		bool is_own = !strncasecmp(p, system, len) && p[len] == '/';
		const char *word = is_own ? p + len + 1 : p;

		json_array_append_new(list, json_stringn_nocheck(word, strcspn(word, ",")));
	}
	return list;
}

/* The newest version of PRODUCT that has such an item. */
static const json_t *newest(const json_t *product, const json_t *description, const char **serial, const json_t **item)
{
	const json_t *best = NULL;
	const char *name;
	json_t *version;

	json_object_foreach(json_object_get(product, "versions"), name, version) {
		const json_t *it = best && strverscmp(name, *serial) < 0 ? NULL : best_item(version, description);

		if (!it)
			continue;
		best = version;
		*serial = name;
		*item = it;
	}
	return best;
}

static int add_product(json_t *images, const json_t *description, const char *arch, const json_t *doc, const json_t *product, struct err *err)
{
	char system[CATALOGUE_WORD_MAX + 1], url[WEBURL_MAX + 1];
	const char *serial = "", *wanted = catalogue_text(description, "variant");
	struct place p = { { NULL, NULL, product, doc } };
	const json_t *size;

	p.at[1] = newest(product, description, &serial, &p.at[0]);
	const char *variant = said(&p, "variant"), *version = said(&p, "version"), *sum = said(&p, "sha256");
	snprintf(system, sizeof(system), "%s", said(&p, "os"));
	for (char *s = system; *s; s++)
		*s = (char)tolower((unsigned char)*s);
	version = version[0] ? version : said(&p, "release");
	if (!p.at[1] || !is_arch(said(&p, "arch"), arch) || !catalogue_has_system(description, system) || !catalogue_is_word(version) ||
	    (variant[0] && wanted[0] && strcmp(variant, wanted) != 0))
		return 0;
	const char *path = said(&p, "path");
	if (!catalogue_path_is_good(path))
		return err_set(err, -EPROTO, "'%.60s' of '%s:%s' is no path that is taken", path, system, version);
	if (strlen(sum) != 64 || sum[strspn(sum, "0123456789abcdef")])
		return err_set(err, -EPROTO, "'%s:%s' has no SHA-256", system, version);
	snprintf(url, sizeof(url), "%s%s", catalogue_text(description, "url"), path);
	AUTO(json_decref) json_t *tags = tags_of(said(&p, "aliases"), system);
	size = json_object_get(p.at[0], "size");
	return catalogue_add(images, &(struct catalogue_image){ .system = system, .version = version, .release = said(&p, "release"), .serial = serial,
				.url = url, .sum = sum, .size = json_integer_value(size), .tags = tags }, err);
}

int catalogue_products(json_t *images, const json_t *description, const char *arch, const char *text, size_t len, struct err *err)
{
	AUTO(json_decref) json_t *doc = NULL;
	const json_t *products;
	const char *name;
	json_t *product;
	int r = catalogue_parse(&doc, text, len, err);

	if (r < 0)
		return r;
	products = json_object_get(doc, "products");
	if (strcmp(catalogue_text(doc, "format"), "products:1.0") != 0 || !json_is_object(products))
		return err_set(err, -EPROTO, "it has no products of simplestreams: its format is '%.40s', not 'products:1.0'", catalogue_text(doc, "format"));
	if (json_object_size(products) > CATALOGUE_PRODUCTS_MAX)
		return err_set(err, -EFBIG, "it has more than %d products", CATALOGUE_PRODUCTS_MAX);
	json_object_foreach((json_t *)products, name, product)
		r = r ? r : add_product(images, description, arch, doc, product, err);
	return r;
}
