/* SPDX-License-Identifier: Apache-2.0 */
/* health.h - is the disk with the data well? Told in the log when that changes, and to who asks. Loop thread. */
#ifndef NODE_HEALTH_H
#define NODE_HEALTH_H

#include "util/cleanup.h"
#include "util/json.h"

struct err;
struct health;
struct node;

enum { HEALTH_SLOW_MS = 1000 };         /* a change that is not durable after so long */

int health_open(struct health **out, struct node *n, struct err *err);
void health_close(struct health *h);            /* NULL is fine */
DEFINE_AUTO(struct health *, health_close)
/* {"state": "ok", "slow" or "failing", "reason": a sentence or "", "since": a time, "sync_seconds": what the last change took}. New
 * reference. */
json_t *health_view(const struct health *h);
/* A sentence about what is wrong; "": nothing is. */
const char *health_problem(const struct health *h);

#endif
