/* SPDX-License-Identifier: Apache-2.0 */
/* query.h - which documents of a list, in which order, and what of each: ?filter=, ?sort=, ?offset=, ?fields=. Paths are
 * members separated by dots: "status.state". Pure functions. */
#ifndef NODE_QUERY_H
#define NODE_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include "util/json.h"

struct err;

enum { QUERY_TERMS_MAX = 8, QUERY_PATH_MAX = 64, QUERY_VALUE_MAX = 128, QUERY_FIELDS_MAX = 32 };

struct query {
	struct query_term {
		char path[QUERY_PATH_MAX], value[QUERY_VALUE_MAX];
		enum { QUERY_IS, QUERY_IS_NOT, QUERY_HAS, QUERY_LESS, QUERY_MORE } how;
	} term[QUERY_TERMS_MAX];
	unsigned n_terms;
	char sort[QUERY_PATH_MAX];      /* "": as they come, by name */
	bool is_descending;
	char field[QUERY_FIELDS_MAX][QUERY_PATH_MAX];
	unsigned n_fields;              /* 0: all */
};

/* FILTER: "PATH=VALUE", with != for another value, ~ for a part of it (in either case), < and > for numbers and texts in their
 * order; several with commas, all of which must hold. SORT: a path, with '-' before it from the last. FIELDS: paths with
 * commas. Each may be NULL. -EINVAL. */
int query_parse(struct query *q, const char *filter, const char *sort, const char *fields, struct err *err);
bool query_wants(const struct query *q, const json_t *doc);
/* Sort the array ITEMS in place; equal ones stay in their order. */
int query_sort(const struct query *q, json_t *items, struct err *err);
/* What of DOC is wanted, as a new reference. */
json_t *query_pick(const struct query *q, json_t *doc);

#endif
