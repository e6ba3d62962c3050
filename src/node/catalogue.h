/* SPDX-License-Identifier: Apache-2.0 */
/* catalogue.h - which images publishers offer (docs/formats/catalogue.md).
 *
 *	description   a file of ours, which the administrator may write: where a publisher's documents are, and what they are signed with
 *	catalogue     what has been found there, for one kind of processor: {"format", "catalogue", "fetched", "verified", "images": [...]}
 *	reference     what people write: "ubuntu", "ubuntu:24.04", "ubuntu:noble"
 *
 * Here are texts and documents alone: nothing is fetched. What comes from publishers is hostile: its length, depth and numbers are bounded, and no
 * path in it leads out of the publisher's own folder. Any thread. */
#ifndef NODE_CATALOGUE_H
#define NODE_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include "util/json.h"

struct err;

enum {
	CATALOGUE_TEXT_MAX = 16 << 20,          /* bytes of one document of a publisher */
	CATALOGUE_FILE_MAX = 256 << 10,         /* of a description */
	CATALOGUE_DEPTH_MAX = 16,
	CATALOGUE_PRODUCTS_MAX = 20000,         /* looked at in one document */
	CATALOGUE_IMAGES_MAX = 500,             /* kept of one catalogue */
	CATALOGUE_PATHS_MAX = 8,                /* documents that one index names */
	CATALOGUE_TAGS_MAX = 16,                /* further names of one image */
	CATALOGUE_WORD_MAX = 47,                /* characters of a system or a version */
	CATALOGUE_NAME_MAX = 63,                /* of a catalogue, and of the images made of it */
	CATALOGUE_SUM_MAX = 128,                /* digits */
};

struct catalogue_ref {
	char system[CATALOGUE_WORD_MAX + 1];    /* "ubuntu" */
	char version[CATALOGUE_WORD_MAX + 1];   /* "24.04", or another name of it; "": the one that one gets unasked */
};

/* "SYSTEM" or "SYSTEM:VERSION". -EINVAL. */
int catalogue_ref_parse(struct catalogue_ref *out, const char *text, struct err *err);
/* What uname(2) calls this host's processors. */
const char *catalogue_arch(char buf[CATALOGUE_WORD_MAX + 1]);

/* LEN bytes of TEXT as JSON, an object. -EFBIG: longer or deeper than is taken; -EPROTO: it is none. */
int catalogue_parse(json_t **out, const char *text, size_t len, struct err *err);

/* --- descriptions ---------------------------------------------------- */

/* The one in the file PATH. -EINVAL with the field that is wrong. */
int catalogue_load(json_t **out, const char *path, struct err *err);
/* The same of a text. */
int catalogue_describe(json_t **out, const char *text, size_t len, struct err *err);
/* What catalogue the file PATH describes: its name without ".json". False: that can be none's. */
bool catalogue_name(const char *path, char name[CATALOGUE_NAME_MAX + 1]);
bool catalogue_has_system(const json_t *description, const char *system);
const char *catalogue_text(const json_t *doc, const char *member);      /* "": there is none */

/* --- what publishers say ---------------------------------------------------- */

/* simplestreams 1.0: the documents that the index TEXT names, as a new array of paths, which lead to below its root. */
int catalogue_index(json_t **paths, const char *text, size_t len, struct err *err);
/* The images in the document TEXT of products that are for DESCRIPTION and ARCH, to IMAGES: of each the newest version. */
int catalogue_products(json_t *images, const json_t *description, const char *arch, const char *text, size_t len, struct err *err);
/* Does PATH lead to something below the folder that it is of? */
bool catalogue_path_is_good(const char *path);

/* The checksum of FILE in a text as sha256sum, sha512sum or, with --tag, BSD write it, or of nothing but digits. -ENOENT. */
int catalogue_sum(char sum[CATALOGUE_SUM_MAX + 1], const char *text, size_t len, const char *file, struct err *err);
/* PATTERN with {arch}, {version} and {release} of IMAGE, a member of DESCRIPTION's 'images', to URL of CAP bytes. -EINVAL: too long. */
int catalogue_fill(char *url, size_t cap, const json_t *description, const json_t *image, const char *pattern, const char *arch, struct err *err);
/* Does IMAGE's description say anything for ARCH? */
bool catalogue_has_arch(const json_t *description, const char *arch);

/* --- catalogues ---------------------------------------------------- */

/* Add one, of which there is none yet, or only an older one. SERIAL, RELEASE, SUM, TAGS (borrowed) may be NULL; SIZE 0: unknown. */
struct catalogue_image {
	const char *system, *version, *release, *serial, *url, *sum;
	json_int_t size;
	const json_t *tags;
};
int catalogue_add(json_t *images, const struct catalogue_image *i, struct err *err);
/* The newest come first. */
int catalogue_sort(json_t *images);
/* One that was kept in the file PATH. -ENOENT; -EPROTO: it is none. */
int catalogue_open(json_t **out, const char *path, struct err *err);
/* Where an image has come from, as 'viv disk pull' keeps that in the file PATH: words and numbers. A new reference; NULL: there is none. */
json_t *catalogue_origin(const char *path);
/* What REF means in CATALOGUE, borrowed from that. NULL: nothing, and the sentence has names that are near it. */
const json_t *catalogue_find(const json_t *catalogue, const struct catalogue_ref *ref, struct err *err);

#endif
