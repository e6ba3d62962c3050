/* SPDX-License-Identifier: Apache-2.0 */
/* bulk.h - the same done to many things at once.
 *
 * A request names things, or says by labels and fields which, and what shall be done to each. That is a task. Each thing is one request
 * of the daemon's own (http_own_new()), through the same route, role, check and record in the audit log as if who has begun the task had sent it;
 * so what one thing cannot is told of that one, in the words of its route, and the others go on. Each has an Idempotency-Key made of
 * the task's uid and its number: a daemon that was killed is followed by one that sends all again, and what was done is not done twice.
 * Loop thread. */
#ifndef NODE_BULK_H
#define NODE_BULK_H

#include "api/schema.h"

struct api_call;
struct task_op;

enum {
	BULK_MAX = 1000,                /* things of one request */
	BULK_AT_ONCE = 16,              /* requests on their way */
};

extern const struct schema bulk_schema;
extern const struct task_op bulk_op;
void bulk_begin(struct api_call *c);            /* POST /v1/bulk */

#endif
