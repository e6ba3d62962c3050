/* SPDX-License-Identifier: Apache-2.0 */
/* clone_copy.c - the files of a clone. Its disks are copies of the files of the original's, which share blocks with those where the file
 * system can do that, and their holes stay holes; or layers over what both share (bases.h). A machine that runs stands still
 * while they are copied, so all are of one instant: its memory is saved first, which flushes its disks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/blk.h"
#include "node/bases.h"
#include "node/clone_priv.h"
#include "node/files.h"
#include "node/machine_talk.h"
#include "node/node.h"
#include "node/pool_dir.h"
#include "node/snapshot_disks.h"
#include "node/subvolume.h"
#include "util/json.h"

enum { ANSWER_S = 600 };

static bool goes_on(void *arg, uint64_t done, uint64_t total)
{
	const struct clone *k = arg;

	return task_tell(k->task, k->done + done, k->total > k->done + total ? k->total : k->done + total);
}

/* --- the disks ---------------------------------------------------- */

static struct base_request request_of(const struct clone_disk *d)
{
	return (struct base_request){ .pool = d->to.pool, .root = d->from.path, .source = d->from.uid, .clone = d->to.uid };
}

static int copy_file(struct clone *k, const struct clone_disk *d, struct err *err)
{
	struct stat st;
	int r = disk_files_share(d->from.path, d->to.path, err);

	if (r == -EOPNOTSUPP)
		r = disk_files_copy(d->from.path, d->to.path, goes_on, k, err);
	if (!r && !stat(d->from.path, &st))
		k->done += (uint64_t)st.st_size;
	return r < 0 ? r : goes_on(k, 0, 0) ? 0 : err_set(err, -ECANCELED, "it was cancelled");
}

static int copy_files(struct clone *k, struct err *err)
{
	struct stat st;
	int r = 0;

	k->done = k->total = 0;
	for (unsigned i = 0; i < k->n_disks; i++)
		if (!k->disks[i].is_absent && !stat(k->disks[i].from.path, &st))
			k->total += (uint64_t)st.st_size;
	for (unsigned i = 0; !r && i < k->n_disks; i++)
		r = k->disks[i].is_absent ? 0 : copy_file(k, &k->disks[i], err);
	return r;
}

/* A raw one has nothing below it, and shares blocks. */
static int link_disk(const struct clone_disk *d, struct err *err)
{
	struct base_request q = request_of(d);
	AUTO(free) char *base = NULL;

	if (disk_files_is_raw(d->from.path))
		return disk_files_share(d->from.path, d->to.path, err);
	int r = base_take(&q, &base, err);
	if (!r)
		r = disk_files_make_home(d->to.path, err);
	return r < 0 ? r : base_make_layer(d->to.path, base, err);
}

/* --- a machine that runs ---------------------------------------------------- */

static bool is_ending(void *arg)
{
	return atomic_load_explicit(&((struct clone *)arg)->memory.node->is_closing, memory_order_relaxed);
}

/* Between pause and resume: its memory, and its disks as they are then. */
static int copy_still(struct clone *k, struct talk *talk, struct err *err)
{
	int r = snapshot_memory_write(&k->memory, talk, err);

	/* Only whether the memory is wanted is known from here on: saving it has flushed the disks. */
	if (!r && !k->has_memory)
		(void)unlink(k->memory.tmp);
	return r < 0 ? r : copy_files(k, err);
}

static int copy_live(struct clone *k, struct talk *talk, struct err *err)
{
	AUTO(json_decref) json_t *info = NULL;
	struct err ignored = ERR_INIT;
	int r = talk_ask(talk, "info", NULL, NULL, &info, err);
	const char *state = json_string_value(json_object_get(info, "state"));
	bool is_running = state && strcmp(state, "paused") != 0;

	if (!r)
		r = talk_ask(talk, "pause", NULL, NULL, NULL, err);
	if (!r) {
		r = copy_still(k, talk, err);
		if (is_running)
			(void)talk_ask(talk, "resume", NULL, NULL, NULL, &ignored);
	}
	return r == -EBUSY ? err_set(err, -EAGAIN, "the machine is being saved or moved") : r;
}

/* Nobody else changes the volume D meanwhile. TALK NULL: no machine runs that may have it. */
static int lock_volume(struct clone_disk *d, struct talk *talk, struct err *err)
{
	bool is_raw = disk_files_is_raw(d->from.path), is_running;
	struct blk_options o = { .path = d->from.path, .fd = -1, .format = is_raw ? "raw" : "qcow2", .is_readonly = true };
	const char *const path[] = { d->from.path };
	char name[TALK_NAME_MAX];
	int r = blk_open(&d->lock, NULL, &o, err);

	if (r != -EBUSY && r != -EAGAIN)
		return r;
	r = talk ? talk_find_disk(talk, path, 1, name, &is_running, err) : -EAGAIN;
	return r < 0 ? -EAGAIN : 0;
}

