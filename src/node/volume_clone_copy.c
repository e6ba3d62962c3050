/* SPDX-License-Identifier: Apache-2.0 */
/* volume_clone_copy.c - the file of a volume's clone. Where it can share blocks with the original's it does; a machine that runs with a raw
 * one stands still for that moment. Else it is copied: by the machine, as it was at one instant, while that goes on writing. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "node/bases.h"
#include "node/flatten_priv.h"
#include "node/machine_job.h"
#include "node/node.h"
#include "node/pool_dir.h"
#include "node/snapshot_disks.h"
#include "node/volume_clone_priv.h"
#include "util/err.h"
#include "util/json.h"

static bool is_raw(const struct volume_clone *k)
{
	return disk_files_is_raw(k->from.path);
}

static bool is_same_format(const struct volume_clone *k)
{
	return is_raw(k) == disk_files_is_raw(k->to.path);
}

/* --- nobody runs with it ---------------------------------------------------- */

/* What linked clones share stays in its pool, as the original does meanwhile: the copy takes along what it shows of that. */
static int stand_alone(struct volume_clone *k, struct err *err)
{
	struct flatten_disk d = { .task = k->task, .place = k->to };

	return flatten_file(&d, err);
}

static int copy_off(struct volume_clone *k, struct err *err)
{
	AUTO(blk_close) struct blk *lock = NULL;
	struct blk_options o = { .path = k->from.path, .fd = -1, .format = is_raw(k) ? "raw" : "qcow2", .is_readonly = true };
	int r = blk_open(&lock, NULL, &o, err);
	bool is_layer = !r && blk_backing(lock) && is_same_format(k), is_here = !strcmp(k->from.pool, k->to.pool);

	if (r == -EBUSY)
		return -EAGAIN;
	if (is_layer && is_here)
		r = bases_share(&(struct base_request){ .pool = k->from.pool, .source = k->from.uid, .clone = k->to.uid }, err);
	if (!r)
		r = is_same_format(k) ? disk_files_share(k->from.path, k->to.path, err) : -EOPNOTSUPP;
	if (r == -EOPNOTSUPP)
		r = disk_files_copy(k->from.path, k->to.path, task_tell, k->task, err);
	/* Snapshots are the original's. */
	if (!r && !disk_files_is_raw(k->to.path))
		r = snapshot_unmake_all(k->to.path, err);
	return !r && is_layer && !is_here ? stand_alone(k, err) : r;
}

/* --- a machine does ---------------------------------------------------- */

/* All that it was told is written lies in the file, whoever looks. */
static int share_still(struct volume_clone *k, struct talk *talk, bool is_running, struct err *err)
{
	struct err ignored = ERR_INIT;
	int r = talk_ask(talk, "pause", NULL, NULL, NULL, err);

	if (r < 0)
		return r;
	r = disk_files_share(k->from.path, k->to.path, err);
	if (is_running)
		(void)talk_ask(talk, "resume", NULL, NULL, NULL, &ignored);
	return r;
}

static int backup(struct volume_clone *k, struct machine_job *job, const char *disk, struct err *err)
{
	bool is_raw_copy = disk_files_is_raw(k->to.path);
	int r = disk_files_make_home(k->to.path, err);

	if (!r)
		r = machine_job_begin(job, "disk-backup", disk, k->to.path, is_raw_copy ? "raw" : "qcow2", json_object(), err);
	return r < 0 ? r : machine_job_follow(job, NULL, NULL, err);
}

static int copy_by(struct volume_clone *k, struct machine_job *job, struct err *err)
{
	const char *const paths[] = { k->from.path };
	char disk[TALK_NAME_MAX];
	bool is_running = false;
	int r = talk_find_disk(&job->talk, paths, 1, disk, &is_running, err);

	/* What an attempt before has made is not of this instant. */
	if (r >= 0)
		r = machine_job_clear(job, err);
	if (!r)
		r = disk_files_remove_one(k->to.path, err);
	if (r < 0)
		return r;
	r = k->is_still ? share_still(k, &job->talk, is_running, err) : -EOPNOTSUPP;
	return r == -EOPNOTSUPP ? backup(k, job, disk, err) : r;
}

static int copy_live(struct volume_clone *k, struct err *err)
{
	struct machine_job job = { .talk.fd = -1 };
	char id[DOC_UID_LEN + 16];

	snprintf(id, sizeof(id), "clone-%s", k->to.uid);
	int r = machine_job_open(&job, k->task, id, k->control, err);

	if (!r)
		r = copy_by(k, &job, err);
	machine_job_close(&job);
	/* The machine may have got another disk meanwhile, or begun anew. */
	return r == -ENOENT ? -EAGAIN : r;
}

int volume_clone_copy(struct volume_clone *k, struct err *err)
{
	AUTO_FD int from = pool_dir_open(k->from.pool, k->from.pool_uid, err);
	AUTO_FD int to = from < 0 ? -1 : pool_dir_open(k->to.pool, k->to.pool_uid, err);
	int r = to < 0 ? -EAGAIN : k->is_live ? copy_live(k, err) : 0;

	if (!r && !k->is_live)
		r = disk_files_remove(k->to.pool, k->to.driver, k->to.uid, err);
	if (!r && !k->is_live)
		r = copy_off(k, err);
	return r == -ECANCELED && atomic_load_explicit(&k->task->c.node->is_closing, memory_order_relaxed) ? -EAGAIN : r;
}
