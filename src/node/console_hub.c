/* SPDX-License-Identifier: Apache-2.0 */
#include "node/console_hub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "node/auth.h"
#include "node/doc.h"
#include "node/spool.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/unixsock.h"

enum { CHUNK = 16 << 10, KEEP_MIN = 4 << 10, TYPED_MAX = 64 << 10, RETRY_MS = 50, PATH_CAP = 512,
       CLOSE_STOPPED = 1000 };

/* What was said to daemons before this one, from the end of the file. */
struct recall {
	struct console_hub *hub;        /* NULL: it has gone */
	char path[PATH_CAP + 2];
	char *text;                     /* at most CONSOLE_KEEP bytes */
	size_t len;
};

/* Somebody who waits for that. */
struct asker {
	struct asker *next;
	struct api_call *c;
};

/* Somebody who looks. */
struct viewer {
	struct console_hub *hub;        /* NULL: the hub has gone */
	struct viewer *next;
	struct http_socket *ws;
	bool has_begun;                 /* else it waits for what is recalled */
	bool wants_place;               /* has asked FROM where; "": from the beginning */
	char from[DOC_UID_LEN + 24];
};

struct console_hub {
	struct loop *loop;
	char socket_path[PATH_CAP];
	struct spool *log;
	struct works *writer;
	char *log_path;
	struct recall *recall;          /* under way */
	bool is_recalled;
	struct asker *askers;
	int fd;
	struct loop_fd watch;
	struct loop_timer retry;
	char *keep;                     /* a ring of KEEP_CAP bytes, which grows to CONSOLE_KEEP */
	size_t keep_cap, keep_at, keep_len;
	uint64_t said;                  /* bytes in all */
	char line[DOC_UID_LEN + 1];     /* which numbers of bytes those are */
	char *typed;                    /* TYPED_MAX bytes that wait for the socket; NULL: none do */
	size_t typed_len;
	struct viewer *viewers;
};

/* --- what the guest says ---------------------------------------------------- */

/* Most machines of a node are off or say little: the ring has room for LEN more bytes, or all that it may ever have. */
static void hub_grow(struct console_hub *h, size_t len)
{
	size_t cap = h->keep_cap ? h->keep_cap : KEEP_MIN, n = h->keep_len;

	while (cap < CONSOLE_KEEP && cap < n + len)
		cap *= 2;
	char *keep = cap > h->keep_cap ? malloc(cap) : NULL;
	if (!keep)
		return;
	for (size_t i = 0; i < n; i++)
		keep[i] = h->keep[(h->keep_at + i) % h->keep_cap];
	free(h->keep);
	h->keep = keep;
	h->keep_cap = cap;
	h->keep_at = 0;
}

static void hub_keep(struct console_hub *h, const char *data, size_t len)
{
	hub_grow(h, len);
	for (size_t i = 0; i < len && h->keep_cap; i++) {
		h->keep[(h->keep_at + h->keep_len) % h->keep_cap] = data[i];
		if (h->keep_len < h->keep_cap)
			h->keep_len++;
		else
			h->keep_at = (h->keep_at + 1) % h->keep_cap;
	}
}

char *console_hub_text(const struct console_hub *h, size_t max, size_t *len)
{
	size_t n = h->keep_len < max ? h->keep_len : max;
	char *text = malloc(n + 1);

	for (size_t i = 0; text && i < n; i++)
		text[i] = h->keep[(h->keep_at + h->keep_len - n + i) % h->keep_cap];
	*len = n;
	return text;
}

static void hub_said(struct console_hub *h, const char *data, size_t len)
{
	hub_keep(h, data, len);
	h->said += len;
	spool_put(h->log, data, len);
	for (struct viewer *v = h->viewers; v; v = v->next)
		if (v->has_begun)
			(void)http_send(v->ws, data, len, false);
}

/* --- what it has said before ---------------------------------------------------- */

static void viewer_begin(struct viewer *v);

/* The end of the file PATH before what there is already. */
static void recall_from(struct recall *l, const char *path)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END), room = (off_t)(CONSOLE_KEEP - l->len), want = size < room ? size : room;

	if (want <= 0)
		return;
	memmove(l->text + want, l->text, l->len);
	if (pread(fd, l->text, (size_t)want, size - want) == want)
		l->len += (size_t)want;
	else
		memmove(l->text, l->text + want, l->len);
}

static int recall_run(void *arg, struct err *err)
{
	struct recall *l = arg;

	l->text = malloc(CONSOLE_KEEP);
	if (!l->text)
		return err_set(err, -ENOMEM, "out of memory");
	recall_from(l, l->path);
	strcat(l->path, ".1");
	recall_from(l, l->path);
	return 0;
}

