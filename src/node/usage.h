/* SPDX-License-Identifier: Apache-2.0 */
/* usage.h - what instances and the node use: measured every few seconds, kept in histories (history.h), told to whoever
 * wants to know. Loop thread. */
#ifndef NODE_USAGE_H
#define NODE_USAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "node/sample.h"
#include "util/cleanup.h"
#include "util/loop.h"

struct api_call;
struct api_user;
struct err;
struct node;

enum { USAGE_MS = 5000 };               /* between two looks */

/* What has been used since the start of the process: what rates are made of. */
struct usage_totals {
	double cpu;                     /* seconds */
	double read, written, received, sent;   /* bytes */
	double reads, writes, frames_in, frames_out;
};

struct instance;

/* Of one instance. */
struct meter {
	struct instance *owner;
	struct loop_timer timer;
	struct usage_totals totals;
	uint64_t at_ns;                 /* when TOTALS was; 0: never */
	struct sampler sampler;
	struct usage now;               /* of the last interval */
	bool is_known;                  /* there is one */
	uint64_t busy_ns;               /* when it last did something */
	time_t idle_since;              /* it has done nothing for long, since; 0: no */
};

/* The machine answers, and no longer. */
void meter_start(struct meter *m, struct instance *owner);
void meter_stop(struct meter *m);

/* Of the node: processors, memory, storage, and the sum of all instances' traffic. */
struct usage_node;
int usage_open(struct usage_node **out, struct node *n, struct err *err);
void usage_close(struct usage_node *u);         /* NULL is fine */
DEFINE_AUTO(struct usage_node *, usage_close)
/* NULL: it is not known yet. */
const struct usage *usage_of_node(const struct usage_node *u);
/* What is taken of the file system with the data, 0 to 1; 0: it is not known yet. */
double usage_storage_share(const struct usage_node *u);

/* What WHO may see of what is used now: {"node": {...}, "instances": {"instance/default/web": {"cpu": 0.5, ...}}}. New
 * reference; NULL: out of memory. */
json_t *usage_view(struct node *n, const struct api_user *who);

void usage_show(struct api_call *c);            /* GET /v1/usage */
void usage_history(struct api_call *c);         /* GET /v1/instances/{name}/history */
void usage_node_history(struct api_call *c);    /* GET /v1/node/history */

#endif
