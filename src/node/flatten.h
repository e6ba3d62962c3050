/* SPDX-License-Identifier: Apache-2.0 */
/* flatten.h - tasks by which a linked clone becomes independent: its disks take over what they show of the bases that they share with
 * others (bases.h), while a machine runs with them, by a job of that, or not, by a worker. Afterwards a base that nobody is on goes. Loop
 * thread. */
#ifndef NODE_FLATTEN_H
#define NODE_FLATTEN_H

#include "api/route.h"
#include "node/task.h"

extern const struct schema flatten_schema;
extern const struct task_op flatten_instance_op, flatten_volume_op;

void instance_flatten(struct api_call *c);      /* POST /v1/instances/{name}/flatten */
void volume_flatten(struct api_call *c);        /* POST /v1/volumes/{name}/flatten */

#endif
