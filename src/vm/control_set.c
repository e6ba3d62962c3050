/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/control_set.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "blk/front.h"
#include "util/checked.h"
#include "util/str.h"
#include "virtio/balloon.h"
#include "virtio/mem.h"
#include "vm/machine_priv.h"
#include "vm/plug.h"

const struct control_param control_set_params[] = {
	{ "setting", CONTROL_STRING, true, "KEY=VALUE[,...]",
	  "disk.NAME.LIMIT: a limit of a disk: iops, iops-read, iops-write, bps, bps-read, bps-write, each also with -burst and "
	  "-burst-seconds; 0: none. balloon: bytes that the balloon takes from the guest. cpu-limit: the share of the host's processors "
	  "that all processors of the machine may use together, as 0.5 or 2; none: no limit. memory: bytes, "
	  "from that of the start to the max of --memory. vcpus: processors, up to the max of --cpus; "
	  "the guest is told, and takes new ones into use by itself or not", NULL },
	{ .name = NULL },
};

enum { KEY_CAP = 128, VALUE_CAP = 64 };

/* What is to be set, all of it checked before any of it is done. */
struct settings {
	struct machine *m;
	struct blk_limits limits[CONFIG_DISKS_MAX];
	unsigned touched;               /* disks */
	bool has_balloon, has_cpu_limit, has_vcpus, has_memory;
	uint64_t balloon, vcpus, memory;
	unsigned cpu_limit;
	char cpu_limit_text[64];
};

/* --- disks --- */

/* "iops-read-burst": the number in L that it means; NULL: there is none. */
static uint64_t *limit_find(struct blk_limits *l, const char *key)
{
	for (unsigned k = 0; k < BLK_N_LIMITS; k++) {
		const char *name = blk_limit_name((enum blk_limit_kind)k);
		size_t n = strlen(name);

		if (strncmp(key, name, n))
			continue;
		if (!key[n])
			return &l->v[k].rate;
		if (!strcmp(key + n, "-burst"))
			return &l->v[k].burst;
		if (!strcmp(key + n, "-burst-seconds"))
			return &l->v[k].burst_s;
	}
	return NULL;
}

/* "disk.NAME.KEY" */
static int parse_disk(struct settings *s, const char *key, const char *value, struct err *err)
{
	const char *name = key + strlen("disk."), *dot = strchr(name, '.');
	char disk[CONFIG_DISK_NAME_MAX + 1];

	if (!dot || (size_t)(dot - name) >= sizeof(disk))
		return err_set(err, -EINVAL, "'%s' is no limit of a disk; one is disk.NAME.LIMIT, as in disk.disk0.iops=500", key);
	snprintf(disk, sizeof(disk), "%.*s", (int)(dot - name), name);
	int i = machine_find_disk(s->m, disk, err);

	if (i < 0)
		return i;
	uint64_t *at = limit_find(&s->limits[i], dot + 1);

	if (!at)
		return err_set(err, -EINVAL, "a disk has no limit '%s'; they are iops, iops-read, iops-write, bps, bps-read and "
			       "bps-write, each also with -burst and -burst-seconds", dot + 1);
	s->touched |= 1u << i;
	return str_parse_size(at, value, err);
}

static int check_disks(const struct settings *s, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < s->m->cfg->n_disks; i++)
		r = s->touched >> i & 1 ? blk_limits_check(&s->limits[i], err) : 0;
	return r;
}

static int apply_disks(const struct settings *s, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < s->m->cfg->n_disks; i++) {
		if (!(s->touched >> i & 1))
			continue;
		r = blk_front_set_limits(s->m->blk[i], &s->limits[i], err);
		if (!r)         /* a saved machine keeps them */
			s->m->cfg->disks[i].limits = s->limits[i];
	}
	return r;
}

/* --- the rest --- */

static int parse_balloon(struct settings *s, const char *key, const char *value, struct err *err)
{
	if (!s->m->balloon)
		return err_set(err, -ENODEV, "the machine has no balloon; start it with --balloon on");
	int r = str_parse_size(&s->balloon, value, err);

	s->has_balloon = true;
	return r ? r : virtio_balloon_check(s->m->balloon, s->balloon, err);
}

static int parse_cpu_limit(struct settings *s, const char *key, const char *value, struct err *err)
{
	s->has_cpu_limit = true;
	snprintf(s->cpu_limit_text, sizeof(s->cpu_limit_text), "%s", value);
	return cpu_limit_parse(&s->cpu_limit, value, err);
}

