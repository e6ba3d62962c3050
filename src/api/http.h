/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - HTTP/1.1 and WebSocket over Unix sockets and TLS, on libwebsockets (RFC 9110, 6455).
 *
 * libwebsockets works on a thread of its own, which does the protocol, TLS and the moving of bodies;
 * whole requests and messages come to the loop thread, where every callback runs and every function
 * here is called. A request is the handler's until it has answered it, once, with one of the
 * http_reply functions; whether the client is still there by then is not its concern.
 *
 * Peers are hostile: header and body sizes, the number of connections, time without progress, and what
 * is queued for a slow WebSocket client are bounded. */
#ifndef API_HTTP_H
#define API_HTTP_H

#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "util/cleanup.h"

struct err;
struct loop;
struct http_server;
struct http_request;
struct http_socket;

enum {
	HTTP_HEADERS_MAX = 16 << 10,    /* of those that are known, together; the rest is not looked at */
	HTTP_TARGET_MAX = 14 << 10,     /* path and query of a request (RFC 9110, 4.1: 8000 at least) */
	HTTP_BODY_MAX = 2 << 20,        /* in memory; longer ones need http_receive() */
	HTTP_RECEIVE_MAX = 1 << 20,     /* of one of these, on its way to its sink */
	HTTP_CONNECTIONS_MAX = 1000,
	HTTP_TCP_MAX = 800,             /* of them by TCP: the others are kept for the Unix socket */
	HTTP_IDLE_SECONDS = 30,         /* without progress, or between two requests */
	HTTP_MESSAGE_MAX = 1 << 20,     /* of a WebSocket, received */
	HTTP_UNSENT_MAX = 8 << 20,      /* of a WebSocket, queued: then the client is dropped */
};

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_PATCH, HTTP_DELETE, HTTP_OPTIONS, HTTP_OTHER };

/* Where to listen: a Unix socket, or an address and port with TLS. */
struct http_listen {
	const char *unix_path;          /* a stale socket there is replaced; NULL: TCP */
	int fd;                         /* with UNIX_PATH: that socket, which somebody else has made and removes, listening and not blocking,
					 * borrowed; 0: none. At most one has it. */
	unsigned mode;                  /* of the Unix socket, e.g. 0600 */
	const char *address;            /* NULL: all */
	uint16_t port;                  /* 0: the kernel chooses; see http_port() */
	const char *cert, *key;         /* PEM files; NULL: no TLS, for tests on loopback */
};

struct http_config {
	struct loop *loop;
	const struct http_listen *listen;
	unsigned n_listen;
	void *arg;
	/* A request: its body is complete, or longer than HTTP_BODY_MAX and not read yet (http_is_long()). For
	 * one that wants a WebSocket answer with http_accept(), or refuse it with a reply. */
	void (*request)(void *arg, struct http_request *rq);
};

/* Listens when it returns 0. -EADDRINUSE, -EACCES, -EINVAL (certificate) with their sentence. */
int http_open(struct http_server **out, const struct http_config *c, struct err *err);
/* Closes all connections. Requests that were not answered must be answered still, sockets get their
 * CLOSED, before this returns. NULL is fine. */
void http_close(struct http_server *s);
DEFINE_AUTO(struct http_server *, http_close)
/* Connections that come from now on, at all listeners with TLS, are shown CERT with KEY, which belongs to it, and CHAIN
 * (all borrowed). Those that are there stay. -ENOMEM. */
int http_set_certificate(struct http_server *s, X509 *cert, EVP_PKEY *key, STACK_OF(X509) *chain);
/* The TCP port of listener N. */
uint16_t http_port(const struct http_server *s, unsigned n);

/* --- a request ------------------------------------------------------------------------------------- */

enum http_header {
	HTTP_AUTHORIZATION, HTTP_CONTENT_TYPE, HTTP_COOKIE, HTTP_HOST, HTTP_IF_MATCH, HTTP_IF_NONE_MATCH, HTTP_IF_RANGE,
	HTTP_ORIGIN,
	HTTP_RANGE, HTTP_IDEMPOTENCY_KEY, HTTP_CONTENT_RANGE, HTTP_CSRF /* X-Viv-Csrf */,
	HTTP_ACCEPT_ENCODING, HTTP_N_HEADERS,
};

struct http_peer {
	bool is_unix;
	uid_t uid;                      /* of the process at the other end of a Unix socket */
	gid_t gid;
	pid_t pid;
	gid_t groups[64];               /* its supplementary ones */
	unsigned n_groups;
	char address[64];               /* numeric; "" with IS_UNIX */
};