static int keep_memory(struct clone *k, struct err *err)
{
	if (rename(k->memory.tmp, k->memory.path) < 0)
		return err_set(err, -errno, "cannot rename '%s': %s", k->memory.tmp, strerror(errno));
	return files_sync_above(k->memory.path, err);
}

/* --- the whole ---------------------------------------------------- */

/* What is there of an attempt before is of another instant. */
static int open_pools(struct clone *k, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < k->n_disks; i++) {
		struct clone_disk *d = &k->disks[i];

		d->dir = pool_dir_open(d->from.pool, d->from.pool_uid, err);
		if (d->dir < 0)
			return d->dir == -ESTALE ? -EAGAIN : d->dir;
		d->is_absent = access(d->from.path, F_OK) < 0;
		if (i && d->is_absent)
			return err_set(err, -ENOENT, "'%s' is lost", d->from.path);
		r = i ? disk_files_remove(d->to.pool, d->to.driver, d->to.uid, err) : 0;
	}
	return r;
}

static void close_pools(struct clone *k)
{
	for (unsigned i = 0; i < k->n_disks; i++) {
		struct clone_disk *d = &k->disks[i];

		blk_close(d->lock);
		d->lock = NULL;
		auto_fd(&d->dir);
		d->dir = -1;
	}
}

/* Snapshots in the files of the original are no business of the copies. */
static int finish_copies(struct clone *k, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < k->n_disks; i++)
		if (!k->disks[i].is_absent && !disk_files_is_raw(k->disks[i].to.path))
			r = snapshot_unmake_all(k->disks[i].to.path, err);
	return r;
}

static int make_copies(struct clone *k, struct err *err)
{
	struct talk talk = { .fd = -1, .patience_s = ANSWER_S, .is_unwanted = is_ending, .arg = k };
	int r = k->is_live ? talk_open(&talk, k->memory.control, err) : 0;

	for (unsigned i = 1; !r && i < k->n_disks; i++)
		r = lock_volume(&k->disks[i], k->is_live ? &talk : NULL, err);
	for (unsigned i = 0; !r && i < k->n_disks; i++) {
		struct base_request q = request_of(&k->disks[i]);

		r = bases_share(&q, err);
	}
	if (!r)
		r = k->is_live ? copy_live(k, &talk, err) : copy_files(k, err);
	talk_close(&talk);
	if (!r)
		r = finish_copies(k, err);
	return !r && k->has_memory ? keep_memory(k, err) : r;
}

static int make_links(struct clone *k, struct err *err)
{
	int r = 0;

	k->done = 0;
	k->total = k->n_disks;
	for (unsigned i = 0; !r && i < k->n_disks; i++) {
		k->done = i;
		if (!goes_on(k, 0, 0))
			return err_set(err, -ECANCELED, "it was cancelled");
		r = k->disks[i].is_absent ? 0 : link_disk(&k->disks[i], err);
	}
	return r;
}

int clone_copy(struct clone *k, struct err *err)
{
	int r = open_pools(k, err);

	if (!r)
		r = files_make_dir(k->dir, err);
	if (!r)
		r = snapshot_memory_drop(&k->memory, err);      /* of an attempt while the machine still ran */
	if (!r)
		r = image_share_boot(&k->boot, k->dir, err);
	if (!r)
		r = disk_files_make_dir(k->disk_dir, k->disks[0].to.driver, err);
	if (!r)
		r = k->is_linked ? make_links(k, err) : make_copies(k, err);
	close_pools(k);
	return r == -ECANCELED && is_ending(k) ? -EAGAIN : r;
}

int clone_tidy(void *left, struct err *err)
{
	const struct clone_left *l = left;
	int result = files_remove(l->dir, err);

	for (unsigned i = 0; i < l->n; i++) {
		const struct disk_place *p = &l->of[i].to;
		const struct base_request q = request_of(&l->of[i]);
		AUTO_FD int pool = pool_dir_open(p->pool, p->pool_uid, err);
		int r = pool < 0 ? pool : i ? disk_files_remove(p->pool, p->driver, p->uid, err) : subvolume_remove(l->disk_dir, err);

		if (!r)
			r = q.root[0] ? base_undo(&q, err) : bases_release(p->pool, p->uid, err);
		result = result < 0 ? result : r;
	}
	return result;
}