static int parse_memory(struct settings *s, const char *key, const char *value, struct err *err)
{
	uint64_t boot = s->m->cfg->memory;

	if (!s->m->added)
		return err_set(err, -ENODEV, "the machine has all the memory that it can have; start it with max of --memory");
	int r = str_parse_size(&s->memory, value, err);

	if (!r && s->memory < boot)
		r = err_set(err, -EINVAL, "the %" PRIu64 " MiB that it was started with stay; see balloon", boot >> 20);
	s->has_memory = true;
	return r ? r : virtio_mem_check(s->m->added, s->memory - boot, err);
}

static int parse_vcpus(struct settings *s, const char *key, const char *value, struct err *err)
{
	int r = str_parse_u64(&s->vcpus, value, err);

	s->has_vcpus = true;
	return r ? r : machine_check_cpus(s->m, s->vcpus, err);
}

static const struct {
	const char *key;                /* with a '.' at the end: what begins with it */
	int (*parse)(struct settings *s, const char *key, const char *value, struct err *err);
	/* Of enum control_turn. What is in the configuration has been announced to the other side of a migration; a save writes it last. */
	unsigned turn;
} keys[] = {
	{ "disk.", parse_disk, CONTROL_TURN_MOVE },
	{ "balloon", parse_balloon, 0 },
	{ "cpu-limit", parse_cpu_limit, CONTROL_TURN_MOVE },
	{ "memory", parse_memory, 0 },
	{ "vcpus", parse_vcpus, CONTROL_TURN_SAVE | CONTROL_TURN_MOVE },
};

/* The row that KEY is of; -1: none. */
static int key_find(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		size_t n = strlen(keys[i].key);

		if (!strncmp(key, keys[i].key, n) && (keys[i].key[n - 1] == '.' || !key[n]))
			return (int)i;
	}
	return -1;
}

static int parse_one(struct settings *s, const char *key, const char *value, struct err *err)
{
	int i = key_find(key), r = i < 0 ? 0 : keys[i].parse(s, key, value, err);

	if (i >= 0)
		return r < 0 ? err_wrap(err, r, "%s", key) : 0;
	return err_set(err, -EINVAL, "'%s' cannot be set; what can is disk.NAME.LIMIT, as in disk.disk0.iops=500, balloon, "
		       "cpu-limit, memory and vcpus", key);
}

static int parse_all(struct settings *s, const char *text, struct err *err)
{
	char key[KEY_CAP], value[VALUE_CAP];
	bool has_value;
	int r;

	while ((r = str_next_pair(&text, key, sizeof(key), value, sizeof(value), &has_value, err)) > 0) {
		r = has_value ? parse_one(s, key, value, err) : err_set(err, -EINVAL, "'%s' needs a value", key);
		if (r < 0)
			return r;
	}
	return r;
}

unsigned control_set_turn(const json_t *params)
{
	const char *text = control_get_string(params, "setting", "");
	char key[KEY_CAP], value[VALUE_CAP];
	unsigned turn = 0;
	bool has_value;

	/* What is wrong with the rest is told when it is done. */
	while (str_next_pair(&text, key, sizeof(key), value, sizeof(value), &has_value, NULL) > 0) {
		int i = key_find(key);

		turn |= i < 0 ? 0 : keys[i].turn;
	}
	return turn;
}

/* A saved machine keeps the limit; none is none that is told. */
static int apply_cpu_limit(const struct settings *s, struct err *err)
{
	char *text = s->cpu_limit ? strdup(s->cpu_limit_text) : NULL;

	if (s->cpu_limit && !text)
		return err_set(err, -ENOMEM, "out of memory");
	free(s->m->cfg->cpu_limit);
	s->m->cfg->cpu_limit = text;
	cpu_limit_set(&s->m->cpu_limit, s->cpu_limit);
	return 0;
}

int control_set(struct control_call *call, struct err *err)
{
	struct settings s = { .m = control_machine(call->control) };

	for (unsigned i = 0; i < s.m->cfg->n_disks; i++)
		blk_front_get_limits(s.m->blk[i], &s.limits[i]);
	int r = parse_all(&s, control_get_string(call->params, "setting", ""), err);

	if (!r)
		r = check_disks(&s, err);
	if (!r && s.has_cpu_limit)
		r = apply_cpu_limit(&s, err);
	if (!r)
		r = apply_disks(&s, err);
	if (!r && s.has_balloon)
		virtio_balloon_set(s.m->balloon, s.balloon);
	if (!r && s.has_memory)
		virtio_mem_set(s.m->added, s.memory - s.m->cfg->memory);
	if (!r && s.has_vcpus)
		machine_set_cpus(s.m, (unsigned)s.vcpus);
	return r;
}
