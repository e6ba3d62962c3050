/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.h - what the disks of an instance were at an instant: snapshots inside its qcow2 files, all of its writable disks
 * at once, while it runs or not. Inside they are called by the uid of the document. With 'memory' that of the machine is kept in a file
 * (snapshot_memory.h) and the machine goes on from it. Reverting and cloning are tasks.
 * Loop thread. */
#ifndef NODE_SNAPSHOT_H
#define NODE_SNAPSHOT_H

#include "api/route.h"

struct controller_kind;
struct err;
struct node;
struct task_op;

extern const struct schema snapshot_schema, clone_schema;
extern const struct controller_kind snapshot_kind;

/* struct resource: the instance that it is of. */
int snapshot_fill(struct api_call *c, json_t *doc, struct err *err);
int snapshot_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);

/* POST /v1/instances/{instance}/snapshots/{name}/revert */
void snapshot_revert(struct api_call *c);
extern const struct task_op snapshot_revert_op;

/* POST /v1/instances/{instance}/clone */
void instance_clone(struct api_call *c);
extern const struct task_op instance_clone_op;

#endif
