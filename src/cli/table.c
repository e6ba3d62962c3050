/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cli/output.h"

enum { CELL_MAX = 256, COLUMNS_MAX = 12 };

const json_t *table_at(const json_t *doc, const char *path)
{
	while (doc && *path) {
		size_t n = strcspn(path, ".");

		doc = json_object_getn(doc, path, n);
		path += n + (path[n] == '.');
	}
	return doc;
}

void table_size(const json_t *value, char *buf, size_t cap)
{
	char size[OUTPUT_SIZE_LEN];

	snprintf(buf, cap, "%s", json_is_integer(value) ? output_size(size, (uint64_t)json_integer_value(value)) : "-");
}

static void cell(const json_t *item, const struct table_column *c, char *buf, size_t cap)
{
	const json_t *v = table_at(item, c->path);

	if (c->text)
		c->text(v, buf, cap);
	else if (json_is_string(v))
		snprintf(buf, cap, "%s", json_string_value(v));
	else if (json_is_integer(v))
		snprintf(buf, cap, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else
		snprintf(buf, cap, "%s", json_is_true(v) ? "yes" : json_is_false(v) ? "no" : "-");
	if (!buf[0])
		snprintf(buf, cap, "-");
}

void table_print(const json_t *items, const struct table_column *columns)
{
	int width[COLUMNS_MAX] = { 0 };
	char text[CELL_MAX];
	const json_t *item;
	size_t i, n = 0;

	for (; columns[n].title; n++) {
		width[n] = (int)strlen(columns[n].title);
		json_array_foreach(items, i, item) {
			cell(item, &columns[n], text, sizeof(text));
			int w = (int)strlen(text);
			width[n] = w > width[n] ? w : width[n];
		}
	}
	for (size_t k = 0; k < n; k++)
		printf("%-*s%s", k + 1 < n ? width[k] : 0, columns[k].title, k + 1 < n ? "  " : "\n");
	json_array_foreach(items, i, item) {
		for (size_t k = 0; k < n; k++) {
			cell(item, &columns[k], text, sizeof(text));
			output_text(stdout, text);
			printf("%*s%s", k + 1 < n ? width[k] - (int)strlen(text) : 0, "", k + 1 < n ? "  " : "\n");
		}
	}
}
