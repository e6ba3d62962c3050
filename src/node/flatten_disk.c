/* SPDX-License-Identifier: Apache-2.0 */
/* flatten_disk.c - workers. At each moment the disk shows what it showed: pieces of what is below are copied into it where it has nothing,
 * and when all are there, durably, its header names what is left below. So nothing has to be repaired after a kill, and the next attempt
 * copies what is still missing. A machine that runs does that itself. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "blk/blk.h"
#include "blk/commit.h"
#include "node/bases.h"
#include "node/flatten_priv.h"
#include "node/machine_job.h"
#include "node/node.h"
#include "node/pool_dir.h"
#include "util/err.h"
#include "util/json.h"

static bool is_ending(const struct flatten_disk *d)
{
	return atomic_load_explicit(&d->task->c.node->is_closing, memory_order_relaxed);
}

static bool is_unwanted(const struct flatten_disk *d)
{
	return is_ending(d) || atomic_load_explicit(&d->task->stop, memory_order_relaxed);
}

static int cancelled(const struct flatten_disk *d, struct err *err)
{
	return err_set(err, is_ending(d) ? -EAGAIN : -ECANCELED, "it was cancelled");
}

/* --- what is below it ---------------------------------------------------- */

/* Is IMAGE what linked clones share? */
static bool is_base(const struct flatten_disk *d, const struct blk *image)
{
	size_t len = strlen(d->place.pool);
	const char *name = blk_name(image);

	return !d->keeps_image || (!strncmp(name, d->place.pool, len) && !strncmp(name + len, "/bases/", 7));
}

/* What stays below B: NULL: nothing. DEPTH says how many images are between, with B. */
static struct blk *what_stays(const struct flatten_disk *d, struct blk *b, unsigned *depth)
{
	struct blk *below = blk_backing(b);

	for (*depth = 1; below && is_base(d, below); below = blk_backing(below))
		++*depth;
	return below;
}

static int check_snapshots(struct blk *b, struct err *err)
{
	AUTO(free) struct blk_snapshot *list = NULL;
	unsigned n = 0;
	int r = blk_snapshot_list(b, &list, &n, err);

	return r < 0 || !n ? r : err_set(err, -EBUSY, "there are snapshots in '%s', which need what is below it; remove them first", blk_name(b));
}

/* --- nobody has it open ---------------------------------------------------- */

static int tell(void *arg, uint64_t done, uint64_t total)
{
	const struct flatten_disk *d = arg;

	total += d->before;
	return task_tell(d->task, d->before + done, total > d->all ? total : d->all) ? 0 : -ECANCELED;
}

/* The image that stays, opened by itself: B has it only for reading what is above it. */
static int flatten_onto(const struct flatten_disk *d, struct blk *b, struct blk *stays, struct err *err)
{
	AUTO(blk_close) struct blk *base = NULL;
	const struct blk_progress p = { .fn = tell, .arg = (void *)d };
	struct blk_options o = { .path = stays ? blk_name(stays) : NULL, .fd = -1, .format = stays ? blk_format(stays) : NULL, .is_readonly = true,
				 .is_unlocked = true };
	int r = stays ? blk_open(&base, NULL, &o, err) : 0;

	if (!r)
		r = blk_rebase(b, base, &p, err);
	if (!r)
		r = blk_change_backing(b, base ? o.path : NULL, base ? o.format : NULL, err);
	return r < 0 && is_unwanted(d) ? cancelled(d, err) : r;
}

int flatten_file(const struct flatten_disk *d, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = { .path = d->place.path, .fd = -1, .format = "qcow2" };
	unsigned depth;
	int r = blk_open(&b, NULL, &o, err);

	if (r == -EBUSY)
		return -EAGAIN;
	struct blk *stays = r < 0 ? NULL : what_stays(d, b, &depth);
	if (r < 0 || stays == blk_backing(b))
		return r;
	r = check_snapshots(b, err);
	return r < 0 ? r : flatten_onto(d, b, stays, err);
}

