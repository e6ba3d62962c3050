/* SPDX-License-Identifier: Apache-2.0 */
/* profile.h - profiles: named defaults of instances.
 *
 * An instance names profiles in order; what it is ('spec', 'labels') is put together of them and of what it says itself when either
 * changes (layers.h), and stands in its document, which notes the versions of its profiles. So nobody who reads instances has to
 * know of profiles. A change of a profile is checked with all instances that use it, and is in one commit with them, or with as
 * many of them as a commit has room for; the controller of the profile brings those that are left, also after a crash, and
 * whatever else is found not to be at the version that the profile has. Loop thread. */
#ifndef NODE_PROFILE_H
#define NODE_PROFILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "api/schema.h"
#include "node/doc.h"

struct controller_kind;
struct err;
struct node;
struct ops;
struct profile_user;
struct profile_users;
struct resource_change;

enum {
	PROFILES_MAX = 16,              /* of one instance */
	PROFILES_IN_COMMIT = 100,       /* instances that one commit changes */
};
/* The one that new instances use that name none. */
#define PROFILE_DEFAULT "default"

/* The kind: 'spec' of a profile (instance_schema.c), its document, and the hooks of struct resource. */
extern const struct schema profile_spec_schema, profile_schema;
extern const struct controller_kind profile_kind;
int profile_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);
int profile_check_delete(struct node *n, const json_t *doc, struct err *err);
int profile_expand(struct node *n, json_t *doc, const json_t *old, const json_t *sent, char *where, size_t cap, struct err *err);
int profile_add_ops(struct resource_change *ch, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);
/* The name of a profile in PROJECT (NULL: in any) whose interfaces are on the network, or whose disks are in the pool (WHAT), NAME. "": none. */
void profile_naming(struct node *n, const char *project, const char *what, const char *name, char found[DOC_NAME_MAX + 1]);

/* --- what instances make of them (instance_profile.c) ---------------------------------------------------- */

/* The hooks of instances. */
int instance_expand(struct node *n, json_t *doc, const json_t *old, const json_t *sent, char *where, size_t cap, struct err *err);
int instance_add_ops(struct resource_change *ch, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);
/* Conditions of a commit of DOC, an instance: the profiles, image, volumes and networks that it names are as they are now, so that it
 * cannot come to name what is deleted or renamed meanwhile. */
#define INSTANCE_IMPORT_LABEL "viv-import"      /* of images and volumes that 'viv import' has made: the archive that they are from */
int instance_check_references(struct node *n, const json_t *doc, struct ops *o);
/* The same of the networks alone, which a profile names, too. */
int instance_check_networks(struct node *n, const json_t *doc, struct ops *o);
/* OLD, at REVISION, as its profiles make it now; with CHANGED (NULL: none) in place of the one of that name. It has been
 * checked as any change. New reference in *OUT. */
int instance_expand_again(struct node *n, const json_t *old, int64_t revision, const json_t *changed, json_t **out, struct err *err);
/* The revision of DOC, at REVISION, since which nobody but its profiles has changed it. */
int64_t instance_said_at(const json_t *doc, int64_t revision);

/* --- who uses which (profile_users.c) ---------------------------------------------------- */

int profile_users_open(struct profile_users **out, struct node *n, struct err *err);
/* Before the store closes. NULL is fine. */
void profile_users_close(struct profile_users *us);
/* The instance behind U (NULL: the first) in PROJECT that uses NAME; NULL: there is none. */
struct profile_user *profile_user_next(const struct profile_users *us, const struct profile_user *u, const char *project, const char *name);
const char *profile_user_key(const struct profile_user *u);
/* Does U know the profile NAME as it is: with this UID at this VERSION? True also of one that is being deleted. */
bool profile_user_knows(const struct profile_user *u, const char *name, const char *uid, json_int_t version);

#endif
