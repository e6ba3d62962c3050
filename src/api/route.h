/* SPDX-License-Identifier: Apache-2.0 */
/* route.h - the one table of what the API offers: dispatcher, authorization, checks of what comes in, and
 * the OpenAPI document all read it. Loop thread only. */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include "api/http.h"
#include "api/schema.h"
#include "util/err.h"

enum { API_PARAMS_MAX = 3, API_PARAM_LEN = 256 };

/* What may be done; each role has all before it. */
enum api_role { API_ANYONE, API_VIEWER, API_OPERATOR, API_ADMIN };
/* Where a route needs its role. */
enum api_scope {
	API_PROJECT,            /* in the project of the request */
	API_NODE,               /* on the node, and so in all its projects */
	API_SELF,               /* nowhere, when it is about the caller itself; about another user: API_ADMIN on the node */
};
enum api_via { API_VIA_NOTHING, API_VIA_UNIX, API_VIA_TOKEN, API_VIA_SESSION, API_VIA_TASK };

/* Who asks. */
struct api_user {
	enum api_role role;     /* in what the call is about */
	enum api_via via;       /* what has told who it is */
	char name[64];          /* "alice"; "unix:1000": no user of the platform's; "": nobody */
	char uid[20];           /* of the user's document; "" */
	char credential[200];   /* key of the token's or session's document; "" */
	/* VIA_TASK: what it might in the task's project, and on the node, when it began the task. Now it is not more than that. */
	enum api_role most, most_on_node;
};

/* What a request is answered with. */
struct api_answer {
	int status;
	const char *type;       /* of media; NULL: no body */
	char *data;             /* LEN bytes, owned */
	uint64_t len;
	bool is_file;           /* the LEN bytes of FD (owned) from OFF on instead */
	int fd;
	uint64_t off;
};

/* One request on its way. The handler's until it has answered. */
struct api_call {
	struct http_request *rq;
	void *arg;              /* the owner's, from struct api_config */
	const struct api_config *config;
	const struct route *route;      /* NULL: there is none */
	struct api_user user;
	char param[API_PARAMS_MAX][API_PARAM_LEN];      /* what stood in place of {name} in the path, in order */
	json_t *body;           /* checked and filled in; NULL when the route takes none */
	bool is_dry_run;        /* ?dry-run: check and plan, change nothing */
	const char *file;       /* for the audit log: what inside of the target it is done to; lasts as long as C; NULL */
	bool is_further;        /* and it goes on with that, as a piece of one deed */
	const char *how;        /* for the audit log: by which proof; static; NULL */
	struct api_answer answer;       /* for route.c */
	bool is_accepted;       /* it becomes a WebSocket now, which does not wait */
};

struct route {
	enum http_method method;
	const char *path;       /* "/v1/instances/{name}"; a {part} is one segment */
	const char *operation;  /* "getInstance" */
	const char *summary;    /* one line */
	enum api_role role;     /* needed at least */
	enum api_scope scope;   /* and where */
	const struct schema *in;        /* of the body; NULL: none */
	bool is_patch;          /* IN is checked as a patch */
	bool is_socket;         /* answers with a WebSocket */
	bool takes_bytes;       /* its body is no document, and as long as it likes: RUN receives it (http_receive()) */
	const struct schema *out;       /* of the answer; NULL: any or none */
	bool is_list;                   /* OUT is that of each of its 'items' */
	int status;             /* on success */
	const char *query;      /* parameters: "name=help|name=help"; NULL: none */
	void (*run)(struct api_call *c);        /* ends in one of the api_*() below, later or at once */
};

struct api_config {
	const struct route *routes;     /* ends with a NULL path */
	const char *title, *version;    /* for the OpenAPI document */
	void *arg;
	/* The one place that decides whether C, whose route is known and nothing else is looked at yet, may go on. Fills
	 * in C->user as far as it is known. 0; -EACCES: say who you are; -EPERM: you may not; each with its sentence. */
	int (*authorize)(void *arg, struct api_call *c, struct err *err);
	/* C is about to be answered with STATUS. True: not before api_go_on(C), which comes from the loop, not from in here; but what
	 * is C->is_accepted goes on by itself, and ends with this call. NULL: nobody wants to know. */
	bool (*answered)(void *arg, struct api_call *c, int status);
};

/* For http_config.request, with the config as its ARG. */
void api_request(void *config, struct http_request *rq);

/* RQ, of the daemon's own (http_own_new(), taken; NULL: out of memory), as if USER had sent it. False: it was NULL. */
bool api_request_as(const struct api_config *c, struct http_request *rq, const struct api_user *user);

/* Each of these answers and frees C. DOC is taken. */
void api_reply(struct api_call *c, int status, json_t *doc);
/* The same with a document that is text already, from malloc(), and taken. */
void api_reply_text(struct api_call *c, int status, char *text, size_t len);
/* And one that is no document, of media type TYPE. */
void api_reply_bytes(struct api_call *c, int status, const char *type, char *data, size_t len);
/* And LEN bytes of FD (taken) from OFF on. */
void api_reply_file(struct api_call *c, int status, const char *type, int fd, uint64_t off, uint64_t len);
/* R is the negative errno that belongs to the sentence in ERR; FIELD is the path of the wrong one, or NULL. */
void api_fail(struct api_call *c, int r, const char *field, const struct err *err);
/* Send the answer that waits, and free C. */
void api_go_on(struct api_call *c);
/* The request becomes a WebSocket. */
struct http_socket *api_accept(struct api_call *c, const struct http_socket_ops *ops, void *arg);

/* What stands in C's path for the part {NAME}; NULL: its route has no such part. */
const char *api_param(const struct api_call *c, const char *name);

/* The document of the whole table. New reference. */
json_t *api_openapi(const struct api_config *c);

#endif
