/* SPDX-License-Identifier: Apache-2.0 */
/* catalogue.c - descriptions of catalogues, and the texts that all of this is read from. */
#include "node/catalogue.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include "api/schema.h"
#include "node/catalogue_priv.h"
#include "util/err.h"
#include "util/io.h"
#include "util/weburl.h"

enum { WHERE_LEN = 160, CACHE_MAX = 1 << 20, ORIGIN_MAX = 16 << 10 };

static const struct schema image_schema = {
	.name = "CatalogueImage", .help = "One image of a publisher that has no catalogue of its own.",
	.fields = (const struct schema_field[]){
		{ .name = "system", .type = SCHEMA_STRING, .min = 1, .max = CATALOGUE_WORD_MAX },
		{ .name = "version", .type = SCHEMA_STRING, .min = 1, .max = CATALOGUE_WORD_MAX, .is_required = true },
		{ .name = "release", .type = SCHEMA_STRING, .max = CATALOGUE_WORD_MAX },
		{ .name = "serial", .type = SCHEMA_STRING, .max = CATALOGUE_WORD_MAX },
		{ .name = "tags", .type = SCHEMA_LIST, .max = CATALOGUE_TAGS_MAX },
		{ .name = "url", .type = SCHEMA_STRING, .is_required = true },
		{ .name = "sums", .type = SCHEMA_STRING, .is_required = true },
		{ .name = "signature", .type = SCHEMA_STRING },
		{ .name = NULL },
	},
};

static const struct schema description_schema = {
	.name = "CatalogueDescription", .help = "Where a publisher says which images there are.",
	.fields = (const struct schema_field[]){
		{ .name = "format", .type = SCHEMA_INT, .min = 1, .max = 1, .is_required = true },
		{ .name = "title", .type = SCHEMA_STRING, .max = 100, .dflt = "\"\"" },
		{ .name = "kind", .type = SCHEMA_STRING, .choices = "simplestreams|list", .is_required = true },
		{ .name = "systems", .type = SCHEMA_LIST, .min = 1, .max = 32, .is_required = true },
		{ .name = "url", .type = SCHEMA_STRING },
		{ .name = "items", .type = SCHEMA_LIST, .max = 16, .dflt = "[\"disk-kvm.img\", \"disk1.img\", \"disk.qcow2\"]" },
		{ .name = "variant", .type = SCHEMA_STRING, .max = CATALOGUE_WORD_MAX },
		{ .name = "arch", .type = SCHEMA_MAP, .max = 16 },
		{ .name = "keyring", .type = SCHEMA_PATH },
		{ .name = "package", .type = SCHEMA_STRING, .max = 100 },
		{ .name = "signature", .type = SCHEMA_STRING, .choices = "required|when-possible", .dflt = "\"required\"" },
		{ .name = "images", .type = SCHEMA_LIST, .sub = &image_schema, .max = 100 },
		{ .name = NULL },
	},
};

/* --- words ---------------------------------------------------- */

const char *catalogue_text(const json_t *doc, const char *member)
{
	const char *s = json_string_value(json_object_get(doc, member));

	return s ? s : "";
}

bool catalogue_is_word(const char *s)
{
	size_t len = s ? strlen(s) : 0;

	return len && len <= CATALOGUE_WORD_MAX && isalnum((unsigned char)s[0]) &&
	       !s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")];
}

/* The same, and part of a name that images may have. */
static bool is_system(const char *s)
{
	return catalogue_is_word(s) && islower((unsigned char)s[0]) && !s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-")];
}

int catalogue_ref_parse(struct catalogue_ref *out, const char *text, struct err *err)
{
	size_t len = strcspn(text, ":");
	struct catalogue_ref ref = { .system = "" };

	snprintf(ref.system, sizeof(ref.system), "%.*s", len < sizeof(ref.system) ? (int)len : 0, text);
	if (text[len])
		snprintf(ref.version, sizeof(ref.version), "%s", strlen(text + len + 1) < sizeof(ref.version) ? text + len + 1 : "");
	if (!is_system(ref.system) || (text[len] && !catalogue_is_word(ref.version)))
		return err_set(err, -EINVAL, "'%.80s' is no image of a catalogue: write SYSTEM or SYSTEM:VERSION, as in ubuntu:24.04", text);
	*out = ref;
	return 0;
}

const char *catalogue_arch(char buf[CATALOGUE_WORD_MAX + 1])
{
	struct utsname u;

	snprintf(buf, CATALOGUE_WORD_MAX + 1, "%.*s", CATALOGUE_WORD_MAX, uname(&u) < 0 ? "" : u.machine);
	return buf;
}

