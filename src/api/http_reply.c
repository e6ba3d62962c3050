/* SPDX-License-Identifier: Apache-2.0 */
/* http_reply.c - answering a request: given on the loop thread, sent on the service thread. */
#include "api/http_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/types.h>
#include "util/log.h"

/* --- loop thread ------------------------------------------------------------------------------------- */

void http_set_header(struct http_request *rq, const char *name, const char *value)
{
	unsigned n = rq->n_reply_headers;

	if (n == HTTP_REPLY_HEADERS_MAX)
		return;
	rq->reply_header[n].name = malloc(strlen(name) + 2);
	rq->reply_header[n].value = strdup(value);
	if (rq->reply_header[n].name)
		strcpy(stpcpy(rq->reply_header[n].name, name), ":");
	rq->n_reply_headers++;
	if (!rq->reply_header[n].name || !rq->reply_header[n].value)
		log_error("out of memory: an answer lacks its header %s", name);
}

static void answer(struct http_request *rq, int status, const char *type)
{
	rq->status = status;
	rq->type = type ? strdup(type) : NULL;
	rq->is_head = rq->method == HTTP_HEAD;
	if (rq->own.answered)
		http_own_answer(rq);
	else if (rq->wants_socket)
		http_socket_refuse(rq);
	else
		http_post(rq->s, &rq->post);
}

void http_reply_take(struct http_request *rq, int status, const char *type, char *body, size_t len)
{
	rq->reply = body;
	rq->reply_len = len;
	answer(rq, status, type);
}

void http_reply(struct http_request *rq, int status, const char *type, const void *body, size_t len)
{
	char *copy = malloc(len + 1);

	if (!copy) {
		http_reply_take(rq, 500, NULL, NULL, 0);
		return;
	}
	if (len)
		memcpy(copy, body, len);
	copy[len] = 0;
	http_reply_take(rq, status, type, copy, len);
}

void http_reply_file(struct http_request *rq, int status, const char *type, int fd, uint64_t off, uint64_t len)
{
	rq->reply_fd = fd;
	rq->reply_off = off;
	rq->reply_len = len;
	answer(rq, status, type);
}

/* --- service thread -------------------------------------------------------------------------------------- */

static bool is_unread(const struct http_request *rq)
{
	return rq->has_no_end || (rq->is_long && !rq->is_body_over);
}

static bool send_headers(struct http_request *rq, struct lws *wsi)
{
	uint8_t buf[LWS_PRE + HTTP_HEADERS_MAX], *start = buf + LWS_PRE, *p = start, *end = buf + sizeof(buf) - 1;

	if (lws_add_http_common_headers(wsi, (unsigned)rq->status | LWSAHH_FLAG_NO_SERVER_NAME, rq->type,
					rq->status == 204 || rq->status == 304 ? 0 : rq->reply_len, &p, end))
		return false;
	if (is_unread(rq) && lws_add_http_header_by_token(wsi, WSI_TOKEN_CONNECTION, (const uint8_t *)"close", 5, &p, end))
		return false;
	for (unsigned i = 0; i < rq->n_reply_headers; i++) {
		const char *name = rq->reply_header[i].name, *value = rq->reply_header[i].value;

		if (name && value && lws_add_http_header_by_name(wsi, (const uint8_t *)name, (const uint8_t *)value,
								 (int)strlen(value), &p, end))
			return false;
	}
	return !lws_finalize_write_http_header(wsi, start, &p, end);
}

/* The next N bytes of the body to BUF; false: they cannot be read any more. */
static bool next_part(struct http_request *rq, uint8_t *buf, size_t n)
{
	if (rq->reply_fd < 0) {
		memcpy(buf, rq->reply + rq->sent, n);
		return true;
	}
	for (size_t got = 0; got < n; ) {
		ssize_t r = pread(rq->reply_fd, buf + got, n - got, (off_t)(rq->reply_off + rq->sent + got));

		if (r <= 0 && !(r < 0 && errno == EINTR))
			return false;
		got += r > 0 ? (size_t)r : 0;
	}
	return true;
}

bool http_reply_write(struct http_conn *c, struct lws *wsi)
{
	struct http_request *rq = c->rq;
	uint8_t buf[LWS_PRE + HTTP_CHUNK];

	if (!rq || !rq->is_answered || rq->is_lingering)
		return false;
	bool has_body = rq->reply_len && !rq->is_head && rq->status != 204 && rq->status != 304;

	if (!rq->has_sent_headers) {
		if (!send_headers(rq, wsi))
			return true;
		rq->has_sent_headers = true;
		if (has_body) {
			lws_callback_on_writable(wsi);
			return false;
		}
	}
	if (has_body) {
		uint64_t left = rq->reply_len - rq->sent;
		size_t n = left < HTTP_CHUNK ? (size_t)left : HTTP_CHUNK;
		bool is_last = n == left;

		if (!next_part(rq, buf + LWS_PRE, n) ||
		    lws_write(wsi, buf + LWS_PRE, n, is_last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < 0)
			return true;
		rq->sent += n;
		if (!is_last) {
			lws_callback_on_writable(wsi);
			return false;
		}
	}
	/* Of a long body that was refused there is more to come. A connection that is closed at once would take the answer with it, for
	 * clients that send before they read. */
	if (is_unread(rq)) {
		rq->is_lingering = true;
		lws_set_timeout(wsi, PENDING_TIMEOUT_HTTP_CONTENT, HTTP_LINGER_SECONDS);
		return false;
	}
	c->rq = NULL;
	http_request_free(rq);
	return lws_http_transaction_completed(wsi);
}
