/* SPDX-License-Identifier: Apache-2.0 */
/* volume_move.h - volumes go from one pool to another, while a machine runs with them or not: a task.
 *
 * The document names one pool, then the other; in between the file is in both. What the document says is right at every
 * moment: a machine that runs has been paused before its disk changed over, and goes on only when the document says so. */
#ifndef NODE_VOLUME_MOVE_H
#define NODE_VOLUME_MOVE_H

#include <jansson.h>
#include <stdbool.h>
#include "api/schema.h"

struct api_call;
struct err;
struct node;
struct task_op;

extern const struct schema volume_move_schema;
extern const struct task_op volume_move_op;

void volume_move(struct api_call *c);           /* POST /v1/volumes/{name}/move */

/* Is the volume NAME of PROJECT on its way, or about to be? */
bool volume_move_is_begun(struct node *n, const char *project, const char *name);
/* Must a machine with the disks of SPEC stay paused, because one of them is just changing over, or may be? */
bool volume_move_holds(struct node *n, const char *project, const json_t *spec);

#endif
