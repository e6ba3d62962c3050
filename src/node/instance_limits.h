/* SPDX-License-Identifier: Apache-2.0 */
/* instance_limits.h - what an instance may take of its node, as 'spec.limits' and its disks say: live, by its machine (processor
 * time, disks, balloon) and of its processes (processors, weights, what goes first when memory is short). Loop thread. */
#ifndef NODE_INSTANCE_LIMITS_H
#define NODE_INSTANCE_LIMITS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "api/schema.h"
#include "node/process.h"

struct err;
struct instance;

enum { LIMITS_IOPS_MAX = 100000000, LIMITS_WEIGHT_MAX = 10000, LIMITS_CPUS_TEXT = 200 };

extern const struct schema limits_schema;
/* As far as a layer (layers.h) says something of them. */
extern const struct schema limits_layer_schema;

/* What limits_schema cannot say of SPEC. -EINVAL with the field in WHERE. */
int limits_check(const json_t *spec, char *where, size_t cap, struct err *err);

/* The value of the request 'set' of a machine that SPEC describes: all of them, 'none' for those that are not given. From
 * malloc(); NULL: out of memory. */
char *limits_settings(const json_t *spec);

/* --- instance_limits_process.c --- */

/* Put P, who runs beside it, and all that they have started, each thread, under SPEC's limits. What others of them start later inherits them. The
 * first that fails is told in ERR, the others hold. -ESRCH: it has gone. */
int limits_apply(const struct process *p, const json_t *spec, struct err *err);

/* --- instance_limits.c --- */

/* Has the node room for I, which is off and shall be as SPEC, beside those that run? -ENOSPC with the reason. */
int limits_admit(const struct instance *i, const json_t *spec, struct err *err);
/* It has a process, of before or now; it has none any more. */
void limits_take(struct instance *i, const json_t *spec);
void limits_give_back(struct instance *i);
/* Those of DOC, at REVISION, hold from now on; its machine answers. What does not is told in the status. */
void instance_set_limits(struct instance *i, const json_t *doc, int64_t revision);

#endif
