/* SPDX-License-Identifier: Apache-2.0 */
/* http_own.c - requests of the daemon's own, which come by no connection and whose answers go to a function. Loop thread. */
#include "api/http_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct http_request *http_own_new(const struct http_own *o)
{
	AUTO(http_request_free) struct http_request *rq = calloc(1, sizeof(*rq));
	size_t len = 1;

	if (!rq)
		return NULL;
	rq->reply_fd = -1;
	rq->own = *o;
	rq->method = o->method;
	rq->peer.is_unix = true;
	rq->path = strdup(o->path);
	for (unsigned i = 0; i < HTTP_OWN_QUERIES && o->query[i]; i++)
		len += strlen(o->query[i]) + 1;
	char *at = rq->query = calloc(1, len);
	for (unsigned i = 0; at && i < HTTP_OWN_QUERIES && o->query[i]; i++)
		at = stpcpy(at, o->query[i]) + 1;
	rq->body = o->body ? strdup(o->body) : NULL;
	rq->body_len = o->body ? strlen(o->body) : 0;
	rq->header[HTTP_IDEMPOTENCY_KEY] = o->key ? strdup(o->key) : NULL;
	/* Those were borrowed. */
	rq->own.path = rq->own.body = rq->own.key = NULL;
	memset(rq->own.query, 0, sizeof(rq->own.query));
	return !rq->path || !rq->query || (o->body && !rq->body) || (o->key && !rq->header[HTTP_IDEMPOTENCY_KEY]) ? NULL : take_ptr(&rq);
}

void http_own_answer(struct http_request *rq)
{
	rq->own.answered(rq->own.arg, rq->status, rq->reply, rq->reply_fd >= 0 ? 0 : (size_t)rq->reply_len);
	http_request_free(rq);
}
