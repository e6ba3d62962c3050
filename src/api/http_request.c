/* SPDX-License-Identifier: Apache-2.0 */
/* http_request.c - receiving requests and their bodies (service thread), and what a handler asks them. */
#include "api/http_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "api/host.h"
#include "util/checked.h"
#include "util/loop.h"

/* --- a request: service thread ----------------------------------------------------------------------------- */

void http_request_free(struct http_request *rq)
{
	if (!rq)
		return;
	if (rq->s)
		http_alive(rq->s, -1);
	for (unsigned i = 0; i < HTTP_N_HEADERS; i++)
		free(rq->header[i]);
	for (unsigned i = 0; i < rq->n_reply_headers; i++) {
		free(rq->reply_header[i].name);
		free(rq->reply_header[i].value);
	}
	if (rq->reply_fd >= 0)
		close(rq->reply_fd);
	http_receiver_free(rq->receiver);
	free(rq->path);
	free(rq->query);
	free(rq->body);
	free(rq->type);
	free(rq->reply);
	free(rq);
}

static void peer_of(struct http_peer *p, struct lws *wsi)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct sockaddr_storage sa;
	socklen_t sa_len = sizeof(sa);
	int fd = lws_get_socket_fd(lws_get_network_wsi(wsi));

	if (!getsockname(fd, (struct sockaddr *)&sa, &sa_len) && sa.ss_family == AF_UNIX &&
	    !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len)) {
		*p = (struct http_peer){ .is_unix = true, .uid = cred.uid, .gid = cred.gid, .pid = cred.pid };
		len = sizeof(p->groups);
		if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, p->groups, &len))
			p->n_groups = (unsigned)(len / sizeof(p->groups[0]));
		return;
	}
	lws_get_peer_simple(wsi, p->address, sizeof(p->address));
}

static bool copy_header(struct http_request *rq, enum http_header h, enum lws_token_indexes token)
{
	int len = lws_hdr_total_length(rq->wsi, token);

	if (len <= 0)
		return true;
	rq->header[h] = malloc((size_t)len + 1);
	return rq->header[h] && lws_hdr_copy(rq->wsi, rq->header[h], len + 1, token) >= 0;
}

static bool copy_custom_header(struct http_request *rq, enum http_header h, const char *name)
{
	int len = lws_hdr_custom_length(rq->wsi, name, (int)strlen(name));

	if (len <= 0)
		return true;
	rq->header[h] = malloc((size_t)len + 1);
	return rq->header[h] && lws_hdr_custom_copy(rq->wsi, rq->header[h], len + 1, name, (int)strlen(name)) >= 0;
}

static bool copy_headers(struct http_request *rq)
{
	static const struct { enum http_header h; enum lws_token_indexes token; } known[] = {
		{ HTTP_AUTHORIZATION, WSI_TOKEN_HTTP_AUTHORIZATION }, { HTTP_CONTENT_TYPE, WSI_TOKEN_HTTP_CONTENT_TYPE },
		{ HTTP_COOKIE, WSI_TOKEN_HTTP_COOKIE }, { HTTP_HOST, WSI_TOKEN_HOST },
		{ HTTP_IF_MATCH, WSI_TOKEN_HTTP_IF_MATCH }, { HTTP_IF_NONE_MATCH, WSI_TOKEN_HTTP_IF_NONE_MATCH },
		{ HTTP_IF_RANGE, WSI_TOKEN_HTTP_IF_RANGE }, { HTTP_ORIGIN, WSI_TOKEN_ORIGIN }, { HTTP_RANGE, WSI_TOKEN_HTTP_RANGE },
		{ HTTP_CONTENT_RANGE, WSI_TOKEN_HTTP_CONTENT_RANGE },
		{ HTTP_ACCEPT_ENCODING, WSI_TOKEN_HTTP_ACCEPT_ENCODING },
	};

	for (unsigned i = 0; i < ARRAY_LEN(known); i++)
		if (!copy_header(rq, known[i].h, known[i].token))
			return false;
	return copy_custom_header(rq, HTTP_IDEMPOTENCY_KEY, "idempotency-key:") &&
	       copy_custom_header(rq, HTTP_CSRF, "x-viv-csrf:");
}

