/* SPDX-License-Identifier: Apache-2.0 */
/* instance.h - machines: what their documents look like, and the controller that makes them so.
 *
 * The controller is level-triggered. For each document there is a struct instance, which reads what is
 * wanted, looks at what is there - a process with a lock, a control socket - and does the one next step:
 * make the disk, start, pause, resume, press the power button, kill, take away. Each step may fail or be
 * interrupted at any point, and is simply done again. Loop thread. */
#ifndef NODE_INSTANCE_H
#define NODE_INSTANCE_H

#include <jansson.h>
#include <stddef.h>
#include "api/schema.h"

struct api_call;
struct err;
struct controller_kind;
struct instance;
struct node;

extern const struct schema instance_schema;
/* That of its member 'spec'. */
extern const struct schema *const instance_spec_schema;

/* What the schema cannot say; see struct resource. */
int instance_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);

extern const struct controller_kind instance_kind;

/* POST /v1/instances/{name}/restart and reset. */
void instance_action(struct api_call *c);
/* POST /v1/instances/{name}/rename: the body's schema, and the handler. */
extern const struct schema rename_schema;
void instance_rename(struct api_call *c);
/* -EAGAIN: it is just getting another name, and what is begun under this one would not find it. */
int instance_check_named(const struct instance *i, struct err *err);
/* GET /v1/instances/{name}/stats: the machine's own counters. */
void instance_stats(struct api_call *c);
/* GET /v1/instances/{name}/log: the last of what its console has said. */
void instance_log(struct api_call *c);
/* WebSocket /v1/instances/{name}/console. */
void instance_console(struct api_call *c);

#endif
