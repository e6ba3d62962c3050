/* SPDX-License-Identifier: Apache-2.0 */
/* metadata_server.h - takes requests to the metadata service (metadata.h): HTTP/1.1 over what comes in by the bridge of a network, and by
 * nothing else; or, without a bridge, over sockets that it is given. A connection carries one request.
 *
 * Guests are hostile: the bytes of a request, the connections of one address and of all, and the time for a request and its
 * answer are bounded; nothing waits. Loop thread. */
#ifndef NODE_METADATA_SERVER_H
#define NODE_METADATA_SERVER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

struct err;
struct loop;
struct metadata_request;
struct metadata_server;

enum {
	METADATA_CONNECTIONS_MAX = 128, METADATA_CONNECTIONS_EACH = 6,
	METADATA_ASK_MS = 5000,         /* for a request to come, whole */
	METADATA_ANSWER_MS = 120000,    /* 64 KiB of user data go through a limit of 1000 bytes a second */
};

struct metadata_reply {
	int status;
	char *body;                     /* from malloc(); NULL: its status in words */
	size_t len;
	unsigned ttl;                   /* of the token that is its body; 0: none */
};

struct metadata_server_config {
	struct loop *loop;
	const char *bridge;             /* borrowed until metadata_server_open() returns, as ADDRESS; NULL: none */
	struct in_addr address;         /* of the node, on the bridge */
	void (*ask)(void *arg, struct in_addr from, const struct metadata_request *rq, struct metadata_reply *reply);
	/* Without a bridge: a socket that waited is in use, or has gone. */
	void (*fewer)(void *arg);
	void *arg;
};

/* -EADDRINUSE; -EPERM; -ENODEV. */
int metadata_server_open(struct metadata_server **out, const struct metadata_server_config *c, struct err *err);
/* Does it listen at the interface that has the name BRIDGE now? */
bool metadata_server_is_at(const struct metadata_server *s, const char *bridge);
/* Of one without a bridge: FD (taken on success), a stream socket, carries a request; what goes back begins with the byte that is the time to live
 * of its packets. */
int metadata_server_add(struct metadata_server *s, int fd);
/* So many of those wait for one. */
unsigned metadata_server_idle(const struct metadata_server *s);
/* Closes all connections. NULL is fine. */
void metadata_server_close(struct metadata_server *s);

#endif