enum http_method http_method(const struct http_request *rq);
const char *http_path(const struct http_request *rq);   /* decoded, begins with '/', no "." or ".." in it */
/* The value of query parameter NAME, decoded; "" when it has none; NULL: it is not there. */
const char *http_query(const struct http_request *rq, const char *name);
/* All of them, as "name=value" or "name": the first with BEFORE NULL, then the one behind BEFORE; NULL: there are no more. */
const char *http_query_next(const struct http_request *rq, const char *before);
const char *http_get_header(const struct http_request *rq, enum http_header h);        /* NULL: absent */
const void *http_body(const struct http_request *rq, size_t *len);      /* NUL after it; not of a long one, which is still coming */
const struct http_peer *http_get_peer(const struct http_request *rq);
/* Why it is to be refused whatever it wants, in a sentence; its connection ends with the answer. -EBADMSG: nobody can tell where it ends, or whom it
 * is for; -EMSGSIZE: path and query are too long, -ENOBUFS: the headers are. 0: all is well. */
int http_malformed(const struct http_request *rq, const char **why);
bool http_wants_socket(const struct http_request *rq);
bool http_is_long(const struct http_request *rq);
uint64_t http_content_length(const struct http_request *rq);

/* Where a body goes. WRITE and END are called on a thread of the body's own, and may wait for a disk; END is the last call there,
 * also when WRITE has failed or the client has gone away. Both return 0, or a negative errno, after which nothing more is taken.
 * DONE is called on the loop thread: with the bytes that have been taken, when all has; else with what went wrong (-ECONNRESET: the
 * client). It answers as usual, then or later. */
struct http_sink {
	int (*write)(void *arg, const void *data, size_t len);
	int (*end)(void *arg);
	void (*done)(void *arg, struct http_request *rq, int64_t result);
};

/* The body of RQ, long or not, to SINK (borrowed until DONE). -EAGAIN: there is no thread for it; then answer. */
int http_receive(struct http_request *rq, const struct http_sink *sink, void *arg);
/* Before DONE: nothing more is wanted. END and DONE (-ECANCELED) follow soon. */
void http_receive_stop(struct http_request *rq);

/* --- a request of the daemon's own ---------------------------------------------------------------------- */

enum { HTTP_OWN_QUERIES = 3 };

/* What is borrowed is borrowed until http_own_new() returns. */
struct http_own {
	enum http_method method;
	const char *path;               /* "/v1/instances/web" */
	const char *query[HTTP_OWN_QUERIES];    /* "project=default"; NULL: no more */
	const char *body;               /* NULL: none */
	const char *key;                /* Idempotency-Key; NULL: none */
	/* The answer; BODY (LEN bytes) is borrowed, and NULL when there is none. */
	void (*answered)(void *arg, int status, const char *body, size_t len);
	void *arg;
};

/* For api_request_as(): as one that has come, but by no connection. NULL: out of memory. */
struct http_request *http_own_new(const struct http_own *o);

/* --- answers ------------------------------------------------------------------------------------------ */

/* A header for the answer to come; copied. */
void http_set_header(struct http_request *rq, const char *name, const char *value);
/* BODY is copied. TYPE NULL: none. */
void http_reply(struct http_request *rq, int status, const char *type, const void *body, size_t len);
/* The same with a body from malloc() that becomes the server's. */
void http_reply_take(struct http_request *rq, int status, const char *type, char *body, size_t len);
/* LEN bytes of FD (taken) from OFF on. */
void http_reply_file(struct http_request *rq, int status, const char *type, int fd, uint64_t off, uint64_t len);

/* --- WebSockets ---------------------------------------------------------------------------------------- */

struct http_socket_ops {
	void (*message)(void *arg, const void *data, size_t len, bool is_text);
	/* What was queued has been sent down to half. May be NULL. */
	void (*drained)(void *arg);
	/* The last call. */
	void (*closed)(void *arg);
};

/* Ends RQ. The socket stays until its CLOSED has run. */
struct http_socket *http_accept(struct http_request *rq, const struct http_socket_ops *ops, void *arg);
/* One message. Returns the bytes that wait to be sent, this one included; -ENOBUFS: too many, and the
 * client is being dropped; -ENOMEM. */
int64_t http_send(struct http_socket *ws, const void *data, size_t len, bool is_text);
/* Close with a code of RFC 6455 7.4 and a reason of up to 120 bytes, after what is queued. */
void http_hang_up(struct http_socket *ws, int code, const char *reason);

#endif
