/* SPDX-License-Identifier: Apache-2.0 */
#include "node/machine_talk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "util/err.h"
#include "util/frames.h"
#include "util/json.h"
#include "util/unixsock.h"

enum { MESSAGE_MAX = 4 << 20, ANSWER_S = 30 };

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
