/* SPDX-License-Identifier: Apache-2.0 */
/* catalogue_find.c - the images of a catalogue, and which one is meant. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "node/catalogue.h"
#include "node/catalogue_priv.h"
#include "util/err.h"
#include "util/str.h"
#include "util/weburl.h"

enum { NEAR_MAX = 3, KNOWN_MAX = 8, NEAR_EDITS = 2 };

static const char text_of_default[] = "default";

/* "ubuntu-24-04": what an image may be called. */
static void name_of(const struct catalogue_image *i, char name[CATALOGUE_NAME_MAX + 1])
{
	size_t len = (size_t)snprintf(name, CATALOGUE_NAME_MAX + 1, "%.*s-%.*s", 31, i->system, 31, i->version);

	for (char *p = name; *p; p++)
		*p = isalnum((unsigned char)*p) ? (char)tolower((unsigned char)*p) : '-';
	for (; len && name[len - 1] == '-'; len--)
		name[len - 1] = 0;
}

static json_t *good_tags(const json_t *tags)
{
	json_t *list = json_array();
	const json_t *t;
	size_t i;

	json_array_foreach(tags, i, t)
		if (catalogue_is_word(json_string_value(t)) && json_array_size(list) < CATALOGUE_TAGS_MAX)
			json_array_append(list, (json_t *)t);
	return list;
}

int catalogue_add(json_t *images, const struct catalogue_image *i, struct err *err)
{
	char name[CATALOGUE_NAME_MAX + 1];
	size_t at, digits = i->sum ? strlen(i->sum) : 0;
	json_t *old;

	if (digits != 64 && digits != 128)
		return err_set(err, -EPROTO, "'%s:%s' has no checksum", i->system, i->version);
	int r = weburl_check(i->url, false, err);
	if (r < 0)
		return r;
	name_of(i, name);
	json_t *doc = json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:s*, s:s*, s:o}", "system", i->system, "version", i->version, "name", name,
				"reference", json_sprintf("%s:%s", i->system, i->version), "url", i->url, digits == 64 ? "sha256" : "sha512",
				i->sum, "release", catalogue_is_word(i->release) ? i->release : NULL,
				"serial", catalogue_is_word(i->serial) ? i->serial : NULL, "tags", good_tags(i->tags));
	if (!doc)
		return err_set(err, -ENOMEM, "out of memory");
	if (i->size > 0)
		json_object_set_new(doc, "size", json_integer(i->size));
	json_array_foreach(images, at, old)
		if (!strcmp(catalogue_text(old, "name"), name)) {
			if (strverscmp(catalogue_text(old, "serial"), i->serial ? i->serial : "") < 0)
				return json_array_set_new(images, at, doc);
			json_decref(doc);
			return 0;
		}
	if (json_array_size(images) < CATALOGUE_IMAGES_MAX)
		return json_array_append_new(images, doc);
	json_decref(doc);
	return 0;
}

static int newer_first(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int r = strcmp(catalogue_text(x, "system"), catalogue_text(y, "system"));

	return r ? r : strverscmp(catalogue_text(y, "version"), catalogue_text(x, "version"));
}

int catalogue_sort(json_t *images)
{
	size_t n = json_array_size(images), i;
	AUTO(free) json_t **all = calloc(n + 1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		all[i] = json_incref(json_array_get(images, i));
	qsort(all, n, sizeof(*all), newer_first);
	for (i = 0; i < n; i++)
		json_array_set_new(images, i, all[i]);
	return 0;
}

/* --- finding ---------------------------------------------------- */

static bool has_tag(const json_t *image, const char *tag)
{
	const json_t *t;
	size_t i;

	json_array_foreach(json_object_get(image, "tags"), i, t)
		if (json_is_string(t) && !strcasecmp(json_string_value(t), tag))
			return true;
	return false;
}

static bool is_called(const json_t *image, const char *version)
{
	return !strcasecmp(catalogue_text(image, "version"), version) || !strcasecmp(catalogue_text(image, "release"), version) ||
	       has_tag(image, version);
}

/* ", 'SYSTEM:VERSION'" of IMAGE to TEXT. */
static void mention(char *text, size_t cap, const json_t *image)
{
	size_t len = strlen(text);

	snprintf(text + len, cap - len, "%s'%s'", len ? ", " : "", catalogue_text(image, "reference"));
}

static bool is_near(const json_t *image, const char *version)
{
	const char *own = catalogue_text(image, "version"), *release = catalogue_text(image, "release");

	return !strncasecmp(own, version, strlen(version)) || str_distance(own, version) <= NEAR_EDITS ||
	       (release[0] && str_distance(release, version) <= NEAR_EDITS);
}

static void not_found(const json_t *catalogue, const struct catalogue_ref *ref, struct err *err)
{
	const json_t *images = json_object_get(catalogue, "images"), *image;
	char near[200] = "", known[200] = "";
	unsigned n_near = 0, n_known = 0;
	size_t i;

	json_array_foreach(images, i, image) {
		if (strcmp(catalogue_text(image, "system"), ref->system) != 0)
			continue;
		if (ref->version[0] && n_near < NEAR_MAX && is_near(image, ref->version) && ++n_near)
			mention(near, sizeof(near), image);
		if (n_known < KNOWN_MAX && ++n_known)
			mention(known, sizeof(known), image);
	}
	err_set(err, -ENOENT, "the catalogue of %s has no '%s%s%s' for this kind of processor; %s %s", catalogue_text(catalogue, "fetched"), ref->system,
		ref->version[0] ? ":" : "", ref->version, near[0] ? "did you mean" : "it knows", near[0] ? near : known[0] ? known : "none");
}

const json_t *catalogue_find(const json_t *catalogue, const struct catalogue_ref *ref, struct err *err)
{
	const json_t *image, *best = NULL;
	size_t i;

	/* The newest come first. Unasked one gets what the publisher calls the default, or else the newest. */
	json_array_foreach(json_object_get(catalogue, "images"), i, image) {
		if (strcmp(catalogue_text(image, "system"), ref->system) != 0)
			continue;
		if (ref->version[0] ? is_called(image, ref->version) : has_tag(image, text_of_default))
			return image;
		if (!ref->version[0] && !best)
			best = image;
	}
	if (!best)
		not_found(catalogue, ref, err);
	return best;
}