/* All parameters, one after the other. libwebsockets has decoded them; what is empty, between two '&' or at the end, is none, and it makes a '/'
 * of an empty one at the end, as it does of an empty path. */
static bool copy_query(struct http_request *rq)
{
	int total = lws_hdr_total_length(rq->wsi, WSI_TOKEN_HTTP_URI_ARGS), len;
	size_t cap = (total > 0 ? (size_t)total : 0) + 64, at = 0;

	rq->query = malloc(cap + 1);
	if (!rq->query)
		return false;
	for (int n = 0; at < cap; n++) {
		len = lws_hdr_copy_fragment(rq->wsi, rq->query + at, (int)(cap - at), WSI_TOKEN_HTTP_URI_ARGS, n);
		if (len < 0)
			break;
		bool is_empty = !len || (!strcmp(rq->query + at, "/") && lws_hdr_fragment_length(rq->wsi, WSI_TOKEN_HTTP_URI_ARGS, n + 1) <= 0);
		at += is_empty ? 0 : (size_t)len + 1;
	}
	rq->query[at < cap ? at : cap] = 0;
	return true;
}

/* Of digits alone: whoever passes requests on must not see another end of the body than we do. */
static uint64_t content_length(struct lws *wsi, const char **malformed)
{
	char text[24];
	int len = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH);

	if (len <= 0)
		return 0;
	if (len >= (int)sizeof(text) || lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_HTTP_CONTENT_LENGTH) <= 0 ||
	    strspn(text, "0123456789") != strlen(text) || strlen(text) > 18) {
		*malformed = "the header 'Content-Length' has to be there once, and to be a number";
		return 0;
	}
	return strtoull(text, NULL, 10);
}

static void refuse(struct http_request *rq, int r, const char *why)
{
	rq->malformed = why;
	rq->malformed_as = r;
	rq->has_no_end = true;
	rq->content_length = 0;
}

/* What the library would take for the body is not what the client, or a proxy before us, does (RFC 9112, 6.1 and 6.3): the request is
 * refused, and nothing behind it is read as another one. */
static void check_end(struct http_request *rq, struct lws *wsi)
{
	bool posts = rq->method == HTTP_POST || rq->method == HTTP_PUT || rq->method == HTTP_PATCH;
	uint64_t len = content_length(wsi, &rq->malformed);

	if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0)
		rq->malformed = "'Transfer-Encoding' is not understood here: send the body as it is, with 'Content-Length'";
	if (!rq->malformed && (posts || rq->method == HTTP_DELETE))
		rq->content_length = len;
	if (rq->malformed)
		rq->malformed_as = -EBADMSG;
	/* It has no body then (RFC 9112, 6.3), but the library takes what follows for one: the connection ends with the answer. */
	rq->has_no_end = rq->malformed || (posts && lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) <= 0);
}

/* A proxy before us that takes another one of two hosts, or that makes something else of what is none, would send what belongs elsewhere here
 * (RFC 9112, 3.2). */
static void check_host(struct http_request *rq, struct lws *wsi)
{
	char *host = rq->header[HTTP_HOST];
	char version[16] = "", other[2];
	bool is_old = lws_hdr_copy(wsi, version, sizeof(version), WSI_TOKEN_HTTP) > 0 && !strcmp(version, "HTTP/1.0");

	if (!host && is_old)
		return;
	/* White space at the end is none of it (RFC 9112, 5), and the library leaves it there. */
	for (size_t n = host ? strlen(host) : 0; n && strchr(" \t", host[n - 1]); n--)
		host[n - 1] = 0;
	/* An empty one of two is there as well: only what is not there has no length. */
	if (!host || !http_host_is_valid(host) || lws_hdr_copy_fragment(wsi, other, sizeof(other), WSI_TOKEN_HOST, 1) >= 0 ||
	    lws_hdr_fragment_length(wsi, WSI_TOKEN_HOST, 1) > 0)
		refuse(rq, -EBADMSG, "the header 'Host' has to be there once, and to name a host as the URL does: 'localhost', 'node.example.org:8443'");
}