/* --- texts ---------------------------------------------------- */

/* How deep are lists and objects in each other? Brackets in strings do not count. */
static unsigned depth_of(const char *text, size_t len)
{
	unsigned depth = 0, most = 0;
	bool is_string = false;

	for (size_t i = 0; i < len && most <= CATALOGUE_DEPTH_MAX; i++) {
		if (text[i] == '"')
			is_string = !is_string;
		else if (is_string)
			i += text[i] == '\\';
		else if (text[i] == '{' || text[i] == '[')
			most = ++depth > most ? depth : most;
		else if ((text[i] == '}' || text[i] == ']') && depth)
			depth--;
	}
	return most;
}

int catalogue_parse(json_t **out, const char *text, size_t len, struct err *err)
{
	json_error_t e;

	if (len > CATALOGUE_TEXT_MAX)
		return err_set(err, -EFBIG, "it is longer than %d MiB, which no catalogue is", CATALOGUE_TEXT_MAX >> 20);
	if (depth_of(text, len) > CATALOGUE_DEPTH_MAX)
		return err_set(err, -EFBIG, "its lists and objects are in each other more than %d deep", CATALOGUE_DEPTH_MAX);
	json_t *doc = json_loadb(text, len, 0, &e);
	if (!doc)
		return err_set(err, -EPROTO, "it is no JSON: line %d: %s", e.line, e.text);
	if (!json_is_object(doc)) {
		json_decref(doc);
		return err_set(err, -EPROTO, "it is no JSON object");
	}
	*out = doc;
	return 0;
}

/* The file PATH, which may have MAX bytes, from malloc(). */
static char *read_file(const char *path, size_t max, size_t *len, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	AUTO(free) char *text = malloc(max + 1);
	ssize_t n = fd < 0 || !text ? -1 : io_read_full(fd, text, max + 1);

	if (fd < 0)
		err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	else if (!text)
		err_set(err, -ENOMEM, "out of memory");
	else if (n < 0)
		err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
	else if ((size_t)n > max)
		err_set(err, -EFBIG, "'%s' is longer than %zu KiB", path, max >> 10);
	if (n < 0 || (size_t)n > max)
		return NULL;
	text[n] = 0;
	*len = (size_t)n;
	return take_ptr(&text);
}

int catalogue_open(json_t **out, const char *path, struct err *err)
{
	struct err why = ERR_INIT;
	size_t len = 0;
	AUTO(free) char *text = read_file(path, CACHE_MAX, &len, &why);
	AUTO(json_decref) json_t *doc = NULL;
	const json_t *image;
	size_t i;
	int r = text ? catalogue_parse(&doc, text, len, &why) : why.code;

	if (r < 0)
		return err_set(err, r, "%s", why.msg);
	json_array_foreach(json_object_get(doc, "images"), i, image)
		if (!is_system(catalogue_text(image, "system")) || !catalogue_is_word(catalogue_text(image, "version")) ||
		    !json_is_array(json_object_get(image, "tags")) || weburl_check(catalogue_text(image, "url"), false, NULL) < 0)
			r = -EPROTO;
	if (r < 0 || !json_is_array(json_object_get(doc, "images")) || json_integer_value(json_object_get(doc, "format")) != 1)
		return err_set(err, -EPROTO, "'%s' is not what it was written as", path);
	*out = take_ptr(&doc);
	return 0;
}

json_t *catalogue_origin(const char *path)
{
	size_t len = 0;
	AUTO(free) char *text = read_file(path, ORIGIN_MAX, &len, NULL);
	AUTO(json_decref) json_t *doc = NULL;
	const char *name;
	json_t *value;

	if (!text || catalogue_parse(&doc, text, len, NULL) < 0)
		return NULL;
	json_object_foreach(doc, name, value)
		if (!json_is_string(value) && !json_is_integer(value))
			return NULL;
	return take_ptr(&doc);
}

/* --- descriptions ---------------------------------------------------- */

bool catalogue_name(const char *path, char name[CATALOGUE_NAME_MAX + 1])
{
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	size_t len = strlen(base);

	if (len < 6 || len - 5 > CATALOGUE_WORD_MAX || strcmp(base + len - 5, ".json") != 0)
		return false;
	snprintf(name, CATALOGUE_NAME_MAX + 1, "%.*s", (int)(len - 5), base);
	return is_system(name);
}

bool catalogue_has_system(const json_t *description, const char *system)
{
	const json_t *s;
	size_t i;

	json_array_foreach(json_object_get(description, "systems"), i, s)
		if (!strcmp(json_string_value(s), system))
			return true;
	return false;
}

