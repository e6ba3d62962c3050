/* SPDX-License-Identifier: Apache-2.0 */
/* http_priv.h - what the two halves of the server share: http.c, http_receive.c and http_reply.c for
 * requests, http_socket.c for WebSockets.
 *
 * Two threads: the *loop* thread, where the functions of http.h run, and the *service* thread, which is
 * libwebsockets'. The latter hands things over by loop_call(), the former by putting them on S->posts
 * under the lock and waking the other. A request or a socket belongs to the thread that it was handed
 * to; its `wsi` always belongs to the service thread, and is NULL once the client has gone. */
#ifndef API_HTTP_PRIV_H
#define API_HTTP_PRIV_H

#include <libwebsockets.h>
#include <pthread.h>
#include "api/http.h"
#include "util/loop.h"

enum {
	HTTP_CHUNK = 64 << 10,
	HTTP_HEADERS_TAKEN = 60 << 10,  /* by libwebsockets, with those that nobody knows: more ends the connection without a word */
	HTTP_REPLY_HEADERS_MAX = 16,
	HTTP_LINGER_SECONDS = 2,        /* without a byte, after an answer to half a body */
	HTTP_LINGER_MAX = 64 << 20,
};

/* Something for the service thread to look at. */
struct http_post {
	void (*run)(struct http_post *p);       /* service thread */
	struct http_post *next;
	bool is_queued;                 /* guarded by the server's lock */
};

struct http_server {
	struct loop *loop;
	void *arg;
	void (*request)(void *arg, struct http_request *rq);
	struct lws_context *lws;
	struct lws_token_limits limits; /* for it, as long as it lasts */
	struct lws_vhost **vhosts;
	char **unix_paths;              /* to be removed in the end; NULL for TCP */
	char **names, **addresses;      /* libwebsockets borrows them for as long as the vhost lasts */
	unsigned n_vhosts, n_listen;    /* that listen; that were asked for */
	struct loop_fd adopted;         /* a listener of somebody else's, and the vhost that its connections go to */
	struct loop_timer adopt_again;
	struct lws_vhost *adopting;
	SSL_CTX **tls;                  /* of the listeners with TLS, N_TLS; owned by libwebsockets, for the service thread */
	unsigned n_tls;
	pthread_t thread;
	bool has_thread;
	unsigned n_tcp;                 /* service thread: connections that have come by TCP */
	pthread_mutex_t lock;           /* guards the rest */
	struct http_post *posts, **posts_end;
	bool is_closing;
	unsigned n_alive;               /* requests and sockets */
};

/* Let P->run() be called on the service thread soon. Any thread. False: it was queued already. */
bool http_post(struct http_server *s, struct http_post *p);
void http_alive(struct http_server *s, int by);

struct http_request {
	struct http_post post;          /* first */
	struct http_server *s;
	struct lws *wsi;
	struct http_peer peer;
	enum http_method method;
	char *path, *query;             /* QUERY: pairs "name=value", each with its NUL; an empty one ends them */
	char *header[HTTP_N_HEADERS];
	char *body;
	size_t body_len, body_cap;
	uint64_t content_length;
	bool wants_socket, is_long, is_head;
	bool has_no_end;                /* where its body would end has not been told: it has none */
	const char *malformed;          /* a literal: why it is refused, as http_malformed() tells; NULL: all is well */
	int malformed_as;               /* negative errno */
	/* the service thread's view: */
	bool is_at_loop;                /* handed over, not answered yet */
	bool is_receiving;              /* the body is on its way to its sink, or has been, and the answer is to come */
	bool is_answered;
	bool is_lingering;              /* that is sent, and the rest of the body is thrown away: LINGERED bytes so far */
	uint64_t lingered;
	struct http_socket *socket;     /* of a request for a WebSocket */
	struct http_receiver *receiver; /* where the body goes; NULL: nowhere */
	bool is_body_over;              /* all of it has been read */
	/* the answer */
	int status;
	char *type;
	struct { char *name, *value; } reply_header[HTTP_REPLY_HEADERS_MAX];
	unsigned n_reply_headers;
	char *reply;
	int reply_fd;                   /* or -1 */
	uint64_t reply_off, reply_len, sent;
	bool has_sent_headers;
	struct http_own own;            /* ANSWERED is set: it is the daemon's own, and has neither S nor WSI */
};

/* What a connection of libwebsockets carries. */
struct http_conn {
	struct http_request *rq;
	struct http_socket *ws;
};

/* --- http_adopt.c, loop thread ---------------------------------------------------------------------------- */

/* Serve who connects to FD, which listens (borrowed until the server ends). */
int http_adopt_listener(struct http_server *s, int fd, const struct lws_protocols *protocols, struct err *err);

/* --- http_request.c, service thread ----------------------------------------------------------------------- */

void http_request_free(struct http_request *rq);
DEFINE_AUTO(struct http_request *, http_request_free)
/* From what WSI has received so far; NULL: out of memory. */
struct http_request *http_request_new(struct http_server *s, struct lws *wsi);
/* The headers are there; a part of the body; all of it. False: close the connection. */
bool http_begin_request(struct http_conn *c, struct http_server *s, struct lws *wsi);
bool http_body_part(struct http_request *rq, const void *in, size_t len);
bool http_body_end(struct http_request *rq);
void http_client_gone(struct http_conn *c);

/* --- http_receive.c, service thread ----------------------------------------------------------------------- */

struct http_receiver;
/* Take what has come of the body so far, and go on reading. False: it has begun already. */
bool http_receiver_begin(struct http_receiver *r);
/* False: out of memory. */
bool http_receiver_push(struct http_receiver *r, const void *data, size_t len);
/* Nothing more comes; WHY 0: that was all. */
void http_receiver_end(struct http_receiver *r, int why);
void http_receiver_free(struct http_receiver *r);

/* --- http_reply.c, service thread ------------------------------------------------------------------------ */

/* The next part of the answer. True: close the connection. */
bool http_reply_write(struct http_conn *c, struct lws *wsi);

/* --- http_own.c, loop thread ------------------------------------------------------------------------------ */

/* RQ, one of the daemon's own, has its answer. Ends it. */
void http_own_answer(struct http_request *rq);

/* --- http_socket.c, service thread ------------------------------------------------------------------------ */

struct http_socket *http_socket_new(struct http_request *rq);
bool http_socket_received(struct http_socket *ws, struct lws *wsi, const void *in, size_t len);
bool http_socket_write(struct http_socket *ws, struct lws *wsi);
void http_socket_gone(struct http_socket *ws);
/* Loop thread: RQ, for a WebSocket, was answered with a refusal. Ends RQ. */
void http_socket_refuse(struct http_request *rq);

#endif
