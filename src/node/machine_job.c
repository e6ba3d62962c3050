/* SPDX-License-Identifier: Apache-2.0 */
#include "node/machine_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "node/node.h"
#include "util/cleanup.h"
#include "util/json.h"

enum { LOOK_MS = 200 };

static void hear(void *arg, const json_t *msg)
{
	struct machine_job *k = arg;
	const char *job = json_string_value(json_object_get(msg, "job")), *status = json_string_value(json_object_get(msg, "status"));
	const char *reason = json_string_value(json_object_get(msg, "reason"));

	if (!job || !status || strcmp(job, k->id) != 0)
		return;
	uint64_t total = k->before + (uint64_t)json_integer_value(json_object_get(msg, "total"));
	(void)task_tell(k->task, k->before + (uint64_t)json_integer_value(json_object_get(msg, "done")), total > k->all ? total : k->all);
	k->is_ready |= !strcmp(status, "ready");
	k->is_completed |= !strcmp(status, "completed");
	k->is_over |= !strcmp(status, "completed") || !strcmp(status, "cancelled") || !strcmp(status, "failed");
	if (!strcmp(status, "failed"))
		snprintf(k->reason, sizeof(k->reason), "%s", reason ? reason : "for no stated reason");
}

int machine_job_open(struct machine_job *k, struct task *t, const char *id, const char *control, struct err *err)
{
	k->talk.event = hear;
	k->talk.arg = k;
	k->talk.fd = -1;
	k->task = t;
	k->id = id;
	return talk_open(&k->talk, control, err);
}

void machine_job_close(struct machine_job *k)
{
	talk_close(&k->talk);
}

bool machine_job_is_unwanted(const struct machine_job *k)
{
	return atomic_load_explicit(&k->task->stop, memory_order_relaxed) ||
	       atomic_load_explicit(&k->task->c.node->is_closing, memory_order_relaxed);
}

static int cancel(struct machine_job *k, struct err *err)
{
	return talk_ask(&k->talk, "job-cancel", json_pack("{s:s}", "id", k->id), NULL, NULL, err);
}

int machine_job_clear(struct machine_job *k, struct err *err)
{
	int r = cancel(k, err);

	while (!r && !k->is_over)
		r = talk_listen(&k->talk, LOOK_MS, err);
	k->is_over = k->is_completed = k->is_ready = false;
	if (r != -EAGAIN)
		r = talk_ask(&k->talk, "image-drop", json_pack("{s:s}", "id", k->id), NULL, NULL, err);
	return r == -EAGAIN ? r : 0;
}

int machine_job_begin(struct machine_job *k, const char *request, const char *disk, const char *path, const char *format, json_t *params,
		      struct err *err)
{
	AUTO(json_decref) json_t *all = params;
	char pair[96];
	AUTO_FD int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_set(err, -errno, "cannot make '%s': %s", path, strerror(errno));
	snprintf(pair, sizeof(pair), "%s=%s", disk, k->id);
	json_object_set_new(all, "disks", json_string(pair));
	json_object_set_new(all, "id", json_string(k->id));
	int r = talk_ask(&k->talk, "image-add", json_pack("{s:s, s:s, s:s, s:b}", "id", k->id, "path", path, "format", format, "new", 1), &fd, NULL,
			 err);
	return r < 0 ? r : talk_ask(&k->talk, request, json_incref(all), NULL, NULL, err);
}

int machine_job_follow(struct machine_job *k, int (*ready)(void *arg, struct err *err), void *arg, struct err *err)
{
	bool is_changing = false, is_cancelled = false;
	int r = 0;

	while (!r && !k->is_over) {
		if (ready && k->is_ready && !is_changing && !is_cancelled) {
			is_changing = true;
			r = ready(arg, err);
		} else if (!is_changing && !is_cancelled && machine_job_is_unwanted(k)) {
			is_cancelled = true;
			r = cancel(k, err);
		} else {
			r = talk_listen(&k->talk, LOOK_MS, err);
		}
	}
	if (r < 0 || k->is_completed)
		return r;
	return k->reason[0] ? err_set(err, -EIO, "%s", k->reason) : err_set(err, -ECANCELED, "it was cancelled");
}
