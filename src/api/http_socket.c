/* SPDX-License-Identifier: Apache-2.0 */
/* http_socket.c - WebSockets. libwebsockets has answered the upgrade before the loop thread hears of it:
 * a refusal is therefore a close with code 1008 and the reason. */
#include "api/http_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "util/log.h"
#include "util/loop.h"

enum { CODE_POLICY = 1008, REASON_MAX = 123 };

struct message {
	struct message *next;
	struct http_socket *ws;
	size_t len;
	bool is_text;
	uint8_t data[];                 /* sent ones begin with LWS_PRE bytes of room */
};

struct http_socket {
	struct http_post post;          /* first */
	struct http_server *s;
	struct lws *wsi;                /* service thread */
	const struct http_socket_ops *ops;      /* loop thread; NULL: not accepted */
	void *arg;
	struct http_request *rq;        /* until it is accepted or refused */
	struct message *partial;        /* service thread: what has come of a message */
	size_t partial_cap;
	bool is_gone, is_told;          /* loop thread: the client has gone; CLOSED has run */
	atomic_uint refs;               /* one until CLOSED has run, one while posted */
	pthread_mutex_t lock;           /* guards what follows */
	struct message *out, **out_end;
	size_t unsent, unread;          /* bytes queued to be sent; at the loop */
	bool is_stopped;                /* reading, because of UNREAD */
	bool is_low_due;                /* tell DRAINED when it has been sent */
	bool is_dropped;                /* to be closed without a word */
	int close_code;
	char close_reason[REASON_MAX + 1];
};

static void socket_unref(struct http_socket *ws)
{
	if (atomic_fetch_sub(&ws->refs, 1) > 1)
		return;
	while (ws->out) {
		struct message *m = ws->out;

		ws->out = m->next;
		free(m);
	}
	http_alive(ws->s, -1);
	free(ws->partial);
	pthread_mutex_destroy(&ws->lock);
	free(ws);
}

static void socket_post(struct http_socket *ws)
{
	atomic_fetch_add(&ws->refs, 1);
	if (!http_post(ws->s, &ws->post))
		socket_unref(ws);
}

/* --- loop thread ------------------------------------------------------------------------------------------- */

/* Bytes of TEXT, at most MOST, that end with a character: a reason has to be UTF-8 (RFC 6455, 5.5.1). */
static size_t whole_characters(const char *text, size_t most)
{
	size_t len = strnlen(text, most + 1);

	if (len > most)
		for (len = most; len && ((unsigned char)text[len] & 0xc0) == 0x80; len--)
			;
	return len;
}

void http_hang_up(struct http_socket *ws, int code, const char *reason)
{
	pthread_mutex_lock(&ws->lock);
	if (!ws->close_code) {
		ws->close_code = code;
		snprintf(ws->close_reason, sizeof(ws->close_reason), "%.*s", (int)whole_characters(reason, REASON_MAX), reason);
	}
	pthread_mutex_unlock(&ws->lock);
	if (!ws->is_gone)
		socket_post(ws);
}

int64_t http_send(struct http_socket *ws, const void *data, size_t len, bool is_text)
{
	struct message *m = ws->is_gone ? NULL : malloc(sizeof(*m) + LWS_PRE + len);
	int64_t unsent = -ENOBUFS;

	if (ws->is_gone)
		return 0;
	if (!m)
		return -ENOMEM;
	*m = (struct message){ .len = len, .is_text = is_text };
	memcpy(m->data + LWS_PRE, data, len);
	pthread_mutex_lock(&ws->lock);
	if (ws->unsent + len <= HTTP_UNSENT_MAX && !ws->close_code) {
		*ws->out_end = m;
		ws->out_end = &m->next;
		ws->unsent += len;
		ws->is_low_due = true;
		unsent = (int64_t)ws->unsent;
		m = NULL;
	}
	ws->is_dropped |= unsent < 0;
	pthread_mutex_unlock(&ws->lock);
	free(m);
	socket_post(ws);
	return unsent;
}

static void arrive(void *arg)
{
	struct message *m = arg;
	struct http_socket *ws = m->ws;
	bool goes_on;

	if (ws->ops && !ws->is_told)
		ws->ops->message(ws->arg, m->data, m->len, m->is_text);
	pthread_mutex_lock(&ws->lock);
	ws->unread -= m->len + 1;
	goes_on = ws->is_stopped && !ws->unread;
	pthread_mutex_unlock(&ws->lock);
	free(m);
	if (goes_on && !ws->is_gone)
		socket_post(ws);
}

static void drained(void *arg)
{
	struct http_socket *ws = arg;

	if (ws->ops && ws->ops->drained && !ws->is_told)
		ws->ops->drained(ws->arg);
}

static void end_socket(struct http_socket *ws)
{
	ws->is_told = true;
	if (ws->ops)
		ws->ops->closed(ws->arg);
	socket_unref(ws);
}

/* The client has gone. Whoever still decides about its request gets CLOSED after accepting it. */
static void closed(void *arg)
{
	struct http_socket *ws = arg;

	ws->is_gone = true;
	if (!ws->rq)
		end_socket(ws);
}

static void closed_late(void *arg)
{
	end_socket(arg);
}

