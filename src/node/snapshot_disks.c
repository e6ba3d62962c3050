/* SPDX-License-Identifier: Apache-2.0 */
#include "node/snapshot_disks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "blk/blk.h"
#include "node/disk_files.h"
#include "util/err.h"

enum { LOCK_TRIES = 100, LOCK_WAIT_US = 50000 };

/* The kernel closes the files of a process that was killed a little later than it tells of its end, so its lock is waited for. */
static int open_disk(struct blk **b, const char *path, struct err *err)
{
	struct blk_options o = { .path = path, .fd = -1, .format = disk_files_is_raw(path) ? "raw" : "qcow2" };
	struct err why = ERR_INIT;
	int r = -EBUSY;

	for (unsigned i = 0; r == -EBUSY && i < LOCK_TRIES; i++) {
		if (i)
			usleep(LOCK_WAIT_US);
		why = (struct err)ERR_INIT;
		r = blk_open(b, NULL, &o, &why);
	}
	return r < 0 ? err_set(err, r, "%s", why.msg) : 0;
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

/* The same of the disk at PATH. */
static int has_one(const char *path, const char *name, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;

	if (disk_files_is_raw(path))
		return disk_copy_is_there(path, name);
	int r = open_disk(&b, path, err);
	return r < 0 ? r : has(b, name, err);
}

/* How many of D have it? */
static int count(const struct instance_disks *d, const char *name, struct err *err)
{
	int n = 0;

	for (unsigned i = 0; i < d->n; i++) {
		int r = has_one(d->path[i], name, err);

		if (r < 0)
			return r;
		n += r;
	}
	return n;
}

static int make_one(const char *path, const char *name, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_snapshot s = { .icount = UINT64_MAX };
	struct timespec now;
	int r = open_disk(&b, path, err);

	if (r < 0 || disk_files_is_raw(path))
		return r < 0 ? r : disk_copy_make(path, name, err);
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(s.name, sizeof(s.name), "%s", name);
	s.date_s = (uint64_t)now.tv_sec;
	s.date_ns = (uint32_t)now.tv_nsec;
	return blk_snapshot_create(b, &s, err);
}

static int unmake_one(const char *path, const char *name, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;

	if (disk_files_is_raw(path))
		return disk_copy_remove(path, name, err);
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	int r = open_disk(&b, path, err);

	if (!r)
		r = has(b, name, err);
	return r > 0 ? blk_snapshot_delete(b, name, err) : r;
}

int snapshot_unmake(const struct instance_disks *d, const char *name, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < d->n; i++)
		r = unmake_one(d->path[i], name, err);
	return r;
}

/* Of a machine that has never begun, whose disk is in a pool that the loop does not look at. */
static int all_made(const struct instance_disks *d, struct err *err)
{
	for (unsigned i = 0; i < d->n; i++) {
		if (access(d->path[i], F_OK) < 0 && errno == ENOENT)
			return err_set(err, -ENOENT, "the disk '%s' is not made yet", d->path[i]);
	}
	return 0;
}

int snapshot_make(const struct instance_disks *d, const char *name, struct err *err)
{
	int n = all_made(d, err), r = 0;

	if (!n)
		n = count(d, name, err);
	if (n < 0 || n == (int)d->n)
		return n < 0 ? n : 0;
	/* Some have it from an attempt that was interrupted: of another instant than the others would. */
	if (n)
		r = snapshot_unmake(d, name, err);
	for (unsigned i = 0; !r && i < d->n; i++)
		r = make_one(d->path[i], name, err);
	if (r < 0)
		(void)snapshot_unmake(d, name, NULL);
	return r;
}

int snapshot_count(const char *path, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	AUTO(free) struct blk_snapshot *list = NULL;
	unsigned n = 0;
	int r = open_disk(&b, path, err);

	if (!r)
		r = blk_snapshot_list(b, &list, &n, err);
	return r < 0 ? r : (int)n;
}

int snapshot_unmake_all(const char *path, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	AUTO(free) struct blk_snapshot *list = NULL;
	unsigned n = 0;
	int r = open_disk(&b, path, err);

	if (!r)
		r = blk_snapshot_list(b, &list, &n, err);
	for (unsigned i = 0; !r && i < n; i++)
		r = blk_snapshot_delete(b, list[i].name, err);
	return r;
}

int snapshot_apply(const struct instance_disks *d, const char *name, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < d->n; i++) {
		r = has_one(d->path[i], name, err);
		if (r >= 0)
			r = r ? 0 : err_set(err, -ENOENT, "the disk '%s' has come after the snapshot", d->path[i]);
	}
	for (unsigned i = 0; !r && i < d->n; i++) {
		AUTO(blk_close) struct blk *b = NULL;

		r = open_disk(&b, d->path[i], err);
		if (!r)
			r = disk_files_is_raw(d->path[i]) ? disk_copy_apply(d->path[i], name, err) : blk_snapshot_apply(b, name, err);
	}
	return r;
}