/* --- a machine runs with it ---------------------------------------------------- */

/* As it is on the disk now, with nobody's locks minded: 1 with the depth of what stays (0: nothing does); 0: nothing has to be done. */
static int look(const struct flatten_disk *d, unsigned *base, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = { .path = d->place.path, .fd = -1, .format = "qcow2", .is_readonly = true, .is_unlocked = true };
	unsigned depth;
	int r = blk_open(&b, NULL, &o, err);
	const struct blk *stays = r < 0 ? NULL : what_stays(d, b, &depth);

	if (r < 0 || stays == blk_backing(b))
		return r;
	*base = stays ? depth : 0;
	r = check_snapshots(b, err);
	return r < 0 ? r : 1;
}

static int begin(const struct flatten_disk *d, struct machine_job *job, unsigned base, struct err *err)
{
	const char *const paths[] = { d->place.path };
	char name[TALK_NAME_MAX], depth[16];
	bool is_running;
	int r = talk_find_disk(&job->talk, paths, 1, name, &is_running, err);

	snprintf(depth, sizeof(depth), "%u", base);
	if (!r)
		r = talk_ask(&job->talk, "disk-stream", json_pack("{s:s, s:s, s:s*}", "disk", name, "id", job->id, "base", base ? depth : NULL), NULL,
			     NULL, err);
	/* The machine has got another disk meanwhile, or does something else with this one. */
	bool is_busy = r == -EREMOTEIO && (job->talk.refusal == -EBUSY || job->talk.refusal == -EEXIST || job->talk.refusal == -EAGAIN);
	return r == -ENOENT || is_busy ? -EAGAIN : r;
}

static int stream(const struct flatten_disk *d, struct machine_job *job, struct err *err)
{
	struct err ignored = ERR_INIT;
	unsigned base = 0;
	int r = machine_job_clear(job, err);

	/* The job of a daemon before this may have ended just now. */
	if (!r)
		r = look(d, &base, err);
	if (r <= 0)
		return r;
	if (is_unwanted(d))
		return cancelled(d, err);
	r = begin(d, job, base, err);
	/* While there is a job nobody takes a snapshot: one that has come before it is found now. */
	if (!r && (r = look(d, &base, err)) < 0)
		(void)machine_job_clear(job, &ignored);
	else if (r >= 0)
		r = machine_job_follow(job, NULL, NULL, err);
	return r == -ECANCELED ? cancelled(d, err) : r;
}

static int flatten_live(const struct flatten_disk *d, struct err *err)
{
	struct machine_job job = { .talk.fd = -1, .before = d->before, .all = d->all };
	char id[DOC_UID_LEN + 16];

	snprintf(id, sizeof(id), "flatten-%s", d->place.uid);
	int r = machine_job_open(&job, d->task, id, d->control, err);
	if (!r)
		r = stream(d, &job, err);
	machine_job_close(&job);
	return r;
}

/* --- both ---------------------------------------------------- */

int flatten_disk(const struct flatten_disk *d, struct err *err)
{
	AUTO_FD int pool = pool_dir_open(d->place.pool, d->place.pool_uid, err);

	if (pool < 0)
		return pool == -ESTALE ? -EAGAIN : pool;
	if (is_unwanted(d))
		return cancelled(d, err);
	int r = access(d->place.path, F_OK) ? 0 : d->control[0] ? flatten_live(d, err) : flatten_file(d, err);
	return r < 0 ? r : bases_release(d->place.pool, d->place.uid, err);
}

int flatten_measure(const struct flatten_disk *d, uint64_t *size, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = { .path = d->place.path, .fd = -1, .format = "qcow2", .is_readonly = true, .is_unlocked = true };
	int r = access(d->place.path, F_OK) ? 0 : blk_open(&b, NULL, &o, err);

	*size = b ? blk_size(b) : 0;
	return r;
}
