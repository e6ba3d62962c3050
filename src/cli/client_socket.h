/* SPDX-License-Identifier: Apache-2.0 */
/* client_socket.h - a WebSocket of the daemon, on libwebsockets. One thread serves it; only one can be open at a time. */
#ifndef CLI_CLIENT_SOCKET_H
#define CLI_CLIENT_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include "util/cleanup.h"

struct client;
struct client_socket;
struct err;

enum { CLIENT_SOCKET_PRE = 64 };                /* bytes that the library wants before what is written */

/* Called by the thread that serves. */
struct client_socket_ops {
	/* LEN bytes have come; IS_LAST: they end a message. */
	void (*data)(void *arg, const char *data, size_t len, bool is_last);
	/* It can be written to: OUT gets the bytes, which stay until the next call and have CLIENT_SOCKET_PRE bytes of room before them;
	 * how many, 0: none. NULL: nothing is ever written. */
	size_t (*writable)(void *arg, unsigned char **out);
};

/* Begin to open the socket at PATH ("/v1/..."). CL and OPS stay the caller's, and longer than OUT. */
int client_socket_open(struct client_socket **out, const struct client *cl, const char *path, const struct client_socket_ops *ops,
		       void *arg, struct err *err);
void client_socket_free(struct client_socket *s);       /* NULL is fine */
DEFINE_AUTO(struct client_socket *, client_socket_free)

/* Wait for something, and do it; false: it is over. */
bool client_socket_serve(struct client_socket *s);
/* From any thread: let client_socket_serve() return, and ask for what can be written. */
void client_socket_wake(struct client_socket *s);
/* There is more to write. */
void client_socket_want_write(struct client_socket *s);

bool client_socket_was_open(const struct client_socket *s);
/* What the daemon closed it with, and its words; before it was open: why it was not. 0 and "": nothing. */
unsigned client_socket_code(const struct client_socket *s);
const char *client_socket_why(const struct client_socket *s);

#endif
