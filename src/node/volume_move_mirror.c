/* SPDX-License-Identifier: Apache-2.0 */
/* volume_move_mirror.c - the machine that runs copies its disk itself and changes over. It is asked by a connection of the worker's own. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "node/node.h"
#include "node/pool_dir.h"
#include "node/volume_move_priv.h"
#include "util/frames.h"
#include "util/json.h"
#include "util/unixsock.h"

enum { MESSAGE_MAX = 4 << 20, LOOK_MS = 200, ANSWER_S = 30 };

#define JOB "volume-move"

struct talk {
	struct move *m;
	int fd;
	json_int_t last_id;
	bool is_ready, is_completed, is_over;   /* of the job, as events tell */
	char reason[300];
};

/* --- messages ---------------------------------------------------- */

static void hear_event(struct talk *k, const json_t *msg)
{
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

/* The next message: new reference; events are heard. NULL: the machine has gone, or says nothing for so long. */
static json_t *next_message(struct talk *k)
{
	char *text = NULL;
	size_t len = 0;

	if (frames_receive(k->fd, MESSAGE_MAX, &text, &len) <= 0)
		return NULL;
	json_t *msg = json_loadb(text, len, 0, NULL);
	free(text);
	if (json_object_get(msg, "event"))
		hear_event(k, msg);
	return msg;
}

/* -EREMOTEIO: the machine refuses, with its sentence; -EAGAIN: it has gone. RESULT (NULL: not wanted) is a new reference. */
static int ask(struct talk *k, const char *request, json_t *params, const int *fd, json_t **result, struct err *err)
{
	json_int_t id = ++k->last_id;
	AUTO(json_decref) json_t *msg = json_pack("{s:s, s:I, s:o*}", "request", request, "id", id, "params", params);
	AUTO(free) char *text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;

	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	if (frames_send(k->fd, text, strlen(text), fd, fd ? 1 : 0) < 0)
		return err_set(err, -EAGAIN, "the machine has ended");
	for (;;) {
		AUTO(json_decref) json_t *answer = next_message(k);
		const json_t *error = json_object_get(answer, "error");

		if (!answer)
			return err_set(err, -EAGAIN, "the machine has ended");
		if (json_object_get(answer, "event") || json_integer_value(json_object_get(answer, "id")) != id)
			continue;
		if (error)
			return err_set(err, -EREMOTEIO, "%s", json_string_value(json_object_get(error, "message")));
		if (result)
			*result = json_incref(json_object_get(answer, "result"));
		return 0;
	}
}

/* Hear events for a moment. -EAGAIN: the machine has gone. */
static int listen_for(struct talk *k, int ms, struct err *err)
{
	struct pollfd p = { .fd = k->fd, .events = POLLIN };

	if (poll(&p, 1, ms) <= 0)
		return 0;
	AUTO(json_decref) json_t *msg = next_message(k);
	return msg ? 0 : err_set(err, -EAGAIN, "the machine has ended");
}

static bool is_unwanted(const struct move *m)
{
	return atomic_load_explicit(&m->task->stop, memory_order_relaxed) ||
	       atomic_load_explicit(&m->task->c.node->is_closing, memory_order_relaxed);
}

/* --- what the machine has ---------------------------------------------------- */

/* Which of its disks is it, and has that changed over? And does the machine run? -ENOENT: it has no such disk. */
static int find_disk(struct talk *k, char name[64], bool *is_new, bool *is_running, struct err *err)
{
	AUTO(json_decref) json_t *info = NULL;
	const json_t *disk;
	size_t i;
	int r = ask(k, "info", NULL, NULL, &info, err);

	if (r < 0)
		return r;
	*is_running = !strcmp(json_string_value(json_object_get(info, "state")) ?: "", "running");
	json_array_foreach(json_object_get(info, "disks"), i, disk) {
		const char *path = json_string_value(json_object_get(disk, "path")) ?: "";

		*is_new = !strcmp(path, k->m->to.path);
		if (!*is_new && strcmp(path, k->m->from.path) != 0)
			continue;
		snprintf(name, 64, "%s", json_string_value(json_object_get(disk, "name")) ?: "");
		return 0;
	}
	return err_set(err, -ENOENT, "the machine that runs has another disk in its place; stop it, and try again");
}

/* What a daemon that was killed has left in the machine. */
static int clear(struct talk *k, struct err *err)
{
	int r = ask(k, "job-cancel", json_pack("{s:s}", "id", JOB), NULL, NULL, err);

	while (!r && !k->is_over)
		r = listen_for(k, LOOK_MS, err);
	k->is_over = k->is_completed = k->is_ready = false;
	if (r != -EAGAIN)
		r = ask(k, "image-drop", json_pack("{s:s}", "id", JOB), NULL, NULL, err);
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

static int begin(struct talk *k, const char *disk, struct err *err)
{
	struct move *m = k->m;
	char pair[96];
	AUTO_FD int fd = open(m->to.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(err, -errno, "cannot make '%s': %s", m->to.path, strerror(errno));
	snprintf(pair, sizeof(pair), "%s=" JOB, disk);
	int r = ask(k, "image-add", json_pack("{s:s, s:s, s:s, s:b}", "id", JOB, "path", m->to.path, "format", "qcow2", "new", 1), &fd,
		    NULL, err);
	return r < 0 ? r : ask(k, "disk-mirror", json_pack("{s:s, s:s, s:b}", "disks", pair, "id", JOB, "wait", 1), NULL, NULL, err);
}

/* The guest stands still from here until the document says where its disk is: whatever ends in between, both files are the same. */
static int change_over(struct talk *k, struct err *err)
{
	bool is_new, is_running = false;
	char disk[64];

	atomic_store(&k->m->phase, MOVE_CHANGING);
	int r = find_disk(k, disk, &is_new, &is_running, err);
	if (!r && is_running)
		r = ask(k, "pause", NULL, NULL, NULL, err);
	return r < 0 ? r : ask(k, "job-complete", json_pack("{s:s}", "id", JOB), NULL, NULL, err);
}

static int follow(struct talk *k, struct err *err)
{
	bool is_changing = false, is_cancelled = false;
	int r = 0;

	while (!r && !k->is_over) {
		if (k->is_ready && !is_changing && !is_cancelled) {
			is_changing = true;
			r = change_over(k, err);
		} else if (!is_changing && !is_cancelled && is_unwanted(k->m)) {
			is_cancelled = true;
			r = ask(k, "job-cancel", json_pack("{s:s}", "id", JOB), NULL, NULL, err);
		} else {
			r = listen_for(k, LOOK_MS, err);
		}
	}
	if (r < 0 || k->is_completed)
		return r;
	return k->reason[0] ? err_set(err, -EIO, "%s", k->reason) : err_set(err, -ECANCELED, "it was cancelled");
}

static int mirror(struct talk *k, const char *disk, struct err *err)
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
	char name[64];
	if (find_disk(k, name, &is_new, &is_running, &ignored) < 0)
		return -EAGAIN;
	if (is_new)
		return 0;
	atomic_store(&k->m->phase, MOVE_COPYING);
	(void)unlink(k->m->to.path);
	return r;
}

int move_mirror(struct move *m, struct err *err)
{
	AUTO_FD int from = pool_dir_open(m->from.pool, m->from.uid, err);
	AUTO_FD int to = from < 0 ? -1 : pool_dir_open(m->to.pool, m->to.uid, err);
	AUTO_FD int fd = to < 0 ? -1 : unixsock_connect(m->control, err);
	struct timeval patience = { .tv_sec = ANSWER_S };
	struct talk k = { .m = m, .fd = fd };
	bool is_new = false, is_running;
	char disk[64];

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		return -EAGAIN;
	int r = ask(&k, "events", NULL, NULL, NULL, err);
	if (!r)
		r = find_disk(&k, disk, &is_new, &is_running, err);
	if (r < 0 || is_new)
		return r;
	r = clear(&k, err);
	/* The job of a daemon before this may have ended just now. */
	if (!r)
		r = find_disk(&k, disk, &is_new, &is_running, err);
	if (r < 0 || is_new)
		return r;
	atomic_store(&m->phase, MOVE_COPYING);
	return mirror(&k, disk, err);
}
