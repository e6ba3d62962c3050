/* SPDX-License-Identifier: Apache-2.0 */
/* bulk_priv.h - what bulk.c and bulk_item.c share: things of a list, each of which gets a request of its own. */
#ifndef NODE_BULK_PRIV_H
#define NODE_BULK_PRIV_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include "api/route.h"
#include "util/loop.h"

struct node;
struct task;

/* A list that is being worked through. */
struct bulk {
	struct node *node;
	json_t *params;                 /* kind, action, body, and items: [{"name", "uid"}] (owned) */
	json_t *results;                /* of each item, in order; null: not yet (owned) */
	struct api_user user;
	char project[64], uid[20];      /* UID: of the task, for keys; "": none */
	bool is_dry_run;
	size_t n_done, n_failed;
	json_t *queue, *late;           /* numbers of those to be asked for, from NEXT on, and of those that were told to try again (owned) */
	size_t next;
	unsigned n_waiting, tries;      /* requests on their way; rounds of late ones */
	struct loop_timer again;
	bool is_going;
	/* All are done, or, when IS_STOPPED was set, no request is on its way any more. The last call; B may be freed in it. */
	void (*over)(struct bulk *b);
	void *arg;
	struct task *task;              /* whose work it is, and which may be told to stop; NULL: a plan, or it has gone */
	bool is_stopped;
};

/* A new one of PARAMS (taken). NULL: out of memory. */
struct bulk *bulk_new(struct node *n, json_t *params, const char *project);
void bulk_free(struct bulk *b);         /* NULL is fine; nothing is on its way */
/* Go on with it. OVER may be called before this returns. */
void bulk_go(struct bulk *b);

#endif
