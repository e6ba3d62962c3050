/* SPDX-License-Identifier: Apache-2.0 */
/* instance_limits_schema.c - limits as they stand in documents, and as machines take them. */
#include "node/instance_limits.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/cleanup.h"
#include "util/cpu_list.h"
#include "util/err.h"

/* D(TEXT): what is so by default, or nothing: a layer of a document (layers.h) says only what it wants to be said. */
#define LIMITS_FIELDS(D) \
	{ .name = "cpu", .type = SCHEMA_SHARE, .min = 10, .max = 64000, \
	  .help = "processors of the host that all of its own may use together, as 0.5 or 2; without it all" }, \
	{ .name = "cpu_weight", .type = SCHEMA_INT, .min = 1, .max = LIMITS_WEIGHT_MAX, .dflt = D("100"), \
	  .help = "its share when processors are short, beside others with theirs" }, \
	{ .name = "cpus", .type = SCHEMA_STRING, .min = 1, .max = LIMITS_CPUS_TEXT, \
	  .help = "processors of the host that it may run on, as '0-3,6'; without it all" }, \
	{ .name = "memory", .type = SCHEMA_SIZE, .min = 1 << 20, .max = (int64_t)1 << 42, \
	  .help = "what the guest may keep of its memory: its balloon takes the rest; without it all" }, \
	{ .name = "iops", .type = SCHEMA_INT, .min = 1, .max = LIMITS_IOPS_MAX, \
	  .help = "requests a second of each of its disks that has no limit of its own" }, \
	{ .name = "bps", .type = SCHEMA_SIZE, .min = 4096, .max = (int64_t)1 << 40, .help = "bytes a second of such a disk" }, \
	{ .name = "io_weight", .type = SCHEMA_INT, .min = 1, .max = LIMITS_WEIGHT_MAX, .dflt = D("100"), \
	  .help = "its share when the host's disks are busy, where their scheduler knows priorities" }, \
	{ .name = "oom", .type = SCHEMA_STRING, .choices = "first|normal|last", .dflt = D("\"normal\""), \
	  .help = "when the host has no memory left: the first to go, as others, or one of the last" }, \
	{ .name = NULL }

const struct schema limits_schema = {
	.name = "InstanceLimits",
	.help = "What it may take of its node. All of them hold at once, also while it runs.",
	.fields = (const struct schema_field[]){ LIMITS_FIELDS(SCHEMA_DEFAULT) },
};

const struct schema limits_layer_schema = {
	.name = "LayerLimits",
	.help = "What it may take of its node, as far as that is said here.",
	.fields = (const struct schema_field[]){ LIMITS_FIELDS(SCHEMA_NO_DEFAULT) },
};

int limits_check(const json_t *spec, char *where, size_t cap, struct err *err)
{
	const json_t *limits = json_object_get(spec, "limits");
	const char *cpus = json_string_value(json_object_get(limits, "cpus"));
	json_int_t memory = json_integer_value(json_object_get(limits, "memory"));
	cpu_set_t set;

	if (cpus && cpu_list_parse(&set, cpus, err) < 0) {
		snprintf(where, cap, "spec.limits.cpus");
		return -EINVAL;
	}
	if (memory > json_integer_value(json_object_get(spec, "memory"))) {
		snprintf(where, cap, "spec.limits.memory");
		return err_set(err, -EINVAL, "the guest has %lld MiB in all", (long long)json_integer_value(json_object_get(spec, "memory")) >> 20);
	}
	return 0;
}

/* A disk's own limit, or that of all; 0: none. */
static json_int_t limit_of(const json_t *disk, const json_t *limits, const char *name)
{
	const json_t *own = json_object_get(disk, name);

	return json_integer_value(own ? own : json_object_get(limits, name));
}

static void write_disk(FILE *f, unsigned k, const json_t *disk, const json_t *limits)
{
	fprintf(f, ",disk.disk%u.iops=%lld,disk.disk%u.bps=%lld", k, (long long)limit_of(disk, limits, "iops"), k,
		(long long)limit_of(disk, limits, "bps"));
}

char *limits_settings(const json_t *spec)
{
	const json_t *limits = json_object_get(spec, "limits"), *disk;
	const char *cpu = json_string_value(json_object_get(limits, "cpu"));
	json_int_t all = json_integer_value(json_object_get(spec, "memory")), keeps = json_integer_value(json_object_get(limits, "memory"));
	char *text = NULL;
	size_t len, k;
	unsigned n = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fprintf(f, "cpu-limit=%s,balloon=%lld", cpu ? cpu : "none", keeps ? (long long)(all - keeps) & ~4095ll : 0ll);
	if (json_object_get(spec, "image"))
		write_disk(f, n++, NULL, limits);
	json_array_foreach(json_object_get(spec, "disks"), k, disk)
		write_disk(f, n++, disk, limits);
	if (fclose(f) < 0) {
		free(text);
		return NULL;
	}
	return text;
}