/* The library has cut off what is longer than http_token_limits() says, so what reaches a limit was longer. */
static void check_length(struct http_request *rq, struct lws *wsi, int uri_len)
{
	static const char *const custom[] = { "idempotency-key:", "x-viv-csrf:" };
	int target = uri_len + lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_URI_ARGS), headers = -target;

	for (int t = 0; t < WSI_TOKEN_COUNT; t++)
		headers += lws_hdr_total_length(wsi, (enum lws_token_indexes)t);
	for (unsigned i = 0; i < ARRAY_LEN(custom); i++) {
		int len = lws_hdr_custom_length(wsi, custom[i], (int)strlen(custom[i]));

		headers += len > 0 ? len : 0;
	}
	if (headers >= HTTP_HEADERS_MAX)
		refuse(rq, -ENOBUFS, "the headers of the request are too long: at most 16 KiB");
	if (target >= HTTP_TARGET_MAX)
		refuse(rq, -EMSGSIZE, "path and query of the request are too long: at most 14 KiB");
}

static enum http_method method_of(int lws_method)
{
	switch (lws_method) {
	case LWSHUMETH_GET: return HTTP_GET;
	case LWSHUMETH_HEAD: return HTTP_HEAD;
	case LWSHUMETH_POST: return HTTP_POST;
	case LWSHUMETH_PUT: return HTTP_PUT;
	case LWSHUMETH_PATCH: return HTTP_PATCH;
	case LWSHUMETH_DELETE: return HTTP_DELETE;
	case LWSHUMETH_OPTIONS: return HTTP_OPTIONS;
	default: return HTTP_OTHER;
	}
}

static void answered(struct http_post *p);

struct http_request *http_request_new(struct http_server *s, struct lws *wsi)
{
	struct http_request *fresh = calloc(1, sizeof(*fresh));
	char *uri;
	int uri_len, method = lws_http_get_uri_and_method(wsi, &uri, &uri_len);

	if (!fresh)
		return NULL;
	fresh->s = s;
	fresh->wsi = wsi;
	fresh->reply_fd = -1;
	fresh->post.run = answered;
	http_alive(s, 1);
	AUTO(http_request_free) struct http_request *rq = fresh;

	rq->method = method_of(method);
	rq->path = method < 0 ? NULL : strndup(uri, (size_t)uri_len);
	if (!rq->path || !copy_headers(rq) || !copy_query(rq))
		return NULL;
	check_end(rq, wsi);
	check_host(rq, wsi);
	check_length(rq, wsi, uri_len);
	peer_of(&rq->peer, wsi);
	return take_ptr(&rq);
}

/* Loop thread. */
static void arrive(void *arg)
{
	struct http_request *rq = arg;

	rq->s->request(rq->s->arg, rq);
}

static bool hand_over(struct http_request *rq)
{
	rq->is_at_loop = true;
	if (!loop_call(rq->s->loop, arrive, rq))
		return true;
	rq->is_at_loop = false;
	return false;
}

bool http_begin_request(struct http_conn *c, struct http_server *s, struct lws *wsi)
{
	c->rq = http_request_new(s, wsi);
	if (!c->rq)
		return false;
	if (c->rq->content_length > HTTP_BODY_MAX) {
		c->rq->is_long = true;
		lws_rx_flow_control(wsi, 0);
		return hand_over(c->rq);
	}
	return c->rq->content_length || hand_over(c->rq);
}

/* --- bodies: service thread ------------------------------------------------------------------------------------ */

