/* SPDX-License-Identifier: Apache-2.0 */
/* table.h - lists for people: columns as wide as they need to be. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "util/json.h"

struct table_column {
	const char *title;
	const char *path;       /* members, separated by dots: "status.state" */
	/* Text of a value; NULL: as it is. */
	void (*text)(const json_t *value, char *buf, size_t cap);
};

/* ITEMS, an array, one per line; COLUMNS end with a NULL title. What comes from others is made printable. */
void table_print(const json_t *items, const struct table_column *columns);
/* A number of bytes, for table_column.text. */
void table_size(const json_t *value, char *buf, size_t cap);
/* The value at PATH in DOC; NULL: none. */
const json_t *table_at(const json_t *doc, const char *path);

#endif
