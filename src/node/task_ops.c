/* SPDX-License-Identifier: Apache-2.0 */
/* task_ops.c - the table of all operations that are tasks. */
#include "node/bulk.h"
#include "node/catalogues.h"
#include "node/flatten.h"
#include "node/snapshot.h"
#include "node/task.h"
#include "node/template.h"
#include "node/volume_clone.h"
#include "node/volume_move.h"

const struct task_op *const task_ops[] = { &snapshot_revert_op, &instance_clone_op, &flatten_instance_op, &flatten_volume_op,
					   &volume_move_op, &volume_clone_op, &catalogue_refresh_op,
					   &template_make_op, &bulk_op, NULL };
