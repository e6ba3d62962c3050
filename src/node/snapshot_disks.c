/* SPDX-License-Identifier: Apache-2.0 */
#include "node/snapshot_disks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "blk/blk.h"
#include "util/err.h"

static int open_disk(struct blk **b, const char *path, struct err *err)
{
	struct blk_options o = { .path = path, .fd = -1, .format = "qcow2" };

	return blk_open(b, NULL, &o, err);
}

/* 1: there is one called NAME; 0: there is none. */
static int has(struct blk *b, const char *name, struct err *err)
{
	AUTO(free) struct blk_snapshot *list = NULL;
	unsigned n = 0;
	int r = blk_snapshot_list(b, &list, &n, err);

	for (unsigned i = 0; !r && i < n; i++)
		if (!strcmp(list[i].name, name))
			return 1;
	return r;
}

/* 1: made; 0: it was there. */
static int make_one(const char *path, const char *name, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_snapshot s = { .icount = UINT64_MAX };
	struct timespec now;
	int r = open_disk(&b, path, err);

	if (!r)
		r = has(b, name, err);
	if (r)
		return r < 0 ? r : 0;
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(s.name, sizeof(s.name), "%s", name);
	s.date_s = (uint64_t)now.tv_sec;
	s.date_ns = (uint32_t)now.tv_nsec;
	r = blk_snapshot_create(b, &s, err);
	return r < 0 ? r : 1;
}

static int unmake_one(const char *path, const char *name, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	int r = open_disk(&b, path, err);

	if (!r)
		r = has(b, name, err);
	return r > 0 ? blk_snapshot_delete(b, name, err) : r;
}

int snapshot_make(const struct instance_disks *d, const char *name, struct err *err)
{
	bool is_new[INSTANCE_DISKS_MAX] = { false };
	int r = 0;

	for (unsigned i = 0; r >= 0 && i < d->n; i++) {
		r = make_one(d->path[i], name, err);
		is_new[i] = r > 0;
	}
	for (unsigned i = 0; r < 0 && i < d->n; i++)
		if (is_new[i])
			(void)unmake_one(d->path[i], name, NULL);
	return r < 0 ? r : 0;
}

int snapshot_unmake(const struct instance_disks *d, const char *name, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < d->n; i++)
		r = unmake_one(d->path[i], name, err);
	return r;
}

int snapshot_apply(const struct instance_disks *d, const char *name, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < d->n; i++) {
		AUTO(blk_close) struct blk *b = NULL;

		r = open_disk(&b, d->path[i], err);
		if (!r)
			r = has(b, name, err);
		if (r >= 0)
			r = r ? 0 : err_set(err, -ENOENT, "the disk '%s' has come after the snapshot", d->path[i]);
	}
	for (unsigned i = 0; !r && i < d->n; i++) {
		AUTO(blk_close) struct blk *b = NULL;

		r = open_disk(&b, d->path[i], err);
		if (!r)
			r = blk_snapshot_apply(b, name, err);
	}
	return r;
}
