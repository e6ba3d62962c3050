/* SPDX-License-Identifier: Apache-2.0 */
#include "node/metadata_answer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "node/doc.h"
#include "node/metadata.h"
#include "node/metadata_server.h"
#include "node/node.h"
#include "util/loop.h"

enum { OK = 200, BAD_REQUEST = 400, UNAUTHORIZED = 401, FORBIDDEN = 403, NOT_FOUND = 404, NOT_ALLOWED = 405, UNAVAILABLE = 503 };

static const char token_path[] = "/latest/api/token";

static const char *text_of(const json_t *object, const char *name)
{
	const char *s = json_string_value(json_object_get(object, name));

	return s ? s : "";
}

static void give_token(const struct metadata_caller *c, const struct metadata_request *rq, struct metadata_reply *reply)
{
	/* Who asks for somebody else is a proxy that can be talked into it. */
	reply->status = strcmp(rq->path, token_path) != 0 ? NOT_ALLOWED : rq->is_forwarded ? FORBIDDEN : rq->ttl ? OK : BAD_REQUEST;
	if (reply->status != OK)
		return;
	reply->body = malloc(METADATA_TOKEN_LEN + 1);
	if (!reply->body) {
		reply->status = UNAVAILABLE;
		return;
	}
	metadata_token(reply->body, c->key, c->uid, loop_after_ms((uint64_t)rq->ttl * 1000));
	reply->len = METADATA_TOKEN_LEN;
	reply->ttl = rq->ttl;
}

static void tell(const struct metadata_caller *c, const json_t *doc, const struct metadata_request *rq, struct metadata_reply *reply)
{
	int r = c->get(c->arg, doc, rq->path, &reply->body, &reply->len);

	reply->status = !r ? OK : r == -ENOENT ? NOT_FOUND : UNAVAILABLE;
}

void metadata_answer(const struct metadata_caller *c, const struct metadata_request *rq, struct metadata_reply *reply)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "instance", c->project, c->instance);
	AUTO(json_decref) json_t *doc = doc_get(c->node->store, key, NULL);
	const char *way = text_of(json_object_get(doc, "spec"), "metadata");

	if (strcmp(text_of(doc, "uid"), c->uid) != 0)
		reply->status = NOT_FOUND;
	else if (!strcmp(way, "off"))
		reply->status = FORBIDDEN;
	else if (rq->method == METADATA_PUT)
		give_token(c, rq, reply);
	else if (rq->method == METADATA_OTHER)
		reply->status = NOT_ALLOWED;
	else if (rq->has_token ? !metadata_token_holds(rq->token, c->key, c->uid, loop_now_ns()) : !strcmp(way, "token"))
		reply->status = UNAUTHORIZED;
	else
		tell(c, doc, rq, reply);
}
