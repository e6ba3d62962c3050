/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/archive.h"

#include "util/cleanup.h"
#include "util/json.h"

static const char *const of_machine[] = {
	"cpus", "memory", "cpu", "disk_size", "cmdline", "ssh_keys", "restart", "agent", "shutdown_seconds", NULL,
};
static const char *const of_network[] = { "kind", "network", "limit_in", "limit_out", NULL };

/* Those members of FROM that NAMES has; a new reference. */
static json_t *pick(const json_t *from, const char *const *names)
{
	json_t *out = json_object();

	for (; out && *names; names++) {
		json_t *value = json_object_get(from, *names);

		if (value)
			json_object_set(out, *names, value);
	}
	return out;
}

json_t *archive_spec(const json_t *spec)
{
	AUTO(json_decref) json_t *out = pick(spec, of_machine), *list = json_array();
	const json_t *net, *networks = json_object_get(spec, "networks");
	size_t i;

	if (!out || !list)
		return NULL;
	json_array_foreach(networks, i, net)
		json_array_append_new(list, pick(net, of_network));
	if (json_is_array(networks))
		json_object_set(out, "networks", list);
	return take_ptr(&out);
}