struct http_socket *http_accept(struct http_request *rq, const struct http_socket_ops *ops, void *arg)
{
	struct http_socket *ws = rq->socket;

	ws->ops = ops;
	ws->arg = arg;
	ws->rq = NULL;
	http_request_free(rq);
	if (ws->is_gone && loop_call(ws->s->loop, closed_late, ws) < 0)
		log_error("out of memory: a closed connection stays");
	return ws;
}

void http_socket_refuse(struct http_request *rq)
{
	struct http_socket *ws = rq->socket;

	ws->rq = NULL;
	if (ws->is_gone)
		end_socket(ws);
	else
		http_hang_up(ws, CODE_POLICY, rq->reply ? rq->reply : "refused");
	http_request_free(rq);
}

static void arrive_request(void *arg)
{
	struct http_socket *ws = arg;

	ws->s->request(ws->s->arg, ws->rq);
}

/* --- service thread ------------------------------------------------------------------------------------------ */

static void socket_go_on(struct http_socket *ws)
{
	pthread_mutex_lock(&ws->lock);
	bool goes_on = ws->is_stopped && !ws->unread;

	bool is_dropped = ws->is_dropped;

	ws->is_stopped &= !goes_on;
	pthread_mutex_unlock(&ws->lock);
	if (is_dropped) {               /* it may never be writable again */
		lws_set_timeout(ws->wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_ASYNC);
		return;
	}
	if (goes_on)
		lws_rx_flow_control(ws->wsi, 1);
	lws_callback_on_writable(ws->wsi);
}

static void posted(struct http_post *p)
{
	struct http_socket *ws = (struct http_socket *)p;

	if (ws->wsi)
		socket_go_on(ws);
	socket_unref(ws);
}

struct http_socket *http_socket_new(struct http_request *rq)
{
	struct http_socket *ws = calloc(1, sizeof(*ws));

	if (!ws)
		return NULL;
	ws->post.run = posted;
	ws->s = rq->s;
	ws->wsi = rq->wsi;
	ws->rq = rq;
	ws->out_end = &ws->out;
	atomic_init(&ws->refs, 1);
	rq->socket = ws;
	pthread_mutex_init(&ws->lock, NULL);
	http_alive(ws->s, 1);
	if (!loop_call(ws->s->loop, arrive_request, ws))
		return ws;
	socket_unref(ws);
	return NULL;
}

/* A whole message goes to the loop. */
static bool deliver(struct http_socket *ws, struct lws *wsi)
{
	struct message *m = ws->partial;
	bool is_full;

	ws->partial = NULL;
	ws->partial_cap = 0;
	m->ws = ws;
	m->is_text = !lws_frame_is_binary(wsi);
	pthread_mutex_lock(&ws->lock);
	ws->unread += m->len + 1;
	is_full = ws->unread > HTTP_MESSAGE_MAX;
	ws->is_stopped |= is_full;
	pthread_mutex_unlock(&ws->lock);
	if (is_full)
		lws_rx_flow_control(wsi, 0);
	if (!loop_call(ws->s->loop, arrive, m))
		return true;
	free(m);
	return false;
}

bool http_socket_received(struct http_socket *ws, struct lws *wsi, const void *in, size_t len)
{
	size_t have = ws->partial ? ws->partial->len : 0;

	if (len > HTTP_MESSAGE_MAX - have) {
		lws_close_reason(wsi, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, NULL, 0);
		return false;
	}
	if (!ws->partial || have + len > ws->partial_cap) {
		size_t cap = 2 * (have + len) + 64;
		struct message *grown = realloc(ws->partial, sizeof(*grown) + cap);

		if (!grown)
			return false;
		if (!ws->partial)
			*grown = (struct message){ .len = 0 };
		ws->partial = grown;
		ws->partial_cap = cap;
	}
	memcpy(ws->partial->data + have, in, len);
	ws->partial->len += len;
	return !lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi) || deliver(ws, wsi);
}

bool http_socket_write(struct http_socket *ws, struct lws *wsi)
{
	bool is_low, is_more;

	pthread_mutex_lock(&ws->lock);
	struct message *m = ws->out;

	if (m) {
		ws->out = m->next;
		if (!ws->out)
			ws->out_end = &ws->out;
		ws->unsent -= m->len;
	}
	is_more = ws->out || ws->close_code;
	is_low = m && ws->is_low_due && ws->unsent < HTTP_UNSENT_MAX / 2;
	ws->is_low_due &= !is_low;
	int code = m ? 0 : ws->close_code;

	pthread_mutex_unlock(&ws->lock);
	if (code) {
		lws_close_reason(wsi, (enum lws_close_status)code, (unsigned char *)ws->close_reason, strlen(ws->close_reason));
		return false;
	}
	int sent = m ? lws_write(wsi, m->data + LWS_PRE, m->len, m->is_text ? LWS_WRITE_TEXT : LWS_WRITE_BINARY) : 0;

	free(m);
	if (is_low)
		loop_call(ws->s->loop, drained, ws);
	if (is_more)
		lws_callback_on_writable(wsi);
	return sent >= 0;
}

void http_socket_gone(struct http_socket *ws)
{
	ws->wsi = NULL;
	loop_call(ws->s->loop, closed, ws);
}
