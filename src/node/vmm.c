/* SPDX-License-Identifier: Apache-2.0 */
#include "node/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/frames.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/unixsock.h"

enum { MESSAGE_MAX = 4 << 20, UNSENT_MAX = 1 << 20 };

/* A request whose answer has not come. */
struct waiting {
	struct waiting *next;
	json_int_t id;
	vmm_reply_fn reply;
	void *arg;
	const char *request;    /* a literal */
};

struct vmm {
	struct vmm_ops ops;
	void *arg;
	int fd;
	struct loop_fd watch;
	struct frames frames;
	struct waiting *first, **last;
	json_int_t last_id;
	bool is_gone, is_busy, is_dead;         /* IS_BUSY: a callback may be running; then IS_DEAD frees afterwards */
};

static void vmm_answer(struct waiting *w, int r, const json_t *result, const struct err *err)
{
	if (w->reply)
		w->reply(w->arg, r, result, err);
	free(w);
}

static void vmm_fail_all(struct vmm *v, int code, const char *why)
{
	while (v->first) {
		struct waiting *w = v->first;
		struct err err = ERR_INIT;

		v->first = w->next;
		if (!v->first)
			v->last = &v->first;
		err_set(&err, code, "'%s': %s", w->request, why);
		vmm_answer(w, code, NULL, &err);
	}
}

static void vmm_disconnect(struct vmm *v)
{
	loop_fd_del(&v->watch);
	auto_fd(&v->fd);
	v->fd = -1;
}

static void vmm_free(struct vmm *v)
{
	vmm_disconnect(v);
	frames_fini(&v->frames);
	free(v);
}

void vmm_close(struct vmm *v)
{
	if (!v || v->is_dead)
		return;
	v->is_dead = true;
	vmm_fail_all(v, -ECANCELED, "the connection was given up");
	if (!v->is_busy)
		vmm_free(v);
}

static void vmm_lose(struct vmm *v, const char *why)
{
	if (v->is_gone || v->is_dead)
		return;
	v->is_gone = true;
	vmm_disconnect(v);
	vmm_fail_all(v, -ECONNRESET, why);
	if (!v->is_dead)
		v->ops.gone(v->arg);
}

/* --- what comes ---------------------------------------------------- */

int vmm_errno(const char *code)
{
	for (int e = 1; e < 134; e++) {
		const char *name = strerrorname_np(e);

		if (name && code && !strcmp(name, code))
			return -e;
	}
	return -EIO;
}

static void vmm_handle_answer(struct vmm *v, const json_t *msg)
{
	json_int_t id = json_integer_value(json_object_get(msg, "id"));
	const json_t *error = json_object_get(msg, "error");
	struct err err = ERR_INIT;

	for (struct waiting **at = &v->first; *at; at = &(*at)->next) {
		struct waiting *w = *at;

		if (w->id != id)
			continue;
		*at = w->next;
		if (v->last == &w->next)
			v->last = at;
		if (error)
			err_set(&err, vmm_errno(json_string_value(json_object_get(error, "code"))), "%s",
				json_string_value(json_object_get(error, "message")) ?: "the machine refused");
		vmm_answer(w, err.code, error ? NULL : json_object_get(msg, "result"), &err);
		return;
	}
}

static void vmm_handle(struct vmm *v, const uint8_t *text, size_t len)
{
	json_t *msg = json_loadb((const char *)text, len, 0, NULL);
	const char *event = json_string_value(json_object_get(msg, "event"));

	if (event)
		v->ops.event(v->arg, event, msg);
	else if (json_object_get(msg, "id"))
		vmm_handle_answer(v, msg);
	json_decref(msg);
}

static void vmm_read(struct vmm *v)
{
	const uint8_t *msg;
	size_t len;
	int fds[FRAMES_FDS_MAX], r;
	unsigned n_fds = 0;

	while (!v->is_dead && !v->is_gone && (r = frames_read(&v->frames)) != 0) {
		if (r < 0) {
			vmm_lose(v, r == -EPIPE ? "the machine has ended" : strerror(-r));
			return;
		}
		while (!v->is_dead && !v->is_gone && (r = frames_next(&v->frames, &msg, &len, fds, &n_fds)) > 0) {
			while (n_fds)
				close(fds[--n_fds]);
			vmm_handle(v, msg, len);
		}
		if (r < 0)
			vmm_lose(v, "the machine says more than fits");
	}
}

static void vmm_ready(struct loop_fd *h, unsigned events)
{
	struct vmm *v = container_of(h, struct vmm, watch);

	v->is_busy = true;
	if (events & LOOP_OUT && frames_flush(&v->frames) != 0)
		(void)loop_fd_mod(h, LOOP_IN);
	vmm_read(v);
	v->is_busy = false;
	if (v->is_dead)
		vmm_free(v);
}

/* --- what goes ---------------------------------------------------- */

static int vmm_send(struct vmm *v, const char *request, json_t *params, json_int_t id)
{
	AUTO(free) char *text = NULL;
	json_t *msg = json_pack("{s:s, s:I, s:o*}", "request", request, "id", id, "params", params);

	text = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
	json_decref(msg);
	int r = text ? frames_queue(&v->frames, text, strlen(text)) : -ENOMEM;
	if (r < 0)
		return r;
	r = frames_flush(&v->frames);
	return r ? (r < 0 ? r : 0) : loop_fd_mod(&v->watch, LOOP_IN | LOOP_OUT);
}

void vmm_request(struct vmm *v, const char *request, json_t *params, vmm_reply_fn reply, void *arg)
{
	struct waiting *w = calloc(1, sizeof(*w));
	struct err err = ERR_INIT;

	if (!w || v->is_gone) {
		json_decref(params);
		free(w);
		err_set(&err, -ECONNRESET, "'%s': the machine cannot be reached", request);
		if (reply)
			reply(arg, err.code, NULL, &err);
		return;
	}
	*w = (struct waiting){ .id = ++v->last_id, .reply = reply, .arg = arg, .request = request };
	*v->last = w;
	v->last = &w->next;
	/* What cannot be sent shows as the end of the connection, by which requests are answered from the loop. */
	if (vmm_send(v, request, params, w->id) < 0)
		(void)shutdown(v->fd, SHUT_RDWR);
}

int vmm_open(struct vmm **out, struct loop *l, const char *path, const struct vmm_ops *ops, void *arg, struct err *err)
{
	AUTO_FD int fd = unixsock_connect(path, err);
	struct vmm *v;

	if (fd < 0)
		return fd;
	(void)fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	*v = (struct vmm){ .ops = *ops, .arg = arg, .fd = -1, .last = &v->first };
	int r = frames_init(&v->frames, fd, MESSAGE_MAX, UNSENT_MAX);
	if (!r)
		r = loop_fd_add(l, &v->watch, fd, LOOP_IN, vmm_ready);
	if (r < 0) {
		vmm_free(v);
		return err_set(err, r, "cannot talk to '%s': %s", path, strerror(-r));
	}
	v->fd = take_fd(&fd);
	vmm_request(v, "events", NULL, NULL, NULL);
	*out = v;
	return 0;
}