static void hub_answer(const struct console_hub *h, struct api_call *c)
{
	struct err err = ERR_INIT;
	size_t len = 0;
	char *text = console_hub_text(h, CONSOLE_KEEP, &len);

	if (text)
		api_reply_bytes(c, 200, "application/octet-stream", text, len);
	else
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
}

static void hub_answer_all(struct console_hub *h)
{
	for (struct asker *a; (a = h->askers) != NULL; free(a)) {
		h->askers = a->next;
		hub_answer(h, a->c);
	}
}

/* There is nothing more to wait for. */
static void hub_is_recalled(struct console_hub *h)
{
	h->is_recalled = true;
	hub_answer_all(h);
	for (struct viewer *v = h->viewers; v; v = v->next)
		if (!v->has_begun)
			viewer_begin(v);
}

/* The thread that writes the file has read it before it wrote anything that is in the ring. */
static void recalled(void *arg, int r, const struct err *err)
{
	struct recall *l = arg;
	struct console_hub *h = l->hub;

	(void)r;
	(void)err;
	if (h) {
		size_t len;
		AUTO(free) char *since = console_hub_text(h, CONSOLE_KEEP, &len);

		h->recall = NULL;
		if (since) {
			h->keep_len = 0;
			hub_keep(h, l->text, l->len);
			hub_keep(h, since, len);
		}
		hub_is_recalled(h);
	}
	free(l->text);
	free(l);
}

/* Before anything is written. */
static void hub_recall(struct console_hub *h)
{
	if (h->is_recalled || h->recall)
		return;
	h->recall = calloc(1, sizeof(*h->recall));
	if (h->recall) {
		h->recall->hub = h;
		snprintf(h->recall->path, PATH_CAP, "%s", h->log_path);
	}
	if (h->recall && !work_start(h->writer, recall_run, recalled, h->recall))
		return;
	free(h->recall);
	h->recall = NULL;
	hub_is_recalled(h);
}

void console_hub_answer(struct console_hub *h, struct api_call *c)
{
	hub_recall(h);
	struct asker *a = h->is_recalled ? NULL : calloc(1, sizeof(*a));

	if (!a) {
		hub_answer(h, c);
		return;
	}
	*a = (struct asker){ h->askers, c };
	h->askers = a;
}

/* --- the machine's socket ---------------------------------------------------- */

static void hub_forget_typed(struct console_hub *h)
{
	free(h->typed);
	h->typed = NULL;
	h->typed_len = 0;
}

static void hub_disconnect(struct console_hub *h)
{
	loop_fd_del(&h->watch);
	auto_fd(&h->fd);
	h->fd = -1;
	hub_forget_typed(h);
}

/* 1: something came; 0: nothing now; negative: the end. */
static int hub_read(struct console_hub *h)
{
	char buf[CHUNK];
	ssize_t n = read(h->fd, buf, sizeof(buf));

	if (n > 0) {
		hub_said(h, buf, (size_t)n);
		return 1;
	}
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -EPIPE;
}

