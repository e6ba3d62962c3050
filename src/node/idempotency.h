/* SPDX-License-Identifier: Apache-2.0 */
/* idempotency.h - a request that makes, changes or deletes something and has the header Idempotency-Key may be sent again when its
 * answer was lost: it is done once, and the second gets the same thing. Kept with the thing itself, in one commit, for a day; per user,
 * operation and project. Loop thread. */
#ifndef NODE_IDEMPOTENCY_H
#define NODE_IDEMPOTENCY_H

#include "api/route.h"
#include "node/secret.h"
#include "store/store.h"

struct node;

/* Was it done before? Then C is answered: with what was made, or, when that was another request, with an error. */
bool idempotency_answered(struct api_call *c);

struct idempotency_record { char key[128], value[STORE_KEY_MAX + 256]; };
/* The operation that goes with the making of DOC_KEY. R holds what it points to. False: C has no such header. */
bool idempotency_op(const struct api_call *c, const char *doc_key, int status, struct store_op *op, struct idempotency_record *r);
/* Forget what is older than a day. */
void idempotency_tidy(struct node *n);

#endif
