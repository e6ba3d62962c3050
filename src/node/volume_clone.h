/* SPDX-License-Identifier: Apache-2.0 */
/* volume_clone.h - another volume that begins as one is now, also while a machine runs with that: a task. */
#ifndef NODE_VOLUME_CLONE_H
#define NODE_VOLUME_CLONE_H

#include "api/schema.h"

struct api_call;
struct task_op;

extern const struct schema volume_clone_schema;
extern const struct task_op volume_clone_op;

void volume_clone(struct api_call *c);          /* POST /v1/volumes/{name}/clone */

#endif
