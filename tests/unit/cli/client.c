/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line sends along with a request fits what the API says of itself. */
#include <string.h>
#include "cli/client_priv.h"
#include "test.h"
#include "util/json.h"

static bool has_project(const json_t *operation)
{
	const json_t *p;
	size_t i;

	json_array_foreach(json_object_get(operation, "parameters"), i, p)
		if (!strcmp(json_string_value(json_object_get(p, "name")), "project") && !strcmp(json_string_value(json_object_get(p, "in")), "query"))
			return true;
	return false;
}

TEST(the_project_is_named_where_the_api_has_a_parameter_for_it_and_nowhere_else)
{
	static const char *const methods[][2] = { { "get", "GET" }, { "post", "POST" }, { "put", "PUT" }, { "patch", "PATCH" }, { "delete", "DELETE" } };
	AUTO(json_decref) json_t *doc = json_load_file(OPENAPI, 0, NULL);
	const char *path;
	json_t *verbs;
	unsigned n = 0;

	json_object_foreach(json_object_get(doc, "paths"), path, verbs) {
		for (unsigned m = 0; m < sizeof(methods) / sizeof(methods[0]); m++) {
			const json_t *operation = json_object_get(verbs, methods[m][0]);

			if (operation && client_names_project(methods[m][1], path) != has_project(operation))
				FAIL("%s %s", methods[m][1], path);
			n += operation != NULL;
		}
	}
	CHECK(n > 100);
	CHECK(!client_names_project("GET", "/v1/pools?after="));
	CHECK(client_names_project("GET", "/v1/instances?after="));
}
