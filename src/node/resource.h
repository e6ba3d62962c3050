/* SPDX-License-Identifier: Apache-2.0 */
/* resource.h - what is the same for all kinds of documents: list, show, create, change, delete.
 *
 * A kind is a row: its schema, and what its schema cannot say. The handlers are those of the route table
 * (routes.c); they write what is wanted and answer when that is durable. Loop thread. */
#ifndef NODE_RESOURCE_H
#define NODE_RESOURCE_H

#include "api/route.h"

struct err;
struct node;
struct resource_change;

enum { RESOURCE_LIST_MAX = 1000 };      /* documents in one answer of a list */

/* Whose things of a kind are: this stands between kind and name in keys. */
enum resource_space {
	RESOURCE_OF_PROJECT,
	RESOURCE_OF_NODE,               /* nobody's: "_" */
	RESOURCE_OF_USER,               /* the name of a user */
	RESOURCE_OF_INSTANCE,           /* "PROJECT/INSTANCE" */
};

struct resource {
	const char *kind;               /* "instance": in keys and documents */
	const char *plural;             /* "instances": in paths */
	const struct schema *schema;    /* of the whole document */
	/* May DOC be, instead of OLD (NULL: it is new)? On failure WHERE gets the path of the wrong field. NULL:
	 * always. */
	int (*check)(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap,
		     struct err *err);
	/* The path of the host's that a new one names in LOOKS_AT ("spec.path"), if it does, is looked at by LOOK on another thread, before
	 * CHECK. NULL: none. */
	const char *looks_at;
	int (*look)(const char *path, struct err *err);
	/* May it go? NULL: always. */
	int (*check_delete)(struct node *n, const json_t *doc, struct err *err);
	/* Of a new one: what is not sent but comes from the server. NULL: nothing. */
	int (*fill)(struct api_call *c, json_t *doc, struct err *err);
	/* DOC is OLD (NULL: it is new) with what was SENT, as a patch; make of it what it shall be. What the schema says by default is filled
	 * in afterwards. NULL: it is that already. */
	int (*expand)(struct node *n, json_t *doc, const json_t *old, const json_t *sent, char *where, size_t cap, struct err *err);
	/* What goes into the same commit as DOC instead of OLD: CH->ops, claims and plan. NULL: nothing. */
	int (*add_ops)(struct resource_change *ch, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);
	enum resource_space space;
	/* A controller takes away what belongs to it, and then the document: deleting only marks it. */
	bool has_controller;
};

/* Ends with a NULL kind. */
extern const struct resource resources[];

void resource_list(struct api_call *c);
void resource_get(struct api_call *c);
void resource_create(struct api_call *c);
void resource_patch(struct api_call *c);
void resource_delete(struct api_call *c);

/* The project that C is about: that in its path, or ?project=, or "default". */
const char *resource_project(const struct api_call *c);
/* The user that C is about: that in its path, or ?user=, or who asks. */
const char *resource_user(const struct api_call *c);
/* May a WHAT ("instance") be called NAME? -EINVAL. */
int resource_check_name(const char *name, const char *what, struct err *err);
/* Answer C with the document under KEY as it is now. */
void resource_reply(struct api_call *c, int status, const char *key);
/* The document that C's path names, parsed; answers and returns NULL when there is none. KEY gets its key. */
json_t *resource_find(struct api_call *c, char *key, int64_t *modified);

/* Fields that every document begins with. */
#define RESOURCE_FIELDS(kind_) \
	{ .name = "kind", .type = SCHEMA_STRING, .is_readonly = true, .help = "always '" kind_ "'" }, \
	{ .name = "name", .type = SCHEMA_NAME, .is_required = true, \
	  .help = "unique among those of its kind in the project" }, \
	{ .name = "project", .type = SCHEMA_NAME, .is_readonly = true, .help = "whose it is" }, \
	{ .name = "uid", .type = SCHEMA_STRING, .is_readonly = true, .help = "never used twice, unlike names" }, \
	{ .name = "created", .type = SCHEMA_TIME, .is_readonly = true, .help = "when" }, \
	{ .name = "deleting", .type = SCHEMA_BOOL, .is_readonly = true, .help = "it is being taken away" }, \
	{ .name = "revision", .type = SCHEMA_INT, .is_readonly = true, .help = "of this document; for If-Match" }, \
	{ .name = "status", .type = SCHEMA_ANY, .is_readonly = true, .help = "what is seen" }, \
	{ .name = "labels", .type = SCHEMA_MAP, .max = 64, .dflt = "{}", \
	  .help = "names and values for people and selectors" }

/* The schema of a kind that has a spec as well; BY_DEFAULT is the spec's, as in struct schema_field. */
#define RESOURCE_SCHEMA(kind_, title, about, spec_, by_default) \
	{ .name = (title), .help = (about), .fields = (const struct schema_field[]){ \
		RESOURCE_FIELDS(kind_), \
		{ .name = "spec", .type = SCHEMA_OBJECT, .sub = (spec_), .is_required = !(by_default), .dflt = (by_default), \
		  .help = "what it shall be" }, \
		{ .name = "renamed_from", .type = SCHEMA_STRING, .is_readonly = true, .help = "the key that it had before it got its name" }, \
		{ .name = NULL }, \
	} }

#endif
