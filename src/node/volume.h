/* SPDX-License-Identifier: Apache-2.0 */
/* volume.h - disks with a life of their own, each in a pool (pool.h). Loop thread. */
#ifndef NODE_VOLUME_H
#define NODE_VOLUME_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "api/schema.h"

struct api_call;
struct controller_kind;
struct err;
struct node;

extern const struct schema volume_schema;

int volume_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);
/* -EBUSY: an instance has it. */
int volume_check_delete(struct node *n, const json_t *doc, struct err *err);

extern const struct controller_kind volume_kind;

struct upload_place;
/* Where a client's bytes for the volume under KEY go. -EAGAIN: not yet anywhere. */
int volume_upload_place(struct node *n, const char *key, struct upload_place *out, struct err *err);

/* Does an instance of PROJECT have VOLUME? Its name in WHO. */
bool volume_is_used(struct node *n, const char *project, const char *volume, char *who, size_t cap);

struct volume;
/* Until volume_give() the volume NAME, which has UID, is not grown, moved or removed; with IS_WRITER nobody else works on its file, and no
 * machine begins with it. -EAGAIN: something is done to it just now, or it is not ready; -ENOENT: it has gone. */
int volume_take(struct node *n, const char *project, const char *name, const char *uid, bool is_writer, struct volume **out, struct err *err);
void volume_give(struct volume *v, bool is_writer);
/* Has anybody taken it? */
bool volume_is_taken(struct node *n, const char *project, const char *name);

/* The file of a volume that is ready, from malloc(); NULL with the reason. */
char *volume_path(struct node *n, const char *project, const char *name, struct err *err);
/* The format that SPEC names: "raw" or "qcow2". */
const char *volume_format(const json_t *spec);
/* What a client has not said of a new one. */
int volume_fill(struct api_call *c, json_t *doc, struct err *err);
/* Has the volume NAME been made, whether its file can be seen now or not? */
bool volume_is_made(struct node *n, const char *project, const char *name);

#endif
