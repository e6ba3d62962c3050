/* SPDX-License-Identifier: Apache-2.0 */
/* volume_move_mirror.c - the machine that runs copies its disk itself and changes over. It is asked by a connection of the worker's own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "node/disk_files.h"
#include "node/instance_hold.h"
#include "node/machine_job.h"
#include "node/node.h"
#include "node/pool_dir.h"
#include "node/volume_move_priv.h"
#include "util/json.h"

enum { RESUME_LOOK_US = 2000, RESUME_LOOKS = 15000 };

struct mirror {
	struct machine_job job;         /* of the machine, which may move others of its disks meanwhile: each job has its volume's name */
	struct move *m;
};

/* --- what the machine has ---------------------------------------------------- */

/* Which of its disks is it, and has that changed over? -ENOENT: it has no such disk. */
static int find_disk(struct mirror *k, char name[TALK_NAME_MAX], bool *is_new, struct err *err)
{
	const char *const paths[] = { k->m->from.path, k->m->to.path };
	bool is_running;
	int r = talk_find_disk(&k->job.talk, paths, 2, name, &is_running, err);

	*is_new = r == 1;
	return r < 0 ? r : 0;
}

/* --- the job ---------------------------------------------------- */

static int begin(struct mirror *k, const char *disk, struct err *err)
{
	const struct move_place *to = &k->m->to;
	int r = disk_files_make_home(to->path, err);

	r = r < 0 ? r : machine_job_begin(&k->job, "disk-mirror", disk, to->path, to->format, json_pack("{s:b}", "wait", 1), err);
	/* Another job, or one that a daemon before this has asked for and that is only just beginning: it could not be cancelled yet. */
	bool is_busy = r == -EREMOTEIO && (k->job.talk.refusal == -EBUSY || k->job.talk.refusal == -EEXIST);
	return is_busy ? err_set(err, -EAGAIN, "it waits for what the machine does with that disk") : r;
}

/* What the controller asked for before it saw that a disk changes over has come, so that it is not heard after the pause. */
static int wait_resume(const struct mirror *k, struct err *err)
{
	for (unsigned n = 0; instance_is_asked(k->m->held); n++) {
		if (n == RESUME_LOOKS || machine_job_is_unwanted(&k->job))
			return err_set(err, -EAGAIN, "the machine does not answer");
		usleep(RESUME_LOOK_US);
	}
	return 0;
}

/* The guest stands still from here until the document says where its disk is: whatever ends in between, both files are the same. It may
 * stand still already, for another disk or because that is wanted: it goes on only when nothing of all that holds any more. */
static int change_over(void *arg, struct err *err)
{
	struct mirror *k = arg;

	atomic_store(&k->m->phase, MOVE_CHANGING);      /* pairs with step_resume() of instance.c */
	int r = wait_resume(k, err);
	if (!r)
		r = talk_ask(&k->job.talk, "pause", NULL, NULL, NULL, err);
	return r < 0 ? r : talk_ask(&k->job.talk, "job-complete", json_pack("{s:s}", "id", k->job.id), NULL, NULL, err);
}

static int mirror(struct mirror *k, const char *disk, struct err *err)
{
	int r = machine_job_is_unwanted(&k->job) ? err_set(err, -ECANCELED, "it was cancelled") : move_check_snapshots(k->m, err);

	if (!r)
		r = begin(k, disk, err);
	if (!r)
		r = machine_job_follow(&k->job, change_over, k, err);
	if (!r)
		return 0;
	struct err ignored = ERR_INIT;
	/* Only a machine that still answers is known not to have changed over. */
	if (r == -EAGAIN || machine_job_clear(&k->job, &ignored) < 0)
		return -EAGAIN;
	bool is_new = false;
	char name[TALK_NAME_MAX];
	if (find_disk(k, name, &is_new, &ignored) < 0)
		return -EAGAIN;
	if (is_new)
		return 0;
	atomic_store(&k->m->phase, MOVE_COPYING);
	(void)disk_files_remove_one(k->m->to.path, &ignored);
	return r;
}

/* What has come of it, and what is left to do. */
static int resume(struct mirror *k, struct err *err)
{
	bool is_new = false;
	char disk[TALK_NAME_MAX];
	int r = find_disk(k, disk, &is_new, err);

	if (r < 0 || is_new)
		return r;
	r = machine_job_clear(&k->job, err);
	/* The job of a daemon before this may have ended just now. */
	if (!r)
		r = find_disk(k, disk, &is_new, err);
	if (r < 0 || is_new)
		return r;
	atomic_store(&k->m->phase, MOVE_COPYING);
	return mirror(k, disk, err);
}

int move_mirror(struct move *m, struct err *err)
{
	AUTO_FD int from = pool_dir_open(m->from.pool, m->from.uid, err);
	AUTO_FD int to = from < 0 ? -1 : pool_dir_open(m->to.pool, m->to.uid, err);
	struct mirror k = { .m = m, .job.talk.fd = -1 };
	char id[DOC_UID_LEN + 16];

	snprintf(id, sizeof(id), "move-%s", m->from.volume);
	int r = to < 0 ? -EAGAIN : machine_job_open(&k.job, m->task, id, m->control, err);

	if (!r)
		r = resume(&k, err);
	machine_job_close(&k.job);
	return r;
}