static void hub_flush(struct console_hub *h)
{
	ssize_t n = h->typed_len ? send(h->fd, h->typed, h->typed_len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

	if (n > 0) {
		h->typed_len -= (size_t)n;
		memmove(h->typed, h->typed + n, h->typed_len);
	}
	if (!h->typed_len)
		hub_forget_typed(h);
	(void)loop_fd_mod(&h->watch, h->typed_len ? LOOP_IN | LOOP_OUT : LOOP_IN);
}

static void hub_ready(struct loop_fd *w, unsigned events)
{
	struct console_hub *h = container_of(w, struct console_hub, watch);

	(void)events;
	if (hub_read(h) < 0) {
		hub_disconnect(h);
		loop_timer_set(&h->retry, loop_after_ms(RETRY_MS));
		return;
	}
	hub_flush(h);
}

static void hub_connect(struct loop_timer *t)
{
	struct console_hub *h = container_of(t, struct console_hub, retry);

	if (!h->socket_path[0] || h->fd >= 0)
		return;
	h->fd = unixsock_connect(h->socket_path, NULL);
	if (h->fd >= 0 && fcntl(h->fd, F_SETFL, O_RDWR | O_NONBLOCK) == 0 &&
	    !loop_fd_add(h->loop, &h->watch, h->fd, LOOP_IN, hub_ready))
		return;
	hub_disconnect(h);
	loop_timer_set(&h->retry, loop_after_ms(RETRY_MS));
}

void console_hub_attach(struct console_hub *h, const char *socket_path)
{
	snprintf(h->socket_path, sizeof(h->socket_path), "%s", socket_path);
	hub_recall(h);
	hub_connect(&h->retry);
}

void console_hub_detach(struct console_hub *h)
{
	if (!h)
		return;
	loop_timer_cancel(&h->retry);
	bool was_attached = h->socket_path[0];
	h->socket_path[0] = 0;
	while (h->fd >= 0 && hub_read(h) > 0)
		continue;
	hub_disconnect(h);
	spool_rest(h->log);
	for (struct viewer *v = was_attached ? h->viewers : NULL; v; v = v->next)
		http_hang_up(v->ws, CLOSE_STOPPED, "the machine has stopped");
}

/* --- those who look ---------------------------------------------------- */

static void viewer_typed(void *arg, const void *data, size_t len, bool is_text)
{
	struct viewer *v = arg;
	struct console_hub *h = v->hub;

	(void)is_text;
	if (!h || h->fd < 0 || (!h->typed && !(h->typed = malloc(TYPED_MAX))))
		return;
	/* Who types faster than the guest reads loses keys, as on a real line. */
	size_t room = TYPED_MAX - h->typed_len, n = len < room ? len : room;
	memcpy(h->typed + h->typed_len, data, n);
	h->typed_len += n;
	hub_flush(h);
}

static void viewer_closed(void *arg)
{
	struct viewer *v = arg;

	for (struct viewer **at = v->hub ? &v->hub->viewers : NULL; at && *at; at = &(*at)->next) {
		if (*at == v) {
			*at = v->next;
			break;
		}
	}
	free(v);
}

/* How many bytes of the buffer somebody lacks who has seen what FROM ("LINE:BYTES") says. */
static size_t missing(const struct console_hub *h, const char *from)
{
	size_t len = strlen(h->line);
	char *end = NULL;

	if (!from || strncmp(from, h->line, len) != 0 || from[len] != ':')
		return h->keep_len;
	unsigned long long seen = strtoull(from + len + 1, &end, 10);
	if (*end || seen > h->said)
		return h->keep_len;
	return h->said - seen < h->keep_len ? (size_t)(h->said - seen) : h->keep_len;
}

/* What is in the buffer and not seen yet; where that begins, if V asked from where. */
static void viewer_begin(struct viewer *v)
{
	struct console_hub *h = v->hub;
	size_t len;
	char hello[DOC_UID_LEN + 80];
	AUTO(free) char *text = console_hub_text(h, missing(h, v->from), &len);

	v->has_begun = true;
	if (v->wants_place) {
		int n = snprintf(hello, sizeof(hello), "{\"line\":\"%s\",\"at\":%llu,\"until\":%llu}", h->line,
				 (unsigned long long)(h->said - (text ? len : 0)), (unsigned long long)h->said);
		(void)http_send(v->ws, hello, (size_t)n, true);
	}
	if (text && len)
		(void)http_send(v->ws, text, len, false);
	if (!h->socket_path[0])
		http_hang_up(v->ws, CLOSE_STOPPED, "the machine is not running");
}

void console_hub_open(struct console_hub *h, struct api_call *c)
{
	static const struct http_socket_ops ops = { .message = viewer_typed, .closed = viewer_closed };
	struct viewer *v = calloc(1, sizeof(*v));
	struct err err = ERR_INIT;

	if (!v) {
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	const char *seen = http_query(c->rq, "from");
	snprintf(v->from, sizeof(v->from), "%s", seen ? seen : "");
	v->wants_place = seen;
	v->hub = h;
	v->ws = auth_accept(c, &ops, v);
	if (!v->ws) {
		free(v);
		return;
	}
	v->next = h->viewers;
	h->viewers = v;
	hub_recall(h);
	if (h->is_recalled && !v->has_begun)
		viewer_begin(v);
}

/* --- life ---------------------------------------------------- */

int console_hub_new(struct console_hub **out, struct loop *l, struct works *writer, const char *log_path)
{
	struct console_hub *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->loop = l;
	h->fd = -1;
	h->said = CONSOLE_KEEP;         /* numbers for what is recalled */
	h->writer = writer;
	doc_new_uid(h->line);
	h->log_path = strdup(log_path);
	h->log = h->log_path ? spool_new(writer, log_path) : NULL;
	if (!h->log) {
		free(h->log_path);
		free(h);
		return -ENOMEM;
	}
	loop_timer_init(l, &h->retry, hub_connect);
	*out = h;
	return 0;
}

void console_hub_free(struct console_hub *h)
{
	if (!h)
		return;
	console_hub_detach(h);
	for (struct viewer *v = h->viewers; v; v = v->next) {
		v->hub = NULL;
		http_hang_up(v->ws, 1001, "the machine is gone");
	}
	if (h->recall)
		h->recall->hub = NULL;
	hub_answer_all(h);
	spool_free(h->log);
	free(h->log_path);
	free(h->keep);
	free(h);
}
