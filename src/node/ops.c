/* SPDX-License-Identifier: Apache-2.0 */
#include "node/ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* VALUE is taken. */
static int add(struct ops *o, enum store_op_kind kind, const char *key, char *value, int64_t if_modified)
{
	if (o->n == STORE_OPS_MAX) {
		free(value);
		return -ENOSPC;
	}
	unsigned n = o->n++;

	o->key[n] = strdup(key);
	o->value[n] = value;
	o->op[n] = (struct store_op){ .kind = kind, .key = o->key[n], .value = value, .len = value ? strlen(value) : 0,
				      .if_modified = if_modified };
	return !o->key[n] || (kind == STORE_PUT && !value) ? -ENOMEM : 0;
}

int ops_put(struct ops *o, const char *key, const json_t *doc, int64_t if_modified)
{
	return add(o, STORE_PUT, key, json_dumps(doc, JSON_COMPACT), if_modified);
}

int ops_delete(struct ops *o, const char *key, int64_t if_modified)
{
	return add(o, STORE_DELETE, key, NULL, if_modified);
}

int ops_check(struct ops *o, const char *key, int64_t if_modified)
{
	return add(o, STORE_CHECK, key, NULL, if_modified);
}

void ops_clear(struct ops *o)
{
	while (o->n) {
		free(o->key[--o->n]);
		free(o->value[o->n]);
	}
}
