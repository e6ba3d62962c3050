/* SPDX-License-Identifier: Apache-2.0 */
/* Requests about disks: settings that change while the machine runs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "blk/front.h"
#include "util/str.h"
#include "vm/control_disk.h"
#include "vm/machine_priv.h"

json_t *control_disk_limits(const struct blk *front)
{
	json_t *o = json_object();
	struct blk_limits l;
	char key[32];

	blk_front_get_limits(front, &l);
	for (unsigned k = 0; k < BLK_N_LIMITS; k++) {
		const char *name = blk_limit_name((enum blk_limit_kind)k);

		if (l.v[k].rate)
			json_object_set_new(o, name, json_integer((json_int_t)l.v[k].rate));
		if (l.v[k].burst) {
			snprintf(key, sizeof(key), "%s-burst", name);
			json_object_set_new(o, key, json_integer((json_int_t)l.v[k].burst));
			snprintf(key, sizeof(key), "%s-burst-seconds", name);
			json_object_set_new(o, key, json_integer((json_int_t)(l.v[k].burst_s ? l.v[k].burst_s : 1)));
		}
	}
	return o;
}

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

/* "disk.NAME.KEY" = VALUE into the limits of that disk; TOUCHED gets its bit. */
static int set_one(const struct machine *m, char *key, const char *value, struct blk_limits *limits, unsigned *touched,
		   struct err *err)
{
	char *dot = strncmp(key, "disk.", 5) ? NULL : strchr(key + 5, '.');

	if (!dot)
		return err_set(err, -EINVAL, "'%s' cannot be set; what can is disk.NAME.LIMIT, as in disk.disk0.iops=500", key);
	*dot = '\0';
	int i = machine_find_disk(m, key + 5, err);

	if (i < 0)
		return i;
	uint64_t *at = limit_find(&limits[i], dot + 1);

	if (!at)
		return err_set(err, -EINVAL, "a disk has no limit '%s'; they are iops, iops-read, iops-write, bps, bps-read and "
			       "bps-write, each also with -burst and -burst-seconds", dot + 1);
	*touched |= 1u << i;
	int r = str_parse_size(at, value, err);

	return r < 0 ? err_wrap(err, r, "%s", dot + 1) : 0;
}

static int set_parse(const struct machine *m, const char *text, struct blk_limits *limits, unsigned *touched,
		     struct err *err)
{
	char key[128], value[64];
	bool has_value;
	int r;

	while ((r = str_next_pair(&text, key, sizeof(key), value, sizeof(value), &has_value, err)) > 0) {
		if (!has_value)
			return err_set(err, -EINVAL, "'%s' needs a value", key);
		r = set_one(m, key, value, limits, touched, err);
		if (r < 0)
			return r;
	}
	return r;
}

int control_set(struct control_call *call, struct err *err)
{
	struct machine *m = control_machine(call->control);
	struct blk_limits limits[CONFIG_DISKS_MAX];
	unsigned touched = 0;

	for (unsigned i = 0; i < m->cfg->n_disks; i++)
		blk_front_get_limits(m->blk[i], &limits[i]);
	int r = set_parse(m, control_get_string(call->params, "setting", ""), limits, &touched, err);

	/* All or nothing. */
	for (unsigned i = 0; !r && i < m->cfg->n_disks; i++)
		r = blk_limits_check(&limits[i], err);
	for (unsigned i = 0; !r && i < m->cfg->n_disks; i++)
		if (touched >> i & 1)
			r = blk_front_set_limits(m->blk[i], &limits[i], err);
	return r;
}
