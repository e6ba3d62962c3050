/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h - the operations of one commit, with the texts that they point to. Loop thread. */
#ifndef NODE_OPS_H
#define NODE_OPS_H

#include <jansson.h>
#include "store/store.h"

/* Zeroed: none. What stands beyond N may be used for operations whose texts are somebody else's. */
struct ops {
	struct store_op op[STORE_OPS_MAX];
	char *key[STORE_OPS_MAX], *value[STORE_OPS_MAX];        /* owned */
	unsigned n;
};

/* Each of these: -ENOMEM, or -ENOSPC when a commit cannot have more. DOC is borrowed. */
int ops_put(struct ops *o, const char *key, const json_t *doc, int64_t if_modified);
int ops_delete(struct ops *o, const char *key, int64_t if_modified);
int ops_check(struct ops *o, const char *key, int64_t if_modified);
/* None any more. */
void ops_clear(struct ops *o);

#endif
