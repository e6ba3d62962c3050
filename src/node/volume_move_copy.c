/* SPDX-License-Identifier: Apache-2.0 */
/* volume_move_copy.c - the file of a volume that nobody uses is copied, snapshots in it included, or made anew in another format. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/disk_files.h"
#include "node/flatten_priv.h"
#include "node/node.h"
#include "node/pool_dir.h"
#include "node/volume_move_priv.h"
#include "util/err.h"

int move_check_snapshots(const struct move *m, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	AUTO(free) struct blk_snapshot *list = NULL;
	struct blk_options o = { .path = m->from.path, .fd = -1, .format = m->from.format, .is_readonly = true, .is_unlocked = true };
	unsigned n = 0;

	if (disk_files_is_raw(m->from.path)) {
		int beside = disk_copy_count(m->from.path, err);

		return beside <= 0 ? beside : err_set(err, -EBUSY, "there are snapshots of it, which share blocks with it where it is and cannot go along: "
						      "remove them first");
	}
	int r = blk_open(&b, NULL, &o, err);
	if (!r)
		r = blk_snapshot_list(b, &list, &n, err);
	if (r < 0 || !n)
		return r;
	if (strcmp(m->from.format, m->to.format) != 0)
		return err_set(err, -EBUSY, "there are snapshots in it, which only a qcow2 file can have: remove them first");
	return err_set(err, -EBUSY, "there are snapshots in it, which go along only while its machine is off: stop that, or remove them, first");
}

/* What linked clones share stays where it is, and the copy takes along what it shows of that. */
static int stand_alone(struct move *m, struct err *err)
{
	struct flatten_disk d = { .task = m->task };

	snprintf(d.place.path, sizeof(d.place.path), "%s", m->to.path);
	return flatten_file(&d, err);
}

int move_copy(struct move *m, struct err *err)
{
	struct blk_options o = { .path = m->from.path, .fd = -1, .format = m->from.format, .is_readonly = true };
	struct err ignored = ERR_INIT;
	AUTO_FD int from = pool_dir_open(m->from.pool, m->from.uid, err);
	AUTO_FD int to = from < 0 ? -1 : pool_dir_open(m->to.pool, m->to.uid, err);

	if (from < 0 || to < 0)
		return -EAGAIN;
	/* Nobody changes it from now on until the document names the new place. */
	int r = m->lock ? 0 : blk_open(&m->lock, NULL, &o, err);
	if (r == -EBUSY || r == -EAGAIN)
		return -EAGAIN;
	/* Snapshots inside go along, to a file of the same format. */
	if (!r && (disk_files_is_raw(m->from.path) || disk_files_is_raw(m->to.path)))
		r = move_check_snapshots(m, err);
	if (!r)
		r = disk_files_copy(m->from.path, m->to.path, task_tell, m->task, err);
	if (!r && blk_backing(m->lock) && !disk_files_is_raw(m->to.path))
		r = stand_alone(m, err);
	/* One may be there from a daemon that was killed. */
	if (r < 0)
		(void)disk_files_remove_one(m->to.path, &ignored);
	return r;
}
