/* SPDX-License-Identifier: Apache-2.0 */
/* instance_pending.c - what of a document takes effect only when its machine is started the next time: what the running one was started with stands
 * in a file beside its sockets, for the daemons after this one, and is compared. How many processors and how much memory it has it tells itself. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/instance_priv.h"
#include "util/checked.h"
#include "util/err.h"

/* The rest holds at once, is looked at when it is needed, or cannot be changed. */
static const char *const fields[] = { "cpus", "memory", "cpu", "engine", "agent", "cmdline", "kernel", "initrd", "disks", "networks" };
/* Of a machine that has gone on from saved memory nobody knows with what it was started. */
static const char *const saved[] = { "cpus", "memory", "cpu", "agent", "cmdline", "kernel", "initrd" };

static void started_path(const struct instance *i, char path[STORE_KEY_MAX])
{
	snprintf(path, STORE_KEY_MAX, "%s/started.json", i->run_dir);
}

/* Limits of disks hold while it runs, and interfaces on networks are plugged in elsewhere. */
static json_t *lasting(const char *field, const json_t *value)
{
	json_t *copy = json_deep_copy(value), *v;
	size_t at;

	json_array_foreach(copy, at, v) {
		bool is_plugged = !strcmp(json_string_value(json_object_get(v, "kind")) ?: "", "network");

		json_object_del(v, "iops");
		json_object_del(v, "bps");
		json_object_del(v, "limit_in");
		json_object_del(v, "limit_out");
		if (!strcmp(field, "networks") && is_plugged) {
			json_object_del(v, "network");
			json_object_del(v, "address");
			json_object_del(v, "forwards");
		}
	}
	return copy;
}

void instance_note_start(struct instance *i, const json_t *spec, bool is_saved)
{
	char path[STORE_KEY_MAX];

	instance_forget_start(i);
	i->started = json_object();
	for (unsigned k = 0; k < ARRAY_LEN(fields); k++) {
		const json_t *value = json_object_get(spec, fields[k]);

		json_object_set_new(i->started, fields[k], value ? lasting(fields[k], value) : json_null());
	}
	for (unsigned k = 0; is_saved && k < ARRAY_LEN(saved); k++)
		json_object_del(i->started, saved[k]);
	started_path(i, path);
	/* Without it a later daemon knows less, and that is all. */
	(void)json_dump_file(i->started, path, JSON_COMPACT);
}

void instance_know_start(struct instance *i, const json_t *info)
{
	static const char *const told[] = { "cpus", "memory" };
	char path[STORE_KEY_MAX];

	started_path(i, path);
	if (!i->started)
		i->started = json_load_file(path, 0, NULL) ?: json_object();
	for (unsigned k = 0; k < ARRAY_LEN(told); k++)
		if (json_object_get(info, told[k]))
			json_object_set(i->started, told[k], json_object_get(info, told[k]));
}

void instance_forget_start(struct instance *i)
{
	json_decref(i->started);
	i->started = NULL;
}

json_t *instance_pending(const struct instance *i, const json_t *spec)
{
	json_t *list = json_array();

	for (unsigned k = 0; i->started && k < ARRAY_LEN(fields); k++) {
		const json_t *was = json_object_get(i->started, fields[k]), *value = json_object_get(spec, fields[k]);
		AUTO(json_decref) json_t *now = value ? lasting(fields[k], value) : json_null();

		if (was && !json_equal(was, now))
			json_array_append_new(list, json_pack("{s:s, s:O, s:O}", "field", fields[k], "now", was, "then", now));
	}
	return list;
}
