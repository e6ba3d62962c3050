/* SPDX-License-Identifier: Apache-2.0 */
/* clone_copy.c - the files of a clone. Its disk is a copy of the file of the original's, which shares blocks with it where the file
 * system can do that, and its holes stay holes; or a layer over what both share (bases.h). A machine that runs stands still
 * while it is copied: its memory is saved first, which flushes its disks. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/clone_priv.h"
#include "node/disk_files.h"
#include "node/files.h"
#include "node/node.h"
#include "node/pool_dir.h"
#include "node/snapshot_disks.h"
#include "node/machine_talk.h"
#include "node/subvolume.h"
#include "util/json.h"

enum { ANSWER_S = 600 };

static bool goes_on(void *arg, uint64_t done, uint64_t total)
{
	struct task *t = arg;

	atomic_store_explicit(&t->done, done, memory_order_relaxed);
	atomic_store_explicit(&t->total, total, memory_order_relaxed);
	return !atomic_load_explicit(&t->stop, memory_order_relaxed) &&
	       !atomic_load_explicit(&t->c.node->is_closing, memory_order_relaxed);
}

/* --- the disk ---------------------------------------------------- */

static int copy_file(struct clone *k, const char *tmp, struct err *err)
{
	AUTO_FD int from = open(k->from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	AUTO_FD int to = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (from < 0 || to < 0)
		return err_set(err, -errno, "cannot copy '%s' to '%s': %s", k->from, tmp, strerror(errno));
	return files_copy(from, to, goes_on, k->task, err);
}

/* TMP becomes PATH. The snapshots of the original came with the file, and are no business of the copy. */
static int finish_copy(const char *tmp, const char *path, struct err *err)
{
	int r = snapshot_unmake_all(tmp, err);

	if (!r && rename(tmp, path) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", tmp, strerror(errno));
	return r < 0 ? r : files_sync_above(path, err);
}

static struct base_request request_of(const struct clone *k)
{
	return (struct base_request){ .pool = k->pool, .root = k->from, .source = k->source_uid, .clone = k->uid };
}

static int link_disk(struct clone *k, const char *path, struct err *err)
{
	struct base_request q = request_of(k);
	AUTO(free) char *base = NULL;
	int r = base_take(&q, &base, err);

	return r < 0 ? r : base_make_layer(path, base, err);
}

/* --- a machine that runs ---------------------------------------------------- */

static bool is_ending(void *arg)
{
	return atomic_load_explicit(&((struct clone *)arg)->memory.node->is_closing, memory_order_relaxed);
}

/* Between pause and resume: its memory, and its disk as it is then. */
static int copy_still(struct clone *k, struct talk *talk, const char *tmp, bool has_disk, struct err *err)
{
	int r = snapshot_memory_write(&k->memory, talk, err);

	/* Only whether the memory is wanted is known from here on: saving it has flushed the disks. */
	if (!r && !k->has_memory)
		(void)unlink(k->memory.tmp);
	return !r && has_disk ? copy_file(k, tmp, err) : r;
}

static int copy_live(struct clone *k, const char *tmp, bool has_disk, struct err *err)
{
	struct talk talk = { .fd = -1, .patience_s = ANSWER_S, .is_unwanted = is_ending, .arg = k };
	AUTO(json_decref) json_t *info = NULL;
	struct err ignored = ERR_INIT;
	int r = talk_open(&talk, k->memory.control, err);

	if (!r)
		r = talk_ask(&talk, "info", NULL, NULL, &info, err);
	const char *state = json_string_value(json_object_get(info, "state"));
	bool is_running = state && strcmp(state, "paused") != 0;
	if (!r)
		r = talk_ask(&talk, "pause", NULL, NULL, NULL, err);
	if (!r) {
		r = copy_still(k, &talk, tmp, has_disk, err);
		if (is_running)
			(void)talk_ask(&talk, "resume", NULL, NULL, NULL, &ignored);
	}
	talk_close(&talk);
	return r == -EBUSY ? err_set(err, -EAGAIN, "the machine is being saved or moved") : r;
}

static int keep_memory(struct clone *k, struct err *err)
{
	if (rename(k->memory.tmp, k->memory.path) < 0)
		return err_set(err, -errno, "cannot rename '%s': %s", k->memory.tmp, strerror(errno));
	return files_sync_above(k->memory.path, err);
}

/* --- the whole ---------------------------------------------------- */

static int make_files(struct clone *k, const char *path, const char *tmp, struct err *err)
{
	bool has_disk = !access(k->from, F_OK);         /* one that has not run yet has none */
	struct base_request q = request_of(k);
	int r = has_disk && !k->is_linked ? bases_share(&q, err) : 0;

	if (r < 0)
		return r;
	if (k->is_live)
		r = copy_live(k, tmp, has_disk, err);
	else if (has_disk && k->is_linked)
		r = link_disk(k, path, err);
	else if (has_disk)
		r = copy_file(k, tmp, err);
	if (!r && has_disk && !k->is_linked)
		r = finish_copy(tmp, path, err);
	return !r && k->has_memory ? keep_memory(k, err) : r;
}

int clone_copy(struct clone *k, struct err *err)
{
	AUTO(free) char *path = node_path(k->disk_dir, "root.qcow2"), *tmp = node_path(k->disk_dir, "root.qcow2.tmp");
	AUTO_FD int pool = path && tmp ? pool_dir_open(k->pool, k->pool_uid, err) : err_set(err, -ENOMEM, "out of memory");
	int r = pool == -ESTALE ? -EAGAIN : pool < 0 ? pool : files_make_dir(k->dir, err);

	if (!r)
		r = disk_files_make_dir(k->disk_dir, k->driver, err);
	if (!r)
		r = make_files(k, path, tmp, err);
	return r == -ECANCELED && is_ending(k) ? -EAGAIN : r;
}

int clone_tidy(void *left, struct err *err)
{
	const struct clone_left *l = left;
	AUTO_FD int pool = pool_dir_open(l->pool, l->pool_uid, err);
	int r = files_remove(l->dir, err);

	if (!r && pool < 0)
		r = pool;
	if (!r)
		r = subvolume_remove(l->disk_dir, err);
	return r < 0 ? r : bases_release(l->pool, l->uid, err);
}
