/* SPDX-License-Identifier: Apache-2.0 */
/* volume_move_mirror.c - the machine that runs copies its disk itself and changes over. It is asked by a connection of the worker's own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "node/machine_talk.h"
#include "node/node.h"
#include "node/pool_dir.h"
#include "node/volume_move_priv.h"
#include "util/json.h"

enum { LOOK_MS = 200 };

#define JOB "volume-move"

struct mirror {
	struct talk talk;               /* with the machine */
	struct move *m;
	bool is_ready, is_completed, is_over;   /* of the job, as events tell */
	char reason[300];
};

/* --- messages ---------------------------------------------------- */

static void hear_event(void *arg, const json_t *msg)
{
	struct mirror *k = arg;
	const char *job = json_string_value(json_object_get(msg, "job")), *status = json_string_value(json_object_get(msg, "status"));
	const char *reason = json_string_value(json_object_get(msg, "reason"));
	struct task *t = k->m->task;

	if (!job || !status || strcmp(job, JOB) != 0)
		return;
	atomic_store_explicit(&t->done, (unsigned long long)json_integer_value(json_object_get(msg, "done")), memory_order_relaxed);
	atomic_store_explicit(&t->total, (unsigned long long)json_integer_value(json_object_get(msg, "total")), memory_order_relaxed);
	k->is_ready |= !strcmp(status, "ready");
	k->is_completed |= !strcmp(status, "completed");
	k->is_over |= !strcmp(status, "completed") || !strcmp(status, "cancelled") || !strcmp(status, "failed");
	if (!strcmp(status, "failed"))
		snprintf(k->reason, sizeof(k->reason), "%s", reason ? reason : "for no stated reason");
}

static bool is_unwanted(const struct move *m)
{
	return atomic_load_explicit(&m->task->stop, memory_order_relaxed) ||
	       atomic_load_explicit(&m->task->c.node->is_closing, memory_order_relaxed);
}

/* --- what the machine has ---------------------------------------------------- */

/* Which of its disks is it, and has that changed over? And does the machine run? -ENOENT: it has no such disk. */
static int find_disk(struct mirror *k, char name[TALK_NAME_MAX], bool *is_new, bool *is_running, struct err *err)
{
	const char *const paths[] = { k->m->from.path, k->m->to.path };
	int r = talk_find_disk(&k->talk, paths, 2, name, is_running, err);

	*is_new = r == 1;
	return r < 0 ? r : 0;
}

/* What a daemon that was killed has left in the machine. */
static int clear(struct mirror *k, struct err *err)
{
	int r = talk_ask(&k->talk, "job-cancel", json_pack("{s:s}", "id", JOB), NULL, NULL, err);

	while (!r && !k->is_over)
		r = talk_listen(&k->talk, LOOK_MS, err);
	k->is_over = k->is_completed = k->is_ready = false;
	if (r != -EAGAIN)
		r = talk_ask(&k->talk, "image-drop", json_pack("{s:s}", "id", JOB), NULL, NULL, err);
	return r == -EAGAIN ? r : 0;
}

/* They would stay behind. */
static int check_snapshots(const struct move *m, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	AUTO(free) struct blk_snapshot *list = NULL;
	struct blk_options o = { .path = m->from.path, .fd = -1, .format = "qcow2", .is_readonly = true, .is_unlocked = true };
	unsigned n = 0;
	int r = blk_open(&b, NULL, &o, err);

	if (!r)
		r = blk_snapshot_list(b, &list, &n, err);
	return r < 0 || !n ? r : err_set(err, -EBUSY, "there are snapshots in it, which go along only while its machine is off: stop that, or "
					 "remove them, first");
}

/* --- the job ---------------------------------------------------- */