static bool append_body(struct http_request *rq, const void *in, size_t len)
{
	if (!len)
		return true;            /* "Content-Length: 0" */
	if (len > HTTP_BODY_MAX - rq->body_len)
		return false;
	if (rq->body_len + len + 1 > rq->body_cap) {
		size_t cap = rq->content_length <= HTTP_BODY_MAX ? rq->content_length + 1 : HTTP_BODY_MAX + 1;
		char *grown = realloc(rq->body, cap < rq->body_len + len + 1 ? rq->body_len + len + 1 : cap);

		if (!grown)
			return false;
		rq->body = grown;
		rq->body_cap = cap < rq->body_len + len + 1 ? rq->body_len + len + 1 : cap;
	}
	memcpy(rq->body + rq->body_len, in, len);
	rq->body_len += len;
	rq->body[rq->body_len] = 0;
	return true;
}

bool http_body_part(struct http_request *rq, const void *in, size_t len)
{
	if (rq && rq->is_receiving)
		return http_receiver_push(rq->receiver, in, len);
	if (rq && (rq->is_lingering || rq->has_no_end))
		return (rq->lingered += len) <= HTTP_LINGER_MAX;
	if (!rq || rq->is_answered)
		return true;            /* the rest is thrown away */
	return append_body(rq, in, len);        /* of a long one: what was read before reading was stopped */
}

bool http_body_end(struct http_request *rq)
{
	if (rq && rq->is_lingering)
		return false;           /* now the connection may go */
	if (rq)
		rq->is_body_over = true;
	if (rq && rq->is_receiving)
		http_receiver_end(rq->receiver, 0);
	if (!rq || rq->is_receiving || rq->is_at_loop || rq->is_answered)
		return true;
	return rq->is_long || hand_over(rq);
}

/* The answer, or the wish to receive, has come from the loop thread. */
static void answered(struct http_post *p)
{
	struct http_request *rq = (struct http_request *)p;

	rq->is_at_loop = false;
	if (rq->receiver && http_receiver_begin(rq->receiver)) {
		rq->is_receiving = true;
		return;
	}
	rq->is_receiving = false;
	rq->is_answered = true;
	if (!rq->wsi) {
		http_request_free(rq);
		return;
	}
	lws_rx_flow_control(rq->wsi, 1);
	lws_callback_on_writable(rq->wsi);
}

void http_client_gone(struct http_conn *c)
{
	struct http_request *rq = c->rq;

	c->rq = NULL;
	if (!rq)
		return;
	rq->wsi = NULL;
	if (rq->is_receiving)
		http_receiver_end(rq->receiver, -ECONNRESET);
	else if (!rq->is_at_loop)
		http_request_free(rq);
	/* Else answered() frees it. */
}

/* --- what a handler asks ------------------------------------------------------------------------------------------ */

enum http_method http_method(const struct http_request *rq) { return rq->method; }
const char *http_path(const struct http_request *rq) { return rq->path; }
const char *http_get_header(const struct http_request *rq, enum http_header h) { return rq->header[h]; }
const struct http_peer *http_get_peer(const struct http_request *rq) { return &rq->peer; }
bool http_wants_socket(const struct http_request *rq) { return rq->wants_socket; }
bool http_is_long(const struct http_request *rq) { return rq->is_long; }
uint64_t http_content_length(const struct http_request *rq) { return rq->content_length; }

int http_malformed(const struct http_request *rq, const char **why)
{
	*why = rq->malformed;
	return rq->malformed ? rq->malformed_as : 0;
}

const void *http_body(const struct http_request *rq, size_t *len)
{
	*len = rq->body_len;
	return rq->body ? rq->body : "";
}

const char *http_query_next(const struct http_request *rq, const char *before)
{
	const char *next = before ? before + strlen(before) + 1 : rq->query;

	return *next ? next : NULL;
}

const char *http_query(const struct http_request *rq, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = NULL; (p = http_query_next(rq, p));)
		if (!strncmp(p, name, len) && (p[len] == '=' || !p[len]))
			return p[len] ? p + len + 1 : p + len;
	return NULL;
}