static int check_words(const json_t *list, const char *what, bool (*is_good)(const char *s), struct err *err)
{
	const json_t *s;
	size_t i;

	json_array_foreach(list, i, s)
		if (!is_good(json_string_value(s)))
			return err_set(err, -EINVAL, "%s[%zu]: '%.60s' cannot be one", what, i, json_string_value(s) ? json_string_value(s) : "");
	return 0;
}

static int check_image(const json_t *description, const json_t *image, size_t i, struct err *err)
{
	char url[WEBURL_MAX + 1];
	static const char *const urls[] = { "url", "sums", "signature" };
	const char *system = catalogue_text(image, "system");

	if (!catalogue_is_word(catalogue_text(image, "version")) || (system[0] && !catalogue_has_system(description, system)))
		return err_set(err, -EINVAL, "images[%zu]: its version is no word, or its system is none of 'systems'", i);
	for (unsigned k = 0; k < sizeof(urls) / sizeof(urls[0]); k++) {
		const char *pattern = catalogue_text(image, urls[k]);
		int r = pattern[0] ? catalogue_fill(url, sizeof(url), description, image, pattern, "", err) : 0;

		if (!r && pattern[0])
			r = weburl_check(url, true, err);
		if (r < 0)
			return err_wrap(err, r, "images[%zu].%s", i, urls[k]);
	}
	return check_words(json_object_get(image, "tags"), "tags", catalogue_is_word, err);
}

int catalogue_describe(json_t **out, const char *text, size_t len, struct err *err)
{
	AUTO(json_decref) json_t *doc = NULL;
	char where[WHERE_LEN] = "";
	const json_t *image;
	size_t i;
	int r = catalogue_parse(&doc, text, len, err);

	if (r < 0)
		return r;
	r = schema_check(&description_schema, doc, false, where, sizeof(where), err);
	if (r < 0)
		return err_wrap(err, r, "%s", where);
	bool is_list = !strcmp(catalogue_text(doc, "kind"), "list");
	const char *url = catalogue_text(doc, "url");
	r = check_words(json_object_get(doc, "systems"), "systems", is_system, err);
	if (!r && !is_list && (r = weburl_check(url, true, err)) < 0)
		err_wrap(err, r, "url");
	if (!r && !is_list && url[strlen(url) - 1] != '/')
		r = err_set(err, -EINVAL, "url: '%s' is no folder: it has to end with '/'", url);
	json_array_foreach(json_object_get(doc, "images"), i, image)
		r = r ? r : check_image(doc, image, i, err);
	if (!r)
		*out = take_ptr(&doc);
	return r;
}

int catalogue_load(json_t **out, const char *path, struct err *err)
{
	size_t len = 0;
	AUTO(free) char *text = NULL;
	struct err why = ERR_INIT;
	char name[CATALOGUE_NAME_MAX + 1];

	if (!catalogue_name(path, name))
		return err_set(err, -EINVAL, "'%s' describes no catalogue: its name has to be like ubuntu.json", path);
	text = read_file(path, CATALOGUE_FILE_MAX, &len, &why);
	if (!text)
		return err_set(err, why.code, "%s", why.msg);
	int r = catalogue_describe(out, text, len, err);
	return r < 0 ? err_wrap(err, r, "the catalogue's description '%s'", path) : 0;
}

bool catalogue_has_arch(const json_t *description, const char *arch)
{
	const json_t *map = json_object_get(description, "arch");

	return !map || json_object_get(map, arch);
}

int catalogue_fill(char *url, size_t cap, const json_t *description, const json_t *image, const char *pattern, const char *arch, struct err *err)
{
	static const char *const names[] = { "{arch}", "{version}", "{release}" };
	const char *own = catalogue_text(json_object_get(description, "arch"), arch);
	const char *values[] = { own[0] ? own : arch, catalogue_text(image, "version"), catalogue_text(image, "release") };
	size_t at = 0;

	for (const char *p = pattern; *p;) {
		const char *piece = p;
		size_t n = 1, skip = 1;

		for (unsigned k = 0; k < sizeof(names) / sizeof(names[0]); k++)
			if (!strncmp(p, names[k], strlen(names[k]))) {
				piece = values[k];
				n = strlen(piece);
				skip = strlen(names[k]);
			}
		if (n >= cap - at)
			return err_set(err, -EINVAL, "'%.60s' becomes an address that is too long", pattern);
		memcpy(url + at, piece, n);
		at += n;
		p += skip;
	}
	url[at] = 0;
	return 0;
}