static int begin(struct mirror *k, const char *disk, struct err *err)
{
	struct move *m = k->m;
	char pair[96];
	AUTO_FD int fd = open(m->to.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(err, -errno, "cannot make '%s': %s", m->to.path, strerror(errno));
	snprintf(pair, sizeof(pair), "%s=" JOB, disk);
	int r = talk_ask(&k->talk, "image-add", json_pack("{s:s, s:s, s:s, s:b}", "id", JOB, "path", m->to.path, "format", "qcow2", "new", 1), &fd,
		    NULL, err);
	return r < 0 ? r : talk_ask(&k->talk, "disk-mirror", json_pack("{s:s, s:s, s:b}", "disks", pair, "id", JOB, "wait", 1), NULL, NULL, err);
}

/* The guest stands still from here until the document says where its disk is: whatever ends in between, both files are the same. */
static int change_over(struct mirror *k, struct err *err)
{
	bool is_new, is_running = false;
	char disk[TALK_NAME_MAX];

	atomic_store(&k->m->phase, MOVE_CHANGING);
	int r = find_disk(k, disk, &is_new, &is_running, err);
	if (!r && is_running)
		r = talk_ask(&k->talk, "pause", NULL, NULL, NULL, err);
	return r < 0 ? r : talk_ask(&k->talk, "job-complete", json_pack("{s:s}", "id", JOB), NULL, NULL, err);
}

static int follow(struct mirror *k, struct err *err)
{
	bool is_changing = false, is_cancelled = false;
	int r = 0;

	while (!r && !k->is_over) {
		if (k->is_ready && !is_changing && !is_cancelled) {
			is_changing = true;
			r = change_over(k, err);
		} else if (!is_changing && !is_cancelled && is_unwanted(k->m)) {
			is_cancelled = true;
			r = talk_ask(&k->talk, "job-cancel", json_pack("{s:s}", "id", JOB), NULL, NULL, err);
		} else {
			r = talk_listen(&k->talk, LOOK_MS, err);
		}
	}
	if (r < 0 || k->is_completed)
		return r;
	return k->reason[0] ? err_set(err, -EIO, "%s", k->reason) : err_set(err, -ECANCELED, "it was cancelled");
}

static int mirror(struct mirror *k, const char *disk, struct err *err)
{
	int r = is_unwanted(k->m) ? err_set(err, -ECANCELED, "it was cancelled") : check_snapshots(k->m, err);

	if (!r)
		r = begin(k, disk, err);
	if (!r)
		r = follow(k, err);
	if (!r)
		return 0;
	struct err ignored = ERR_INIT;
	/* Only a machine that still answers is known not to have changed over. */
	if (r == -EAGAIN || clear(k, &ignored) < 0)
		return -EAGAIN;
	bool is_new = false, is_running;
	char name[TALK_NAME_MAX];
	if (find_disk(k, name, &is_new, &is_running, &ignored) < 0)
		return -EAGAIN;
	if (is_new)
		return 0;
	atomic_store(&k->m->phase, MOVE_COPYING);
	(void)unlink(k->m->to.path);
	return r;
}

/* What has come of it, and what is left to do. */
static int resume(struct mirror *k, struct err *err)
{
	bool is_new = false, is_running;
	char disk[TALK_NAME_MAX];
	int r = find_disk(k, disk, &is_new, &is_running, err);

	if (r < 0 || is_new)
		return r;
	r = clear(k, err);
	/* The job of a daemon before this may have ended just now. */
	if (!r)
		r = find_disk(k, disk, &is_new, &is_running, err);
	if (r < 0 || is_new)
		return r;
	atomic_store(&k->m->phase, MOVE_COPYING);
	return mirror(k, disk, err);
}

int move_mirror(struct move *m, struct err *err)
{
	AUTO_FD int from = pool_dir_open(m->from.pool, m->from.uid, err);
	AUTO_FD int to = from < 0 ? -1 : pool_dir_open(m->to.pool, m->to.uid, err);
	struct mirror k = { .m = m, .talk = { .event = hear_event, .arg = &k, .fd = -1 } };
	int r = to < 0 ? -EAGAIN : talk_open(&k.talk, m->control, err);

	if (!r)
		r = resume(&k, err);
	talk_close(&k.talk);
	return r;
}
