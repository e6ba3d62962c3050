/* SPDX-License-Identifier: Apache-2.0 */
#include "node/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "api/route.h"
#include "node/auth.h"
#include "node/doc.h"
#include "node/node.h"
#include "node/usage.h"
#include "util/checked.h"
#include "util/json.h"

enum { CLOSE_GONE = 4410, CLOSE_AWAY = 1001 };

struct stream {
	struct node *node;
	struct stream *next;
	struct http_socket *ws;
	struct store_watch watch;
	bool is_watching, wants_usage;
	struct api_user user;
};

static void stream_tell(struct store_watch *w, const struct store_event *e)
{
	struct stream *s = container_of(w, struct stream, watch);
	bool is_status = !strncmp(e->doc->key, "status/", 7);
	const char *key = is_status ? e->doc->key + 7 : e->doc->key;

	if (!auth_sees(s->node, &s->user, key))
		return;
	/* A status alone is half of a thing: what it belongs to is told with it. */
	const struct store_doc *d = is_status ? store_get(s->node->store, key) : e->doc;
	size_t view_len = 0;
	AUTO(free) char *view = d && !e->is_delete ? doc_view(s->node->store, d, &view_len) : NULL;
	char *text = NULL;

	if (is_status && e->is_delete)
		return;
	int n = asprintf(&text, "{\"revision\":%lld,\"type\":\"%s\",\"key\":\"%s\",\"document\":%s}",
			 (long long)e->revision,
			 e->is_delete ? "delete"
			 : is_status  ? "status"
				      : "put",
			 key, view ? view : "null");
	if (n > 0)
		(void)http_send(s->ws, text, (size_t)n, true);
	free(text);
}

static void stream_message(void *arg, const void *data, size_t len, bool is_text)
{
	(void)arg;
	(void)data;
	(void)len;
	(void)is_text;
}

static void stream_closed(void *arg)
{
	struct stream *s = arg;

	if (s->is_watching)
		store_watch_stop(&s->watch);
	for (struct stream **at = s->node ? &s->node->streams : NULL; at && *at; at = &(*at)->next) {
		if (*at == s) {
			*at = s->next;
			break;
		}
	}
	free(s);
}

static void tell_usage(struct stream *s)
{
	AUTO(json_decref) json_t *message = json_pack("{s:s, s:o*}", "type", "usage", "usage", usage_view(s->node, &s->user));
	AUTO(free) char *text = message ? json_dumps(message, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;

	if (text)
		(void)http_send(s->ws, text, strlen(text), true);
}

void events_tell_usage(struct node *n)
{
	for (struct stream *s = n->streams; s; s = s->next)
		if (s->is_watching && s->wants_usage)
			tell_usage(s);
}

void events_tell_node(struct node *n, const char *type, json_t *what)
{
	AUTO(json_decref) json_t *message = json_pack("{s:s, s:o*}", "type", type, type, what);
	AUTO(free) char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;

	for (struct stream *s = n->streams; s && text; s = s->next)
		if (s->is_watching && auth_role(n, &s->user, NULL) >= API_VIEWER)
			(void)http_send(s->ws, text, strlen(text), true);
}

void events_stream(struct api_call *c)
{
	static const struct http_socket_ops ops = { .message = stream_message, .closed = stream_closed };
	struct node *n = c->arg;
	const char *from = http_query(c->rq, "from");
	struct stream *s = calloc(1, sizeof(*s));
	struct err err = ERR_INIT;
	char hello[64];

	if (!s) {
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	s->node = n;
	s->next = n->streams;
	n->streams = s;
	s->watch = (struct store_watch){ .prefix = "", .fn = stream_tell };
	int64_t since = from ? strtoll(from, NULL, 10) : STORE_ANY;
	s->user = c->user;
	s->wants_usage = http_query(c->rq, "usage") != NULL;
	s->ws = auth_accept(c, &ops, s);
	if (!s->ws) {
		n->streams = s->next;
		free(s);
		return;
	}
	int len = snprintf(hello, sizeof(hello), "{\"revision\":%lld,\"type\":\"hello\"}",
			   (long long)store_revision(n->store));
	(void)http_send(s->ws, hello, (size_t)len, true);
	s->is_watching = !store_watch_start(n->store, &s->watch, since);
	if (!s->is_watching)
		http_hang_up(s->ws, CLOSE_GONE, "that is too long ago; list all and go on from there");
}

void events_close(struct node *n)
{
	for (struct stream *s = n->streams; s; s = s->next) {
		if (s->is_watching)
			store_watch_stop(&s->watch);
		s->is_watching = false;
		http_hang_up(s->ws, CLOSE_AWAY, "the daemon ends");
	}
}
