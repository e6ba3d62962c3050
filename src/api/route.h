/* SPDX-License-Identifier: Apache-2.0 */
/* route.h - the one table of what the API offers: dispatcher, authorization, checks of what comes in, and
 * the OpenAPI document all read it. Loop thread only. */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include "api/http.h"
#include "api/schema.h"
#include "util/err.h"

enum { API_PARAMS_MAX = 3, API_PARAM_LEN = 256 };

/* Who asks, and what that allows; each role has all before it. */
enum api_role { API_ANYONE, API_VIEWER, API_OPERATOR, API_ADMIN };

struct api_user {
	enum api_role role;
	char name[64];          /* for the audit log */
};

/* One request on its way. The handler's until it has answered. */
struct api_call {
	struct http_request *rq;
	void *arg;              /* the owner's, from struct api_config */
	const struct route *route;
	struct api_user user;
	char param[API_PARAMS_MAX][API_PARAM_LEN];      /* what stood in place of {name} in the path, in order */
	json_t *body;           /* checked and filled in; NULL when the route takes none */
	bool is_dry_run;        /* ?dry-run: check and plan, change nothing */
};

struct route {
	enum http_method method;
	const char *path;       /* "/v1/instances/{name}"; a {part} is one segment */
	const char *operation;  /* "getInstance" */
	const char *summary;    /* one line */
	enum api_role role;     /* needed at least */
	const struct schema *in;        /* of the body; NULL: none */
	bool is_patch;          /* IN is checked as a patch */
	bool is_socket;         /* answers with a WebSocket */
	const struct schema *out;       /* of the answer; NULL: any or none */
	int status;             /* on success */
	const char *query;      /* parameters: "name=help|name=help"; NULL: none */
	void (*run)(struct api_call *c);        /* ends in one of the api_*() below, later or at once */
};

struct api_config {
	const struct route *routes;     /* ends with a NULL path */
	const char *title, *version;    /* for the OpenAPI document */
	void *arg;
	/* Who is it? False: nobody knows; the reason for the client goes to ERR. */
	bool (*identify)(void *arg, struct http_request *rq, struct api_user *out, struct err *err);
};

/* For http_config.request, with the config as its ARG. */
void api_request(void *config, struct http_request *rq);

/* Each of these answers and frees C. DOC is taken. */
void api_reply(struct api_call *c, int status, json_t *doc);
/* The same with a document that is text already, from malloc(), and taken. */
void api_reply_text(struct api_call *c, int status, char *text, size_t len);
/* And one that is no document, of media type TYPE. */
void api_reply_bytes(struct api_call *c, int status, const char *type, char *data, size_t len);
/* R is the negative errno that belongs to the sentence in ERR; FIELD is the path of the wrong one, or NULL. */
void api_fail(struct api_call *c, int r, const char *field, const struct err *err);
/* The request becomes a WebSocket. */
struct http_socket *api_accept(struct api_call *c, const struct http_socket_ops *ops, void *arg);

/* The document of the whole table. New reference. */
json_t *api_openapi(const struct api_config *c);

#endif
