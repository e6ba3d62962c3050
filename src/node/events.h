/* SPDX-License-Identifier: Apache-2.0 */
/* events.h - every change of a document, to whom it may concern: WebSocket /v1/events.
 *
 * One text message per change: {"revision", "type": "put"|"delete"|"status", "key", "document"}. ?from=REVISION goes on
 * after a break; when that is too long ago the socket is closed with 4410, and the client lists anew. Loop thread. */
#ifndef NODE_EVENTS_H
#define NODE_EVENTS_H

#include <jansson.h>

struct api_call;
struct node;

/* ?usage: between them, every few seconds, {"type": "usage", "usage": {...}}, as /v1/usage has it. */
void events_stream(struct api_call *c);
/* {"type": TYPE, TYPE: WHAT} to all who may look at the node. WHAT is taken. */
void events_tell_node(struct node *n, const char *type, json_t *what);
/* What is used has been measured. */
void events_tell_usage(struct node *n);
/* Close them all. */
void events_close(struct node *n);

#endif
