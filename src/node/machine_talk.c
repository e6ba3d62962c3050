/* SPDX-License-Identifier: Apache-2.0 */
#include "node/machine_talk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "node/vmm.h"
#include "util/err.h"
#include "util/frames.h"
#include "util/json.h"
#include "util/unixsock.h"

enum { MESSAGE_MAX = 4 << 20, ANSWER_S = 30, LOOK_MS = 200 };

/* The next message: new reference; events are heard. NULL: the machine has gone, or says nothing for so long. */
static json_t *next_message(struct talk *k)
{
	AUTO(free) char *text = NULL;
	size_t len = 0;

	if (frames_receive(k->fd, MESSAGE_MAX, &text, &len) <= 0)
		return NULL;
	json_t *msg = json_loadb(text, len, 0, NULL);

	if (k->event && json_object_get(msg, "event"))
		k->event(k->arg, msg);
	return msg;
}

int talk_open(struct talk *k, const char *control, struct err *err)
{
	struct timeval patience = { .tv_sec = ANSWER_S };

	k->fd = unixsock_connect(control, err);
	if (k->fd >= 0 && !setsockopt(k->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)))
		return k->event ? talk_ask(k, "events", NULL, NULL, NULL, err) : 0;
	return err_set(err, -EAGAIN, "the machine does not answer");
}

void talk_close(struct talk *k)
{
	if (k->fd >= 0)
		close(k->fd);
	k->fd = -1;
}

/* Is there something to be read, before the machine counts as gone? */
static bool wait_message(const struct talk *k)
{
	struct pollfd p = { .fd = k->fd, .events = POLLIN };
	unsigned patience_s = k->patience_s ? k->patience_s : ANSWER_S;

	for (unsigned ms = 0; ms < patience_s * 1000; ms += LOOK_MS) {
		if (poll(&p, 1, LOOK_MS) > 0)
			return true;
		if (k->is_unwanted && k->is_unwanted(k->arg))
			return false;
	}
	return false;
}

/* What the machine refuses with. */
static int refuse(struct talk *k, const json_t *error, struct err *err)
{
	const char *why = json_string_value(json_object_get(error, "message"));

	k->refusal = vmm_errno(json_string_value(json_object_get(error, "code")));
	return err_set(err, -EREMOTEIO, "%s", why ? why : "the machine refuses");
}

int talk_ask(struct talk *k, const char *request, json_t *params, const int *fd, json_t **result, struct err *err)
{
	json_int_t id = ++k->last_id;
	AUTO(json_decref) json_t *msg = json_pack("{s:s, s:I, s:o*}", "request", request, "id", id, "params", params);
	AUTO(free) char *text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;

	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	if (frames_send(k->fd, text, strlen(text), fd, fd ? 1 : 0) < 0)
		return err_set(err, -EAGAIN, "the machine has ended");
	for (;;) {
		AUTO(json_decref) json_t *answer = wait_message(k) ? next_message(k) : NULL;
		const json_t *error = json_object_get(answer, "error");

		if (!answer)
			return err_set(err, -EAGAIN, "the machine has ended");
		if (json_object_get(answer, "event") || json_integer_value(json_object_get(answer, "id")) != id)
			continue;
		if (error)
			return refuse(k, error, err);
		if (result)
			*result = json_incref(json_object_get(answer, "result"));
		return 0;
	}
}

int talk_listen(struct talk *k, int ms, struct err *err)
{
	struct pollfd p = { .fd = k->fd, .events = POLLIN };

	if (poll(&p, 1, ms) <= 0)
		return 0;
	AUTO(json_decref) json_t *msg = next_message(k);
	return msg ? 0 : err_set(err, -EAGAIN, "the machine has ended");
}

int talk_find_disk(struct talk *k, const char *const *paths, unsigned n, char name[TALK_NAME_MAX], bool *is_running, struct err *err)
{
	AUTO(json_decref) json_t *info = NULL;
	const json_t *disk;
	size_t i;
	int r = talk_ask(k, "info", NULL, NULL, &info, err);

	if (r < 0)
		return r;
	*is_running = !strcmp(json_string_value(json_object_get(info, "state")) ?: "", "running");
	json_array_foreach(json_object_get(info, "disks"), i, disk) {
		const char *path = json_string_value(json_object_get(disk, "path")) ?: "";

		for (unsigned p = 0; p < n; p++) {
			if (strcmp(path, paths[p]) != 0)
				continue;
			snprintf(name, TALK_NAME_MAX, "%s", json_string_value(json_object_get(disk, "name")) ?: "");
			return (int)p;
		}
	}
	return err_set(err, -ENOENT, "the machine that runs has another disk in its place; stop it, and try again");
}
