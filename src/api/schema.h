/* SPDX-License-Identifier: Apache-2.0 */
/* schema.h - what JSON documents look like, as tables: one description checks what comes in, fills in
 * defaults, and becomes the schemas of the OpenAPI document. Pure functions; any thread. */
#ifndef API_SCHEMA_H
#define API_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct err;

enum schema_type {
	SCHEMA_STRING,
	SCHEMA_NAME,            /* what a person calls a thing: a DNS label, a-z 0-9 and '-', at most 63, begins with a letter */
	SCHEMA_PATH,            /* an absolute path of the node's file system */
	SCHEMA_INT,
	SCHEMA_SIZE,            /* bytes: an integer, or a string like "512M"; becomes an integer */
	SCHEMA_SHARE,           /* a number like 0.5, or its text; becomes text with at most three decimals. MIN and MAX are thousandths */
	SCHEMA_BOOL,
	SCHEMA_TIME,            /* RFC 3339, UTC */
	SCHEMA_OBJECT,          /* as SUB says */
	SCHEMA_LIST,            /* of SUB's objects, or of strings without SUB; MAX elements */
	SCHEMA_MAP,             /* strings to strings: labels; MAX members */
	SCHEMA_ANY,
};

struct schema_field {
	const char *name;
	enum schema_type type;
	bool is_required;
	bool is_readonly;       /* comes from the server: refused where it is sent, unless as it was */
	int64_t min, max;       /* of INT and SIZE; of the length of a STRING; of the number of elements. 0, 0: no bounds */
	const char *choices;    /* of a STRING: "a|b|c"; NULL: any */
	const struct schema *sub;
	const char *dflt;       /* JSON text; NULL: none */
	const char *help;       /* a sentence */
};

/* For macros of fields that are those of two schemas, one of which fills nothing in: '.dflt = D("1")'. */
#define SCHEMA_DEFAULT(text) text
#define SCHEMA_NO_DEFAULT(text) NULL

struct schema {
	const char *name;       /* "Instance": its name in the OpenAPI document */
	const char *help;
	const struct schema_field *fields;      /* ends with a NULL name */
};

/* Is DOC what S says? Sizes become integers; defaults are filled in unless IS_PATCH (then nothing is required
 * either, and null takes a field away). On failure -EINVAL, the sentence in ERR, and in WHERE (of CAP bytes)
 * the path of the field, like "spec.disks[1].size". */
int schema_check(const struct schema *s, json_t *doc, bool is_patch, char *where, size_t cap, struct err *err);

/* DOC, stored, with PATCH applied (RFC 7396), as a new reference. */
json_t *schema_merge(const json_t *doc, const json_t *patch);

/* Does DOC, which is what S says, name a path (SCHEMA_PATH) that OLD (NULL: none) does not have there? WHERE gets the place
 * of the first. */
bool schema_has_new_path(const struct schema *s, const json_t *old, const json_t *doc, char *where, size_t cap);

/* The OpenAPI schema object of S; those of its subs are references. New reference. */
json_t *schema_openapi(const struct schema *s);
/* S and all that it refers to, each under its name, into MAP. */
void schema_collect(const struct schema *s, json_t *map);

#endif
